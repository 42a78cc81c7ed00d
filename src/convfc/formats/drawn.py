"""Integers in the place of all numbers of a layer that comes back: what draws of them tell."""

from __future__ import annotations

MOST = 3
"""The largest integer in the place of a weight."""
TOO_LONG = "its sums are too long to be exact in its type"


def chance_of(degree: int, count: int = 2 * MOST + 1) -> float:
    """How likely two polynomials that differ agree on a draw, at most (Schwartz and Zippel).

    Args:
        degree: of both, in all numbers that are drawn.
        count: of how many integers each number is drawn, at least.

    >>> chance_of(2)
    0.2857142857142857
    """
    return degree / count
