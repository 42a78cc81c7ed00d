"""The fewest nets to cut so that two groups of pins are apart: max-flow, min-cut.

A net joins any number of pins, and is cut if these are on both sides. Here a net is a tensor, its
pins are the node that makes it and those that read it, the sides are two layouts, and a net that
is cut is a Transpose.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from itertools import pairwise
from typing import TypeAlias, TypeVar

Pin = TypeVar("Pin", bound=Hashable)

_Room: TypeAlias = "defaultdict[Hashable, dict[Hashable, int]]"
"""What may still flow from one place to another."""

_SOURCE, _SINK = "source", "sink"


def source_side(nets: Iterable[tuple[Sequence[Pin], bool, bool]]) -> set[Pin]:
    """The pins on the side of the source in a cut of the fewest nets; the smallest such set.

    Args:
        nets: of each its pins, and whether it reaches the source and the sink as well.

    The sum of two layers, which something else reads: one Transpose behind it is better than two.

    >>> layer, total = (["sum"], True, False), (["sum"], False, True)
    >>> source_side([layer, layer, total]), source_side([layer, total])
    ({'sum'}, set())
    """
    room: _Room = defaultdict(dict)
    listed = [net for net in nets if not (net[1] and net[2])]  # those are cut wherever pins are
    plenty = len(listed) + 1
    pins_of: list[Pin] = []
    for number, (pins, at_source, at_sink) in enumerate(listed):
        entry: Hashable = (number, "in")
        way_out = (number, "out")
        room[entry][way_out] = 1
        if at_source:
            room[_SOURCE][entry] = plenty
        if at_sink:
            room[way_out][_SINK] = plenty
        for pin in pins:
            room[pin,][entry] = room[way_out][pin,] = plenty
        pins_of += pins
    reached: set[Hashable] = set()
    entries: list[Hashable] = list(room[_SOURCE])
    for first in entries:
        while path := _path(room, first, reached):
            for here, there in pairwise(path):
                room[here][there] -= 1
                room[there][here] = room[there].get(here, 0) + 1
    return {pin for pin in pins_of if (pin,) in reached}


def _path(room: _Room, entry: Hashable, reached: set[Hashable]) -> list[Hashable]:
    """A way to the sink on which there is room.

    If there is none, all that was tried is `reached`, and need never be tried again: no way leads
    out of it.
    """
    before: dict[Hashable, Hashable] = {entry: None}
    todo = [] if entry in reached else [entry]
    for node in todo:
        for other, left in room[node].items():
            if left and other not in before and other not in reached:
                before[other] = node
                if other == _SINK:
                    path: list[Hashable] = [other]
                    while (step := before[path[-1]]) is not None:
                        path.append(step)
                    return path[::-1]
                todo.append(other)
    reached.update(before)
    return []
