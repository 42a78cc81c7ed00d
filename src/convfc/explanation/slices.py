"""One slice of a layer that has more than two spatial axes: a convolution of two."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convfc.core.arrays import Array
from convfc.core.geometry import Convolution


def flat(
    conv: Convolution, x: Array, kernel: Array, own: Array | None
) -> tuple[Convolution, Array, Array, Array | None, list[str]]:
    """Of each axis but the last two, the slice in the middle of the output.

    What such a slice sees along that axis, a slice of the input for each tap, becomes channels: the
    sums stay the same, product by product.

    Args:
        conv: the geometry.
        x: (1, sizes.., channels).
        kernel: (k.., channels / groups, filters).
        own: what the layer makes of it, (1, outputs.., filters), or ``None``.

    Returns:
        All four for two axes, and what is to be said of each axis that is cut.
    """
    said = []
    for axis in range(1, conv.rank - 1):
        window, size = conv.windows[0], x.shape[1]
        outputs = window.output(size) or 0
        place = outputs // 2
        x, kernel = _seen(conv, x, place), _beside(kernel)
        own = None if own is None else own[:, place]
        conv = replace(conv, windows=conv.windows[1:], channels=conv.channels * window.kernel)
        said.append(
            f"along axis {axis}, this is slice {place} of the {outputs} of the output; the "
            f"{window.kernel} of the input that it sees are channels here, one behind the other"
        )
    return conv, x, kernel, own, said


def _seen(conv: Convolution, x: Array, place: int) -> Array:
    """What a place of the first axis sees of the input, tap by tap as channels of each group."""
    window, size = conv.windows[0], x.shape[1]
    before, _ = window.pads(size) or (0, 0)
    slices = place * window.stride - before + np.arange(window.kernel) * window.dilation
    inside = (slices >= 0) & (slices < size)
    seen = np.moveaxis(x[:, np.where(inside, slices, 0)], 1, -2)  # (1, sizes.., taps, channels)
    seen = np.where(inside[:, None], seen, np.zeros((), x.dtype))
    blocks = seen.reshape(*seen.shape[:-1], conv.groups, -1)
    return np.moveaxis(blocks, -3, -2).reshape(*seen.shape[:-2], -1)


def _beside(kernel: Array) -> Array:
    """The taps of the first axis as channels."""
    taps_last = np.moveaxis(kernel, 0, -3)
    return taps_last.reshape(*taps_last.shape[:-3], -1, kernel.shape[-1])
