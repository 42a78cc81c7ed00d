"""A copy of a model file whose convolutions have other numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from convfc import arguments
from convfc.analysis.matrix import Matrix
from convfc.analysis.reading import matrices, opened
from convfc.core.arrays import Array, array_difference, numpy_type
from convfc.errors import GeometryError, UnsupportedModelError, UsageError
from convfc.formats.registry import data_names, open_rewriting
from convfc.formats.weights import Numbers, Weights
from convfc.gates import gated, naming
from convfc.refusals import Code
from convfc.system.atomic import Unchanged, staging, writing
from convfc.system.surroundings import undisturbed
from convfc.targets import check_target, target_of

Given = Mapping[str, tuple[Array, Array | None]]
"""F and b by the name of a matrix."""


@undisturbed()
@gated
def with_matrices(
    model: str | Path,
    given: Given,
    out: str | Path,
    *,
    force: bool = False,
    imports: Sequence[str] = (),
) -> Path:
    """Write a copy of a model file in which some convolutions have other numbers.

    An original gets other kernels; a converted file, other weights of its products. All else stays
    as it is. What was written is read again before the file appears.

    Args:
        model: a .onnx, .h5, .hdf5 or .keras file.
        given: by the names that `matrices` has, F and b, in the shapes that are there.
        out: the file to write, of the same format, or a folder to write it in.
        force: replace `out` even if convfc did not make it.
        imports: modules that register custom Keras classes; looked for in the current folder, too.

    Returns:
        The file that was written.

    Raises:
        FileError: `model` cannot be read, or `out` cannot be written.
        UnsupportedModelError: `model` holds something that convfc cannot load, or numbers that
            cannot be replaced.
        UsageError: there is no such matrix, or it has another shape; or arguments of another kind.
    """
    source = Path(model)
    if not isinstance(given, Mapping):
        raise arguments.wrong("given", given, "a dictionary: names of matrices, and F and b")
    target = target_of(source, out, lambda path: path, force)
    unchanged = Unchanged(source)
    with opened(source, imports) as found:
        unchanged.watch(*(found.model.files if found.record is None else ()))
        there = {one.name: one for one in found.layers if isinstance(one, Weights)}
        before = {name: Matrix.of(one) for name, one in there.items()}
        after = {name: _replaced(source, before, name, pair) for name, pair in given.items()}
        rewriting = None
        if found.record is not None:
            rewriting = open_rewriting(source, found.record, imports)
            unchanged.watch(*rewriting.files)
        files = found.model.files if rewriting is None else rewriting.files
        with staging(target, data_names) as stage:
            with writing(target), naming(target, stage.path):
                if rewriting is None:
                    found.model.save(
                        stage.path, {name: one.numbers() for name, one in after.items()}
                    )
                else:
                    rewriting.rewrite(stage.path, _by_layer(there, before, after))
                _check(source, stage.path, before | after, imports)
            unchanged.check("read")
            stage.publish(lambda: check_target(source, target, force), keep=files)
    return target


def _replaced(
    source: Path, there: Mapping[str, Matrix], name: str, given: tuple[Array, Array | None]
) -> Matrix:
    """A matrix with other numbers, as the file will hold them.

    Raises:
        UsageError: there is no such matrix, or its numbers have another shape or do not fit.
        UnsupportedModelError: its numbers cannot be replaced.
    """
    if name not in there:
        names = ", ".join([*there][:8]) or "none"
        raise UsageError(f"{source}: no matrix is called '{name}'; there are: {names}")
    old = there[name]
    where = f"{source}: layer '{name}'"
    if old.fixed is not None:
        raise UnsupportedModelError(
            f"{where}: its numbers cannot be replaced: {old.fixed}",
            remedy="change the model from before it was quantized",
            layer=name,
            code=Code.NOT_KEPT,
        )
    F, b = given  # noqa: N806 - so are they called
    if (b is None) != (old.b is None):
        raise UsageError(f"{where}: {'give' if b is None else 'there is no place for'} a bias")
    made = replace(old, F=_fitting(where, "F", F, old.F, old.dtype))
    if b is not None and old.b is not None:
        made = replace(made, b=_fitting(where, "b", b, old.b, old.dtype))
    try:
        made.kernel  # noqa: B018 - whether there is one
    except GeometryError as error:
        raise UsageError(f"{where}: {error}") from error
    return made


def _fitting(where: str, what: str, given: object, old: Array, dtype: str) -> Array:
    """Numbers as the file will hold them.

    Raises:
        UsageError: they have another shape, or are none, or are larger than the type can hold.
    """
    array = np.asarray(given)
    if array.dtype.kind not in "fiu" or array.shape != old.shape:
        raise UsageError(
            f"{where}: {what} is of {array.dtype} {array.shape}: it takes numbers of {old.shape}"
        )
    with np.errstate(over="ignore"):
        made: Array = array.astype(numpy_type(dtype)).astype(old.dtype)
    if not np.array_equal(np.isfinite(made), np.isfinite(array)):
        raise UsageError(f"{where}: {what} has numbers that {dtype} does not hold")
    return made


def _by_layer(
    there: Mapping[str, Weights], before: Mapping[str, Matrix], after: Mapping[str, Matrix]
) -> dict[str, list[Numbers]]:
    """By the names of layers, the numbers of all their convolutions, where one is replaced."""
    layers = {there[name].layer for name in after}
    found: dict[str, list[Numbers]] = {layer: [] for layer in layers}
    for name, one in there.items():
        if one.layer in layers:
            found[one.layer].append(after.get(name, before[name]).numbers())
    return found


def _check(
    source: Path, written: Path, expected: Mapping[str, Matrix], imports: Sequence[str]
) -> None:
    """See that a file has these numbers, and no others.

    Raises:
        UnsupportedModelError: it has not.
    """
    found = matrices(written, imports=imports)
    for name, matrix in expected.items():
        now = found.get(name)
        pairs = [] if now is None else [(matrix.F, now.F), (matrix.b, now.b)]
        same = (a is b or (a is not None and b is not None and _equal(a, b)) for a, b in pairs)
        if not pairs or not all(same):
            raise UnsupportedModelError(
                f"{source}: nothing written, as layer '{name}' would get other numbers: "
                "it shares them with a layer that was given some",
                remedy="give both the same",
                layer=name,
                code=Code.NOT_KEPT,
            )


def _equal(a: Array, b: Array) -> bool:
    return array_difference(a, b) is None
