"""Layers that go through a sequence one step after another, however many cores there are."""

from __future__ import annotations

from typing import Any

import keras

from convfc.core.geometry import Sizes
from convfc.formats.keras.internals import calls_of, flat_layers
from convfc.formats.keras.sites import graph_of, is_graph

STEP = 2 * 10**7
"""Multiply-adds in whose time TensorFlow takes one step: about two milliseconds."""

UNROLLED = 10**10
"""The same of a step that has nodes of its own in the graph, which are made for every run."""


def sequential_work(model: Any) -> int:
    """What the recurrent layers of a Keras model take, in multiply-adds, one sample at a time.

    Unknown lengths are left out. The layers of a model in it count once, however often it is run.
    """
    graphs = [graph_of(layer) for layer in flat_layers(model) if is_graph(layer)]
    calls = [call for graph in graphs for call in calls_of(graph)]
    read = [(call.operation, keras.tree.flatten(call.arguments.args)) for call in calls]
    # An operation may be called on a number first, as 1 / x is.
    return sum(_work(layer, x[0].shape) for layer, x in read if x and hasattr(x[0], "shape"))


def _work(layer: Any, shape: Sizes) -> int:
    if isinstance(layer, keras.layers.Bidirectional):
        return _work(layer.forward_layer, shape)
    if isinstance(layer, keras.layers.TimeDistributed):
        return _work(layer.layer, (shape[0], *shape[2:]))
    if isinstance(layer, keras.layers.RNN):
        return (UNROLLED if layer.unroll else STEP) * (shape[1] or 0)
    return 0
