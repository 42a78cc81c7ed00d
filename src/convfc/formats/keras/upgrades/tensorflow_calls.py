"""A call of a TensorFlow function in a Keras 2 graph, and what may stand for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from convfc.formats.keras.upgrades.graphs import is_reference

Config = dict[str, Any]
Reference = list[Any]


class Call(NamedTuple):
    """An operation: what it is, what it works on in this order, how, and its dtype policy."""

    name: str
    operands: list[Any]
    options: Mapping[str, Any]
    dtype: str

    @property
    def tensors(self) -> list[Reference]:
        """The operands that are outputs of layers."""
        return [operand for operand in self.operands if is_reference(operand)]

    def says_only(self, *names: str) -> bool:
        """Whether no other option says anything; names, types and counts go without saying."""
        rest = {name: value for name, value in self.options.items() if name not in (*names, "name")}
        return all(value is None or name[0] in "TN_" for name, value in rest.items())


class Stock(NamedTuple):
    """A stock layer for it, called with all tensors among the operands."""

    kind: str
    config: Config


class Operation(NamedTuple):
    """An operation of Keras for it, with all that it is called on, in this order."""

    kind: str
    config: Config
    given: list[Any]
