"""Pooling as convolutions of each channel by itself, of known numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convfc.core.arrays import Array
from convfc.core.builders import convolution
from convfc.core.geometry import Convolution
from convfc.core.whole import Whole
from convfc.formats.keras.affine import Affine, Layer, Product, Scale, Shape
from convfc.formats.keras.convolutions import PLAIN


def parted(layer: Layer, sample: Shape) -> tuple[Shape, int]:
    """The spatial sizes and the channels of a sample, by the order of a layer's axes."""
    first = layer.data_format == "channels_first"
    return (sample[1:], sample[0]) if first else (sample[:-1], sample[-1])


def joined(layer: Layer, sizes: Sequence[int | None], channels: int) -> Shape:
    """The other way; no size is unknown."""
    known_sizes = [size or 0 for size in sizes]
    first = layer.data_format == "channels_first"
    return (channels, *known_sizes) if first else (*known_sizes, channels)


def known(
    layer: Layer,
    conv: Any,
    kernel: Any,
    shapes: tuple[Shape, Shape],
    padding: str = "valid",
    bias: Any = None,
) -> Product:
    """A convolution in the place of a layer, or of a part of one.

    Args:
        layer: of Keras, of which it has its name and the order of its axes.
        conv: its geometry.
        kernel: its numbers, as many as `conv` has.
        shapes: sizes of a sample before and after.
        padding: what Keras calls its padding.
        bias: likewise.
    """
    given = {
        "filters": conv.filters,
        "kernel_size": conv.kernel,
        "strides": [window.stride for window in conv.windows],
        "dilation_rate": [window.dilation for window in conv.windows],
        "padding": padding,
        "groups": conv.groups,
        "use_bias": bias is not None,
        "kernel_initializer": "zeros",
    }
    kind, first = PLAIN[conv.rank - 1], layer.data_format == "channels_first"

    def stock(dtype: Any) -> Layer:
        return kind(**given, dtype=dtype)

    return Product(layer.name, conv, *shapes, first, kernel, bias, stock)


def average(layer: Layer, before: Shape, after: Shape) -> list[Affine]:
    """AveragePooling: the kernel is 1/n; or of ones, where not all windows see n inputs."""
    conv = pool_of(layer, before)
    sizes, _ = parted(layer, before)
    ones = np.broadcast_to(np.ones((), layer.compute_dtype), (*conv.kernel, 1, conv.channels))
    counts = counted(conv, sizes)
    parts = (before, after), layer.padding
    if counts.min() == counts.max():
        kernel = (ones / np.float64(counts.max())).astype(ones.dtype)
        return [known(layer, conv, kernel, *parts)]
    each = 1 / counts.reshape(joined(layer, counts.shape, 1))
    return [known(layer, conv, ones, *parts), Scale(layer.name, after, {"scale": each})]


def pool_of(layer: Layer, before: Shape) -> Convolution:
    """The windows of a pooling layer, as those of a convolution of each channel by itself."""
    _, channels = parted(layer, before)
    return convolution(
        layer.pool_size,
        channels=channels,
        filters=channels,
        strides=layer.strides,
        padding=layer.padding,
        groups=channels,
    )


def counted(conv: Convolution, sizes: Shape) -> Array:
    """How many inputs, no pads, each position sees: (output..)."""
    of_one = Whole(Convolution(conv.windows, 1, 1), sizes)
    ones = np.ones((1, int(np.prod(sizes)))), np.ones((*conv.kernel, 1, 1))
    return of_one.applied(*ones, channels_first=False).reshape(
        [size or 0 for size in of_one.output]
    )


def global_average(layer: Layer, before: Shape, after: Shape) -> list[Affine]:
    """GlobalAveragePooling: one window, of the whole image."""
    sizes, channels = parted(layer, before)
    conv = convolution(sizes, channels=channels, filters=channels, groups=channels)
    one = np.array(1 / np.prod(sizes), layer.compute_dtype)
    kernel = np.broadcast_to(one, (*sizes, 1, channels))
    return [known(layer, conv, kernel, (before, after))]
