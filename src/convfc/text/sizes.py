"""Sizes as people write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal


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


_UNITS = ("KiB", "MiB", "GiB")


def bytes_text(number: int) -> str:
    """A number of bytes in the largest unit of which it is one at least.

    >>> bytes_text(10_816)
    '10.6 KiB'
    """
    if number < 1024:
        return f"{number} B"
    power = min((number.bit_length() - 1) // 10, len(_UNITS))
    return f"{Decimal(number) / 1024**power:.1f} {_UNITS[power - 1]}"
