"""`convfc.core.im2col.Ops` in operations of Keras, where they are shorter than stock layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from convfc.core.geometry import Convolution, Pads, Sizes
from convfc.formats.keras.internals import source
from convfc.formats.keras.layer_ops import CarriedSettings, StockOps, Tensor


class KerasOps(StockOps):
    """Operations of `keras.ops` where they are shorter or faster; only `.keras` holds them."""

    _factors: tuple[Tensor, Tensor | None] | None = None
    """Kernel and bias of a weighted sum; all blocks share them."""

    reshapable = 3

    def pad(self, x: Tensor, pads: Sequence[Sequence[Pads]]) -> Tensor:
        """See `Ops.pad`.

        An axis of unknown size gets the most pads of all. What it should not have before it is
        rotated to its end, where it makes no further position. Of ((0, 1), (1, 1)) the most is
        (1, 1): 1 2 3 4 becomes 0 1 2 3 4 0, and rotated by one it is 1 2 3 4 0 0.
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
        then taken in the order of a grid of them: (2, 3, 2, 5) to (2, 3, 10), 2 and 3 not known,
        takes the rows 0 1 2, 3 4 5 of (6, 10).
        """
        unknown = [index for index, size in enumerate(shape) if size in (None, -1)]
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
        key = (*[0] * axis, *[slice(None)] * (end - axis), *[0] * (len(x.shape) - end))
        line = x[key]
        if end - axis > 1:
            line = keras.ops.reshape(line, (-1,))
        ones = keras.ops.ones_like(line, dtype="int32")
        return keras.ops.cumsum(ones) - 1, keras.ops.sum(ones)

    def slice(self, x: Tensor, slices: Sequence[slice]) -> Tensor:
        """See `Ops.slice`.

        Steps are pooled: TensorFlow's own strided slices take five to ten times as long.
        """
        steps = [kept.step for kept in slices[: self._rank]]
        pooled = max(steps) > 1 and x.dtype != "float64"  # which is not pooled over three axes
        if pooled:
            slices = [slice(kept.start, kept.stop, 1) for kept in slices]
        x = x[(slice(None), *slices)]
        if self._tap:
            source(x)[0].name = self._fresh(self._tap)
        return super().slice(x, [slice(0, None, step) for step in steps]) if pooled else x

    def take(self, x: Tensor, index: NDArray[np.int64]) -> Tensor:
        """See `Ops.take`."""
        return keras.ops.take(x, index.astype(np.int32).reshape(-1), axis=1)

    def weigh(self, settings: CarriedSettings) -> None:
        """See `StockOps.weigh`."""
        super().weigh(settings)
        self._factors = None

    def product(self, patches: Tensor, convolution: Convolution, positions: Sizes) -> Tensor:
        """See `Ops.product`: a Dense on a matrix, where TensorFlow fuses bias and activation.

        A depthwise one is no product of matrices worth the name: its patches are multiplied by
        the weights, one by one, and added up over the taps.
        """
        if convolution.depthwise:
            return self._weighted_sum(patches, convolution, list(positions))
        if convolution.groups > 1 or None in positions:
            return super().product(patches, convolution, positions)
        rows = keras.ops.reshape(patches, (-1, convolution.patch_length))
        y = super().product(rows, convolution, positions)
        return keras.ops.reshape(y, (-1, *positions, convolution.filters))

    def _weighted_sum(self, patches: Tensor, convolution: Convolution, sizes: list[Any]) -> Tensor:
        """Patches (.., taps, groups, 1) times the kernel (taps, groups, filters of each), summed.

        Two taps 1 and 2 of one channel, the kernel 3 4, 5 6 of two filters: 1*3 + 2*5, 1*4 + 2*6.
        """
        groups, filters = convolution.groups, convolution.filters
        if self._factors is None:
            self._factors = self._kernel_and_bias(patches, convolution)
        kernel, bias = self._factors
        terms = self.reshape(patches, [*sizes, convolution.taps, groups, 1]) * kernel
        y = self.reshape(keras.ops.sum(terms, axis=-3), [*sizes, filters])
        return y if bias is None else y + bias

    def _kernel_and_bias(self, x: Tensor, convolution: Convolution) -> tuple[Tensor, Tensor | None]:
        """Kernel (taps, groups, filters per group) and bias (filters,), if any, as tensors.

        The layer that holds one of them multiplies it by one, which is made of any tensor, for
        Keras calls layers on tensors of the graph only.
        """
        corner = x[(slice(0, 1), *[0] * self._rank, slice(0, 1))]
        one = keras.ops.ones_like(keras.ops.sum(corner, axis=0, keepdims=True))
        one = keras.ops.expand_dims(one, 0)
        shapes = {"kernel": (1, convolution.taps, convolution.filters)}
        shapes["bias"] = (1, 1, convolution.filters)
        taken = self._settings(*shapes.values())
        if not taken.pop("use_bias"):
            del shapes["bias"]
        name, found = self._next_name(), []
        for role, shape in shapes.items():
            holder = self.layer(
                layers.EinsumDense,
                "abc,cde->abde",  # which Keras on TensorFlow computes without an Einsum
                shape,
                name=name if role == "kernel" else f"{name}_{role}",
                **{
                    f"kernel_{key.removeprefix(f'{role}_')}": value
                    for key, value in taken.items()
                    if key.startswith(f"{role}_")
                },
            )
            found.append(holder(one))
        kernel = keras.ops.reshape(found[0], (convolution.taps, convolution.groups, -1))
        return kernel, keras.ops.reshape(found[1], (-1,)) if len(found) > 1 else None
