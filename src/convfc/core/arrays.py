"""Arrays: names of types, orders of axes, where an element is, whether two are the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

DIGITS = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}
"""Binary digits that the real types hold, by numpy's names for them; the first one counted."""


def exact_up_to(dtype: str) -> int:
    """Up to which integer a real type holds all; 0 of any other type.

    >>> exact_up_to("float16"), exact_up_to("int8")
    (2048, 0)
    """
    return 2 ** DIGITS[dtype] if dtype in DIGITS else 0


def to_last(rank: int) -> list[int]:
    """The axes of a tensor with channels first in the order with channels last.

    >>> to_last(4), to_first(4)
    ([0, 2, 3, 1], [0, 3, 1, 2])
    """
    return [0, *range(2, rank), 1]


def to_first(rank: int) -> list[int]:
    """The axes of a tensor with channels last in the order with channels first."""
    return [0, rank - 1, *range(1, rank - 1)]


def numpy_type(name: str) -> np.dtype[Any]:
    """The type of a name; bfloat16, float8 and int4 are not numpy's own.

    >>> numpy_type("float16").itemsize, numpy_type("bfloat16").itemsize
    (2, 2)
    """
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return found


def smallest_normal(name: str) -> float:
    """The least positive number that a real type holds with all its digits; below, errors grow.

    >>> smallest_normal("float16") == 2.0**-14
    True
    """
    return 2.0 ** {"float64": -1022, "float16": -14}.get(name, -126)


def coarsest(names: Iterable[str]) -> str:
    """The real type with the fewest digits; float64 if there is none.

    >>> coarsest(["float32", "int8", "float16"])
    'float16'
    """
    return min(
        (name for name in names if name in DIGITS), key=DIGITS.__getitem__, default="float64"
    )


def place_of(flat: int, shape: Sequence[int]) -> tuple[int, ...]:
    """Where in an array its element of some number is; for any number of axes, unlike numpy's.

    >>> place_of(7, (2, 4))
    (1, 3)
    """
    place = []
    for size in reversed(shape):
        flat, index = divmod(flat, size)
        place.append(index)
    return tuple(reversed(place))


def array_difference(a: Array, b: Array) -> str | None:
    """How two arrays differ in type, shape or bits, in words; ``None`` if they do not.

    >>> array_difference(np.array([1, 2]), np.array([1, 3]))
    'differs in element 1: 2 became 3'
    """
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return "has another type or shape"
    if a.dtype == object:  # text, whose bytes are addresses
        differs = np.flatnonzero((a != b).reshape(-1))[:1]
        element = int(differs[0]) if len(differs) else None
    else:
        element = _first_in_bits(*(np.ascontiguousarray(array).reshape(-1) for array in (a, b)))
    if element is None:
        return None
    return f"differs in element {element}: {a.flat[element]} became {b.flat[element]}"


_AT_ONCE = 2**22
"""Numbers that are compared at a time: arrays may be as large as half the memory."""


def _first_in_bits(a: Array, b: Array) -> int | None:
    """The first element in which two vectors of one type differ, be it in the sign of a zero."""
    for start in range(0, a.size, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        left, right = (array[part].view(np.uint8) for array in (a, b))
        differs = left != right
        if differs.any():
            return start + int(differs.argmax()) // a.itemsize
    return None
