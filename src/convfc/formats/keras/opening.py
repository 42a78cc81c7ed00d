"""A model whose nested models are opened: their layers stand in the place of their calls.

Conv2D, block (Conv2D, ReLU), Dense    =    Conv2D, Conv2D, ReLU, Dense
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import layers

from convfc.formats.keras.internals import calls_of, flat_layers, run_through
from convfc.formats.keras.sites import graph_of, is_graph, makes_masks

Layer = Any
"""A `keras.Layer` or a `keras.Model`; keras has no types."""
Call = Any
"""A node of Keras: one call of an operation."""


def opened(model: Layer) -> tuple[Layer, dict[int, str]]:
    """A model without those nested ones that are called once, which shares all layers with it.

    A nested model stays if it casts what it is fed, is told whether it trains, gets by name what it
    takes in order, has several outputs, or a layer with the name of another one; all do where
    there are masks, which a model hands on in its own way.

    Args:
        model: a stock Sequential or Functional model.

    Returns:
        It, or the model itself if nothing is opened; and what layers were called in that, with the
        models they were in, by their `id`: "block/conv".
    """
    graph = graph_of(model)
    nested = {} if makes_masks(model) else _nested(graph)
    if not nested:
        return model, {}
    outputs = set(map(id, graph.outputs))
    ends = {id(x.operation) for x in calls_of(graph) if outputs.intersection(map(id, x.outputs))}
    paths: dict[int, str] = {}

    def inside(prefix: str) -> Callable[[Layer], Any]:
        def visited(operation: Layer) -> Any:
            if id(operation) not in nested:
                if prefix:
                    paths[id(operation)] = f"{prefix}{operation.name}"
                return operation

            def call(*args: Any, **_: Any) -> Any:
                path, x = f"{prefix}{operation.name}/", keras.tree.flatten(args[0])
                found = run_through(graph_of(operation), x, inside(path))
                if prefix or id(operation) not in ends:
                    return found
                # An output is called as what makes it.
                (x,) = keras.tree.flatten(found)
                x = layers.Identity(name=operation.name, dtype=x.dtype)(x)
                return keras.tree.pack_sequence_as(found, [x])

            return call

        return visited

    found = run_through(graph, graph.inputs, inside(""))
    return keras.Model(graph.input, found, name=model.name), paths


def _nested(graph: Layer) -> dict[int, Layer]:
    """What can be opened, by `id`."""
    count: Counter[int] = Counter()
    for call in _every_call(graph):
        count.update(map(id, _at_once(call.operation)))
    taken, found = {operation.name for operation in graph.operations}, dict[int, Layer]()
    waiting = calls_of(graph)
    while waiting:
        call = waiting.pop(0)
        inner = graph_of(call.operation) if is_graph(call.operation) else None
        if inner is None or count[id(call.operation)] != 1 or not _is_handed_on(call, inner):
            continue
        calls = [one for one in calls_of(inner) if not one.is_input]
        names = {one.operation.name for one in calls}
        if not names & taken:
            found[id(call.operation)] = call.operation
            taken |= names
            waiting += calls
    return found


def _every_call(graph: Layer) -> Iterator[Call]:
    """Calls at any depth, those in a model as often as that is called."""
    for call in calls_of(graph):
        yield call
        if is_graph(call.operation):
            yield from _every_call(graph_of(call.operation))


def _at_once(operation: Layer) -> list[Layer]:
    """What a call runs beside what is in a graph: a layer, and what a wrapper has in it."""
    wraps = isinstance(operation, keras.Layer) and not is_graph(operation)
    return flat_layers(operation) if wraps else [operation]


def _is_handed_on(call: Call, inner: Layer) -> bool:
    """Whether the graph gets what the call is given, as it is, and makes one tensor of it."""
    if any(value is not None for value in call.arguments.kwargs.values()):
        return False  # its layers would not be told
    given, ports = call.input_tensors, inner.inputs
    by_name = any(isinstance(value, dict) for value in call.arguments.args)
    if by_name and not isinstance(inner.input, dict):
        return False  # the order of the names may be another one
    alike = [(tuple(x.shape[1:]), x.dtype) for x in given] == [
        (tuple(x.shape[1:]), x.dtype) for x in ports
    ]
    made = keras.tree.flatten(inner.output)
    return alike and len(made) == 1 and len(keras.tree.flatten(call.arguments.args)) == len(given)
