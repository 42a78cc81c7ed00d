"""The matrices of a model file, and what is to be measured of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from convfc import arguments
from convfc.analysis.matrix import Matrix
from convfc.errors import UsageError
from convfc.formats.provenance import Provenance
from convfc.formats.reading import Reading
from convfc.formats.registry import open_weighted, provenance_of
from convfc.formats.shapes import Shapes
from convfc.formats.weights import Chain, Unread, Weighted, Weights
from convfc.gates import gated, naming
from convfc.planning import fits, no_layer_called
from convfc.reversion import revert
from convfc.system.atomic import temporary_folder
from convfc.system.surroundings import undisturbed
from convfc.text.shown import Shown


@dataclass(frozen=True)
class Opened:
    """A model with its convolutions.

    Attributes:
        path: the file itself, or of a converted one a copy with convolutions in it again.
        model: that, opened.
        layers: every convolution, those without a way back last.
        record: what convfc wrote into a converted file; ``None``: it is none.
    """

    path: Path
    model: Weighted
    layers: Sequence[Weights | Unread]
    record: Provenance | None = None


@contextmanager
def opened(
    path: Path, imports: Sequence[str] = (), shapes: Shapes | None = None
) -> Iterator[Opened]:
    """Open a model file with its convolutions; a converted one goes the way back before.

    Args:
        path: the file.
        imports: modules that register custom Keras classes.
        shapes: by the name of an input, the sizes that it is fixed to.

    Raises:
        FileError: the file cannot be read, or was converted by a convfc without a way back.
        UnsupportedModelError: it holds something that convfc cannot load.
        UsageError: one of the modules cannot be imported; or there is no such input.
    """
    reading = Reading(arguments.shapes("shapes", shapes))
    record = provenance_of(path)
    if record is None or record.reverted:
        model = open_weighted(path, imports, reading)
        yield Opened(path, model, model.layers)
        return
    with temporary_folder() as folder:
        done = revert(path, folder / path.name, partial=True, imports=imports)
        lost = [
            Unread(layer.way.site.name, layer.way.site.kind, layer.way.refusal)
            for layer in done.layers
            if layer.way.refusal is not None
        ]
        with naming(path, done.out):
            model = open_weighted(done.out, imports, reading)
            yield Opened(done.out, model, [*model.layers, *lost], record)


def chosen(
    path: Path, layers: Sequence[Weights | Unread], patterns: Sequence[str]
) -> list[Weights | Unread]:
    """Those whose names, or whose layers' names, one of the patterns fits; all without patterns.

    Raises:
        UsageError: a pattern that fits none.
    """
    names = [{one.name, one.layer if isinstance(one, Weights) else one.name} for one in layers]
    for pattern in patterns:
        if not any(fits(each, [pattern]) for each in names):
            raise UsageError(
                f"{path}: {no_layer_called(pattern, [layer.name for layer in layers])}"
            )
    pairs = zip(layers, names, strict=True)
    return [layer for layer, each in pairs if not patterns or fits(each, patterns)]


@undisturbed()
@gated
def matrices(
    model: str | Path,
    *,
    layers: str | Sequence[str] = (),
    shapes: Shapes | None = None,
    imports: Sequence[str] = (),
) -> dict[str, Matrix]:
    """Every convolution of a model file as a matrix, an original's or a converted one's.

    Args:
        model: a .onnx, .h5, .hdf5 or .keras file.
        layers: patterns of layer names (`*`, `?` and `[..]` as in a shell), or one of them; all
            when empty.
        shapes: the whole shape of an input, by its name, where sizes are open.
        imports: modules that register custom Keras classes; looked for in the current folder, too.

    Returns:
        By name, in the order of execution. Convolutions whose numbers are not stored in the file,
        and those that convfc does not know, are not in it: `measure` says why.

    Raises:
        FileError: the file cannot be read.
        UnsupportedModelError: it holds something that convfc cannot load.
        UsageError: arguments of another kind, or a pattern that fits nothing.
    """
    path, patterns = Path(model), arguments.texts("layers", layers)
    with opened(path, imports, shapes) as found:
        wanted = chosen(path, found.layers, patterns)
        return {one.name: Matrix.of(one) for one in wanted if isinstance(one, Weights)}


@dataclass(frozen=True, repr=False)
class Measurement(Shown):
    """What is to be said of the matrices of a model.

    Attributes:
        model: the file.
        matrices: by name; each has its `Matrix.spectrum` and its `Matrix.norm`.
        unread: the convolutions of which there is no matrix.
        chain: which convolutions follow each other in the model.
    """

    model: Path
    matrices: dict[str, Matrix]
    unread: tuple[Unread, ...]
    chain: Chain

    @property
    def product(self) -> float | None:
        """The product of all norms: how much further apart all convolutions together move samples.

        ``None`` where they do not follow each other, or one of the norms is not known.
        """
        norms = [matrix.norm for matrix in self.matrices.values()]
        known = [norm.value for norm in norms if norm is not None]
        there = {matrix.layer for matrix in self.matrices.values()}
        whole = self.chain.broken is None and {*self.chain.layers} == there
        return math.prod(known) if whole and len(known) == len(norms) else None


@undisturbed()
@gated
def measure(
    model: str | Path,
    *,
    layers: str | Sequence[str] = (),
    shapes: Shapes | None = None,
    imports: Sequence[str] = (),
) -> Measurement:
    """The singular values of every filter matrix, and the norm of every layer on a whole sample.

    Args:
        model: a .onnx, .h5, .hdf5 or .keras file.
        layers: patterns of layer names, or one of them; all when empty.
        shapes: the whole shape of an input, by its name, where sizes are open.
        imports: modules that register custom Keras classes; looked for in the current folder, too.

    Raises:
        FileError: the file cannot be read.
        UnsupportedModelError: it holds something that convfc cannot load.
        UsageError: arguments of another kind, or a pattern that fits nothing.
    """
    path, patterns = Path(model), arguments.texts("layers", layers)
    with opened(path, imports, shapes) as found:
        wanted = chosen(path, found.layers, patterns)
        read = {one.name: Matrix.of(one) for one in wanted if isinstance(one, Weights)}
        unread = tuple(one for one in wanted if isinstance(one, Unread))
        chain = found.model.chain
    for matrix in read.values():
        _ = matrix.norm
    return Measurement(path, read, unread, chain)
