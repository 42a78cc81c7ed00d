"""The patch matrix of arrays, for those who want to try it: Algorithm 1 and equation 8."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convfc import arguments
from convfc.core.arrays import Array
from convfc.core.builders import convolution
from convfc.core.geometry import Pads, known_sizes
from convfc.errors import UsageError
from convfc.refusals import Code
from convfc.system.capacity import excess


def im2col(
    x: ArrayLike,
    kernel: Sequence[int],
    *,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    padding: str | Sequence[Pads] = "valid",
) -> Array:
    """The patch matrix P: a row per output position, and in it what the window sees there.

    Multiplied by the filter matrix, which is the kernel (k1, .., kr, channels, filters) reshaped to
    (K, filters), it is the convolution:

    >>> x, kernel = np.arange(12.0).reshape(3, 4, 1), np.ones((2, 2, 1, 1))
    >>> P, F = im2col(x, [2, 2]), kernel.reshape(4, 1)
    >>> P.shape, (P @ F).reshape(2, 3).tolist()
    ((6, 4), [[10.0, 14.0, 18.0], [26.0, 30.0, 34.0]])

    Args:
        x: one sample, (sizes.., channels), or several, (batch, sizes.., channels).
        kernel: taps per spatial axis.
        strides: ones when left out.
        dilations: ones when left out.
        padding: a name as `convfc.convolution` knows it, or zeros before and after each axis.

    Returns:
        (positions, K) or (batch, positions, K), of the type of `x`, where K is taps * channels:
        column (i1, .., ir, c) is tap (i1, .., ir) of channel c.

    Raises:
        GeometryError: the window does not fit, or lists are of different lengths.
        UsageError: an `x` of another number of axes, an argument of another kind, or more numbers
            than this machine can hold.
    """
    array = np.asarray(x)
    rank = len(arguments.wholes("kernel", kernel))
    if array.ndim not in (rank + 1, rank + 2):
        raise UsageError(
            f"x has {array.ndim} axes: with {rank} in the kernel it takes (sizes.., channels) or "
            "(batch, sizes.., channels)"
        )
    single = array.ndim == rank + 1
    samples = array[None] if single else array
    *sizes, channels = samples.shape[1:]
    places = index_map(
        sizes, kernel, channels=channels, strides=strides, dilations=dilations, padding=padding
    )
    _check(samples.shape[0] * places.size * array.itemsize)
    flat = samples.reshape(len(samples), math.prod(samples.shape[1:]))
    zero = np.zeros((len(samples), 1), array.dtype)
    found: Array = np.concatenate([flat, zero], axis=1)[:, places]
    return found[0] if single else found


def index_map(
    sizes: Sequence[int],
    kernel: Sequence[int],
    *,
    channels: int = 1,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    padding: str | Sequence[Pads] = "valid",
) -> NDArray[np.int64]:
    """Which number of the flattened input each entry of the patch matrix is (equation 8).

    The zeros of the padding are in no input: -1 stands for them. So with a zero behind the input,
    the map makes the patch matrix of it:

    >>> x = np.array([10, 20, 30])
    >>> places = index_map([3], [2], padding="full")
    >>> places.tolist()
    [[-1, 0], [0, 1], [1, 2], [2, -1]]
    >>> np.append(x, 0)[places].tolist() == im2col(x[:, None], [2], padding="full").tolist()
    True

    Args:
        sizes: spatial sizes of the input.
        kernel: taps per spatial axis.
        channels: of the input, which lie together: the input is (sizes.., channels).
        strides: ones when left out.
        dilations: ones when left out.
        padding: a name as `convfc.convolution` knows it, or zeros before and after each axis.

    Returns:
        (positions, taps * channels), places in an input of sizes * channels numbers.

    Raises:
        GeometryError: the window does not fit, or lists are of different lengths.
        UsageError: an argument of another kind, or more numbers than this machine can hold.
    """
    known = tuple(arguments.wholes("sizes", sizes))
    conv = convolution(
        kernel,
        channels=channels,
        filters=1,
        strides=strides,
        dilations=dilations,
        padding=padding,
    )
    rows = math.prod(known_sizes(conv.output(known)))
    pads = conv.pads(known) or ()
    padded = math.prod(size + sum(pad) for size, pad in zip(known, pads, strict=True))
    _check(8 * (padded + rows * conv.taps * conv.channels))
    inside = np.arange(math.prod(known)).reshape(known)
    places = np.pad(inside, pads, constant_values=-1).ravel()[conv.index_map(known)]
    channel = np.arange(conv.channels)
    every = places[..., None] * conv.channels + channel
    found: NDArray[np.int64] = np.where(places[..., None] < 0, -1, every).reshape(rows, -1)
    return found


def _check(size: int) -> None:
    """Refuse what this machine cannot hold, before it is made.

    Raises:
        UsageError: so many bytes.
    """
    why = excess(size)
    if why is not None:
        raise UsageError(f"a patch matrix of that size: {why}", code=Code.TOO_LARGE)
