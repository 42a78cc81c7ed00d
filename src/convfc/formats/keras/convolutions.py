"""What the stock convolution layers compute: one convolution each, or a chain of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import layers

from convfc.core.arrays import Array
from convfc.core.builders import convolution, named_transposed_window
from convfc.core.geometry import AnyConvolution
from convfc.core.lowering import Lowering, PatchMethod
from convfc.core.transposed import TransposedConvolution
from convfc.core.whole import Form

Layer = Any
"""A `keras.Layer`; keras has no types."""

PLAIN = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
CONVOLUTIONS = (*PLAIN, *DEPTHWISE, *SEPARABLE, *TRANSPOSED)


@dataclass(frozen=True)
class WeightedConvolution:
    """One convolution of a layer, with its weights.

    Attributes:
        geometry: what it is without them.
        prefix: the layer's own word for the kernel: "kernel", "depthwise" or "pointwise".
        kernel: the variable.
        bias: the variable, or ``None``.
    """

    geometry: AnyConvolution
    prefix: str
    kernel: Any
    bias: Any

    @property
    def keeps_bytes(self) -> bool:
        """Whether its filter matrix is the kernel's own bytes."""
        return not isinstance(self.geometry, TransposedConvolution)

    def inner_weights(self, lowering: Lowering, *, channels_first: bool) -> list[Any]:
        """Kernel and bias, if any, as the product takes them: those of the inner convolution.

        Args:
            lowering: of this convolution.
            channels_first: of a matrix of the dense form, the order of its rows and columns.
        """
        made = [self.inner_kernel(self.kernel, lowering, channels_first=channels_first)]
        if self.bias is not None:
            bias = np.asarray(self.bias)
            made.append(self.inner_bias(bias, lowering, channels_first=channels_first))
        return made

    def inner_kernel(self, kernel: Any, lowering: Lowering, *, channels_first: bool) -> Any:
        """A kernel of the layer's shape as the product takes it; see `inner_weights`.

        One that keeps its bytes is the variable itself: tensorflow copies none that is assigned in
        another shape until one of the two changes.
        """
        whole = lowering.whole if lowering.form is Form.DENSE else None
        if whole is None and self.keeps_bytes:
            return kernel
        kernel = own_kernel(np.asarray(kernel), self.geometry)
        if whole is not None:
            return whole.matrix(kernel, channels_first=channels_first)
        return self.geometry.inner_kernel(kernel)

    def inner_bias(self, bias: Array, lowering: Lowering, *, channels_first: bool) -> Array:
        """A bias of the layer as the product takes it; see `inner_weights`."""
        whole = lowering.whole if lowering.form is Form.DENSE else None
        if whole is not None:
            return whole.bias(bias, channels_first=channels_first)
        return self.geometry.inner_bias(bias)


def own_kernel(kernel: Array, conv: AnyConvolution) -> Array:
    """A kernel of Keras as `AnyConvolution.kernel_shape` has it."""
    if isinstance(conv, TransposedConvolution):
        kernel = kernel.swapaxes(-1, -2)
    return kernel.reshape(conv.kernel_shape)


def convolutions_of(layer: Layer) -> Sequence[WeightedConvolution]:
    """The convolutions that a built stock layer consists of, in their order.

    The first one has the layer's window; what follows is pointwise.
    """
    bias = layer.bias if layer.use_bias else None
    if isinstance(layer, TRANSPOSED):
        return [WeightedConvolution(_transposed(layer), "kernel", layer.kernel, bias)]
    if isinstance(layer, PLAIN):
        *kernel, channels, filters = layer.kernel.shape
        conv = convolution(
            kernel,
            channels=channels * layer.groups,
            filters=filters,
            strides=layer.strides,
            dilations=layer.dilation_rate,
            padding=layer.padding,
            groups=layer.groups,
        )
        return [WeightedConvolution(conv, "kernel", layer.kernel, bias)]
    separable = isinstance(layer, SEPARABLE)
    depthwise = layer.depthwise_kernel if separable else layer.kernel
    *kernel, channels, multiplier = depthwise.shape
    conv = convolution(
        kernel,
        channels=channels,
        filters=channels * multiplier,
        strides=layer.strides,
        dilations=layer.dilation_rate,
        padding=layer.padding,
        groups=channels,
    )
    if not separable:
        return [WeightedConvolution(conv, "depthwise", depthwise, bias)]
    point = convolution([1] * conv.rank, channels=conv.filters, filters=layer.filters)
    return [
        WeightedConvolution(conv, "depthwise", depthwise, None),
        WeightedConvolution(point, "pointwise", layer.pointwise_kernel, bias),
    ]


def lowered(layer: Layer, lowering: Lowering) -> Sequence[tuple[WeightedConvolution, Lowering]]:
    """The convolutions of a layer and how each is computed, where the first is by `lowering`."""
    first, *rest = convolutions_of(layer)
    chain = [(first, lowering)]
    for each in rest:
        sizes = chain[-1][1].output
        chain.append((each, Lowering(each.geometry, sizes, PatchMethod.NONE, form=lowering.form)))
    return chain


def _transposed(layer: Layer) -> TransposedConvolution:
    *kernel, filters, channels = layer.kernel.shape
    added = layer.output_padding
    added = [added] * len(kernel) if added is None or isinstance(added, int) else added
    windows = [
        named_transposed_window(layer.padding, *axis)
        for axis in zip(kernel, layer.strides, layer.dilation_rate, added, strict=True)
    ]
    return TransposedConvolution(tuple(windows), channels, filters)
