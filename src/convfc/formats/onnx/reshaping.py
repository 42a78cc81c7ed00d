"""Shapes to reshape to, as the operator has them: 0 keeps a size, one may be -1: what is left."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby


def reshaping(wanted: Sequence[int | None]) -> list[int]:
    """The shape of a Reshape.

    Many tools know no 0: a batch alone among known sizes is -1.

    Args:
        wanted: ``None`` where the axis in that place stays as it is; one may be -1.

    >>> reshaping([None, 4, 4, 3]), reshaping([None, None, 12])
    ([-1, 4, 4, 3], [0, 0, 12])
    """
    alone = wanted.count(None) == 1 and -1 not in wanted
    return [(-1 if alone else 0) if size is None else size for size in wanted]


def is_mixed(shape: Sequence[int]) -> bool:
    """Whether it has both a 0 and a -1, which is more than some tools follow."""
    return 0 in shape and -1 in shape


def parts_of(shape: Sequence[int]) -> list[tuple[bool, list[int]]]:
    """What a shape is made of: axes that stay (true), and numbers.

    >>> parts_of([0, 0, -1, 12])
    [(True, [0, 1]), (False, [-1, 12])]
    """
    runs = groupby(enumerate(shape), lambda pair: pair[1] == 0)
    return [(stays, [pair[not stays] for pair in run]) for stays, run in runs]


def bridges(between: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether what was reshaped to `between` can be reshaped to `shape` from what was before.

    An axis that `shape` keeps must be one that the first Reshape kept.
    """
    kept = [axis for axis, size in enumerate(shape) if size == 0]
    return all(axis < len(between) and between[axis] == 0 for axis in kept)
