"""Several affine steps in a row as one matrix: that of the first, the others applied to its rows.

Numbers are computed in float64, in an order that no machine changes, and rounded once; some rows
after another, so that no more than the matrix itself is in memory.

    y = x M1 + b1, z = y M2 + b2   =   x (M1 M2) + (b1 M2 + b2)

What comes before the first matrix moves or scales its rows; where nothing does, and nothing follows
it, the matrix is that of the convolution alone, its numbers bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convfc.core.arrays import Array
from convfc.formats.keras.affine import Affine, Move, Numbers, Product
from convfc.formats.keras.memory import zeros

_AT_ONCE = 2**20
"""Numbers that are computed in float64 at once: rows that are close have most zeros together."""


def one_matrix(
    steps: Sequence[Affine], numbers: Sequence[Numbers], dtype: Any
) -> tuple[Array, Array | None]:
    """Several steps in a row as one matrix, and what it adds, not rounded; ``None`` of nothing.

    Args:
        steps: one after another.
        numbers: for each of them.
        dtype: of the matrix.
    """
    at = next((n for n, step in enumerate(steps) if isinstance(step, Product)), len(steps))
    size = math.prod(steps[0].before)
    with np.errstate(all="ignore"):
        index, scale, shift = _moved(steps[:at], numbers[:at], size)
        if at == len(steps):
            found = zeros((size, len(index)), dtype)
            kept = np.flatnonzero(index >= 0)
            found[index[kept], kept] = scale[kept]
            return found, shift
        first, behind = steps[at], list(zip(steps, numbers, strict=True))[at + 1 :]
        assert isinstance(first, Product)  # noqa: S101 - for the type checker
        plain = np.array_equal(index, np.arange(size)) and (scale == 1).all() and shift is None
        found = zeros((size, math.prod(steps[-1].after)), dtype)
        if plain and all(step.stays for step, _ in behind):
            for rows in _parts(size, found.shape[1]):
                found[rows] = first.rows(np.arange(size)[rows], numbers[at])
            return found, first.shift(numbers[at])
        for rows, made in _begun(first, numbers[at], index, scale, size, _widest(steps[at:])):
            for step, own in behind:
                made = step.applied(made, own)
            found[rows] = made + 0.0  # no zero is a negative one
        added = None if shift is None else _weighed(first, numbers[at], shift)
        added = _sum(added, first.shift(numbers[at]))
        for step, own in behind:
            added = None if added is None else step.applied(added[None].astype(np.float64), own)[0]
            added = _sum(added, step.shift(own))
    return found, added


def _moved(
    head: Sequence[Affine], numbers: Sequence[Numbers], size: int
) -> tuple[NDArray[np.int64], Array, Array | None]:
    """What steps without a product do: where each number comes from, its factor, what is added."""
    index, scale = np.arange(size), np.ones(size)
    shift: Array | None = None
    for step, own in zip(head, numbers, strict=True):
        index = step.applied(index[None] + 1, {})[0] - 1 if isinstance(step, Move) else index
        scale = step.applied(scale[None], own)[0]
        shift = None if shift is None else step.applied(shift[None], own)[0]
        shift = _sum(shift, step.shift(own))
    return index, scale, shift


def _widest(steps: Sequence[Affine]) -> int:
    return max(math.prod(step.after) for step in steps)


def _begun(
    first: Product, own: Numbers, index: NDArray[np.int64], scale: Array, size: int, widest: int
) -> Iterator[tuple[slice, Array]]:
    """The matrix of a product behind what `_moved` says, some rows after another.

    Args:
        first: the product.
        own: its numbers.
        index: of `_moved`.
        scale: likewise.
        size: how many rows there are.
        widest: how many numbers of a row there are at most, now or later.
    """
    order = np.argsort(index, kind="stable")
    repeats = -(-len(order) // size)
    for part in _parts(size, widest * repeats):
        rows = order[slice(*np.searchsorted(index, [part.start, part.stop], sorter=order))]
        made = np.zeros((part.stop - part.start, math.prod(first.after)))
        # A number may be read several times.
        np.add.at(made, index[rows] - part.start, first.rows(rows, own) * scale[rows, None])
        yield part, made


def _parts(size: int, columns: int) -> Iterator[slice]:
    """Rows that are computed together, of so many, each of so many numbers."""
    count = max(_AT_ONCE // columns, 1) if columns else size
    for start in range(0, size, count):
        yield slice(start, min(start + count, size))


def _weighed(first: Product, own: Numbers, shift: Array) -> Array:
    """What a product makes of what is added before it: along its rows, one after another."""
    columns = math.prod(first.after)
    total: Array | None = None
    # numpy adds up what lies side by side in another order: a single column is one part.
    for part in _parts(len(shift), columns if columns > 1 else 0):
        rows = np.arange(len(shift))[part]
        terms = shift[rows, None] * first.rows(rows, own)
        total = np.add.reduce(terms if total is None else np.vstack([total, terms]), axis=0)
    assert total is not None, "a row has numbers"  # noqa: S101 - for the type checker
    return total


def _sum(one: Array | None, other: Array | None) -> Array | None:
    return (one if other is None else other) if one is None or other is None else one + other
