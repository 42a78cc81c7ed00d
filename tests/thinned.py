"""Parameters of tests, of which the quick suite takes some and `make test-slow` all others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def thinned(values: Iterable[Any], every: int = 2) -> list[Any]:
    """All values; but for the first and one of `every` from there on, they are marked slow."""
    return [
        value if number % every == 0 else pytest.param(value, marks=pytest.mark.slow)
        for number, value in enumerate(values)
    ]


def thinned_tuples(values: Iterable[tuple[Any, ...]], every: int = 2) -> list[Any]:
    """The same for several parameters at once."""
    return [
        value if number % every == 0 else pytest.param(*value, marks=pytest.mark.slow)
        for number, value in enumerate(values)
    ]
