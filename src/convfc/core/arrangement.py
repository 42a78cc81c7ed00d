"""Numbers laid out in another order, perhaps with zeros between them, and put back from there.

Whoever lays numbers out writes that down once, as a function of an array. The way back is found
from the same function, by what it makes of the places of the numbers themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from convfc.core.arrays import Array, array_difference

LayOut: TypeAlias = "Callable[[Array], Array]"
"""Moves the numbers of an array, may repeat them and put zeros between; the type stays."""


def put_back(
    arranged: Array, shape: Sequence[int], lay_out: LayOut, ground: Array | None = None
) -> Array | None:
    """The numbers of which `lay_out` makes these.

    Args:
        arranged: what it made, or what became of that.
        shape: of the numbers.
        lay_out: the way there.
        ground: of the same shape, what stands for the zeros; these themselves if ``None``.

    Returns:
        ``None`` if it makes these of no numbers: it would have one in two places where two differ,
        or a zero where there is none. What it lays out nowhere is zero.

    >>> put_back(np.array([[3, 5], [4, 6]]), (4,), lambda x: x.reshape(2, 2).T).tolist()
    [3, 4, 5, 6]
    >>> put_back(np.array([3, 3, 4, 4]), (2,), lambda x: x.repeat(2)).tolist()
    [3, 4]
    >>> put_back(np.array([3, 3, 4, 5]), (2,), lambda x: x.repeat(2)) is None
    True
    """
    size = math.prod(shape)
    narrow = np.int32 if size < np.iinfo(np.int32).max else np.int64
    places = lay_out(np.arange(1, size + 1, dtype=narrow).reshape(shape))
    if places.shape != arranged.shape:
        return None
    flat = np.zeros(size + 1, arranged.dtype)
    flat[places.reshape(-1)] = arranged.reshape(-1)
    found = flat[1:].reshape(shape)
    again = lay_out(found).copy()
    zeros = places == 0
    if (arranged[zeros] != (0 if ground is None else ground[zeros])).any():
        return None
    again[zeros] = arranged[zeros]  # the sign of a zero is nobody's
    return found if array_difference(again, arranged) is None else None


def torn(role: str, arranged: Array, shape: Sequence[int], lay_out: LayOut) -> str:
    """Why `put_back` finds no numbers of a transposed convolution, in words.

    Args:
        role: what the numbers are there.
        arranged: see `put_back`.
        shape: likewise.
        lay_out: likewise.

    >>> torn("bias", np.array([3, 3, 4, 5]), (2,), lambda x: x.repeat(2))
    'entries of its bias that stand for one weight differ'
    >>> torn("kernel", np.array([[3, 5], [0, 3]]), (1,), lambda x: x * np.eye(2, dtype=int))
    'its kernel has numbers where a convolution of its size has zeros'
    """
    places = lay_out(np.arange(1, math.prod(shape) + 1).reshape(shape))
    if places.size != arranged.size:
        return f"its {role} has another size"
    flat, where = arranged.reshape(-1), places.reshape(-1)
    if flat[where == 0].any():
        return f"its {role} has numbers where a convolution of its size has zeros"
    return f"entries of its {role} that stand for one weight differ"
