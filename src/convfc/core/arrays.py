"""Arrays element by element: where one is, and whether two are the same to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def place_of(flat: int, shape: Sequence[int]) -> tuple[int, ...]:
    """Where in an array its element of some number is; for any number of axes, unlike numpy's."""
    place = []
    for size in reversed(shape):
        flat, index = divmod(flat, size)
        place.append(index)
    return tuple(reversed(place))


def array_difference(a: Array, b: Array) -> str | None:
    """How two arrays differ in type, shape or bits, in words; ``None`` if they do not."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return "has another type or shape"
    if a.dtype == object:  # text, whose bytes are addresses
        differs = (a != b).reshape(-1)
    else:
        left, right = (np.frombuffer(array.tobytes(), np.uint8) for array in (a, b))
        differs = (left != right).reshape(a.size, -1).any(axis=1) if a.size else left != right
    if not differs.any():
        return None
    element = int(differs.argmax())
    return f"differs in element {element}: {a.flat[element]} became {b.flat[element]}"
