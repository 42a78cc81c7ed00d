"""Parameters of tests, of which the quick suite takes some and `make test-slow` all others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

_SET = type(pytest.param())
"""Several parameters at once, or one with marks of its own."""


def thinned(values: Iterable[Any], every: int = 3) -> list[Any]:
    """All values, or sets of values; but for one of `every`, from the first on, they are slow."""
    return [_slow(value) if number % every else value for number, value in enumerate(values)]


def _slow(value: Any) -> Any:
    given = value if isinstance(value, _SET) else pytest.param(value)
    return pytest.param(*given.values, marks=[*given.marks, pytest.mark.slow], id=given.id)
