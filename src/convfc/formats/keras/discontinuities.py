"""The operations of Keras whose result jumps where the input moves a little."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_STEPS = frozenset(
    (
        *("Argmax", "Argmin", "Nonzero", "TopK"),
        *("Greater", "GreaterEqual", "Less", "LessEqual"),
        *("Ceil", "Discretization", "Floor", "FloorDivide", "Mod", "Round", "Sign", "Trunc"),
    )
)


def has_steps(model: Any) -> bool:
    """Whether a model, or one in it, rounds, compares or chooses."""
    return any(
        type(one).__name__ in _STEPS or getattr(one, "quantization_mode", None) is not None
        for one in _operations(model)
    )


def _operations(model: Any) -> Iterator[Any]:
    yield model
    for inner in getattr(model, "operations", getattr(model, "layers", ())):
        yield from _operations(inner)
