"""`convfc.lowering.Ops` on symbolic Keras tensors: one convolution layer's parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from convfc.geometry import Convolution, Pads

Tensor = Any
"""A `keras.KerasTensor`; keras has no types."""

_PADDING = (layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D)
_CROPPING = (layers.Cropping1D, layers.Cropping2D, layers.Cropping3D)
_STRIDING = (layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D)

Parameters = Callable[[tuple[int, ...], tuple[int, ...]], Mapping[str, Any]]
"""Shapes of kernel and bias to arguments of the layer that holds them."""


class StockOps:
    """Stock layers only, which every Keras file can hold.

    Args:
        name: of the convolution layer; the layer with its weights gets it too, so that they keep
            their paths, and the names of all others start with it.
        dtype: its dtype policy.
        rank: number of spatial axes.
        parameters: arguments that the layer with the weights takes over.
    """

    def __init__(self, name: str, dtype: Any, rank: int, parameters: Parameters) -> None:
        self._name = name
        self._dtype = dtype
        self._rank = rank
        self._parameters = parameters
        self._dense: Any = None
        self._made = 0

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
        """See `Ops.reshape`; one size may be unknown."""
        return self.layer(layers.Reshape, tuple(-1 if size is None else size for size in shape))(x)

    def transpose(self, x: Tensor, order: Sequence[int]) -> Tensor:
        """See `Ops.transpose`."""
        return self.layer(layers.Permute, tuple(order[1:]))(x)

    def product(self, patches: Tensor, convolution: Convolution) -> Tensor:
        """See `Ops.product`: Dense, or EinsumDense with an axis for the groups."""
        groups, filters = convolution.groups, convolution.filters
        if self._dense is None:
            self._dense = self._weighted(convolution, self._sizes(patches))
        if groups == 1:
            return self._dense(patches)
        split = self._regroup(patches, (convolution.taps, groups, convolution.channels // groups))
        return self._regroup(self._dense(split), (filters,))

    def _weighted(self, convolution: Convolution, sizes: list[Any]) -> Any:
        """The layer with the weights; all blocks of rows share it."""
        groups, filters = convolution.groups, convolution.filters
        if groups == 1:
            shapes = (convolution.patch_length, filters), (filters,)
            return self.layer(layers.Dense, filters, name=self._name, **self._parameters(*shapes))
        inner, outer = convolution.channels // groups, filters // groups
        space = "xyz"[: self._rank]
        return self.layer(
            layers.EinsumDense,
            f"b{space}tgi,tigo->b{space}go",
            (*sizes, groups, outer),
            name=self._name,
            **self._parameters((convolution.taps, inner, groups, outer), (groups, outer)),
        )

    def _along_axes(self, kinds: Sequence[type[Any]], x: Tensor, amounts: list[Pads]) -> Tensor:
        if self._rank == 1:
            # Channels last whatever the user's keras.json says; Cropping1D knows nothing else.
            extra = {} if kinds is _CROPPING else {"data_format": "channels_last"}
            return self.layer(kinds[0], amounts[0], **extra)(x)
        return self.layer(kinds[self._rank - 1], tuple(amounts), data_format="channels_last")(x)

    def _regroup(self, x: Tensor, tail: tuple[int, ...]) -> Tensor:
        """Reshape all that follows the spatial axes.

        A Reshape stands one unknown size; each TimeDistributed around it takes another one.
        """
        sizes = self._sizes(x)
        around = 0
        while sizes[around:].count(None) > 1:
            around += 1
        inner = [-1 if size is None else size for size in sizes[around:]]
        layer = self.layer(layers.Reshape, (*inner, *tail))
        for _ in range(around):
            layer = self.layer(layers.TimeDistributed, layer)
        return layer(x)

    def _sizes(self, x: Tensor) -> list[Any]:
        return list(x.shape[1 : self._rank + 1])


class KerasOps(StockOps):
    """Operations of `keras.ops` where they are shorter than layers; only `.keras` holds them."""

    def slice(self, x: Tensor, slices: Sequence[slice]) -> Tensor:
        """See `Ops.slice`."""
        index = (slice(None), *slices)
        return x[index]

    def take(self, x: Tensor, index: NDArray[np.int64]) -> Tensor:
        """See `Ops.take`."""
        return keras.ops.take(x, index.astype(np.int32), axis=1)
