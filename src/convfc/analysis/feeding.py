"""The patch matrices of a sample: what the layers of a model are really fed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convfc import arguments
from convfc.analysis.matrix import Matrix
from convfc.analysis.reading import Opened, chosen, opened
from convfc.core.arrays import Array
from convfc.core.geometry import AnyConvolution
from convfc.core.im2col import apply, patch_tensor
from convfc.core.lowering import Lowering, lower
from convfc.core.numpy_ops import NumpyOps
from convfc.errors import UnsupportedModelError
from convfc.formats.registry import open_model
from convfc.formats.shapes import Shapes
from convfc.formats.weights import Weights
from convfc.gates import gated
from convfc.refusals import Code, Refusal
from convfc.samples.feeds import make_feeds
from convfc.system.capacity import excess
from convfc.system.surroundings import undisturbed


@dataclass(frozen=True, eq=False)
class Patches:
    """The patch matrix of one layer on one sample.

    Attributes:
        matrix: the layer; P times its F, and b, is what it makes.
        outputs: sizes of the grid that the rows are the positions of, the last axis fastest; of a
            transposed convolution that of the ordinary one that it is.
        P: (positions, K); with groups (groups, positions, K), to go with `Matrix.blocks`.
    """

    matrix: Matrix
    outputs: tuple[int, ...]
    P: Array


@undisturbed()
@gated
def patch_matrices(
    model: str | Path,
    *,
    layers: str | Sequence[str] = (),
    sample: int = 0,
    data: str | Path = "mnist",
    shapes: Shapes | None = None,
    imports: Sequence[str] = (),
) -> dict[str, Patches]:
    """P of every convolution, of what it is fed when the model is run on a sample.

    Args:
        model: a .onnx, .h5, .hdf5 or .keras file, an original or a converted one.
        layers: patterns of layer names, or one of them; all when empty.
        sample: which sample of `data` the model is run on, from 0.
        data: what `convfc.verify` takes.
        shapes: the whole shape of an input, by its name, where sizes are open.
        imports: modules that register custom Keras classes; looked for in the current folder, too.

    Returns:
        By the names that `matrices` has. Integers of quantized layers are the real numbers that
        they stand for.

    Raises:
        FileError: the file cannot be read.
        UnsupportedModelError: it holds something that convfc cannot load or run, or a layer whose
            input cannot be seen from outside.
        DataError: the samples cannot be read, or hold no such one.
        UsageError: arguments of another kind, or a pattern that fits nothing.
    """
    path, patterns = Path(model), arguments.texts("layers", layers)
    arguments.sampling(data, sample, None)
    with opened(path, imports) as found:
        wanted = [one for one in chosen(path, found.layers, patterns) if isinstance(one, Weights)]
        fed = _activations(path, found, wanted, imports, data=data, sample=sample, shapes=shapes)
        names = {one.name for one in wanted}
        return {
            patches.matrix.name: patches
            for layer in dict.fromkeys(one.layer for one in wanted)
            for patches in _of_layer(path, found, layer, fed[layer])
            if patches.matrix.name in names
        }


def _activations(
    path: Path,
    found: Opened,
    wanted: Sequence[Weights],
    imports: Sequence[str],
    *,
    data: str | Path,
    sample: int,
    shapes: Shapes | None,
) -> dict[str, Array]:
    """What each layer is fed for one sample, (1, ..).

    Raises:
        DataError: there is no such sample.
        UnsupportedModelError: it cannot be seen from outside, or belongs to several samples.
    """
    runnable = open_model(found.path, imports)
    feeds = make_feeds(runnable.inputs, data=data, samples=sample + 1, shapes=shapes)
    feed, place = feeds.batch_of(sample)
    layers = list(dict.fromkeys(one.layer for one in wanted))
    seen = runnable.activations(feed, layers)
    for layer in layers:
        if layer not in seen or len(seen[layer]) != (feeds.batch or 1):
            raise UnsupportedModelError(
                f"{path}: layer '{layer}': what it is fed for one sample cannot be seen from "
                "outside (it is in a branch, a loop, another model, or called more than once)",
                remedy="name other layers with --layer",
                layer=layer,
                code=Code.NOT_EXPLAINED,
            )
    return {name: np.asarray(x)[place:][:1] for name, x in seen.items()}


def _of_layer(path: Path, found: Opened, layer: str, x: Array) -> Iterator[Patches]:
    """The patch matrices of the convolutions that a layer computes one of another's output."""
    stages = [one for one in found.layers if isinstance(one, Weights) and one.layer == layer]
    if stages[0].channels_first:
        x = np.moveaxis(x, 1, -1)
    if x.dtype.kind in "iu":
        x = (x.astype(np.float64) - stages[0].zero) * stages[0].scale
    elif x.dtype.kind != "f":  # types that numpy has not itself
        x = x.astype(np.float32)
    for number, one in enumerate(stages):
        conv, sizes = one.convolution, x.shape[1:-1]
        lowering = lower(conv, sizes, itemsize=x.dtype.itemsize)
        too_much = None
        if isinstance(lowering, Lowering):
            too_much = excess(2 * (lowering.patch_bytes(x.dtype.itemsize) or 0))
        if isinstance(lowering, Refusal) or too_much is not None:
            why = lowering.reason if isinstance(lowering, Refusal) else too_much
            raise UnsupportedModelError(f"{path}: layer '{layer}': {why}", code=Code.TOO_LARGE)
        matrix = Matrix.of(one)
        inner = conv.inner_kernel(matrix.kernel)
        ops = NumpyOps(inner, None if matrix.b is None else conv.inner_bias(matrix.b))
        laid_out = patch_tensor(ops, x, lowering)
        yield Patches(matrix, laid_out.shape[1:-1], _by_groups(laid_out, conv))
        if number + 1 < len(stages):
            x = apply(ops, x, lowering)


def _by_groups(patches: Array, conv: AnyConvolution) -> Array:
    """(1, outputs.., taps * channels) in the shape of `Patches.P`."""
    if conv.groups == 1:
        return patches.reshape(-1, patches.shape[-1])
    split = patches.reshape(
        -1, patches.shape[-1] // conv.channels, conv.groups, conv.channels // conv.groups
    )
    return np.moveaxis(split, 2, 0).reshape(conv.groups, len(split), -1)
