"""What rounding may do: a bound for one layer that holds, and limits for whole nets that do not.

Of one layer it is known what rounding may do at most (`rounding_share`). Of a whole net it is not:
there, limits from experience decide, a share of an output's magnitude for each real type. They are
three rules and not one, because they err on different sides:

- `LOOK_RTOL`, as soon as a file is written: beyond it every layer is looked at by itself. A false
  alarm costs seconds, and what it misses is published. It says nothing of what is equivalent.
- `FAR` and `FLOOR`, for a verdict about a file whose layers are proved: beyond them it is taken
  back. A false alarm calls a right file wrong; so `FAR` is wide, and `verdict.limit` narrows it
  by the distances from float64 wherever these are known.
- `DEFAULT_RTOL`, where the samples are all there is: the tolerance that users know from testing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convfc.core.arrays import Array, smallest_normal
from convfc.core.rounding import gamma

LOOK_RTOL = {"float64": 1e-9, "float32": 1e-3, "float16": 5e-2, "bfloat16": 5e-2}
"""Differences that no net needs a reason for, relative to the largest number of an output."""
FAR = {"float64": 1e-6, "float32": 1e-2, "float16": 5e-2, "bfloat16": 0.25}
"""Share of an output's magnitude that rounding never makes of itself in a well-behaved net."""
FLOOR = {"float64": 1e-12, "float32": 1e-5, "float16": 1e-2, "bfloat16": 5e-2}
"""Share of it that is rounding whatever the yardstick says: some networks happen to be exact."""
DEFAULT_RTOL = {"float64": 1e-9, "float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
"""Tolerated differences relative to the original's value, where nobody gives another tolerance."""


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
