"""What a convolution is, written as plainly as possible: loops over windows, no cleverness."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convfc.core.geometry import Convolution
from convfc.core.transposed import TransposedConvolution

Array = NDArray[Any]


def convolve(x: Array, kernel: Array, bias: Array | None, conv: Convolution) -> Array:
    """(batch, sizes.., channels) and (taps.., channels / groups, filters) to the output."""
    sizes = x.shape[1:-1]
    pads = conv.pads(sizes)
    assert pads is not None
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    outputs = [size for size in conv.output(sizes) if size is not None]
    y = np.zeros((x.shape[0], *outputs, conv.filters), x.dtype)
    depth, block = conv.channels // conv.groups, conv.filters // conv.groups
    for position in np.ndindex(*outputs):
        for tap in np.ndindex(*conv.kernel):
            place = [
                o * w.stride + t * w.dilation
                for o, t, w in zip(position, tap, conv.windows, strict=True)
            ]
            pixel = np.moveaxis(x, 0, -1)[tuple(place)].T
            for f in range(conv.filters):
                group = f // block
                seen = pixel[:, group * depth : (group + 1) * depth]
                np.moveaxis(y, 0, -1)[position][f] += seen @ kernel[tap][:, f]
    return y if bias is None else y + bias


def convolve_transposed(
    x: Array, kernel: Array, bias: Array | None, conv: TransposedConvolution
) -> Array:
    """Overlap-add: each input pixel, times the kernel, added to the output where it belongs."""
    sizes = x.shape[1:-1]
    pads = conv.pads(sizes)
    assert pads is not None
    full = [
        (size - 1) * w.stride + w.extent + max(-after, 0)
        for size, w, (_, after) in zip(sizes, conv.windows, pads, strict=True)
    ]
    y = np.zeros((*full, x.shape[0], conv.filters), x.dtype)
    depth, block = conv.channels // conv.groups, conv.filters // conv.groups
    for position in np.ndindex(*sizes):
        pixel = np.moveaxis(x, 0, -1)[position].T
        for tap in np.ndindex(*conv.kernel):
            place = [
                q * w.stride + t * w.dilation
                for q, t, w in zip(position, tap, conv.windows, strict=True)
            ]
            for f in range(conv.filters):
                group = f // block
                seen = pixel[:, group * depth : (group + 1) * depth]
                y[tuple(place)][:, f] += seen @ kernel[tap][:, f]
    cut = tuple(
        slice(before, size - max(after, 0))
        for size, (before, after) in zip(full, pads, strict=True)
    )
    y = np.moveaxis(y[cut], -2, 0)
    return y if bias is None else y + bias
