"""Bands of positions along an axis of unknown size: cut where the run finds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from convfc.core.geometry import Window
from convfc.formats.onnx.emitter import END, Emitter


def bands(emit: Emitter, x: ir.Value, window: Window, count: int) -> Iterator[ir.Value]:
    """See `Ops.bands`; from opset 11 on.

    A band has as many positions as every `count`-th of all, from its own number on: that is how
    long a slice with constant bounds is. So shape inference can follow it, and with it what a band
    takes; it follows no slice of which the bounds are computed. Rows are gathered, one by one.

    Args:
        emit: where nodes go.
        x: (batch, size, ..).
        window: the axis; it has no pads.
        count: how many bands.
    """
    size = emit.node("Gather", emit.sizes(x), emit.integers([1], "axis"), axis=0)
    ones = emit.node("ConstantOfShape", size, value=ir.tensor(np.array([1])))
    zero = emit.numbers(np.array(0, np.int64), "zero")
    stride, beyond = window.stride, window.extent - window.stride
    begun: ir.Value | None = None
    before: ir.Value | None = None
    for number in range(count):
        rows = _cut(emit, ones, window.extent - 1 + number * stride, END, count * stride)
        if stride > 1:
            rows = emit.node("Tile", rows, emit.integers([stride], "stride"))
        if before is not None:
            length = emit.node("Shape", before)
            begun = length if begun is None else emit.node("Add", begun, length)
        before = rows
        if beyond > 0:
            rows = emit.node("Concat", rows, emit.integers([1] * beyond, "beyond"), axis=0)
        places = emit.node("CumSum", rows, zero, exclusive=1)
        if beyond < 0:  # what the stride skips behind the last window may not be there
            places = _cut(emit, places, 0, beyond)
        if begun is not None:
            places = emit.node("Add", places, begun)
        yield emit.node("Gather", x, places, axis=1)


def _cut(emit: Emitter, vector: ir.Value, start: int, end: int, step: int = 1) -> ir.Value:
    named = (start, "starts"), (end, "ends"), (0, "axes"), (step, "steps")
    return emit.node("Slice", vector, *(emit.integers([number], name) for number, name in named))
