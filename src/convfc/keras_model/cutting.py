"""Two Keras models side by side: which layers were converted, and what else differs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
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
    old = {operation.name: operation for operation in left.operations}
    new = {operation.name: operation for operation in right.operations}
    for name in old.keys() ^ new.keys():
        found.differences.append(f"layer '{where}{name}' is in one of the files only")
    for name, operation in old.items():
        if name in new:
            _compare(operation, new[name], where, convolutions, found)
    for what, before, after in zip(
        ("connections", "inputs", "outputs"), _wiring(left), _wiring(right), strict=True
    ):
        if before != after:
            found.differences.append(f"the {what} of '{where or a.name}' changed")


def _wiring(graph: Layer) -> tuple[Any, Any, Any]:
    """Who is fed by whom; what goes in and what comes out."""
    calls = {
        operation.name: [
            (_described(call.arguments.args), _settings(call.arguments.kwargs))
            for call in calls_in(graph, operation)
        ]
        for operation in graph.operations
    }
    return calls, repr(_described(graph.input)), repr(_described(graph.output))


def calls_in(graph: Layer, operation: Layer) -> list[Any]:
    """The calls of an operation that are a graph's own: a layer may be called in several."""
    own = {id(call) for calls in graph._nodes_by_depth.values() for call in calls}
    return [call for call in operation._inbound_nodes if id(call) in own]


def _settings(arguments: Mapping[str, Any]) -> dict[str, list[str]]:
    """What is given by name; a ``None`` is what a layer takes for nothing given."""
    given = {name: value for name, value in arguments.items() if value is not None}
    return {name: _described(value) for name, value in given.items()}


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
