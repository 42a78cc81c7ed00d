"""`convfc.lowering.Ops` on symbolic Keras tensors: one convolution layer's parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from convfc.geometry import Convolution, Pads, Sizes

Tensor = Any
"""A `keras.KerasTensor`; keras has no types."""

_PADDING = (layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D)
_CROPPING = (layers.Cropping1D, layers.Cropping2D, layers.Cropping3D)
_STRIDING = (layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D)

Parameters = Callable[[tuple[int, ...], tuple[int, ...]], dict[str, Any]]
"""Shapes of kernel and bias to arguments of the layer that holds them."""


class StockOps:
    """Stock layers only, which every Keras file can hold.

    Args:
        name: of the convolution layer; the (first) layer with weights gets it too, so that they
            keep their paths, and the names of all others start with it.
        dtype: its dtype policy.
        rank: number of spatial axes.
    """

    def __init__(self, name: str, dtype: Any, rank: int) -> None:
        self._name = name
        self._dtype = dtype
        self._rank = rank
        self._parameters: Parameters
        self._weighted: list[Any] = []
        self._dense: Any = None
        self._made = 0

    def weigh(self, parameters: Parameters) -> None:
        """Begin the next product, with other weights.

        Args:
            parameters: arguments that the layer with the weights takes over.
        """
        self._parameters = parameters
        self._dense = None

    def layer(self, kind: type[Any], *args: Any, **kwargs: Any) -> Any:
        """A layer of the convolution's dtype, with a name of its own."""
        self._made += 1
        name = f"{self._name}_{kind.__name__.lower()}_{self._made}"
        return kind(*args, **{"name": name, "dtype": self._dtype, **kwargs})

    def pad(self, x: Tensor, pads: Sequence[Sequence[Pads]]) -> Tensor:
        """See `Ops.pad`; a `Site` has no convolution where pads depend on an unknown size."""
        return self._along_axes(_PADDING, x, [only for (only,) in pads])

    def slice(self, x: Tensor, slices: Sequence[slice]) -> Tensor:
        """See `Ops.slice`: cropping, then pooling of single numbers for the steps."""
        if len(slices) > self._rank:
            sizes, depth = self._sizes(x), slices[-1].stop
            columns = self.reshape(x, [-1, x.shape[-1], 1])
            cropped = self.layer(
                layers.Cropping2D, ((0, 0), (0, x.shape[-1] - depth)), data_format="channels_last"
            )(columns)
            x = self.reshape(cropped, [*sizes, depth])
            slices = slices[: self._rank]
        crops = [
            (part.start, size - part.stop if (part.stop or 0) > 0 else -(part.stop or 0))
            for part, size in zip(slices, self._sizes(x), strict=True)
        ]
        if any(map(any, crops)):
            x = self._along_axes(_CROPPING, x, crops)
        steps = [part.step for part in slices]
        if max(steps) > 1:
            # Tensorflow pools no float16 over three axes; to float32 and back is exact.
            half = self._rank == 3 and x.dtype == "float16"
            x = self.layer(
                _STRIDING[self._rank - 1],
                pool_size=1,
                strides=tuple(steps),
                data_format="channels_last",
                **({"dtype": "float32"} if half else {}),
            )(x)
        return x

    def take(self, x: Tensor, index: NDArray[np.int64]) -> Tensor:
        """See `Ops.take`."""
        raise NotImplementedError("no stock layer gathers; Site.methods does not offer it")

    def concatenate(self, xs: Sequence[Tensor], axis: int) -> Tensor:
        """See `Ops.concatenate`."""
        return self.layer(layers.Concatenate, axis=axis)(list(xs))

    def reshape(self, x: Tensor, shape: Sequence[int | None]) -> Tensor:
        """See `Ops.reshape`; a Reshape stands one unknown size."""
        return self.layer(layers.Reshape, tuple(-1 if size is None else size for size in shape))(x)

    def transpose(self, x: Tensor, order: Sequence[int]) -> Tensor:
        """See `Ops.transpose`."""
        return self.layer(layers.Permute, tuple(order[1:]))(x)

    def product(self, patches: Tensor, convolution: Convolution, positions: Sizes) -> Tensor:
        """See `Ops.product`: Dense, or EinsumDense with an axis for the groups."""
        groups, filters = convolution.groups, convolution.filters
        sizes = list(positions)
        if self._dense is None:
            self._dense = self._new_dense(convolution, sizes)
        if groups == 1:
            return self._dense(patches)
        blocks = (convolution.taps, groups, convolution.channels // groups)
        y = self._dense(self.reshape(patches, [*sizes, *blocks]))
        return self.reshape(y, [*sizes, filters])

    def _new_dense(self, convolution: Convolution, sizes: list[Any]) -> Any:
        """The layer with the weights; all blocks of rows share it."""
        groups, filters = convolution.groups, convolution.filters
        name = self._next_name()
        if groups == 1:
            shapes = (convolution.patch_length, filters), (filters,)
            return self.layer(layers.Dense, filters, name=name, **self._parameters(*shapes))
        inner, outer = convolution.channels // groups, filters // groups
        space = "xyz"[: self._rank]
        return self.layer(
            layers.EinsumDense,
            f"b{space}tgi,tigo->b{space}go",
            (None, *sizes[1:], groups, outer),
            name=name,
            **self._parameters((convolution.taps, inner, groups, outer), (groups, outer)),
        )

    def _next_name(self) -> str:
        """Of the next layer with weights."""
        name = f"{self._name}_{len(self._weighted)}" if self._weighted else self._name
        self._weighted.append(name)
        return name

    def _along_axes(self, kinds: Sequence[type[Any]], x: Tensor, amounts: list[Pads]) -> Tensor:
        if self._rank == 1:
            # Channels last whatever the user's keras.json says; Cropping1D knows nothing else.
            extra = {} if kinds is _CROPPING else {"data_format": "channels_last"}
            return self.layer(kinds[0], amounts[0], **extra)(x)
        return self.layer(kinds[self._rank - 1], tuple(amounts), data_format="channels_last")(x)

    def _sizes(self, x: Tensor) -> list[Any]:
        return list(x.shape[1 : self._rank + 1])


class KerasOps(StockOps):
    """Operations of `keras.ops` where they are shorter or faster; only `.keras` holds them."""

    _factors: tuple[Tensor, Tensor | None] | None = None
    """Kernel and bias of a weighted sum; all blocks share them."""

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
        """See `Ops.slice`.

        Steps are pooled: TensorFlow's own strided slices take five to ten times as long.
        """
        steps = [part.step for part in slices[: self._rank]]
        pooled = max(steps) > 1 and x.dtype != "float64"  # which is not pooled over three axes
        if pooled:
            slices = [slice(part.start, part.stop, 1) for part in slices]
        x = x[(slice(None), *slices)]
        return super().slice(x, [slice(0, None, step) for step in steps]) if pooled else x

    def take(self, x: Tensor, index: NDArray[np.int64]) -> Tensor:
        """See `Ops.take`."""
        return keras.ops.take(x, index.astype(np.int32), axis=1)

    def weigh(self, parameters: Parameters) -> None:
        """See `StockOps.weigh`."""
        super().weigh(parameters)
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
        groups, filters = convolution.groups, convolution.filters
        if self._factors is None:
            self._factors = self._weights(patches, convolution)
        kernel, bias = self._factors
        terms = self.reshape(patches, [*sizes, convolution.taps, groups, 1]) * kernel
        y = self.reshape(keras.ops.sum(terms, axis=-3), [*sizes, filters])
        return y if bias is None else y + bias

    def _weights(self, x: Tensor, convolution: Convolution) -> tuple[Tensor, Tensor | None]:
        """Kernel (taps, groups, filters per group) and bias (filters,), if any, as tensors.

        The layer that holds one of them multiplies it by one, which is made of any tensor, for
        Keras calls layers on tensors of the graph only.
        """
        corner = x[(slice(0, 1), *[0] * self._rank, slice(0, 1))]
        one = keras.ops.ones_like(keras.ops.sum(corner, axis=0, keepdims=True))
        one = keras.ops.expand_dims(one, 0)
        shapes = {"kernel": (1, convolution.taps, convolution.filters)}
        shapes["bias"] = (1, 1, convolution.filters)
        taken = self._parameters(*shapes.values())
        if not taken.pop("bias_axes", None):
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
