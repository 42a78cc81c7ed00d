"""Calls of models in inference mode, and what is in memory meanwhile."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import keras
import tensorflow as tf

from convfc.formats.keras.sites import graph_of

_MUCH = 2**28
"""Bytes that may be held to no use."""
_GROWTH = 64
"""How much more than its input a model of open sizes may hold."""


class Calls:
    """A layer or model to be called, again and again.

    Keras holds what each layer of a model makes until all have run: the patches of all blocks at
    once. A graph of TensorFlow lets go of what nobody reads any more, but takes longer to be made
    than a small model to run: so it is made for large ones.

    Args:
        model: it is called as it is then, also if its weights have changed meanwhile.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, inputs: Any) -> Any:
        """What it makes of its inputs, which are nested as it takes them."""
        return self.traced(inputs) if self._held(inputs) > _MUCH else self._one_by_one(inputs)

    @cached_property
    def traced(self) -> Callable[[Any], Any]:
        """As a graph, where that is possible."""
        if keras.backend.backend() != "tensorflow":
            return self._one_by_one
        # Without autograph, as Keras itself: that writes code into temporary files.
        graph: Callable[[Any], Any] = tf.function(
            self._one_by_one, autograph=False, reduce_retracing=True
        )
        return graph

    @property
    def _one_by_one(self) -> Callable[[Any], Any]:
        return partial(self._model, training=False)

    def _held(self, inputs: Any) -> int:
        """Bytes of all that the layers of a model make."""
        graph = graph_of(self._model) if isinstance(self._model, keras.Model) else None
        if graph is None:
            return 0
        given = keras.tree.flatten(inputs)
        rows = max((x.shape[0] for x in given if len(x.shape)), default=1)
        made = keras.tree.flatten([one.output for one in graph.operations])
        known = sum(math.prod(size or 1 for size in x.shape[1:]) for x in made) * rows
        numbers = sum(math.prod(x.shape) for x in given)
        is_open = any(None in x.shape[1:] for x in made)
        return 4 * max(known, _GROWTH * numbers if is_open else 0)
