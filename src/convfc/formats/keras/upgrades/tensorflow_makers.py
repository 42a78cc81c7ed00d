"""What makes an operation of Keras of a call of TensorFlow: tensors, and constants beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convfc.formats.keras.upgrades.graphs import is_reference
from convfc.formats.keras.upgrades.tensorflow_calls import Call, Operation

Maker = Callable[[Call], Operation | None]


def takes_one(call: Call) -> bool:
    """Whether it is called on one tensor and nothing else."""
    return len(call.operands) == 1 and is_reference(call.operands[0])


def plain(kind: str) -> Maker:
    """An operation on one tensor of which nothing has to be said."""

    def make(call: Call) -> Operation | None:
        fits = takes_one(call) and call.says_only()
        return Operation(kind, {}, call.operands) if fits else None

    return make


def is_numbers(value: Any) -> bool:
    """Whether it is a number, or a list of numbers at any depth."""
    if isinstance(value, list):
        return bool(value) and all(map(is_numbers, value))
    return isinstance(value, int | float)


def constant(value: Any, call: Call) -> Any:
    """A number, or an array as Keras writes one; ``None`` for what is neither."""
    if not isinstance(value, list):
        return value if is_numbers(value) else None
    fits = is_numbers(value) and call.dtype == "float32"
    config = {"value": value, "dtype": call.dtype}
    return {"class_name": "__numpy__", "config": config} if fits else None


def given_to(call: Call) -> list[Any] | None:
    """Tensors, at least one, and constants as Keras writes them; ``None`` if there are others."""
    given = [x if is_reference(x) else constant(x, call) for x in call.operands]
    return given if None not in given and call.tensors else None


def on(count: int, kind: str) -> Maker:
    """An operation on so many tensors, or on tensors and numbers."""

    def make(call: Call) -> Operation | None:
        given = given_to(call)
        fits = given is not None and len(given) == count and call.says_only()
        return Operation(kind, {}, given) if fits and given else None

    return make


def on_two(kind: str) -> Maker:
    """An operation on two tensors, or on a tensor and numbers."""
    return on(2, kind)


def addition(call: Call) -> Operation | None:
    """Keras on TensorFlow may take a second term for a bias of another axis: it is taken off."""
    constants = [x for x in call.operands if isinstance(x, list) and not is_reference(x)]
    if not constants:
        return on_two("Add")(call)
    negated = _negative(constants[0]) if is_numbers(constants[0]) else None
    taken_off = Call("subtract", [*call.tensors, negated], call.options, call.dtype)
    return on_two("Subtract")(taken_off)


def _negative(value: Any) -> Any:
    return [_negative(item) for item in value] if isinstance(value, list) else -value


def together(kind: str) -> Maker:
    """An operation on a list of tensors and constants along an axis."""

    def make(call: Call) -> Operation | None:
        axis, given = call.options.get("axis", 0), given_to(call)
        fits = given is not None and isinstance(axis, int) and call.says_only("axis")
        return Operation(kind, {"axis": axis}, [given]) if fits else None

    return make


def sum_of(call: Call) -> Operation | None:
    """A sum of two terms; of more, with constants among them, no operation keeps the order."""
    return addition(call) if len(call.operands) == 2 else None
