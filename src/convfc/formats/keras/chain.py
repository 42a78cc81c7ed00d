"""Whether the convolutions of a Keras model follow each other, with nothing between that expands.

What stands between two of them must not move two samples further apart, in the 2-norm: then the
norms of the convolutions bound, multiplied, what all of them together do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras import activations, layers

from convfc.formats.keras.internals import calls_of
from convfc.formats.keras.sites import graph_of
from convfc.formats.keras.stock import (
    CROPPING,
    GLOBAL_AVERAGE,
    GLOBAL_MAXIMUM,
    PADDING,
    POOLING,
)
from convfc.formats.weights import Chain

Layer = Any
"""A `keras.Layer`; keras has no types."""

_SMOOTH = (
    *(activations.linear, activations.relu, activations.relu6, activations.leaky_relu),
    *(activations.elu, activations.sigmoid, activations.hard_sigmoid, activations.tanh),
    *(activations.softplus, activations.softsign, activations.softmax),
)
"""Functions with slopes of at most 1, with the settings that they have by default."""
_MOVING = (
    *(layers.Flatten, layers.Reshape, layers.Permute, layers.Softmax, layers.InputLayer),
    *(layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D),
    *(layers.GaussianNoise, layers.GaussianDropout, layers.AlphaDropout),
    *(*PADDING, *CROPPING, *GLOBAL_MAXIMUM, *GLOBAL_AVERAGE),
)
"""Layers that, when they do not train, move numbers, leave them out or average them."""


def chain_of(model: Any, named: Mapping[int, str]) -> Chain:
    """Follow a model from its first convolution.

    Args:
        model: a Sequential or Functional one.
        named: by the `id` of every convolution in it, its name.
    """
    graph = graph_of(model)
    calls = calls_of(graph)
    readers: dict[int, list[Any]] = {}
    for call in calls:
        for tensor in call.input_tensors:
            readers.setdefault(id(tensor), []).append(call)
    call = next((call for call in calls if id(call.operation) in named), None)
    found: dict[str, None] = {}
    between: dict[str, None] = {}
    passed: dict[str, None] = {}
    why = "they are inside other layers"
    while call is not None:
        layer = call.operation
        if id(layer) in named:
            if named[id(layer)] in found:
                why = f"'{layer.name}' is called twice"
                break
            found[named[id(layer)]] = None
            between |= passed
            passed = {}
        elif _contracts(layer):
            passed[type(layer).__name__] = None
        else:
            why = f"'{layer.name}' ({type(layer).__name__}) comes next"
            break
        activation = getattr(layer, "activation", None)
        if activation not in (None, activations.linear):
            if activation not in _SMOOTH:
                why = f"the activation of '{layer.name}' may expand"
                break
            passed[activation.__name__] = None
        (made,) = call.outputs
        following = readers.get(id(made), [])
        ends = any(made is output for output in graph.outputs)
        if len(following) != 1 or len(following[0].input_tensors) != 1 or ends:
            why = f"what '{layer.name}' makes has other readers"
            break
        (call,) = following
    complete = len(found) == len(named)
    return Chain(tuple(found), tuple(between), None if complete else why)


def _contracts(layer: Layer) -> bool:
    """Whether it moves no two inputs further apart."""
    kind = type(layer)
    if kind in POOLING:
        pairs = zip(layer.pool_size, layer.strides, strict=True)
        return all(stride >= taps for taps, stride in pairs)
    if kind is layers.ReLU:
        return not layer.threshold and 0 <= (layer.negative_slope or 0) <= 1
    if kind is layers.LeakyReLU:
        return 0 <= float(layer.negative_slope) <= 1
    if kind is layers.ELU:
        return 0 <= float(layer.alpha) <= 1
    return kind in _MOVING or kind is layers.Activation
