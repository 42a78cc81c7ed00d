"""Which axis the channels of an input or output are on, as the convolutions behind it have it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras

from convfc.formats.keras.internals import calls_of, flat_layers

Tensor = Any
"""A `keras.KerasTensor`; keras has no types."""


class Layouts:
    """The layouts of a graph's tensors.

    Args:
        graph: a Functional model.
        convolutions: those at any depth in it, in the order of execution.
    """

    def __init__(self, graph: Any, convolutions: Sequence[Any]) -> None:
        formats = {id(one): getattr(one, "data_format", None) for one in convolutions}
        known = [data_format for data_format in formats.values() if data_format is not None]
        self._usual = known[0] if known else None
        self._calls = [
            (call.input_tensors, call.outputs, _first(call.operation, formats))
            for call in calls_of(graph)
        ]

    def channels_last(self, tensor: Tensor) -> bool | None:
        """Whether an image there has them on its last axis; ``None``: no convolution says so.

        Args:
            tensor: an input of the graph, of which the convolutions that it goes into tell, or
                an output, of which those tell that it comes from.
        """
        behind = ((read, made, told) for read, made, told in self._calls)
        before = ((made, read, told) for read, made, told in reversed(self._calls))
        found = _followed(tensor, behind) or _followed(tensor, before) or self._usual
        return None if found is None else found == "channels_last"


def _first(operation: Any, formats: dict[int, str | None]) -> str | None:
    """The layout of the first convolution that an operation is or holds."""
    every = flat_layers(operation) if isinstance(operation, keras.Layer) else [operation]
    return next((found for one in every if (found := formats.get(id(one)))), None)


def _followed(
    tensor: Tensor, calls: Iterable[tuple[Sequence[Tensor], Sequence[Tensor], str | None]]
) -> str | None:
    """What the first convolution says that is reached from a tensor by calls in this order."""
    reached = {id(tensor)}
    for near, far, told in calls:
        if reached.isdisjoint(map(id, near)):
            continue
        if told is not None:
            return told
        reached.update(map(id, far))
    return None
