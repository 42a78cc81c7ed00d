"""How much a sum may be off when it is rounded on its way, in whatever order."""

from __future__ import annotations

import math

from convfc.core.arrays import DIGITS


def gamma(terms: int, dtype: str) -> float:
    """The most by which a sum of products is off, as a share of the sum of their magnitudes.

    gamma_n = n u / (1 - n u), with u the unit roundoff (Higham, Accuracy and Stability of Numerical
    Algorithms, 2nd ed., section 3.1); infinite where n u reaches 1 and nothing is promised.

    Args:
        terms: how many products there are, n.
        dtype: the real type that they are summed in.

    >>> gamma(2**23, "float32")
    1.0
    >>> gamma(2**24, "float32")
    inf
    """
    off = terms * 2.0 ** -DIGITS[dtype]
    return off / (1 - off) if off < 1 else math.inf
