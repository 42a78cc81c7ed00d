"""Index maps: stored, or of unknown sizes, computed in the graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from convfc.core.geometry import Convolution
from convfc.formats.onnx.emitter import END, Emitter

_MOST_STORED = 2**11
"""Entries of an index map that is stored; a larger one is the sum of a few vectors."""


def stored(emit: Emitter, index: NDArray[np.int64]) -> ir.Value:
    """The index map of `Ops.take`."""
    narrow = index.astype(np.int32)  # half the bytes; `lower` keeps the map far below 2**31
    if narrow.size <= _MOST_STORED:
        return emit.integers(narrow.reshape(-1), "index_map")
    # The pixel of the first tap, axis by axis, and how far the other taps are from it.
    parts = [narrow[_along(axis, narrow.ndim)] for axis in range(narrow.ndim)]
    return emit.total(parts, "index_map")


def _along(axis: int, rank: int) -> tuple[slice, ...]:
    """What is along an axis, from the first element on."""
    return tuple(slice(None) if each == axis else slice(1) for each in range(rank))


def gathered(emit: Emitter, x: ir.Value, convolution: Convolution) -> ir.Value:
    """What each tap meets: (batch, outputs.., taps, channels); from opset 11 on.

    Row 2, column 3 of a map with 5 columns is pixel 2 * 5 + 3: each axis has its places, all taps
    at all positions, and what the axes before it point at is multiplied by its size. Places come
    of a running sum of ones, not of a Range, of which shape inference does not know the length.

    Args:
        emit: where nodes go.
        x: (batch, sizes.., channels).
        convolution: what is gathered for; it has no pads.
    """
    rank, sizes = convolution.rank, emit.sizes(x)
    zero = emit.numbers(np.array(0, np.int64), "zero")
    index = zero
    for axis, window in enumerate(convolution.windows):
        size = emit.node("Gather", sizes, emit.integers([axis + 1], "axis"), axis=0)
        ones = emit.node("ConstantOfShape", size, value=ir.tensor(np.array([1])))
        places = emit.node("CumSum", ones, zero, exclusive=1)
        tap, first, taps = window.tap(0), [1] * 2 * rank, [1] * 2 * rank
        end = END if tap.stop is None else tap.stop
        bounds = zip((tap.start, end, 0, tap.step), _BOUNDS, strict=True)
        cut = emit.node("Slice", places, *(emit.integers([n], name) for n, name in bounds))
        first[axis], taps[rank + axis] = -1, window.kernel
        steps = np.arange(window.kernel, dtype=np.int64).reshape(taps) * window.dilation
        part = emit.node("Add", emit.reshape(cut, first), emit.numbers(steps, "taps"))
        index = emit.node("Add", emit.node("Mul", index, size), part) if axis else part
    index = emit.reshape(index, [*[None] * rank, convolution.taps])
    return emit.node("Gather", emit.reshape(x, [None, -1, convolution.channels]), index, axis=1)


_BOUNDS = ("starts", "ends", "axes", "steps")
