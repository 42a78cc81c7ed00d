"""What a lowering computes: patches + Dense, for tensors of any kind.

With channels last, the patch matrix P has a row per output position and in it the column
(i1, .., ir, c), in that order (Algorithm 1 of Ma & Lu, 2017). The filter matrix F is the kernel
reshaped to (K, filters). The convolution is **y = P F + b**; with groups, one such product per
block of channels.

A transposed convolution is an ordinary one with a filter for each of its phases, whose output is
interleaved and cut (`AnyConvolution.inner`); an ordinary one is its own, with one phase. In the
dense form there is one patch, the whole input (`core.whole`).

`apply` writes that down once, in a handful of operations (`Ops`) that every format has. Numpy's
version of them (`core.numpy_ops`) is the executable meaning; the format packages bring their own
and build graphs of nodes or layers with them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from convfc.core.folding import regroups
from convfc.core.geometry import AnyConvolution, Convolution, Pads, Sizes, Window, known_sizes
from convfc.core.lowering import Lowering, PatchMethod
from convfc.core.whole import Form

T = TypeVar("T")

_WHOLE = slice(0, None, 1)


class Ops(Protocol[T]):
    """The operations that `apply` is made of, on tensors (batch, spatial axes.., channels).

    `T` is whatever stands for a tensor: an array, a node's output, a symbolic layer output.

    Attributes:
        reshapable: how many unknown sizes `reshape` stands.
    """

    reshapable: float = math.inf

    def pad(self, x: T, pads: Sequence[Sequence[Pads]]) -> T:
        """Zeros (or what stands for zero) before and after each spatial axis.

        An axis of n gets pads[n % len(pads)]; where there is more than one entry, n is not known
        before run time.

        >>> of_even_and_odd = (0, 1), (1, 1)  # see `Window.pads_by_remainder`
        >>> from convfc.core.numpy_ops import NumpyOps
        >>> ops = NumpyOps(kernel=np.ones((1, 1, 1)))
        >>> [ops.pad(np.ones((1, n, 1), int), [of_even_and_odd]).ravel().tolist() for n in (2, 3)]
        [[1, 1, 0], [0, 1, 1, 1, 0]]
        """

    def tap(self, x: T, slices: Sequence[slice], axis: int, taps: range) -> T:  # noqa: ARG002 - a name
        """A slice that is what some neighbouring taps of an axis see, where tensors have names."""
        return self.slice(x, slices)

    def slice(self, x: T, slices: Sequence[slice]) -> T:
        """One slice per spatial axis; a stop may count from the end, steps may exceed 1.

        Another one, without a step, may cut the channels of `x`.
        """

    def take(self, x: T, index: NDArray[np.int64]) -> T:
        """Rows of axis 1 by a constant index map: (positions.., taps), places in that axis.

        It is a sum: of a vector along each of its axes. In how many axes its rows lie then does
        not matter: a reshape follows.
        """

    def gather(self, x: T, convolution: Convolution, sizes: Sizes) -> T:
        """P laid out in space, by an index map that the run computes; what it means, in slices."""
        for axis in reversed(range(convolution.rank)):
            x = _fold(self, x, convolution, sizes, axis)
            convolution, sizes = convolution.folded(axis, sizes)
        return x

    def concatenate(self, xs: Sequence[T], axis: int) -> T:
        """Join along a spatial axis, from 1 on, or -1, the channels."""

    def bands(self, x: T, window: Window, count: int) -> Iterable[T]:  # noqa: ARG002 - see below
        """What each of so many bands of positions sees along axis 1, whose size the run knows.

        See `core.bands`. What cannot cut there takes all of it for one band.
        """
        return [x]

    def reshape(self, x: T, shape: Sequence[int | None]) -> T:
        """Reshape all but the batch axis.

        A size is ``None`` where the axis in that place stays as it is, whatever its size; one may
        be -1: what is left.
        """

    def transpose(self, x: T, order: Sequence[int]) -> T:
        """Permute axes; axis 0, the batch, stays."""

    def product(self, patches: T, convolution: Convolution, positions: Sizes) -> T:
        """P F + b: (batch, positions.., taps * channels) to (batch, positions.., filters).

        Called once per block of positions, always with the same kernel.
        """

    def weighted_sum(self, taps: Iterable[T], convolution: Convolution, positions: Sizes) -> T:
        """P F + b of groups of one channel, whose columns come one tap after another.

        Each is (batch, positions.., channels). What comes later need not be there yet.
        """
        return self.product(self.concatenate([*taps], -1), convolution, positions)

    def shifted_sum(self, rows: T, convolution: Convolution, positions: Sizes) -> T:
        """P F + b, where the taps of the first axis are yet to be put into the channels.

        `rows` has those of the others: (batch, pixels, positions.., K / k1). The product may come
        first: of each pixel with the filters of every tap, which are then shifted and added up.
        """
        first, *others = convolution.windows
        cuts = ([first.tap(tap), *[_WHOLE] * len(others)] for tap in range(first.kernel))
        taps = [self.slice(rows, cut) for cut in cuts]
        return self.product(self.concatenate(taps, -1), convolution, positions)

    def interleave(self, y: T, convolution: AnyConvolution, sizes: Sizes) -> T:
        """(batch, sizes.., groups * phases.. * depth) to (batch, sizes * phases.., filters).

        All axes at once; axis by axis where more than one size is unknown. The axes that are done
        go behind the others, so those that are yet to be done keep their places, and in the end
        all are in order again.

        Two positions in a row, each with the outputs of 2 x 2 phases, make two rows of four:

        >>> from convfc.core.numpy_ops import NumpyOps
        >>> from convfc.core.transposed import TransposedConvolution, TransposedWindow
        >>> conv = TransposedConvolution((TransposedWindow(2, stride=2),) * 2, 1, filters=1)
        >>> y = np.array([[0, 1, 2, 3], [4, 5, 6, 7]]).reshape(1, 1, 2, 4)
        >>> NumpyOps(kernel=np.ones(conv.kernel_shape)).interleave(y, conv, (1, 2))[0, ..., 0]
        array([[0, 1, 4, 5],
               [2, 3, 6, 7]])
        """
        rank, groups, depth = convolution.rank, convolution.groups, convolution.filters
        depth //= groups
        at_once = rank if sizes.count(None) <= 1 else 1
        todo = list(zip(sizes, convolution.phases, strict=True))
        axes = list(sizes)
        while todo:
            now, todo = todo[:at_once], todo[at_once:]
            phases = [phase for _, phase in now]
            rest = math.prod(phase for _, phase in todo) * depth
            y = self.reshape(y, [*axes, groups, *phases, rest])
            pairs = itertools.chain(*((1 + i, rank + 2 + i) for i in range(at_once)))
            order = [0, *range(1 + at_once, rank + 1), *pairs, rank + 1, rank + 2 + at_once]
            merged = [None if size is None else size * phase for size, phase in now]
            axes = axes[at_once:] + merged
            shape = [*axes[:-at_once], *one_open(merged), groups * rest]
            y = self.reshape(self.transpose(y, order), shape)
        return y


def one_open(sizes: Sequence[int | None]) -> list[int]:
    """Sizes to reshape to, of which at most one is unknown: -1, what is left.

    >>> one_open([2, None, 3])
    [2, -1, 3]
    """
    return [-1 if size is None else size for size in sizes]


def apply(ops: Ops[T], x: T, lowering: Lowering) -> T:
    """The whole layer: (batch, sizes.., channels) to (batch, outputs.., filters).

    `ops` holds the kernel and the bias of `lowering.inner`. Where `lowering.framed` is not the
    convolution itself, `x` and what is returned are as `transposed.Frame` says.

    >>> from convfc.core.builders import convolution
    >>> from convfc.core.numpy_ops import NumpyOps
    >>> x, kernel = np.array([1, 2, 3, 4]).reshape(1, 4, 1), np.array([10, 1]).reshape(2, 1, 1)
    >>> lowering = Lowering(convolution([2], channels=1, filters=1), (4,), PatchMethod.SLICE)
    >>> apply(NumpyOps(kernel), x, lowering).ravel().tolist()
    [12, 23, 34]
    """
    convolution, known = lowering.framed
    inner = lowering.inner
    if lowering.form is Form.DENSE:
        row = ops.reshape(x, [*[1] * inner.rank, inner.patch_length])
        y = ops.product(row, inner, (1,) * inner.rank)
        return ops.reshape(y, [*known_sizes(lowering.output), convolution.filters])
    padded, sizes = _padded(ops, x, lowering)
    y = _in_blocks(ops, padded, sizes, lowering, 0)
    if max(convolution.phases) > 1:
        y = ops.interleave(y, convolution, inner.output(known))
    cuts = convolution.cuts(known)
    return y if all(cut == _WHOLE for cut in cuts) else ops.slice(y, cuts)


def _in_blocks(ops: Ops[T], x: T, sizes: Sizes, lowering: Lowering, axis: int) -> T:
    """The product, over one block of positions after another from `axis` on.

    `x` has its pads and, along the axes before, what one block sees.
    """
    inner = lowering.inner
    pieces = [
        _in_blocks(ops, piece, piece_sizes, lowering, axis + 1)
        for piece, piece_sizes in _pieces(ops, x, sizes, lowering, axis)
    ]
    if not pieces:
        block = Lowering(inner.unpadded, sizes, lowering.method)
        if lowering.method is PatchMethod.TAPS:
            axes = [[window.tap(tap) for tap in range(window.kernel)] for window in inner.windows]
            taps = (ops.slice(x, cuts) for cuts in itertools.product(*axes))
            return ops.weighted_sum(taps, inner, block.output)
        if lowering.method is PatchMethod.SHIFT:
            rows, _, _ = _sliced(ops, x, block, but=1)
            return ops.shifted_sum(rows, inner, block.output)
        return ops.product(_patches(ops, x, block), inner, block.output)
    return ops.concatenate(pieces, axis + 1) if len(pieces) > 1 else pieces[0]


def _pieces(
    ops: Ops[T], x: T, sizes: Sizes, lowering: Lowering, axis: int
) -> Iterator[tuple[T, Sizes]]:
    """What each block of positions along an axis sees, and its sizes; nothing behind the last."""
    windows = lowering.inner.unpadded.windows
    if axis == 0 and sizes[0] is None and lowering.bands > 1:
        yield from ((band, sizes) for band in ops.bands(x, windows[0], lowering.bands))
    for start, stop in lowering.block_edges(axis):
        seen = windows[axis].span(start, stop)
        part = [seen if place == axis else _WHOLE for place in range(len(windows))]
        piece_sizes = (*sizes[:axis], seen.stop - seen.start, *sizes[axis + 1 :])
        yield x if piece_sizes == sizes else ops.slice(x, part), piece_sizes


def patch_tensor(ops: Ops[T], x: T, lowering: Lowering) -> T:
    """The patch matrix with its rows laid out in space: (batch, outputs.., taps * channels).

    >>> from convfc.core.builders import convolution
    >>> from convfc.core.numpy_ops import NumpyOps
    >>> x, kernel = np.array([1, 2, 3, 4]).reshape(1, 4, 1), np.array([10, 1]).reshape(2, 1, 1)
    >>> lowering = Lowering(convolution([2], channels=1, filters=1), (4,), PatchMethod.SLICE)
    >>> patch_tensor(NumpyOps(kernel), x, lowering).tolist()
    [[[1, 2], [2, 3], [3, 4]]]
    """
    padded, sizes = _padded(ops, x, lowering)
    return _patches(ops, padded, Lowering(lowering.inner.unpadded, sizes, lowering.method))


def _padded(ops: Ops[T], x: T, lowering: Lowering) -> tuple[T, Sizes]:
    """The input with its pads, and its spatial sizes then."""
    known = lowering.framed[1]
    axes = list(zip(lowering.inner.windows, known, strict=True))
    padding = [window.pads_by_remainder(size) for window, size in axes]
    if any(pads != ((0, 0),) for pads in padding):
        x = ops.pad(x, padding)
    return x, tuple(
        None if size is None else size + sum(pads[0])
        for size, pads in zip(known, padding, strict=True)
    )


def _patches(ops: Ops[T], x: T, lowering: Lowering) -> T:
    """See `patch_tensor`; of a convolution that pads no more."""
    convolution, sizes = lowering.inner, lowering.sizes
    if lowering.method is PatchMethod.NONE:
        return x
    if lowering.method is PatchMethod.RESHAPE:
        return _tiles(ops, x, convolution, sizes)
    x, convolution, sizes = _sliced(ops, x, lowering)
    return _gather(ops, x, convolution, sizes) if lowering.gathered_axes else x


def _sliced(ops: Ops[T], x: T, lowering: Lowering, but: int = 0) -> tuple[T, Convolution, Sizes]:
    """Put taps into the channels by slices, but for so many axes, and what is left to be done."""
    convolution, sizes = lowering.inner, lowering.sizes
    single, several = lowering.sliced_axes
    cuts = [w.tap(0) if axis in single else _WHOLE for axis, w in enumerate(convolution.windows)]
    if any(cut != _WHOLE for cut in cuts):
        x = ops.slice(x, cuts)
    for axis in single:
        convolution, sizes = convolution.folded(axis, sizes)
    for axis in several[: len(several) - but]:
        x = _fold(ops, x, convolution, sizes, axis)
        convolution, sizes = convolution.folded(axis, sizes)
    return x, convolution, sizes


def _fold(ops: Ops[T], x: T, convolution: Convolution, sizes: Sizes, axis: int) -> T:
    """Put the taps of one axis into the channels: a slice for each, joined.

    Along the last axis, `stride` neighbours and their channels lie side by side in memory, and
    are taken as so many more channels of one position: fewer slices, longer copies, no steps.
    """
    window, channels = convolution.windows[axis], convolution.channels
    size, output, stride = sizes[axis], window.output(sizes[axis]), window.stride
    before = [_WHOLE] * axis
    cuts = [[*before, window.tap(tap)] for tap in range(window.kernel)]
    taps = [range(tap, tap + 1) for tap in range(window.kernel)]
    fits = sizes.count(None) <= ops.reshapable and regroups(convolution, axis)
    if fits and size is not None and output is not None:
        strides = output - 1 + window.strides_spanned
        short = strides * stride - size
        if short > 0:
            x = ops.pad(x, [*[((0, 0),)] * axis, ((0, short),)])
        elif short < 0:
            x = ops.slice(x, [*before, slice(0, strides * stride, 1)])
        x = ops.reshape(x, [*sizes[:axis], strides, stride * channels])
        starts = range(0, window.kernel, stride)
        taps = [range(start, min(start + stride, window.kernel)) for start in starts]
        cuts = [
            [*before, slice(first, first + output, 1), slice(0, len(some) * channels, 1)]
            for first, some in enumerate(taps)
        ]
        cuts = [cut if cut[-1].stop < stride * channels else cut[:-1] for cut in cuts]
    after = [_WHOLE] * (convolution.rank - axis - 1)
    pairs = zip(cuts, taps, strict=True)
    return ops.concatenate([ops.tap(x, [*cut, *after], axis, some) for cut, some in pairs], -1)


def _gather(ops: Ops[T], x: T, convolution: Convolution, sizes: Sizes) -> T:
    if None in sizes:
        return ops.gather(x, convolution, sizes)
    known, outputs = known_sizes(sizes), known_sizes(convolution.output(sizes))
    pixels = ops.reshape(x, [math.prod(known), convolution.channels])
    index = convolution.index_map(known).reshape(*outputs, convolution.taps)
    rows = ops.take(pixels, index)
    return ops.reshape(rows, [*outputs, convolution.taps * convolution.channels])


def _tiles(ops: Ops[T], x: T, convolution: Convolution, sizes: Sizes) -> T:
    """Cut up what windows tile; taps of the last axis lie beside the channels already."""
    known, outputs = known_sizes(sizes), known_sizes(convolution.output(sizes))
    tiled = [output * taps for output, taps in zip(outputs, convolution.kernel, strict=True)]
    if tiled != known:
        x = ops.slice(x, [slice(0, size, 1) for size in tiled])
    *pairs, last_output, last_taps = itertools.chain(*zip(outputs, convolution.kernel, strict=True))
    x = ops.reshape(x, [*pairs, last_output, last_taps * convolution.channels])
    last = 2 * convolution.rank
    order = [0, *range(1, last, 2), *range(2, last + 1, 2)]
    if convolution.rank > 1:
        x = ops.transpose(x, order)
    return ops.reshape(x, [*outputs, convolution.taps * convolution.channels])
