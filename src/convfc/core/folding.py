"""Taps of an axis as channels: how many slices it takes to put them there."""

from __future__ import annotations

from convfc.core.geometry import Convolution


def regroups(convolution: Convolution, axis: int) -> bool:
    """Whether the taps of an axis are sliced in groups of `stride` neighbours.

    They and their channels lie side by side in memory, on the last axis.
    """
    window = convolution.windows[axis]
    last = axis == convolution.rank - 1
    return last and window.kernel > 1 and window.stride > 1 and window.dilation == 1


def slices_for(convolution: Convolution, axis: int) -> int:
    """How many slices it takes to put the taps of an axis into the channels."""
    window = convolution.windows[axis]
    return window.strides_spanned if regroups(convolution, axis) else window.kernel
