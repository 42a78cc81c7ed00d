"""Sizes as people write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def sizes_text(sizes: Sequence[int | None], times: str = "x") -> str:
    """Sizes with a sign between, ``?`` where unknown.

    >>> sizes_text([28, None, 1])
    '28x?x1'
    """
    return times.join("?" if size is None else str(size) for size in sizes)


def shapes_text(shapes: Mapping[str, Sequence[int]]) -> str:
    """Shapes by name, as `--shape` takes them.

    >>> shapes_text({"x": [1, 3, 64, 64], "state": [1, 8]})
    'x=1x3x64x64, state=1x8'
    """
    return ", ".join(f"{name}={sizes_text(sizes)}" for name, sizes in shapes.items())
