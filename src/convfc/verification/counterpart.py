"""A model of one format beside one of the other: which port is which, and how its axes lie.

Exporters turn images round, as ONNX has channels first and Keras has them last, and give ports
other names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convfc.core.arrays import to_first, to_last
from convfc.formats.inner import Tensor
from convfc.formats.protocols import Feed, Model, Port

_Shape = tuple[int | None, ...]


class Runs(Protocol):
    """What can be run on the inputs of a model, and makes its outputs."""

    @property
    def path(self) -> Path:
        """The file."""

    def run(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """Outputs by name, see `Model.run`."""


@dataclass(frozen=True)
class Match:
    """A port of one model, and which of another it is.

    Attributes:
        name: in the one.
        other: in the other.
        order: axes of the one in the order of the other; ``None`` if they are the same.
    """

    name: str
    other: str
    order: tuple[int, ...] | None


@dataclass(frozen=True)
class Counterpart:
    """A model with the ports of another one of the same net.

    Attributes:
        model: the model.
        inputs: those of the other one, and which they are here.
        outputs: likewise.
    """

    model: Model
    inputs: Sequence[Match]
    outputs: Sequence[Match]

    @property
    def path(self) -> Path:
        """The file."""
        return self.model.path

    def tensors(self, feed: Feed) -> Sequence[Tensor]:
        """See `Inner.tensors`."""
        return self.model.tensors(self._fed(feed))

    def values(self, feed: Feed, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """See `Inner.values`."""
        return self.model.values(self._fed(feed), names)

    def _fed(self, feed: Feed) -> Feed:
        """What the other one is fed, as this one takes it."""
        fed = {
            one.other: feed[one.name] if one.order is None else feed[one.name].transpose(one.order)
            for one in self.inputs
        }
        return {name: np.ascontiguousarray(x) for name, x in fed.items()}

    def run(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """See `Model.run`: of the other one's inputs, outputs as that has them."""
        found = self.model.run(self._fed(feed))
        return {
            one.name: found[one.other]
            if one.order is None
            else found[one.other].transpose(np.argsort(one.order))
            for one in self.outputs
        }

    @property
    def said(self) -> list[str]:
        """What was done, a sentence each."""
        turned = [one for one in (*self.inputs, *self.outputs) if one.order is not None]
        named = [one for one in (*self.inputs, *self.outputs) if one.name != one.other]
        file = self.path.name
        return [
            *(f"'{one.other}' of '{file}' has its channels {_where(one)}" for one in turned),
            *(f"'{one.name}' is '{one.other}' in '{file}'" for one in named),
        ]


def counterpart(a: Model, b: Model) -> Counterpart | str:
    """A model with the ports of another one; or why it has none that fit."""
    inputs = _matched("input", a.inputs, b.inputs)
    if isinstance(inputs, str):
        return inputs
    outputs = _matched("output", a.outputs, b.outputs)
    return outputs if isinstance(outputs, str) else Counterpart(b, inputs, outputs)


def _where(match: Match) -> str:
    order = match.order or ()
    return "first" if list(order) == to_first(len(order)) else "last"


def _matched(role: str, ports: Sequence[Port], others: Sequence[Port]) -> list[Match] | str:
    names, known = [port.name for port in ports], {port.name: port for port in others}
    if len(ports) != len(others):
        return f"there are {len(others)} {role}s, not {len(ports)}"
    found = []
    for place, port in enumerate(ports):
        other = known[port.name] if known.keys() == {*names} else others[place]
        if port.dtype != other.dtype:
            return f"{role} '{port.name}' has the type {port.dtype}, '{other.name}' {other.dtype}"
        orders = _orders(port.shape, other.shape)
        if not orders:
            return f"{role} '{port.name}' has other sizes than '{other.name}'"
        found.append(Match(port.name, other.name, orders[0]))
    return found


def _orders(shape: _Shape | None, other: _Shape | None) -> list[tuple[int, ...] | None]:
    """How the axes of one may lie in the other, the likeliest first.

    >>> _orders((None, 28, 28, 1), (None, 1, 28, 28))
    [(0, 3, 1, 2)]
    """
    if shape is None or other is None:
        return [None]
    rank = len(shape)
    if rank != len(other):
        return []
    ways: Mapping[tuple[int, ...] | None, Sequence[int]] = {None: range(rank)}
    if rank > 2:
        ways = {**ways, tuple(to_first(rank)): to_first(rank), tuple(to_last(rank)): to_last(rank)}
    scores = {}
    for way, order in ways.items():
        pairs = [(shape[axis], other[place]) for place, axis in enumerate(order)]
        if all(a == b or a is None or b is None for a, b in pairs):
            scores[way] = sum(a == b is not None for a, b in pairs)
    return sorted(scores, key=lambda way: -scores[way])
