"""Dense files of random geometries, in whose matrix a number is wrong, or in the wrong place.

Case N is geometry N // 8 with change N % 8, of which the first is none. What runs would show is
known without: one matrix is another function, unless all its numbers are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

import convfc
from tests.campaign.cases import Mutant
from tests.campaign.judging import Judgement
from tests.onnx_layers import random_layer

Array = NDArray[Any]
_LIMIT = 2**21
"""Bytes of a file's matrices, for the sake of time."""
Change = Callable[[Array, Random], Array | None]
"""Another matrix; ``None`` where there is nothing of the kind to change."""


def dense_mutant(kind: str, number: int, seed: int, folder: Path) -> Mutant | None:
    """One of the mutants, or what convfc wrote; ``None``: there is nothing of the kind to change.

    Args:
        kind: "onnx" or "keras".
        number: of the case.
        seed: of the campaign.
        folder: for the files.
    """
    geometry, chosen = divmod(number, 1 + len(CHANGES))
    original, converted = _pair(kind, geometry, seed, folder)
    if chosen == 0:
        words = f"geometry {geometry}"
        return Mutant("as it is", words, original, converted, lambda: (Judgement.SAME, ""))
    name = list(CHANGES)[chosen - 1]
    path = folder / f"mutant{converted.suffix}"
    path.write_bytes(converted.read_bytes())
    random = Random(f"{seed} {kind} dense {number}")  # noqa: S311 - nothing is secret here
    with _matrix(path) as found:
        before = found[0]
        after = CHANGES[name](before, random)
        if after is None or after.tobytes() == before.tobytes():
            return None
        found[0] = after
    other = Judgement.SAME if np.array_equal(before, after) else Judgement.DIFFERENT
    shape = "x".join(map(str, before.shape))
    words = f"geometry {geometry}, {shape}"
    return Mutant(name, words, original, path, lambda: (other, ""))


@cache
def _pair(kind: str, geometry: int, seed: int, folder: Path) -> tuple[Path, Path]:
    """A model of one layer, maybe with what is affine behind it, and its dense form."""
    random = Random(f"{seed} {kind} geometry {geometry}")  # noqa: S311 - nothing is secret here
    suffix = ".onnx" if kind == "onnx" else random.choice([".keras", ".h5"])
    stem = f"dense_{kind}_{geometry}"
    original, converted = folder / f"{stem}{suffix}", folder / f"{stem}_fc{suffix}"
    while True:
        if kind == "onnx":
            onnx.save(_onnx(random), original)
        else:
            _keras(random, original)
        rows = random.random() < 0.5
        try:
            done = convfc.convert(
                original,
                converted,
                form="dense",
                dense_limit=_LIMIT,
                flat_io=rows,
                check=False,
                force=True,
            )
        except convfc.ConvfcError:
            continue
        if done.written:
            with _matrix(converted) as found:
                if found:
                    return original, converted


def _onnx(random: Random) -> onnx.ModelProto:
    layer = random_layer(random)
    dims = layer.model.graph.input[0].type.tensor_type.shape.dim
    for dim, size in list(zip(dims, layer.inputs[0].shape, strict=True))[1:]:
        dim.dim_value = size
    return layer.model


def _keras(random: Random, path: Path) -> None:
    from convfc.formats.keras.quiet import importing, overheard

    with importing():
        import keras
        from keras import layers

    from tests.keras_layers import drawn

    rng = np.random.default_rng(random.getrandbits(32))
    behind = [layers.BatchNormalization, layers.ReLU, lambda: layers.Dense(2), layers.Flatten]
    with overheard():
        while True:
            shape, layer = drawn(rng)
            sizes = _smaller(shape, layer.data_format, rng)
            try:
                layer.build((None, *sizes))
                layer.compute_output_shape((None, *sizes))
            except ValueError:  # its windows are longer
                continue
            break
        chosen = [make() for make in behind if rng.integers(3) == 0]
        model = keras.Sequential([keras.Input(sizes), layer, *chosen])
        for weight in model.weights:
            values = rng.normal(size=weight.shape)
            weight.assign(abs(values) + 0.1 if "variance" in weight.name else values)
        model.save(path)


def _smaller(
    shape: tuple[int | None, ...], data_format: str, rng: np.random.Generator
) -> tuple[int, ...]:
    """Few positions of the channels of a shape, for the sake of time."""
    first = data_format == "channels_first"
    channels = shape[0 if first else -1] or 1
    sizes = [int(size) for size in rng.integers(4, 8, len(shape) - 1)]
    return (channels, *sizes) if first else (*sizes, channels)


@contextmanager
def _matrix(path: Path) -> Iterator[list[Array]]:
    """The first matrix of a file, to be replaced; none if there is none."""
    if path.suffix == ".onnx":
        model = onnx.load(path)
        named = (one for one in model.graph.initializer if "dense_matrix" in one.name)
        tensor = next((one for one in named if len(one.dims) == 2), None)
        found = [] if tensor is None else [numpy_helper.to_array(tensor)]
        before = list(found)
        yield found
        if tensor is not None and found[0] is not before[0]:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(found[0]), tensor.name))
            path.write_bytes(model.SerializeToString())
        return
    from tests.campaign.keras_files import Parts

    parts = Parts.read(path)
    with parts.weights() as weights:
        name = next(name for name, data in weights.items() if data.ndim == 2)
        found = [weights[name][()]]
        before = list(found)
        yield found
        weights[name][...] = found[0]
    if found[0] is not before[0]:
        path.unlink()
        parts.write(path)


def _at(matrix: Array, places: Array, random: Random, value: Callable[[Any], Any]) -> Array | None:
    """A matrix in which one number, of those in some places, is another."""
    if not places.size:
        return None
    made, place = matrix.copy(), int(random.choice(places))
    made.flat[place] = value(matrix.flat[place])
    return made


def _weights(matrix: Array) -> Array:
    """Which numbers are none of those that stand for zero, which most are of an integer matrix."""
    numbers, counts = np.unique(matrix, return_counts=True)
    zero = 0 if matrix.dtype.kind == "f" else numbers[counts.argmax()]
    return np.asarray(matrix.reshape(-1) != zero)


def _next(number: Any) -> Any:
    if isinstance(number, np.floating):
        return np.nextafter(number, type(number)(np.inf))
    return number - 1 if number == np.iinfo(number.dtype).max else number + 1


def _ulp(matrix: Array, random: Random) -> Array | None:
    return _at(matrix, np.flatnonzero(_weights(matrix)), random, _next)


def _filled(matrix: Array, random: Random) -> Array | None:
    small = random.choice([1e-30, 1e-6, 1.0])
    real = matrix.dtype.kind == "f"
    zeros = np.flatnonzero(~_weights(matrix))
    return _at(matrix, zeros, random, lambda n: matrix.dtype.type(small) if real else _next(n))


def _unequal(matrix: Array, random: Random) -> Array | None:
    """Of two entries of one weight, one is another weight."""
    weights = matrix.reshape(-1)[_weights(matrix)]
    numbers, counts = np.unique(weights, return_counts=True)
    if len(numbers) < 2 or counts.max() < 2:
        return None
    often = random.choice(numbers[counts > 1].tolist())
    other = random.choice([one for one in numbers.tolist() if one != often])
    return _at(matrix, np.flatnonzero(matrix == often), random, lambda _: other)


def _rows(matrix: Array, random: Random) -> Array | None:
    """Two rows change places."""
    if len(matrix) < 2:
        return None
    made = matrix.copy()
    a, b = random.sample(range(len(matrix)), 2)
    made[[a, b]] = made[[b, a]]
    return made


def _columns(matrix: Array, random: Random) -> Array | None:
    made = _rows(matrix.T, random)
    return None if made is None else made.T


def _moved(matrix: Array, random: Random) -> Array | None:
    """All rows, or all columns, one further."""
    return np.roll(matrix, 1, axis=random.randrange(2))


def _axes(matrix: Array, random: Random) -> Array | None:
    """The axes of rows, or of columns, in another order."""
    turned = random.random() < 0.5
    made = matrix.T if turned else matrix
    ways = [n for n in range(2, len(made)) if len(made) % n == 0]
    if not ways:
        return None
    split = made.reshape(random.choice(ways), -1, made.shape[1])
    made = split.swapaxes(0, 1).reshape(made.shape)
    return made.T if turned else made


CHANGES: dict[str, Change] = {
    "one ulp": _ulp,
    "a zero that is none": _filled,
    "one weight that is two": _unequal,
    "two rows": _rows,
    "two columns": _columns,
    "all rows or columns": _moved,
    "order of axes": _axes,
}
"""By name."""
