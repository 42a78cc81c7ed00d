"""How poolings and convolutions look at an image of known sizes, by their attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from convfc.core.geometry import Convolution, Window
from convfc.core.whole import Whole
from convfc.errors import GeometryError
from convfc.formats.onnx.operators import PADDINGS


def windows_of(node: ir.Node, taps: Sequence[int], sizes: Sequence[int]) -> list[Window] | None:
    """How a pooling or a convolution looks at an image; ``None`` if that is contradictory.

    Args:
        node: the operator.
        taps: of its kernel, by axis.
        sizes: spatial ones of the image: pads are numbers, whatever the rule is that gives them.
    """
    ints, rank = node.attributes.get_ints, len(sizes)
    ones, pads = [1] * rank, ints("pads", [0] * 2 * rank)
    rule = node.attributes.get_string("auto_pad", "NOTSET")
    told = (
        [PADDINGS[rule]] * rank
        if rule in PADDINGS
        else [*zip(pads[:rank], pads[rank:], strict=False)]
    )
    try:
        axes = zip(taps, ints("strides", ones), ints("dilations", ones), told, strict=True)
        found = [Window(*axis) for axis in axes]
        pairs = zip(found, sizes, strict=True)
        return [replace(window, padding=window.pads(size) or (0, 0)) for window, size in pairs]
    except (GeometryError, ValueError):
        return None


def settings_of(windows: Sequence[Window]) -> dict[str, list[int]]:
    """The attributes that say how windows lie."""
    pads = [window.pads(None) or (0, 0) for window in windows]
    return {
        "strides": [window.stride for window in windows],
        "dilations": [window.dilation for window in windows],
        "pads": [before for before, _ in pads] + [after for _, after in pads],
    }


def leaves_some(window: Window, size: int) -> bool:
    """Whether inputs are left over at the end, for which a rounded up output has a window."""
    pads = window.pads(size) or (0, 0)
    return (sum(pads) + size - window.extent) % window.stride > 0


def counted(windows: Sequence[Window], sizes: Sequence[int]) -> NDArray[Any]:
    """How many inputs each window sees, by position.

    >>> counted([Window(3, padding=(1, 0))], [4])
    array([2, 3, 3])
    """
    counts = np.ones([], np.int64)
    for window, size in zip(windows, sizes, strict=True):
        meetings = Whole(Convolution((window,), 1, 1), (size,))
        ones = np.ones((window.kernel, 1, 1), np.int64)
        seen = meetings.matrix(ones, channels_first=True).sum(axis=0)
        counts = counts[..., np.newaxis] * seen
    return counts
