"""Groups of one channel without a patch matrix: tap by tap, each times its row of weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial, reduce

import onnx_ir as ir

from convfc.core.geometry import Convolution, Sizes
from convfc.formats.onnx.emitter import Emitter

_SPAN = 256
"""Numbers that are multiplied by a row at a time: more are hardly quicker, fewer are slower."""


def weighted_sum(
    emit: Emitter,
    taps: Iterable[ir.Value],
    matrix: ir.Value,
    bias: ir.Value | None,
    convolution: Convolution,
    positions: Sizes,
) -> ir.Value:
    """See `Ops.weighted_sum`: a chain of Adds, so that few tensors are there at a time.

    Runtimes are slow with short rows. Where the last size is known and each channel has one filter,
    some neighbours on the last axis are taken as one, with the weights again for each of them.

    Args:
        emit: where nodes go.
        taps: what each meets; they are made one after another.
        matrix: the filter matrix by tap, see `Layout`.
        bias: of each filter.
        convolution: the geometry.
        positions: sizes of the output.
    """
    groups, keep = convolution.groups, kept(positions)
    each, times, shape = convolution.filters // groups, 1, [*keep, groups]
    if each > 1:
        shape = [*shape, 1]  # a channel meets each of its filters
    elif positions[-1] is not None:
        times = _neighbours(positions[-1], groups)
        shape = [*keep[:-1], positions[-1] // times, times * groups]
    reshapes = each > 1 or times > 1
    rows = emit.rows(_repeated(emit, matrix, [1, times]), convolution.taps)
    terms = (
        emit.node("Mul", emit.reshape(tap, shape) if reshapes else tap, row)
        for tap, row in zip(taps, rows, strict=True)
    )
    total = reduce(partial(emit.node, "Add"), terms)
    if bias is not None and each == 1:
        total = emit.node("Add", total, _repeated(emit, bias, [times]))
    if reshapes:
        total = emit.reshape(total, [*keep, convolution.filters])
    return emit.node("Add", total, bias) if bias is not None and each > 1 else total


def kept(positions: Sizes) -> list[int]:
    """Batch and positions in the shape of a Reshape: as they are, in numbers where possible."""
    return [0, *(size or 0 for size in positions)]


def _neighbours(size: int, channels: int) -> int:
    """How many positions in a row are taken as one; all of them where no fewer are enough.

    Never one alone: a Reshape keeps onnxruntime from moving the Transposes around the layer to the
    inside, where it would cut taps out of channels first, in steps of single numbers.
    """
    parts = (n for n in range(2, size) if size % n == 0 and n * channels >= _SPAN)
    return next(parts, size)


def _repeated(emit: Emitter, row: ir.Value, times: Sequence[int]) -> ir.Value:
    """The numbers of all channels, again for each of some neighbours; or a matrix of such rows."""
    if max(times) == 1:
        return row
    return emit.node("Tile", row, emit.integers(times, "times"))
