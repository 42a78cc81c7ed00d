"""MaxPooling in products and ReLU: max(a, b) = b + relu(a - b), one axis and one tap at a time.

Each channel becomes some, of which the next product makes the largest so far. A sum of numbers that
a ReLU has let through is not elementwise, so b goes through the same ReLU as the difference: as it
is, where nothing is negative, and else as its two halves, b = relu(b) - relu(-b).

    x  >  [x1 - x0, x0]       >  ReLU  >  [1, 1]       =  max(x0, x1),  of x that is not negative
    x  >  [x1 - x0, x0, -x0]  >  ReLU  >  [1, 1, -1]   =  max(x0, x1),  of any x

Results are rounded: they may differ from the largest input in the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convfc.core.arrays import Array
from convfc.core.geometry import Convolution, Window
from convfc.formats.keras.affine import Affine, Layer, Shape
from convfc.formats.keras.pooling import counted, joined, known, parted, pool_of


def maximum(layer: Layer, before: Shape, *, negative: bool) -> list[list[Affine]] | None:
    """Runs, with a ReLU behind each but the last, that make of an image what a MaxPooling makes.

    Args:
        layer: of Keras.
        before: sizes of a sample.
        negative: whether what is pooled may be negative.

    Returns:
        ``None`` where zeros stand for its pads and may be the largest.
    """
    pool = pool_of(layer, before)
    sizes, _ = parted(layer, before)
    counts = counted(pool, sizes)
    if negative and counts.min() < np.prod(pool.kernel):
        return None
    return _Chain(layer, pool, before, negative=negative).runs()


class _Chain:
    """Products one after another, each on what a ReLU has made of the one before it."""

    def __init__(self, layer: Layer, pool: Convolution, before: Shape, *, negative: bool) -> None:
        self._layer, self._pool, self._at = layer, pool, before
        self._halves = np.array([1.0, -1.0] if negative else [1.0])
        self._made: list[list[Affine]] = []

    def runs(self) -> list[list[Affine]]:
        """All of it."""
        value = np.ones(1)
        for axis, window in enumerate(self._pool.windows):
            if window.kernel > 1:
                value = self._pooled(value, axis, window)
            elif window.stride > 1:
                rows = np.outer(self._halves, value)  # for they go through a ReLU, too
                self._convolve(rows[:, None], axis, window)
                value = self._halves
        if len(value) > 1 or not self._made:
            self._convolve(value[None, None], 0, Window(1))
        return self._made

    def _pooled(self, value: Array, axis: int, window: Window) -> Array:
        """Take the largest along one axis.

        Args:
            value: what is pooled, as a sum of the numbers that each channel has become.
            axis: along which.
            window: that is pooled there.

        Returns:
            The same of the largest.
        """
        largest: Array
        largest, *others = np.kron(np.eye(window.kernel), value)  # of all under the window
        rows = self._rows(largest, others)
        self._convolve(rows.reshape(len(rows), window.kernel, len(value)), axis, window)
        for left in range(window.kernel - 2, -1, -1):
            blocks = np.kron(np.eye(1 + left), self._halves)
            largest, *others = np.pad(blocks, ((0, 0), (1, 0)))
            largest[0] = 1
            if others:
                self._convolve(self._rows(largest, others)[:, None], 0, Window(1))
        return largest

    def _rows(self, largest: Array, others: Sequence[Array]) -> Array:
        """What goes through the next ReLU: a difference, the largest so far, and other taps."""
        kept = [half * one for one in (largest, *others[1:]) for half in self._halves]
        return np.stack([others[0] - largest, *kept])

    def _convolve(self, rows: Array, axis: int, window: Window) -> None:
        """Add a product that treats every channel alike.

        Args:
            rows: (made of each channel, taps along the axis, what each channel has become).
            axis: along which.
            window: there.
        """
        rank, channels = self._pool.rank, self._pool.channels
        made, taps, had = rows.shape
        windows = [window if one == axis else Window(1) for one in range(rank)]
        kernel = np.moveaxis(rows, 0, -1).reshape(
            *(taps if one == axis else 1 for one in range(rank)), had, made
        )
        conv = Convolution(tuple(windows), channels * had, channels * made, channels)
        sizes, _ = parted(self._layer, self._at)
        after = joined(self._layer, conv.output(sizes), conv.filters)
        numbers = np.tile(kernel, channels).astype(self._layer.compute_dtype)
        padding = self._layer.padding if taps > 1 else "valid"
        self._made.append([known(self._layer, conv, numbers, (self._at, after), padding)])
        self._at = after
