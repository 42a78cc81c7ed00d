"""What a model does beside affine maps, in order: a second look at the dense form.

Its proof writes the graph once more, with the code that wrote the file, so both may forget the same
layer. Here is nothing of that code. Both models, original and file, are walked from their outputs
backwards, what is affine is stepped over, and the rest must be the same, layer by layer.

    Conv2D(activation="relu"), BatchNormalization, Flatten, Activation("relu6")  =  relu, relu6
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import keras
from keras import activations, layers

from convfc.core.whole import MaxPool
from convfc.formats.keras.likeness import described, plain, spread, told
from convfc.formats.keras.linear import ELEMENTWISE
from convfc.formats.keras.lockstep import history
from convfc.formats.keras.sites import graph_of, is_graph

Layer = Any
"""A `keras.Layer` or a `keras.Model`; keras has no types."""
Tensor = Any
"""A `keras.KerasTensor`."""
Call = Any
"""A node of Keras: one call of an operation."""

_AFFINE = re.compile(
    r"(Depthwise|Separable)?Conv\dD(Transpose)?|Dense|BatchNormalization|Rescaling"
    r"|(Global)?AveragePooling\dD|(ZeroPadding|Cropping|UpSampling)\dD"
    r"|Flatten|Reshape|Permute|RepeatVector|Identity|ActivityRegularization"
    r"|(Spatial)?Dropout(\dD)?|(Gaussian|Alpha)Dropout|GaussianNoise"
)
"""Stock classes that are affine at inference, but for an activation of their own."""
_WRAPPERS = layers.TimeDistributed, layers.SpectralNormalization
_MAXIMUM = layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D
_BY_NUMBER = layers.ReLU, layers.LeakyReLU, layers.ELU
_RELU = told(activations.relu)
_DEFAULTS = ("NoneType", "None"), ("bool", "False")
"""What says nothing where a call is given it, as `spread` has it."""


@dataclass(frozen=True)
class _Act:
    """One thing that is not affine.

    Attributes:
        word: all that decides what it is.
        name: of its kind, to be shown.
        relus: how many ReLU at least, and at most, may do it as well; ``None``: nothing else does.
    """

    word: str
    name: str
    relus: tuple[int, int] | None = None


@dataclass(frozen=True)
class _Spot:
    """A tensor, and in which calls of models it is, innermost first."""

    tensor: Tensor
    within: tuple[tuple[Layer, Call], ...] = ()

    @property
    def key(self) -> tuple[int, ...]:
        return id(self.tensor), *(id(call) for _, call in self.within)


def forgotten(original: Layer, converted: Layer, max_pool: MaxPool) -> Iterator[str]:
    """What one model does beside affine maps and the other does not, a sentence each.

    Args:
        original: a stock Sequential or Functional model.
        converted: what was made of it, as it is in its file.
        max_pool: what may stand for a MaxPooling.
    """
    graphs = graph_of(original), graph_of(converted)
    todo = [tuple(map(_Spot, pair)) for pair in zip(*(g.outputs for g in graphs), strict=False)]
    seen: set[tuple[Any, ...]] = set()
    while todo:
        a, b = todo.pop()
        if (a.key, b.key) in seen:
            continue
        seen.add((a.key, b.key))
        (old, read), (new, fed) = _way(a), _way(b)
        if not _same(old, new, pools=max_pool is MaxPool.RELU) or len(read) != len(fed):
            here = next((n for n, (x, y) in enumerate(zip(old, new, strict=False)) if x != y), -1)
            was, now = (way[here].name for way in (old, new))
            words = f"other settings of {was}" if was == now else f"{now}, not {was}"
            yield f"on the way to '{history(b.tensor)[0].name}', beside what is affine, is {words}"
            continue
        todo += zip(read, fed, strict=True)


def _same(old: Sequence[_Act], new: Sequence[_Act], *, pools: bool) -> bool:
    """Whether two ways are the same, by a letter for each thing on them."""
    words = {one.word for one in (*old, *new)} | {_RELU}
    letters = {word: chr(0x4E00 + number) for number, word in enumerate(sorted(words))}
    pattern = ""
    for one in old:
        pattern += letters[one.word]
        if pools and one.relus is not None:
            low, high = one.relus
            pattern = f"{pattern[:-1]}(?:{pattern[-1]}|{letters[_RELU]}{{{low},{high}}})"
    return re.fullmatch(pattern, "".join(letters[one.word] for one in new)) is not None


def _way(spot: _Spot) -> tuple[list[_Act], list[_Spot]]:
    """What a tensor comes from, last things first, up to what reads no tensor or several.

    Returns:
        That, and what it reads.
    """
    found: list[_Act] = []
    while True:
        operation, call, output = history(spot.tensor)
        axes = len(spot.tensor.shape) - 1
        while type(operation) in _WRAPPERS:
            axes -= type(operation) is layers.TimeDistributed
            operation = operation.layer
        if is_graph(operation):
            inner = graph_of(operation)
            spot = _Spot(inner.outputs[output], ((inner, call), *spot.within))
            continue
        if call.is_input:
            if not spot.within:
                return [*found, _Act(f"input {operation.name}", f"input '{operation.name}'")], []
            graph, outer = spot.within[0]
            place = [id(x) for x in graph.inputs].index(id(spot.tensor))
            spot = _Spot(_read(outer)[place], spot.within[1:])
            continue
        read = _read(call)
        found += _acts(operation, call, output, axes)
        if len(read) != 1:
            return found, [_Spot(x, spot.within) for x in read]
        if read[0].dtype != spot.tensor.dtype:
            found.append(_Act(f"as {spot.tensor.dtype}", f"a cast to {spot.tensor.dtype}"))
        spot = _Spot(read[0], spot.within)


def _read(call: Call) -> list[Tensor]:
    """The tensors that a call reads, but for masks."""
    return [x for _, x in _given(call) if isinstance(x, keras.KerasTensor)]


def _given(call: Call) -> Iterator[tuple[str, Any]]:
    """All that a call is given, but for masks."""
    by_name = {name: one for name, one in call.arguments.kwargs.items() if name != "mask"}
    return spread({"": call.arguments.args, **by_name})


def _acts(operation: Layer, call: Call, output: int, axes: int) -> Iterator[_Act]:
    """What a call does beside affine maps.

    Args:
        operation: what is called, out of its wrappers.
        call: of it.
        output: which of those that the call makes.
        axes: how many these have, the batch's apart.
    """
    kind = type(operation)
    constants = [(path, x) for path, x in _given(call) if not isinstance(x, keras.KerasTensor)]
    constants = [(path, x) for path, x in constants if x not in _DEFAULTS]
    stock = kind.__module__.startswith("keras.") and not constants
    if stock and _AFFINE.fullmatch(kind.__name__):
        yield from _function(getattr(operation, "activation", None), axes)
    elif stock and kind in (layers.Activation, layers.ReLU, layers.Softmax):
        yield from _function(operation, axes)
    else:
        relus = None
        if kind in _MAXIMUM:
            pairs = list(zip(operation.pool_size, operation.strides, strict=True))
            least = sum(size - 1 for size, _ in pairs)
            # An axis of which only some places are taken may go through one as well.
            relus = least, least + sum(size == 1 < stride for size, stride in pairs)
        yield _Act(repr((_settings(operation), constants, output)), kind.__name__, relus)


def _function(own: Any, axes: int) -> Iterator[_Act]:
    """An activation, or a layer that is one: a function of numbers, or of an image."""
    if type(own) is layers.Activation:
        own = own.activation
    if type(own) is layers.ReLU:
        plain_one = own.max_value is None and own.negative_slope == own.threshold == 0
        own = activations.relu if plain_one else own
    elif type(own) is layers.Softmax and own.axis == -1:
        own = activations.softmax
    if own is None or own is activations.linear:
        return
    named = isinstance(own, FunctionType)
    word = told(own) if named else _settings(own)
    name = own.__name__ if named else type(own).__name__
    by_number = own in ELEMENTWISE or type(own) in _BY_NUMBER
    yield _Act(word if by_number else f"{word} of {axes} axes", name)


def _settings(operation: Layer) -> str:
    if isinstance(operation, keras.Operation):
        return json.dumps(described(operation).computes, sort_keys=True)
    return json.dumps(plain(keras.saving.serialize_keras_object(operation)), sort_keys=True)
