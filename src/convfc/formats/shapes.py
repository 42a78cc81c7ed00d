"""Shapes that inputs are to be fixed to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Shapes = Mapping[str, Sequence[int]]
"""Whole shapes, the batch included, by the name of an input."""


def unlike(name: str, known: Sequence[int | None] | None, wanted: Sequence[int]) -> str | None:
    """Why an input cannot have a shape, in words; ``None`` if it can.

    Args:
        name: of the input.
        known: its own sizes, ``None`` where open; ``None`` as a whole: not even how many.
        wanted: what it is to be fixed to.

    >>> unlike("x", [None, 3], [1, 4])
    "input 'x' takes the shape (any, 3), not (1, 4)"
    """
    pairs = zip(known or (), wanted, strict=False)
    if known is None or (len(known) == len(wanted) and all(a in (None, b) for a, b in pairs)):
        return None
    own = ", ".join("any" if size is None else str(size) for size in known)
    return f"input '{name}' takes the shape ({own}), not ({', '.join(map(str, wanted))})"
