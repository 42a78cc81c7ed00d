"""Models of Keras that are a polynomial of known degree in their input and their weights.

Only of such a model do draws of integers prove anything; see `verification.proof`. What is not on
the lists here may clip, branch, draw random numbers, mix the samples or notice a sign.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any

import keras
import numpy as np
from keras import activations, layers

from convfc.core.arrays import DIGITS
from convfc.formats.keras.internals import calls_of
from convfc.formats.keras.likeness import lacking, plain, told
from convfc.formats.keras.lockstep import history
from convfc.formats.keras.sites import graph_of
from convfc.formats.keras.stock import CROPPING, PADDING, POOLING

Call = Any
"""A node of Keras: one call of an operation; keras has no types."""
Model = Any
Rule = Callable[[Call, Sequence[int]], int | None]
"""Degree of a call's output, given those of the tensors that it is fed; ``None``: not known."""


def _moves(_: Call, degrees: Sequence[int]) -> int | None:
    return max(degrees)


def _moves_along_axes(call: Call, degrees: Sequence[int]) -> int | None:
    """Of an operation along axes, which must not be the first, where the samples lie."""
    axes = call.operation.axis
    axes = axes if isinstance(axes, list | tuple) else [axes]
    ranks = {len(x.shape) for x in call.input_tensors}
    inside = all(isinstance(a, int) and (a > 0 or (a == -1 and min(ranks) > 1)) for a in axes)
    return max(degrees) if inside else None


def _takes(call: Call, degrees: Sequence[int]) -> int | None:
    return _moves_along_axes(call, degrees) if len(degrees) == 1 else None


def _gets(call: Call, degrees: Sequence[int]) -> int | None:
    given = [*call.arguments.args, *call.arguments.kwargs.values()]
    key = given[1] if len(given) == 2 and isinstance(given[1], list | tuple) else ()
    whole = slice(None) in key[:1] and all(isinstance(item, slice | int) for item in key)
    return degrees[0] if whole and len(degrees) == 1 else None


def _reshapes(call: Call, degrees: Sequence[int]) -> int | None:
    # One sample alone is run as well, so each is so many whole rows.
    return degrees[0] if list(call.operation.newshape)[:1] == [-1] else None


def _transposes(call: Call, degrees: Sequence[int]) -> int | None:
    return degrees[0] if list(call.operation.axes or ())[:1] == [0] else None


def _pools(call: Call, degrees: Sequence[int]) -> int | None:
    return degrees[0] if set(keras.tree.flatten(call.operation.pool_size)) == {1} else None


def _adds(call: Call, degrees: Sequence[int]) -> int | None:
    return max(degrees) if _tensors_only(call) else None


def _multiplies(call: Call, degrees: Sequence[int]) -> int | None:
    return sum(degrees) if _tensors_only(call) else None


def _tensors_only(call: Call) -> bool:
    """Whether it is fed tensors only: next to a large integer, a small constant does not show."""
    given = keras.tree.flatten([call.arguments.args, call.arguments.kwargs])
    return len(given) == len(call.input_tensors)


def _weighs(call: Call, degrees: Sequence[int]) -> int | None:
    layer = call.operation
    if getattr(layer, "lora_rank", None) or getattr(layer, "quantization_mode", None):
        return None
    if isinstance(layer, layers.EinsumDense):
        x, kernel, y = layer.equation.replace("->", ",").split(",")
        if x[0] != y[0] or x[0] in x[1:] + kernel + y[1:]:
            return None
    return degrees[0] + 1


_MOVING = (layers.Reshape, layers.Permute, layers.Flatten)
_LAYERS: Mapping[type, Rule] = {
    layers.Dense: _weighs,
    layers.EinsumDense: _weighs,
    layers.Activation: _moves,  # which is the layer's own and comes last: `_out_of_place`
    **dict.fromkeys((*_MOVING, *PADDING, *CROPPING), _moves),
    **dict.fromkeys(POOLING, _pools),
    layers.Concatenate: _moves_along_axes,
    layers.Add: _adds,
    layers.Subtract: _adds,
    layers.Multiply: _multiplies,
}
"""Layers by what they make of a degree."""

_OPERATIONS: Mapping[str, Rule] = {
    "Reshape": _reshapes,
    "Transpose": _transposes,
    "Concatenate": _moves_along_axes,
    "ExpandDims": _moves_along_axes,
    "Squeeze": _moves_along_axes,
    "Sum": _moves_along_axes,
    "GetItem": _gets,
    "Take": _takes,
    "Add": _adds,
    "Subtract": _adds,
    "Multiply": _multiplies,
}
"""Operations of `keras.ops` by what they make of a degree."""

_FOR_ANY_SIZE = (layers.Dense, layers.Activation, layers.Permute)
"""Layers without a setting that could depend on the size of an axis, but for channels."""

_BEHIND_ACTIVATIONS = ("Reshape", "Permute", "Transpose", "Flatten", "Concatenate")
"""What may follow an activation that takes one number at a time: it only moves them all."""

ELEMENTWISE = (
    *(activations.relu, activations.relu6, activations.leaky_relu, activations.elu),
    *(activations.selu, activations.gelu, activations.silu, activations.mish),
    *(activations.sigmoid, activations.hard_sigmoid, activations.hard_silu, activations.tanh),
    *(activations.softplus, activations.softsign, activations.exponential),
)
"""Activations that take one number at a time."""


def unshown(
    model: Model, activation: Any, products: int, *, open_sizes: bool, ends_masks: bool
) -> str | None:
    """Why a model is not known to be such a polynomial, in a phrase; ``None``: it is.

    Its activation apart, which must be the last thing that it does.

    Args:
        model: what stands in a convolution's place, which need not be as convfc writes it.
        activation: the convolution's.
        products: how many there should be in a row.
        open_sizes: whether some size of the input is not known.
        ends_masks: whether a mask may come in, which it must not hand on.
    """
    graph = graph_of(model)
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        return "it has several inputs or outputs"
    if ends_masks and _hands_on_masks(graph):
        return "it hands on the mask on its input"
    degrees: dict[int, int] = {id(graph.inputs[0]): 1}
    for call in calls_of(graph):
        words = None if call.is_input else _follow(call, degrees, open_sizes)
        if words is not None:
            return words
    if degrees[id(graph.outputs[0])] > products + 1:
        return f"it multiplies more than {products} times"
    return _out_of_place(graph, activation)


def _follow(call: Call, degrees: dict[int, int], open_sizes: bool) -> str | None:
    """Note the degrees of a call's outputs, or say why they are not known."""
    operation, kind = call.operation, type(call.operation).__name__
    rule = _LAYERS.get(type(operation))
    stock = type(operation).__module__.startswith("keras.")
    if stock and not isinstance(operation, keras.Layer):
        rule = _OPERATIONS.get(kind)
    if rule is not None and open_sizes and type(operation) not in _FOR_ANY_SIZE:
        return f"its {kind} may be made for one size of the input"
    degree = None if rule is None else rule(call, [degrees[id(x)] for x in call.input_tensors])
    if degree is None:
        return f"nothing says that its {kind} is linear or moves elements"
    coarsest = min(DIGITS.get(x.dtype, 0) for x in call.input_tensors)
    if any(DIGITS.get(x.dtype, 0) < coarsest for x in call.outputs):
        return f"its {kind} rounds to {call.outputs[0].dtype}"
    degrees.update({id(x): degree for x in call.outputs})
    return None


def _hands_on_masks(graph: Any) -> bool:
    """Whether a mask on the input comes out again: layers that do not know what it is end it."""
    masked = {id(graph.inputs[0])}
    for call in calls_of(graph):
        knows = getattr(call.operation, "supports_masking", False)
        if knows and any(id(x) in masked for x in call.input_tensors):
            masked.update(map(id, call.outputs))
    return id(graph.outputs[0]) in masked


def _out_of_place(graph: Model, activation: Any) -> str | None:
    """Where some activation is not the one of the convolution, applied last of all, once."""
    wanted, none = map(_serialized, (activation, activations.linear))
    last = history(graph.outputs[0])[1]
    moving, ends, todo = set(), set(), [last]
    while todo:
        call = todo.pop()
        if type(call.operation).__name__ in _BEHIND_ACTIVATIONS and not call.is_input:
            moving.add(call)
            todo += [history(x)[1] for x in call.input_tensors]
        else:
            ends.add(call)
    if activation is activations.linear:
        moving, ends = set(), set()
    elif activation not in ELEMENTWISE and moving:
        return "its activation is not the last thing that it does"
    for call in calls_of(graph):
        own = getattr(call.operation, "activation", None) or activations.linear
        if _serialized(own) != (wanted if call in ends else none):
            return "its activation is not the layer's, applied last of all"
        behind = any(history(x)[1] in ends | moving for x in call.input_tensors)
        if behind and call not in moving:
            return "something else is computed of what its activation gives"
    return None


def _serialized(activation: Any) -> Any:
    """Its settings and its numbers, such as those of a PReLU; of a function, which it is."""
    if isinstance(activation, FunctionType):
        return told(activation)
    numbers = [np.asarray(weight) for weight in getattr(activation, "weights", ())]
    settings = lacking(plain(keras.saving.serialize_keras_object(activation)), "build_config")
    return settings, [(array.shape, array.tobytes()) for array in numbers]
