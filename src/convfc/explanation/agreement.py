"""Whether a layer's own output is P F + b, but for the rounding of its runtime."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convfc.core.arrays import Array, smallest_normal
from convfc.core.quantization import Scaling
from convfc.core.rounding import gamma
from convfc.errors import ConvfcError

_LARGEST = {"float64": np.finfo(np.float64).max, "float16": 65504.0}


class DisagreementError(ConvfcError):
    """A layer that does not compute what is drawn of it."""


@dataclass(frozen=True)
class Agreement:
    """How near two outputs are.

    Attributes:
        difference: the largest distance between two numbers of them, after any scaling.
        share: the largest distance as a share of what rounding may do; 0 for equal integers.
        free: how many numbers are left out: in this type, rounding and overflow may make anything
            of their sums.
    """

    difference: float
    share: float
    free: int


def agreement(
    own: Array, output: Array, magnitude: Array, terms: int, dtype: str, scaling: Scaling | None
) -> Agreement:
    """Compare what a layer computes with P F + b.

    Args:
        own: (positions, filters), of the layer.
        output: P F + b, in double precision or exact integers.
        magnitude: the sums of the magnitudes of what is summed there.
        terms: how many products a sum has.
        dtype: numpy's name of the element type that the layer computes with.
        scaling: what the layer does with the sums in the end.

    Raises:
        DisagreementError: they differ by more than rounding can do.
    """
    computed = output.astype(np.float64) if scaling is None else scaled(output, scaling)
    if scaling is not None:
        bound = _of_scaling(computed, scaling)
        computed = np.clip(computed + scaling.y_zero, *scaling.limits)
    elif output.dtype.kind == "i":
        bound = np.zeros(output.shape)
    else:
        bound = _of_sums(magnitude, terms, dtype)
    given = own.astype(np.float64)
    same = (given == computed) | (np.isnan(given) & np.isnan(computed))
    difference = np.where(same, 0.0, abs(given - computed))
    difference = np.where(np.isnan(difference), np.inf, difference)  # NaN on one side
    bounded = np.isfinite(bound)
    wrong = bounded & (difference > bound)
    if wrong.any():
        place = tuple(map(int, np.argwhere(wrong)[0]))
        raise DisagreementError(
            f"its own output and P · F + b differ by {difference[place]:.3g} (window {place[0]:,}, "
            f"filter {place[1]}: {given[place]:.6g} and {computed[place]:.6g}), where rounding can "
            f"do {bound[place]:.3g} at most"
        )
    if not bounded.any():
        return Agreement(0.0, 0.0, len(own.reshape(-1)))
    shares = difference[bounded] / np.where(bound[bounded] == 0, 1.0, bound[bounded])
    return Agreement(float(difference[bounded].max()), float(shares.max()), int((~bounded).sum()))


def scaled(sums: Array, scaling: Scaling) -> Array:
    """Integer sums in steps of the output, before they are rounded."""
    steps = sums.astype(np.float64) * scaling.x_scale * scaling.kernel_scales.astype(np.float64)
    return np.asarray(steps / scaling.y_scale)


def _of_scaling(steps: Array, scaling: Scaling) -> Array:
    """Rounding to an integer, and five roundings in float32 that may move a number over a half."""
    return 0.5 + gamma(5, "float32") * (abs(steps) + abs(scaling.y_zero))


def _of_sums(magnitude: Array, terms: int, dtype: str) -> Array:
    """Higham's bound for a sum in any order (Accuracy and Stability, 2nd ed., section 3.1)."""
    terms += 1  # the bias
    bound = 2 * gamma(terms, dtype) * magnitude + 2 * terms * smallest_normal(dtype)
    largest = _LARGEST.get(dtype, float(np.finfo(np.float32).max))
    # Where it might overflow on the way, or is not finite, it may end as anything.
    return np.where(magnitude + bound < largest, bound, np.inf)
