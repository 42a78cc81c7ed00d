"""From a convolution to patches + Dense: which patch method, and what it computes.

With channels last, the patch matrix P has a row per output position and in it the column
(i1, .., ir, c), in that order (Algorithm 1 of Ma & Lu, 2017). The filter matrix F is the kernel
reshaped to (K, filters). The convolution is **y = P F + b**; with groups, one such product per
block of channels.

`apply` writes that down once, in a handful of operations (`Ops`) that every format has. Numpy's
version of them, `NumpyOps`, is the executable meaning; the format packages bring their own and
build graphs of nodes or layers with them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from convfc.geometry import Convolution, Pads, Sizes, product

Array = NDArray[Any]
T = TypeVar("T")


class PatchMethod(str, Enum):
    """How the patch matrix is built."""

    AUTO = "auto"
    """The first of the others that fits; see `lower` for their order."""
    NONE = "none"
    """A 1x1 kernel with stride 1: the input is its own patch matrix."""
    RESHAPE = "reshape"
    """Kernel == stride: windows tile the input, a reshape and a transpose cut it up."""
    GATHER = "gather"
    """The index map as a constant: one gather over all pixels. Needs known, moderate sizes."""
    SLICE = "slice"
    """One strided slice per tap, concatenated. Works with unknown sizes."""


@dataclass(frozen=True)
class Refusal:
    """Why something cannot be lowered, in words for the person who asked."""

    reason: str


@dataclass(frozen=True)
class Lowering:
    """A convolution on an input of given sizes, and the method that builds its patch matrix.

    Attributes:
        convolution: the geometry.
        sizes: spatial input sizes, ``None`` where unknown.
        method: never AUTO: the method that was chosen.
    """

    convolution: Convolution
    sizes: Sizes
    method: PatchMethod

    @property
    def pads(self) -> tuple[Pads, ...]:
        """Zeros around the input, per axis."""
        pads = self.convolution.pads(self.sizes)
        assert pads is not None, "`lower` refuses pads that depend on an unknown size"  # noqa: S101 - a promise of the constructor, not input
        return pads

    @property
    def output(self) -> Sizes:
        """Spatial output sizes."""
        return self.convolution.output(self.sizes)

    @property
    def patch_matrix(self) -> tuple[int | None, int]:
        """Rows and columns of P for one sample, all groups together."""
        conv = self.convolution
        return conv.positions(self.sizes), conv.taps * conv.channels

    @property
    def filter_matrix(self) -> tuple[int, int]:
        """Rows and columns of F (of each block, with groups)."""
        conv = self.convolution
        return conv.patch_length, conv.filters // conv.groups

    def input_bytes(self, itemsize: int) -> int | None:
        """Bytes of the unpadded input for one sample, ``None`` if unknown."""
        pixels = product(self.sizes)
        return None if pixels is None else pixels * self.convolution.channels * itemsize

    def patch_bytes(self, itemsize: int) -> int | None:
        """Bytes that P takes for one sample; 0 where the input itself is P, ``None`` if unknown."""
        if self.method is PatchMethod.NONE:
            return 0
        rows, columns = self.patch_matrix
        return None if rows is None else rows * columns * itemsize


_SMALL_INDEX_MAP = 2**16
"""Entries up to which AUTO gathers: 256 KB in the file, which a few slices do not take."""
_LARGEST_INDEX_MAP = 2**22
"""Entries up to which one may ask for a gather: 16 MB in the file, more than most nets weigh."""


def lower(
    convolution: Convolution,
    sizes: Sizes,
    patches: PatchMethod = PatchMethod.AUTO,
    available: frozenset[PatchMethod] = frozenset(PatchMethod),
) -> Lowering | Refusal:
    """Choose how a convolution's patches are built.

    A 1x1 kernel with stride 1 needs no patches, whatever was asked for. Otherwise AUTO prefers
    reshape (no copy per tap at all). Then comes gather (one node) while its index map is small,
    else slice; a single tap is a single slice, so there is nothing to gather.

    Args:
        convolution: the geometry.
        sizes: spatial input sizes, ``None`` where unknown.
        patches: the method that the user asked for.
        available: the methods that the model's format can hold.

    Returns:
        A `Lowering`, or a `Refusal` when the method that was asked for does not fit.

    Raises:
        GeometryError: the window does not fit the sizes.
    """
    convolution.output(sizes)
    if convolution.pads(sizes) is None:
        return Refusal("its 'same' padding depends on a size that is unknown before run time")
    order = [PatchMethod.NONE, patches]
    if patches is PatchMethod.AUTO:
        order = [PatchMethod.NONE, PatchMethod.RESHAPE, PatchMethod.GATHER, PatchMethod.SLICE]
        if convolution.taps == 1 or _index_entries(convolution, sizes) > _SMALL_INDEX_MAP:
            order[2:] = PatchMethod.SLICE, PatchMethod.GATHER
    refusals = []
    for method in order:
        misfit = _misfit(method, convolution, sizes)
        if misfit is None and method not in available:
            misfit = "is not to be had here, in this format or opset"
        if misfit is None:
            return Lowering(convolution, sizes, method)
        refusals.append(f"{method.value} {misfit}")
    remedy = "" if patches is PatchMethod.AUTO else "; use --patches auto"
    return Refusal("; ".join(refusals[1:]) + remedy)


def _misfit(method: PatchMethod, convolution: Convolution, sizes: Sizes) -> str | None:
    """Why a method does not fit a convolution, or ``None``."""
    windows = convolution.windows
    if method is PatchMethod.NONE:
        pointwise = all(w.kernel == w.stride == 1 for w in windows)
        return None if pointwise else "fits a 1x1 kernel with stride 1 only"
    if method is PatchMethod.RESHAPE and any(not w.kernel == w.extent == w.stride for w in windows):
        return "needs kernel == stride and no dilation"
    if method is not PatchMethod.SLICE and None in sizes:
        return "needs sizes that are known before run time"
    entries = _index_entries(convolution, sizes)
    if method is PatchMethod.GATHER and entries > _LARGEST_INDEX_MAP:
        return f"would need an index map of {entries:,} entries in the file"
    return None


def _index_entries(convolution: Convolution, sizes: Sizes) -> int:
    return (convolution.positions(sizes) or 0) * convolution.taps


class Ops(Protocol[T]):
    """The operations that `apply` is made of, on tensors (batch, spatial axes.., channels).

    `T` is whatever stands for a tensor: an array, a node's output, a symbolic layer output.
    """

    def pad(self, x: T, pads: Sequence[Pads]) -> T:
        """Zeros (or what stands for zero) before and after each spatial axis."""

    def slice(self, x: T, slices: Sequence[slice]) -> T:
        """One slice per spatial axis; a stop may count from the end, steps may exceed 1."""

    def take(self, x: T, index: NDArray[np.int64]) -> T:
        """Rows of axis 1 by a flat constant index."""

    def concatenate(self, xs: Sequence[T]) -> T:
        """Join along the last axis."""

    def reshape(self, x: T, shape: Sequence[int]) -> T:
        """Reshape all but the batch axis, to known sizes."""

    def transpose(self, x: T, order: Sequence[int]) -> T:
        """Permute axes; axis 0, the batch, stays."""

    def product(self, patches: T, convolution: Convolution) -> T:
        """P F + b: (batch, spatial.., taps * channels) to (batch, spatial.., filters)."""


def apply(ops: Ops[T], x: T, lowering: Lowering) -> T:
    """The whole layer: (batch, sizes.., channels) to (batch, outputs.., filters)."""
    return ops.product(patch_tensor(ops, x, lowering), lowering.convolution)


def patch_tensor(ops: Ops[T], x: T, lowering: Lowering) -> T:
    """The patch matrix with its rows laid out in space: (batch, outputs.., taps * channels)."""
    convolution = lowering.convolution
    if any(map(any, lowering.pads)):
        x = ops.pad(x, lowering.pads)
    if lowering.method is PatchMethod.NONE:
        return x
    if lowering.method is PatchMethod.SLICE:
        taps = [
            ops.slice(x, [w.tap(i) for w, i in zip(convolution.windows, tap, strict=True)])
            for tap in itertools.product(*map(range, convolution.kernel))
        ]
        return ops.concatenate(taps) if len(taps) > 1 else taps[0]

    # Both other methods are chosen for known sizes only.
    sizes = [size for size in lowering.sizes if size is not None]
    outputs = [size for size in lowering.output if size is not None]
    padded = [size + sum(pads) for size, pads in zip(sizes, lowering.pads, strict=True)]
    columns = convolution.taps * convolution.channels
    if lowering.method is PatchMethod.GATHER:
        pixels = ops.reshape(x, [int(np.prod(padded)), convolution.channels])
        rows = ops.take(pixels, convolution.index_map(sizes).reshape(-1))
        return ops.reshape(rows, [*outputs, columns])

    tiled = [output * taps for output, taps in zip(outputs, convolution.kernel, strict=True)]
    if tiled != padded:
        x = ops.slice(x, [slice(0, size, 1) for size in tiled])
    pairs = list(itertools.chain(*zip(outputs, convolution.kernel, strict=True)))
    tiles = ops.reshape(x, [*pairs, convolution.channels])
    last = 2 * convolution.rank + 1
    order = [0, *range(1, last, 2), *range(2, last, 2), last]
    return ops.reshape(ops.transpose(tiles, order), [*outputs, columns])


def filter_matrices(kernel: Array, groups: int = 1) -> Array:
    """The filter matrix of every block of channels.

    Args:
        kernel: (k1, .., kr, channels / groups, filters), channels last.
        groups: number of blocks G.

    Returns:
        (G, K, filters / G). For one block, F = [0] is the kernel's own bytes.
    """
    patch_length = int(np.prod(kernel.shape[:-1]))
    blocks = kernel.reshape(patch_length, groups, kernel.shape[-1] // groups)
    return np.ascontiguousarray(np.moveaxis(blocks, 1, 0))


class NumpyOps:
    """`Ops` on numpy arrays: what a lowering means.

    Args:
        kernel: (k1, .., kr, channels / groups, filters).
        bias: (filters,), or ``None``.
    """

    def __init__(self, kernel: Array, bias: Array | None = None) -> None:
        self.kernel = kernel
        self.bias = bias

    def pad(self, x: Array, pads: Sequence[Pads]) -> Array:
        """See `Ops.pad`."""
        return np.pad(x, [(0, 0), *pads, (0, 0)])

    def slice(self, x: Array, slices: Sequence[slice]) -> Array:
        """See `Ops.slice`."""
        cuts = (slice(None), *slices)
        cut: Array = x[cuts]
        return cut

    def take(self, x: Array, index: NDArray[np.int64]) -> Array:
        """See `Ops.take`."""
        return np.take(x, index, axis=1)

    def concatenate(self, xs: Sequence[Array]) -> Array:
        """See `Ops.concatenate`."""
        return np.concatenate(xs, axis=-1)

    def reshape(self, x: Array, shape: Sequence[int]) -> Array:
        """See `Ops.reshape`."""
        return x.reshape(x.shape[0], *shape)

    def transpose(self, x: Array, order: Sequence[int]) -> Array:
        """See `Ops.transpose`."""
        return np.transpose(x, order)

    def product(self, patches: Array, convolution: Convolution) -> Array:
        """See `Ops.product`."""
        groups = convolution.groups
        lead = patches.shape[:-1]
        blocks = patches.reshape(*lead, convolution.taps, groups, -1)
        blocks = np.moveaxis(blocks, -2, 0).reshape(groups, -1, convolution.patch_length)
        products = blocks @ filter_matrices(self.kernel, groups)
        y: Array = np.moveaxis(products, 0, 1).reshape(*lead, convolution.filters)
        return y if self.bias is None else y + self.bias
