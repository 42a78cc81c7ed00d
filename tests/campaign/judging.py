"""Does one file compute what another does? Both are run; nothing here knows what convfc says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Outputs = Mapping[str, Array]

FACTOR = 30
"""How many times what the true conversion's rounding does is clearly more than rounding."""


class Judgement(StrEnum):
    """What running a mutant showed, the worst of all inputs."""

    SAME = "same"
    """The true conversion's own numbers, bit for bit."""
    ROUNDING = "rounding"
    """Others, but no further from the original than rounding may bring them."""
    DIFFERENT = "different"
    """Something else: numbers, shapes, types, names, NaN, or it does not even run."""


def judge(
    original: Sequence[Outputs | None],
    true: Sequence[Outputs | None],
    mutant: Iterable[Outputs | None],
) -> tuple[Judgement, str]:
    """Compare what a mutant computes with the original, on each of several inputs.

    Args:
        original: its outputs, ``None`` where it does not run.
        true: those of the true conversion, which tell how much rounding there is.
        mutant: those of the mutant; no more are asked for than one that is different.

    Returns:
        The judgement, and in words what is different.
    """
    worst = Judgement.SAME
    noise = _noise(original, true)
    for number, (a, b, c) in enumerate(zip(original, true, mutant, strict=True)):
        if a is None or b is None:
            continue
        if c is None:
            return Judgement.DIFFERENT, f"input {number}: it does not run"
        if list(c) != list(a):
            return Judgement.DIFFERENT, f"outputs {list(c)} instead of {list(a)}"
        for name in a:
            found, why = _compare(a[name], b[name], c[name], noise[name])
            if found is Judgement.DIFFERENT:
                return found, f"input {number}, output {name}: {why}"
            if found is Judgement.ROUNDING:
                worst = found
    return worst, ""


def _noise(original: Sequence[Outputs | None], true: Sequence[Outputs | None]) -> dict[str, float]:
    """The true conversion's largest difference by output, as a share of its largest number."""
    shares: dict[str, float] = {}
    for a, b in zip(original, true, strict=True):
        for name in a if a is not None and b is not None else ():
            share = 0.0
            if a is not None and b is not None and a[name].dtype.kind == "f":
                unit = float(np.finfo(a[name].dtype).eps)
                x, y = np.asarray(a[name], np.float64), np.asarray(b[name], np.float64)
                finite = np.isfinite(x) & np.isfinite(y)
                largest = float(abs(x[finite]).max(initial=0))
                gap = float(abs(x[finite] - y[finite]).max(initial=0))
                share = max(8 * unit, gap / largest if largest else 0.0)
            shares[name] = max(shares.get(name, 0.0), share)
    return shares


def _compare(original: Array, true: Array, mutant: Array, noise: float) -> tuple[Judgement, str]:
    if mutant.dtype != original.dtype:
        return Judgement.DIFFERENT, f"{mutant.dtype} instead of {original.dtype}"
    if mutant.shape != original.shape:
        return Judgement.DIFFERENT, f"shape {mutant.shape} instead of {original.shape}"
    if mutant.tobytes() == true.tobytes():
        return Judgement.SAME, ""
    if original.dtype.kind not in "iufb":
        same = np.array_equal(mutant, original) or original.dtype == np.dtype("V2")
        return (Judgement.SAME, "") if same else (Judgement.DIFFERENT, "other words")
    a, b, c = (np.asarray(x, np.float64) for x in (original, true, mutant))
    for kind, name in ((np.isnan, "NaN"), (np.isinf, "infinities")):
        # Where rounding alone makes some of them, as sums that overflow do, they tell nothing.
        if np.array_equal(kind(a), kind(b)) and not np.array_equal(kind(a), kind(c)):
            return Judgement.DIFFERENT, f"other {name}"
    finite = np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
    if not finite.any():
        return Judgement.ROUNDING, ""
    a, b, c = a[finite], b[finite], c[finite]
    gap, largest = float(abs(c - a).max()), float(abs(a).max())
    # An integer may be off by what the true conversion's is, and by nothing else.
    limit = FACTOR * noise * largest if original.dtype.kind == "f" else float(abs(b - a).max())
    if gap > limit:
        return Judgement.DIFFERENT, f"differs by {gap:.3g} of {largest:.3g}"
    return Judgement.ROUNDING, ""
