"""The geometries that are enumerated."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from convfc.core.geometry import AnyConvolution, Convolution, Pads, Same, Sizes, Window
from convfc.core.transposed import TransposedConvolution, TransposedWindow

SAME = (Same.UPPER, Same.LOWER)

OPEN: Sizes = (None,)


def windows(kernels: int, strides: int, dilations: int) -> Iterator[Window]:
    """Every window up to a size, with every padding rule."""
    steps = itertools.product(range(1, kernels + 1), range(1, strides + 1), range(1, dilations + 1))
    for kernel, stride, dilation in steps:
        if kernel > 1 or dilation == 1:
            extent = (kernel - 1) * dilation + 1
            half, full = extent // 2, extent - 1
            paddings: list[Pads | Same] = [
                (0, 0),
                (2, 1),
                (0, 3),
                (half, half),
                (full, full),
                *SAME,
            ]
            for padding in dict.fromkeys(paddings):
                yield Window(kernel, stride, dilation, padding)


def transposed_windows(kernels: int, strides: int, dilations: int) -> Iterator[TransposedWindow]:
    """Every window up to a size, with crops of every kind, and output padding in turn."""
    steps = itertools.product(range(1, kernels + 1), range(1, strides + 1), range(1, dilations + 1))
    paddings: tuple[Pads | Same, ...] = ((0, 0), (2, 1), *SAME)
    for number, ((kernel, stride, dilation), padding) in enumerate(
        itertools.product(steps, paddings)
    ):
        if kernel > 1 or dilation == 1:
            yield TransposedWindow(kernel, stride, dilation, padding, number % 3)


def cases(few: Iterable[Any], many: Iterable[Any]) -> list[Any]:
    """A few, and the rest of many for those who have time."""
    always = dict.fromkeys(few)
    rest = [case for case in many if case not in always]
    return [*always, *(pytest.param(case, marks=pytest.mark.slow) for case in rest)]


FEW: list[Window | TransposedWindow] = [*windows(3, 3, 2), *transposed_windows(3, 3, 2)]

MANY: list[Window | TransposedWindow] = [*windows(6, 5, 3), *transposed_windows(6, 4, 3)]


BANDED: list[Window | TransposedWindow] = [
    Window(3),
    Window(2, 3),
    Window(1, 3, 1, (1, 2)),
    Window(3, 2, 2, Same.UPPER),
    Window(4, 1, 2, (6, 6)),
    TransposedWindow(3, 2, 1, (1, 0)),
]
"""Windows that overlap, skip pixels, or see pads alone."""


def one_axis(window: Window | TransposedWindow) -> AnyConvolution:
    if isinstance(window, TransposedWindow):
        return TransposedConvolution((window,), 2, 1)
    return Convolution((window,), 2, 1)


AXES = (Window(3, 2, 1, Same.LOWER), Window(2, 1, 2, (1, 0)))

TRANSPOSED = (TransposedWindow(3, 2, 1, Same.LOWER, 1), TransposedWindow(2, 3, 2, (1, 1)))
