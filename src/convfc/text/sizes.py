"""Sizes as people write them."""

from __future__ import annotations

from collections.abc import Sequence


def sizes_text(sizes: Sequence[int | None], times: str = "x") -> str:
    """Sizes with a sign between, ``?`` where unknown.

    >>> sizes_text([28, None, 1])
    '28x?x1'
    """
    return times.join("?" if size is None else str(size) for size in sizes)
