"""Figures that tests come upon, shown when all have run: how many of what, and the worst."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

COUNTS: defaultdict[str, Counter[str]] = defaultdict(Counter)
"""By subject: how often each thing happened."""

WORST: dict[str, float] = {}
"""By subject: the largest number so far."""


def count(subject: str, what: str) -> None:
    """Something happened once more."""
    COUNTS[subject][what] += 1


def worst(subject: str, number: float) -> None:
    """A number, of which only the largest is of interest."""
    WORST[subject] = max(number, WORST.get(subject, number))


def told() -> list[Any]:
    """All figures as plain data, for another process."""
    counts = {subject: dict(counter) for subject, counter in COUNTS.items()}
    return [counts, {subject: float(number) for subject, number in WORST.items()}]


def merge(figures: list[Any]) -> None:
    """Add what another process told."""
    counts, numbers = figures or ({}, {})
    for subject, counter in counts.items():
        COUNTS[subject].update(counter)
    for subject, number in numbers.items():
        worst(subject, number)


def lines() -> list[str]:
    """All figures, a line per subject."""
    counted = (
        f"{subject}: " + ", ".join(f"{number:,} {what}" for what, number in counter.most_common())
        for subject, counter in COUNTS.items()
    )
    return [*counted, *(f"{subject}: {number:.3g}" for subject, number in WORST.items())]
