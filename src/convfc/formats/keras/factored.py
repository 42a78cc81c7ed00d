"""A product that somebody has split in two: P U V is a convolution and a pointwise one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from keras import activations, layers

from convfc.formats.keras.internals import calls_of, run_through
from convfc.formats.keras.sites import graph_of

Layer = Any
"""A `keras.Layer` or a `keras.Model`; keras has no types."""


@dataclass(frozen=True)
class Factors:
    """Two products, one of what the other makes.

    Attributes:
        first: a Dense without an activation.
        second: the one that it feeds.
        product: a Dense of the size that both have together; its numbers mean nothing.
    """

    first: Layer
    second: Layer
    product: Layer


def merged(made: Layer) -> tuple[Layer, Factors] | None:
    """A model with one Dense in the place of two, and what those are; ``None`` if there are none.

    Args:
        made: what a convolution was converted to; of what is split, the first one counts.
    """
    graph = graph_of(made)
    for where, first, second in _pairs(graph):
        given = {**second.get_config(), "name": f"{second.name}_product"}
        product = layers.Dense.from_config(given)

        # A Sequential is told of masks, which a Dense does not want to hear of.
        instead = {id(first): lambda x, **_: x, id(where): lambda x, of=product, **_: of(x)}
        outputs = run_through(graph, graph.inputs, partial(_chosen, instead))
        whole = keras.Model(graph.inputs, outputs, name=made.name)
        return whole, Factors(first, second, product)
    return None


def _chosen(instead: Mapping[int, Any], operation: Layer) -> Any:
    return instead.get(id(operation), operation)


def _pairs(graph: Layer) -> Iterator[tuple[Layer, Layer, Layer]]:
    """What the second Dense stands in, the second itself or a Sequential of both, and the two."""
    calls = calls_of(graph)
    for operation in graph.operations:
        if isinstance(operation, keras.Sequential):
            inner = operation.layers
            if len(inner) == 2 and _is_linear(inner[0]) and _is_alike(inner[1], inner[0]):
                yield operation, *inner
        elif _is_linear(operation):
            made = {id(x) for call in calls if call.operation is operation for x in call.outputs}
            readers = [call for call in calls if made.intersection(map(id, call.input_tensors))]
            kinds = {id(call.operation): call.operation for call in readers}
            second = next(iter(kinds.values()), None)
            of_both = [sum(c.operation is x for c in calls) for x in (operation, second)]
            only = len(kinds) == 1 and len(readers) == of_both[0] == of_both[1]
            if only and _is_alike(second, operation):
                yield second, operation, second


def _is_linear(layer: Layer) -> bool:
    return type(layer) is layers.Dense and layer.activation is activations.linear


def _is_alike(layer: Layer, first: Layer) -> bool:
    """Whether it is a Dense that computes in the types of the first one, so rounds alike."""
    return type(layer) is layers.Dense and layer.dtype_policy.name == first.dtype_policy.name
