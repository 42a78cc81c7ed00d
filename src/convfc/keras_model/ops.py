"""`convfc.applying.Ops` in operations of Keras, where they are shorter than stock layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from convfc.geometry import Pads
from convfc.keras_model.stock import StockOps, Tensor


class KerasOps(StockOps):
    """Operations of `keras.ops` where they are shorter than layers; only `.keras` holds them."""

    _reshapable = 3

    def pad(self, x: Tensor, pads: Sequence[Sequence[Pads]]) -> Tensor:
        """See `Ops.pad`.

        An axis of unknown size gets the most pads of all. What it should not have before it is
        rotated to its end, where it makes no further position.
        """
        most = [max(by) for by in pads]
        padded = super().pad(x, [[pad] for pad in most])
        for axis, (by, (before, after)) in enumerate(zip(pads, most, strict=True), 1):
            excess = np.array([before - pad[0] for pad in by], np.int32)
            if excess.any():
                line, length = self._line(padded, axis, axis + 1)
                remainder = keras.ops.mod(length - (before + after), len(by))
                shifted = line + keras.ops.take(excess, remainder)
                padded = keras.ops.take(padded, keras.ops.mod(shifted, length), axis=axis)
        return padded

    def reshape(self, x: Tensor, shape: Sequence[int | None]) -> Tensor:
        """See `Ops.reshape`.

        With several unknown sizes, all axes up to the last of them become one, whose rows are
        then taken in the order of a grid of them.
        """
        unknown = [place for place, size in enumerate(shape) if size in (None, -1)]
        if len(unknown) <= 1:
            return super().reshape(x, shape)
        tail = shape[unknown[-1] + 1 :]
        flat = super().reshape(x, [-1, *tail])
        end = len(x.shape)
        while math.prod(x.shape[end:]) != math.prod(size or 0 for size in tail):
            end -= 1
        grid: Any = 0
        for axis, size in enumerate(shape[: unknown[-1] + 1], 1):
            if size is None or size == -1:
                line, length = self._line(x, axis, end if size == -1 else axis + 1)
            else:
                line, length = np.arange(size, dtype=np.int32), size
            # The vector comes first: Keras on TensorFlow takes a second one of the right length
            # for a bias of axis 1.
            above = keras.ops.expand_dims(grid, -1) * length if axis > 1 else 0
            grid = keras.ops.add(line, above)
        return keras.ops.take(flat, grid, axis=1)

    def _line(self, x: Tensor, axis: int, end: int) -> tuple[Tensor, Tensor]:
        """The numbers 0, 1, .. along some neighbouring axes taken as one, and how many they are."""
        cut = (*[0] * axis, *[slice(None)] * (end - axis), *[0] * (len(x.shape) - end))
        line = x[cut]
        if end - axis > 1:
            line = keras.ops.reshape(line, (-1,))
        ones = keras.ops.ones_like(line, dtype="int32")
        return keras.ops.cumsum(ones) - 1, keras.ops.sum(ones)

    def slice(self, x: Tensor, slices: Sequence[slice]) -> Tensor:
        """See `Ops.slice`."""
        index = (slice(None), *slices)
        return x[index]

    def take(self, x: Tensor, index: NDArray[np.int64]) -> Tensor:
        """See `Ops.take`."""
        return keras.ops.take(x, index.astype(np.int32), axis=1)
