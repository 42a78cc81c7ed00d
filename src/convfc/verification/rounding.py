"""What rounding may do to a sum of products: a bound that holds, whatever the order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convfc.core.arrays import Array, smallest_normal
from convfc.core.rounding import gamma


def rounding_share(
    a: Array, b: Array, magnitude: Array, stages: Sequence[int], dtype: str
) -> Array:
    """The difference of two sums, number by number, as a share of what rounding may do to it.

    Args:
        a: one sum.
        b: the other, of the same products in whatever order.
        magnitude: the sum of the products' magnitudes, computed in the same type.
        stages: how many products are summed in one step, for each step.
        dtype: the type that the sums are made in.

    Returns:
        At most 1 where rounding explains the difference; 0 where there is none, or no bound.
    """
    n = sum(stages) + len(stages)
    off = gamma(n, dtype)
    # The magnitude itself was summed with rounding: the true one is this much larger at most.
    bound = 2 * off * magnitude * (1 + 2 * off)
    bound = bound + 2 * n * smallest_normal(dtype)
    # An infinite or undefined bound promises nothing: sums of such numbers depend on the order.
    free = ~np.isfinite(bound) | (a == b)
    share = np.where(free, 0.0, abs(a - b) / bound)
    return np.where(np.isnan(share), np.inf, share)
