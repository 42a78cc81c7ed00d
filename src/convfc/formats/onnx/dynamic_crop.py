"""Crops that depend on a size which is not known before run time: computed in the graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from convfc.core.lowering import Lowering
from convfc.core.transposed import TransposedConvolution
from convfc.formats.onnx.emitter import Emitter


def framed(
    emit: Emitter, x: ir.Value, lowering: Lowering, compute: Callable[[ir.Value], ir.Value]
) -> ir.Value:
    """`compute` on the pieces of `x` that `Lowering.framed` speaks of, and the output in that.

    With stride 2, a shift of -1 and no rounding up, an input of 6 has the crop
    (6 * 2 - 1) // 2 = 5: the piece starts at input 5 // 2 = 2, and the output
    at 5 - 2 * 2 = 1 of what is made of it.

    Args:
        emit: where nodes go; from opset 10 on, if there are such pieces.
        x: (batch, spatial axes.., channels).
        lowering: the layer.
        compute: makes (batch, outputs.., filters) of the pieces, all pieces of `x` at once.
    """
    conv, sizes = lowering.convolution, lowering.sizes
    frames = conv.frames(sizes) if isinstance(conv, TransposedConvolution) else {}
    if not frames:
        return compute(x)
    axes = [axis + 1 for axis in frames]
    pads = [frames[axis].pads if axis in frames else (0, 0) for axis in range(conv.rank)]
    pads = [(0, 0), *pads, (0, 0)]
    padded = emit.pad(x, [*(pad[0] for pad in pads), *(pad[1] for pad in pads)])

    found = emit.node("Gather", emit.sizes(x), emit.integers(axes, "axes"), axis=0)
    strides = emit.integers([frame.window.stride for frame in frames.values()], "strides")
    shifts = emit.integers([frame.shift for frame in frames.values()], "shifts")
    total = emit.node("Add", emit.node("Mul", found, strides), shifts)
    # Twice what is above zero: integers have no Max before opset 12.
    double = emit.node("Add", total, emit.node("Abs", total))
    rounding = emit.integers([2 * frame.rounds_up for frame in frames.values()], "rounding")
    crop = emit.node("Div", emit.node("Add", double, rounding), emit.integers([4], "four"))
    first = emit.node("Div", crop, strides)
    rest = emit.node("Sub", crop, emit.node("Mul", first, strides))

    def piece_of(
        value: ir.Value, start: ir.Value, lengths: Sequence[int | None], last: int
    ) -> ir.Value:
        """A piece from `start` on; shape inference gives up its axes, so they are told again."""
        pieces = [lengths[axis] or 0 for axis in frames]
        end = emit.node("Add", start, emit.integers(pieces, "lengths"))
        piece = emit.node("Slice", value, start, end, emit.integers(axes, "axes"))
        return emit.reshape(piece, [None, *lengths, last])

    y = compute(piece_of(padded, first, lowering.framed[1], conv.channels))
    return piece_of(y, rest, lowering.output, conv.filters)
