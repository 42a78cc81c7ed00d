"""Layers that go through a sequence one step after another, however many cores there are."""

from __future__ import annotations

from typing import Any

import keras

from convfc.keras_model.cutting import calls_in

STEP = 2 * 10**7
"""Multiply-adds in whose time TensorFlow takes one step: about two milliseconds."""


def sequential_work(graph: Any) -> int:
    """What the recurrent layers of a model take, in multiply-adds; unknown lengths are left out.

    Args:
        graph: the model as Keras' graph of operations.
    """
    recurrent = (keras.layers.RNN, keras.layers.Bidirectional)
    layers = [one for one in graph.operations if isinstance(one, recurrent)]
    calls = [call for layer in layers for call in calls_in(graph, layer)]
    sequences = [keras.tree.flatten(call.arguments.args)[0] for call in calls]
    return STEP * sum(sequence.shape[1] or 0 for sequence in sequences)
