"""Integers in the place of all numbers of a layer that comes back: what draws of them tell."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

MOST = 3
"""The largest integer in the place of a weight."""
TOO_LONG = "its sums are too long to be exact in its type"


def chance_of(counts: Iterable[int]) -> float:
    """How likely two functions that differ agree on a draw, at most.

    Both are polynomials, of degree 1 in each of the factors: what is fed, the kernel, and others.
    Where they differ for some value of a factor, the rest given, one value of a number hides it.

    Args:
        counts: of how many integers the numbers of each factor are drawn.

    >>> chance_of([7] * 2), chance_of([7] * 7)
    (0.2857142857142857, 1.0)
    """
    return float(sum(Fraction(1, count) for count in counts))
