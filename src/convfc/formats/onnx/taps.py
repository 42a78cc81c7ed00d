"""Layers whose taps are multiplied one by one: what they make, added up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial, reduce
from itertools import chain

import onnx_ir as ir

from convfc.core.geometry import Convolution, Sizes
from convfc.formats.onnx.emitter import END, Emitter

_SPAN = 256
"""Numbers that are multiplied by a row at a time: more are hardly quicker, fewer are slower."""


def summed_products(
    emit: Emitter, patches: ir.Value, matrix: ir.Value, convolution: Convolution, positions: Sizes
) -> ir.Value:
    """P F of groups of one channel: each tap times its weight, over all channels at once, summed.

    Args:
        emit: where nodes go.
        patches: the patch matrix, laid out in space.
        matrix: the filter matrix by tap, see `Layout`.
        convolution: the geometry.
        positions: sizes of the output.
    """
    groups, keep = convolution.groups, [None, *positions]
    each, shape = convolution.filters // groups, [*keep, convolution.taps, groups]
    # Several filters for one channel: it meets each of them.
    taps = emit.reshape(patches, shape if each == 1 else [*shape, 1])
    taps = emit.call(taps, "patch_matrix")
    y = emit.call(emit.sum(emit.node("Mul", taps, matrix), len(keep)), "product")
    return y if each == 1 else emit.reshape(y, [*keep, convolution.filters])


def shifted_sum(
    emit: Emitter, rows: ir.Value, matrix: ir.Value, convolution: Convolution
) -> ir.Value:
    """See `Ops.shifted_sum`, without the bias: one product, of which each tap's part is cut out.

    Args:
        emit: where nodes go; from opset 10 on.
        rows: patches but for the taps of the first axis.
        matrix: the filter matrix side by side, see `Layout`.
        convolution: the geometry.
    """
    window, filters = convolution.windows[0], convolution.filters
    products = emit.node("MatMul", emit.call(rows, "patch_rows"), matrix)
    axes = emit.integers([1, convolution.rank + 1], "axes")

    def shifted(tap: int) -> ir.Value:
        cut, last = window.tap(tap), (tap + 1) * filters
        starts = emit.integers([cut.start, last - filters], "starts")
        ends = emit.integers([END if cut.stop is None else cut.stop, last], "ends")
        return emit.node("Slice", products, starts, ends, axes)

    return reduce(partial(emit.node, "Add"), map(shifted, range(window.kernel)))


def weighted_sum(
    emit: Emitter,
    taps: Iterable[ir.Value],
    matrix: ir.Value,
    bias: ir.Value | None,
    convolution: Convolution,
    positions: Sizes,
) -> ir.Value:
    """See `Ops.weighted_sum`: a chain of Adds, so that few tensors are there at a time.

    Runtimes are slow with short rows. Where each channel has one filter, neighbours on the last
    axis are taken as one, with the weights again for each of them: some where the size is known,
    else all. The Reshape that this takes also keeps onnxruntime from moving the Transposes around
    the layer inside, where it would cut taps out of channels first, in steps of single numbers.

    Args:
        emit: where nodes go.
        taps: what each meets; they are made one after another.
        matrix: the filter matrix by tap, see `Layout`.
        bias: of each filter.
        convolution: the geometry.
        positions: sizes of the output.
    """
    taps = iter(taps)
    first, size = next(taps), positions[-1]
    groups, keep = convolution.groups, [None, *positions]
    each, lines = convolution.filters // groups, [*keep[:-1], -1]
    flat = each == 1 and size is None and not emit.zeros
    back = [*(lines if size is None and emit.zeros else keep), convolution.filters]
    if each > 1:
        shape = [*keep, groups, 1]  # a channel meets each of its filters
    else:
        if size is None:
            shape = lines
            axis = emit.integers([len(positions)], "axis")
            times = emit.node("Gather", emit.sizes(first), axis, axis=0)
            both = emit.node("Concat", emit.integers([1], "one"), times, axis=0)
        else:
            several = _neighbours(size, groups)
            shape = [*keep[:-1], size // several, several * groups]
            times, both = emit.integers([several], "times"), emit.integers([1, several], "times")
        matrix = emit.node("Tile", matrix, both)
        bias = None if bias is None else emit.node("Tile", bias, times)
    rows = _rows(emit, matrix, convolution.taps)
    terms = (
        emit.node(
            "Mul",
            emit.node("Flatten", tap, axis=len(positions)) if flat else emit.reshape(tap, shape),
            row,
        )
        for tap, row in zip(chain([first], taps), rows, strict=True)
    )
    total = reduce(partial(emit.node, "Add"), terms)
    if each > 1:
        total = emit.reshape(total, back)
        return total if bias is None else emit.node("Add", total, bias)
    total = total if bias is None else emit.node("Add", total, bias)
    return emit.node("Reshape", total, emit.sizes(first)) if flat else emit.reshape(total, back)


def _rows(emit: Emitter, matrix: ir.Value, count: int) -> Sequence[ir.Value]:
    """Each row of a tensor of so many, with axis 0 still there."""
    ones = [1] * count
    if emit.place.opset < 13:
        return emit.nodes("Split", count, matrix, axis=0, split=ones)
    return emit.nodes("Split", count, matrix, emit.integers(ones, "rows"), axis=0)


def _neighbours(size: int, channels: int) -> int:
    """How many positions in a row are taken as one; all of them where no fewer are enough."""
    parts = (n for n in range(2, size) if size % n == 0 and n * channels >= _SPAN)
    return next(parts, size)
