"""What ConvInteger and QLinearConv are by definition, computed in numpy: no runtime is asked.

Runtimes take short pieces with 8-bit integers: on x86 without VNNI, onnxruntime's QLinearConv of
uint8 and int8 and its ConvInteger of int8 and uint8 add pairs of products in 16 bits, which
saturate. And onnx's own evaluator multiplies the scales in another order, so that it rounds some
halves the other way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from convfc.core.arrays import Array
from convfc.core.geometry import Convolution


def exact_output(given: Mapping[str, Array], convolution: Convolution) -> Array:
    """The output of a convolution of 8-bit integers.

    The sums of products are exact, and wrap around as those of int32 do. QLinearConv (where there
    is a `y_scale`) multiplies them in float32 by (x_scale * kernel_scale) / y_scale, rounds halves
    to even, adds `y_zero` and saturates: as onnxruntime does, number for number. Another runtime
    may round the multiplier otherwise, and so be one step off where a product is nearly a half.

    Args:
        given: by their roles (see `operators.operands`): `x` (batch, channels, sizes..) and
            `kernel` (filters, channels / groups, k1, .., kr) of 8-bit integers; if they are there,
            `x_zero`, `kernel_zero` (one, or one per filter) and `bias` (filters,) of integers; for
            QLinearConv `x_scale`, `kernel_scale` (one, or one per filter), `y_scale`, `y_zero`.
        convolution: the geometry, for which the sizes of `x` are enough.

    Returns:
        (batch, filters, outputs..): int32, or of the type of `y_zero`.

    Raises:
        GeometryError: `x` leaves no output.
    """
    last = (-1,) + (1,) * convolution.rank
    sums: Array = _sums_of_products(
        _centred(given["x"], given.get("x_zero"), ()),
        _centred(given["kernel"], given.get("kernel_zero"), (*last, 1)),
        convolution,
    ).astype(np.int64)
    sums = (sums + np.reshape(given.get("bias", 0), last)).astype(np.int32)
    if "y_scale" not in given:
        return sums
    scales = [np.reshape(given[role], last) for role in ("x_scale", "kernel_scale", "y_scale")]
    zero, multiplier = given["y_zero"], scales[0] * scales[1] / scales[2]
    rounded = np.rint(sums.astype(np.float32) * multiplier).astype(np.float64)
    rounded += zero.reshape(())
    limits = np.iinfo(zero.dtype)
    y: Array = np.clip(rounded, limits.min, limits.max).astype(zero.dtype)
    return y


def _centred(numbers: Array, zero: Array | None, shape: tuple[int, ...]) -> Array:
    """What 8-bit integers stand for, in float64."""
    centred: Array = numbers.astype(np.float64)
    return centred if zero is None else centred - zero.reshape(shape)


def _sums_of_products(x: Array, kernel: Array, convolution: Convolution) -> Array:
    """Tap by tap, as the definition says: patches have no part in it, so they can be checked by it.

    All numbers are integers below 2**53, of which float64 makes exact sums in any order.
    """
    sizes, groups = x.shape[2:], convolution.groups
    outputs = [size or 0 for size in convolution.output(sizes)]
    padded = np.pad(x, [(0, 0), (0, 0), *(convolution.pads(sizes) or ())])
    blocks = kernel.reshape(groups, convolution.filters // groups, *kernel.shape[1:])
    pixels = (len(x), groups, convolution.channels // groups, math.prod(outputs))
    y: Array = np.zeros((len(x), *blocks.shape[:2], pixels[-1]))
    for taps in np.ndindex(*convolution.kernel):
        pieces = [slice(None), slice(None)]
        for window, tap, output in zip(convolution.windows, taps, outputs, strict=True):
            start = window.dilation * tap
            pieces.append(slice(start, start + output * window.stride, window.stride))
        y += blocks[(..., *taps)] @ padded[tuple(pieces)].reshape(pixels)
    return y.reshape(len(x), convolution.filters, *outputs)
