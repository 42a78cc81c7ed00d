"""Bands of positions: how an axis is cut into so many pieces, whatever its size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from convfc.core.geometry import Window


def bands(
    window: Window,
    output: Any,  # noqa: ANN401 - a number, or what counts like one
    count: int,
) -> Iterator[slice]:
    """What each band of positions sees of the padded axis.

    Their lengths are ceil((output - n) / count) for n = 0, 1, ..: no two differ by more than one
    position, and the last of them have none where there are fewer positions than bands.

    Args:
        window: the axis.
        output: how many positions it has.
        count: how many bands.

    >>> [list(range(7)[seen]) for seen in bands(Window(3), 5, 2)]
    [[0, 1, 2, 3, 4], [3, 4, 5, 6]]
    """
    start = 0
    for number in range(count):
        stop = start + -(-(output - number) // count)
        yield window.span(start, stop)
        start = stop
