"""What two Keras operations have in common: their class, settings and state; what a call gives."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from inspect import signature
from types import FunctionType
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from convfc.core.arrays import array_difference
from convfc.formats.keras.internals import flat_layers
from convfc.system.atomic import temporary_folder

Operation = Any
"""A `keras.Operation`: mostly a `keras.Layer`, or a `keras.Model`; keras has no types."""
Settings = dict[str, Any]

_TRAINING_ENDINGS = ("_initializer", "_regularizer", "_constraint")
"""What the numbers of a layer start from and are held to while it trains; they come from a file."""

_DROPS = frozenset({"dropout", "recurrent_dropout", "seed"})
_RATE = frozenset({"rate", "seed", "noise_shape"})
_TRAINING: Mapping[str, frozenset[str]] = {
    "ActivityRegularization": frozenset({"l1", "l2"}),
    "AdditiveAttention": _DROPS,
    "AlphaDropout": _RATE,
    "Attention": _DROPS,
    "BatchNormalization": frozenset({"momentum", "synchronized"}),
    "Dropout": _RATE,
    "GaussianDropout": _RATE,
    "GaussianNoise": frozenset({"stddev", "seed"}),
    "MultiHeadAttention": _DROPS,
    "SpatialDropout1D": _RATE,
    "SpatialDropout2D": _RATE,
    "SpatialDropout3D": _RATE,
    **dict.fromkeys(("SimpleRNN", "GRU", "LSTM", "SimpleRNNCell", "GRUCell", "LSTMCell"), _DROPS),
    **dict.fromkeys(("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"), _DROPS),
}
"""Settings of stock layers that do nothing unless they are called with training=True."""

_WRAPPED = ("layer", "backward_layer", "cell")
"""Settings of stock layers that are layers with weights in the file.

Not the activations: Keras does not always save the weights of a layer that is an activation, and
then its initializer decides what it computes.
"""


@dataclass(frozen=True)
class Described:
    """An operation's settings.

    Attributes:
        computes: those that decide what it computes when it is called; its own name left out.
        trains: those that matter to training only.
        built: the shapes that it was built for.
    """

    computes: Settings
    trains: Settings
    built: Settings


def described(operation: Operation, without: frozenset[str] = frozenset()) -> Described:
    """The settings of an operation, as plain data.

    Args:
        operation: no model; those are compared layer by layer.
        without: settings to leave out.
    """
    whole = plain(keras.saving.serialize_keras_object(operation))
    config = {key: value for key, value in whole["config"].items() if key not in without}
    config.pop("name", None)
    trains: Settings = {}
    computes = _split({**whole, "config": config}, "", trains)
    built = computes.pop("build_config", None) or {}
    # What an activation was built for is told by its numbers, and may be built at a call only.
    computes = lacking(computes, "build_config")
    if isinstance(operation, keras.Layer):
        every = [operation] if without else flat_layers(operation)
        computes["attributes"] = [plain(_attributes(layer)) for layer in every]
    return Described(computes, trains, built)


def _attributes(layer: Operation) -> Settings:
    """What a layer has of its constructor's arguments, and of functions.

    Not all that a file can set comes back out of a layer: Keras leaves out whether it casts what it
    is fed, and tells of a function of its own, such as `keras.ops.gelu`, no more than the name,
    which may be that of another one.
    """
    kind: type[Any] = type(layer)
    arguments = _arguments(kind) if kind.__module__.startswith("keras.") else ()
    found: Settings = {}
    for key, value in vars(layer).items():
        if isinstance(value, FunctionType):
            found[key] = told(value)
        elif key in arguments and not _trains(kind.__name__, key):
            items = value if isinstance(value, list | tuple) else [value]
            if all(isinstance(item, bool | int | float | str | None) for item in items):
                found[key] = list(value) if isinstance(value, list | tuple) else value
    return found


def _arguments(kind: type[Any]) -> Set[str]:
    """The names of all that a class and those it is derived from are made of, but for its own."""
    makers = (vars(base).get("__init__") for base in kind.__mro__[:-1])
    names = {name for make in makers if make is not None for name in signature(make).parameters}
    return names - {"name"}


def told(function: Any) -> str:
    """Which function it is."""
    return f"{function.__module__}.{function.__qualname__}"


def plain(config: Any) -> Any:
    """A configuration as JSON has it, without what Keras numbers anew."""

    def listed(value: Any) -> Any:
        return value.tolist() if isinstance(value, np.generic | np.ndarray) else repr(value)

    return lacking(json.loads(json.dumps(config, default=listed)), "shared_object_id")


def lacking(config: Any, name: str) -> Any:
    """Plain data without one key, at any depth."""
    if isinstance(config, dict):
        return {key: lacking(value, name) for key, value in config.items() if key != name}
    return [lacking(item, name) for item in config] if isinstance(config, list) else config


def _split(whole: Settings, where: str, trains: Settings) -> Settings:
    """A serialized layer without what matters to training only, which goes to `trains`."""
    if not str(whole.get("module", "")).startswith("keras."):
        return whole  # nobody knows what a custom layer takes its settings for
    config = {}
    for key, value in whole["config"].items():
        if _trains(str(whole["class_name"]), key):
            trains[f"{where}{key}"] = value
        elif key in _WRAPPED and isinstance(value, dict) and isinstance(value.get("config"), dict):
            config[key] = _split(value, f"{where}{key}.", trains)
        else:
            config[key] = value
    return {**whole, "config": config}


def _trains(kind: str, key: str) -> bool:
    """Whether a setting of a stock layer matters to training only."""
    own = _TRAINING.get(kind, frozenset())
    return key == "trainable" or key in own or key.endswith(_TRAINING_ENDINGS)


def first_unlike(old: Any, new: Any, where: str = "") -> str | None:
    """The first difference of plain data, in words; ``None``: they are the same."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        pairs = [(key, old.get(key), new.get(key)) for key in keys]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(index, *pair) for index, pair in enumerate(zip(old, new, strict=True))]
    elif repr(old) == repr(new):
        return None
    else:
        return (
            f"{where.removeprefix('config.') or 'settings'} became {_brief(new)}, was {_brief(old)}"
        )
    found = (first_unlike(a, b, f"{where}.{key}" if where else str(key)) for key, a, b in pairs)
    return next((words for words in found if words is not None), None)


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def activation_weights(layer: Operation) -> list[Any]:
    """The weights of a layer that is its activation, such as a PReLU; they come at a call."""
    return list(getattr(getattr(layer, "activation", None), "weights", ()))


def weights_of(layer: Operation) -> list[Any]:
    """Its weights, but for those of an activation."""
    others = activation_weights(layer)
    return [weight for weight in getattr(layer, "weights", ()) if id(weight) not in map(id, others)]


def state(layer: Operation) -> Iterator[tuple[str, NDArray[Any]]]:
    """All that Keras saves of a layer beside its settings: numbers by name, and files as bytes.

    What random numbers go on from is not among it: at inference nothing is drawn.
    """
    if not isinstance(layer, keras.Layer):
        return
    for weight in (*weights_of(layer), *activation_weights(layer)):
        yield weight.name, np.asarray(weight)
    weights = set(map(id, layer.weights))
    for inner in flat_layers(layer):
        yield from _saved(inner, weights)
        if hasattr(inner, "save_assets"):
            yield from _assets(inner)


def _saved(layer: Operation, weights: Set[int]) -> Iterator[tuple[str, NDArray[Any]]]:
    """What it saves that is none of its weights."""
    store: dict[str, Any] = {}
    try:
        layer.save_own_variables(store)
    except Exception:  # a custom layer may want another kind of store
        return
    for key, value in store.items():
        if id(value) not in weights:
            yield key, np.asarray(keras.ops.convert_to_numpy(value))


def _assets(layer: Operation) -> Iterator[tuple[str, NDArray[Any]]]:
    with temporary_folder() as folder:
        layer.save_assets(str(folder))
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                yield (
                    file.relative_to(folder).as_posix(),
                    np.frombuffer(file.read_bytes(), np.uint8),
                )


def state_unlike(old: Operation, new: Operation) -> str | None:
    """The first number or file that two layers of the same settings do not share, in words."""
    before, after = state(old), state(new)
    while True:
        a, b = next(before, None), next(after, None)
        if a is None and b is None:
            return None
        if a is None or b is None:
            return "it holds more or fewer numbers"
        difference = array_difference(a[1], b[1])
        if difference is not None:
            return f"its {a[0]} {difference}"


def spread(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested arguments, each with its path; one of constants is comparable as such.

    Tensors of a graph are leaves as they are; arrays become their bytes.
    """
    if isinstance(value, slice):
        value = {"start": value.start, "stop": value.stop, "step": value.step}
    if isinstance(value, dict):
        value = {f".{key}": item for key, item in value.items()}
    elif isinstance(value, list | tuple):
        value = {f"[{index}]": item for index, item in enumerate(value)}
    if isinstance(value, dict):
        if not value:
            yield where, "nothing"
        for key in sorted(value):
            yield from spread(value[key], where + key)
    elif isinstance(value, keras.KerasTensor):
        yield where, value
    elif isinstance(value, bool | int | float | complex | str | bytes | None):
        yield where, (type(value).__name__, repr(value))
    elif hasattr(value, "__array__"):
        array = np.asarray(keras.ops.convert_to_numpy(value))
        yield where, (str(array.dtype), array.shape, array.tobytes())
    else:
        yield where, json.dumps(plain(keras.saving.serialize_keras_object(value)))


def emitted_unlike(old: Operation, new: Operation) -> str | None:
    """How an operation that convfc would emit and one in its place differ; ``None``: not at all.

    The numbers of their weights are not looked at, but for those of an activation.
    """
    if type(old) is not type(new):
        return f"is a {type(new).__name__}, not a {type(old).__name__}"
    if isinstance(old, keras.Model):
        return "is a model"
    ours, theirs = described(old), described(new)
    words = first_unlike(ours.computes, theirs.computes)
    if words is not None:
        return f"has other settings: {words}"
    words = first_unlike(ours.built, theirs.built)
    if words is not None:
        return f"was built for other shapes: {words}"
    shapes = [
        [(tuple(weight.shape), str(weight.dtype)) for weight in weights_of(layer)]
        for layer in (old, new)
    ]
    if shapes[0] != shapes[1]:
        return "has weights of other shapes"
    words = _activation_unlike(old, new)
    return None if words is None else f"has an activation that {words}"


def _activation_unlike(old: Operation, new: Operation) -> str | None:
    """How the numbers of an activation differ, such as those of a PReLU; ``None``: they do not."""
    before, after = (
        [np.asarray(weight) for weight in activation_weights(layer)] for layer in (old, new)
    )
    if len(before) != len(after):
        return f"has {len(after)} weights, not {len(before)}"
    found = (array_difference(a, b) for a, b in zip(before, after, strict=True))
    return next((words for words in found if words is not None), None)
