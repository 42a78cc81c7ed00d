"""Two Keras models side by side: which layers were converted, and what else differs."""

from __future__ import annotations

import json
from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import layers

from convfc.differences import array_difference
from convfc.keras_model.sites import graph_of, is_graph

Layer = Any
"""A `keras.Layer`, a `keras.Model` or an operation; keras has no types."""


@dataclass
class Cuts:
    """All of a converted model, cut along its convolutions.

    Attributes:
        made: what took the place of a convolution, by the `id` of the original's layer.
        differences: what else is not as it was, a sentence each.
    """

    made: dict[int, Layer] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)


def cut(original: Layer, converted: Layer, convolutions: Set[int]) -> Cuts:
    """Cut a converted model along the layers that were converted.

    Args:
        original: a stock Sequential or Functional model.
        converted: the model made from it.
        convolutions: the original's convolutions, by the `id` of the layer.
    """
    found = Cuts()
    _compare(original, converted, "", convolutions, found)
    return found


def _compare(a: Layer, b: Layer, where: str, convolutions: Set[int], found: Cuts) -> None:
    """Compare two layers that should be the same, or of which the second replaces the first."""
    name = f"{where}{a.name}"
    if getattr(a, "trainable", None) != getattr(b, "trainable", None):
        found.differences.append(f"layer '{name}': its trainable flag changed")
    if id(a) in convolutions and is_graph(b):
        found.made[id(a)] = b
    elif type(a) is not type(b):
        found.differences.append(
            f"layer '{name}' is a {type(b).__name__}, it was a {type(a).__name__}"
        )
    elif is_graph(a):
        _compare_graphs(a, b, f"{name}/", convolutions, found)
    elif type(a) is layers.TimeDistributed:
        _compare(a.layer, b.layer, f"{name}/", convolutions, found)
    else:
        if _config(a) != _config(b):
            found.differences.append(f"layer '{name}': its settings changed")
        _compare_weights(a, b, name, found)


def _compare_graphs(a: Layer, b: Layer, where: str, convolutions: Set[int], found: Cuts) -> None:
    """Compare two models: their layers by name, and how these are connected."""
    left, right = graph_of(a), graph_of(b)
    ending = {operation.name for operation in left.operations if id(operation) in convolutions}
    old = {operation.name: operation for operation in _operations(left, ending)}
    new = {operation.name: operation for operation in _operations(right, ending)}
    for name in old.keys() ^ new.keys():
        found.differences.append(f"layer '{where}{name}' is in one of the files only")
    for name, operation in old.items():
        if name in new:
            _compare(operation, new[name], where, convolutions, found)
    for what, before, after in zip(
        ("connections", "inputs", "outputs"),
        _wiring(left, ending),
        _wiring(right, ending),
        strict=True,
    ):
        if before != after:
            found.differences.append(f"the {what} of '{where or a.name}' changed")


def _wiring(graph: Layer, ending: set[str]) -> tuple[Any, Any, Any]:
    """Who is fed by whom; what goes in and what comes out.

    Args:
        graph: a Functional model.
        ending: names of convolutions, or of what stands for them: no mask goes past them.
    """
    calls = {
        operation.name: [
            (
                _described(call.arguments.args),
                {name: _described(value) for name, value in _settings(call, ending).items()},
            )
            for call in calls_in(graph, operation)
        ]
        for operation in _operations(graph, ending)
    }
    return calls, repr(_described(graph.input)), repr(_described(graph.output))


def calls_in(graph: Layer, operation: Layer) -> list[Any]:
    """The calls of an operation that are a graph's own: a layer may be called in several."""
    own = {id(call) for calls in graph._nodes_by_depth.values() for call in calls}
    return [call for call in operation._inbound_nodes if id(call) in own]


def _operations(graph: Layer, ending: set[str]) -> list[Layer]:
    """A graph's operations, but for those that only make the masks that `_settings` leaves out."""
    needed: set[int] = set()
    tensors = [*graph.inputs, *graph.outputs]
    while tensors:
        operation = tensors.pop()._keras_history.operation
        if id(operation) not in needed:
            needed.add(id(operation))
            for call in calls_in(graph, operation):
                given = keras.tree.flatten([call.arguments.args, _settings(call, ending)])
                tensors += [value for value in given if isinstance(value, keras.KerasTensor)]
    return [operation for operation in graph.operations if id(operation) in needed]


def _settings(call: Any, ending: set[str]) -> dict[str, Any]:
    """What is given by name; a ``None`` is what a layer takes for nothing given.

    The mask that a tensor has on it goes without saying: Keras names it anew at each load. And
    where a convolution pays no heed to masks, the model in its place is given one by Keras.
    """
    on_it = {id(getattr(x, "_keras_mask", None)) for x in keras.tree.flatten(call.arguments.args)}
    return {
        name: value
        for name, value in call.arguments.kwargs.items()
        if value is not None
        and id(value) not in on_it
        and not (name == "mask" and call.operation.name in ending)
    }


def _described(structure: Any) -> list[str]:
    """Arguments as texts, each tensor as the layer and the output that it comes from."""

    def described(value: Any) -> str:
        if isinstance(value, keras.KerasTensor):
            operation, _, output = value._keras_history
            return f"{operation.name}:{output}"
        if isinstance(value, np.ndarray):
            return f"{value.dtype} {value.shape} {value.tobytes().hex()}"
        return repr(value)

    return [described(value) for value in keras.tree.flatten(structure)]


def _config(layer: Layer) -> str:
    """A layer's settings as text, without what Keras numbers anew at each load."""
    config = keras.saving.serialize_keras_object(layer)
    return json.dumps(_without(config, {"shared_object_id", "build_config"}), default=repr)


def _without(config: Any, keys: set[str]) -> Any:
    if isinstance(config, dict):
        return {key: _without(value, keys) for key, value in config.items() if key not in keys}
    return [_without(item, keys) for item in config] if isinstance(config, list | tuple) else config


def _compare_weights(a: Layer, b: Layer, name: str, found: Cuts) -> None:
    for old, new in zip(getattr(a, "weights", ()), getattr(b, "weights", ()), strict=False):
        difference = array_difference(np.asarray(old), np.asarray(new))
        if difference is not None:
            found.differences.append(f"layer '{name}': its {old.name} {difference}")
