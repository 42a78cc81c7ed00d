"""Slices of tensors in a Keras 2 graph, as the operation that they are to Keras 3."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from convfc.formats.keras.internals import SLICE
from convfc.formats.keras.upgrades.graphs import graphs, references, tensor
from convfc.formats.keras.upgrades.tensorflow_calls import Config, Reference


def replace_slices(config: Config) -> bool:
    """A slice of a tensor is an operation to Keras 3, too, with the same key."""
    changed = False
    for graph in graphs(config):
        for layer in graph["layers"]:
            read = _SLICES.get(layer["class_name"])
            found = read(layer) if read and len(layer["inbound_nodes"]) == 1 else None
            if found is None:
                continue
            reference, key = found
            if _ELLIPSIS in key:
                axes = _axes_of(reference[0], graph)
                if axes is None:
                    continue
                key = _written_out(key, axes)
            call = {"args": [tensor(reference), key], "kwargs": {}}
            layer.update(SLICE, config={"name": layer["name"]}, inbound_nodes=[call])
            layer.pop("build_config", None)
            changed = True
    return changed


def slice_of(start: int | None, stop: int | None, step: int | None) -> Config:
    """A slice as Keras 3 writes one."""
    return {"class_name": "__slice__", "config": {"start": start, "stop": stop, "step": step}}


_ELLIPSIS: Config = {"class_name": "__ellipsis__", "config": {}}


def _read_key(layer: Config) -> tuple[Reference, list[Any]] | None:
    """From TF 2.4 on the key is given as Python has it, with dictionaries for its slices."""
    reference = layer["inbound_nodes"][0]
    given = reference[3] if len(reference) > 3 else {}
    key = given.get("slice_spec")
    if layer["config"].get("function") != "__operators__.getitem" or not isinstance(key, list):
        return None
    parts = [_part_of_key(item) for item in key]
    return None if _UNKNOWN in parts else (reference, parts)


def _part_of_key(item: Any) -> Any:
    """One index; `_UNKNOWN` if it is a tensor, or one of its ends is, or nobody knows what."""
    if not isinstance(item, dict):
        return item if item is None or type(item) is int else _UNKNOWN
    if item.get("class_name") == _ELLIPSIS["class_name"]:
        return _ELLIPSIS
    ends = [item.get(name) for name in _ENDS]
    told = item.keys() <= _ENDS.keys() and all(end is None or type(end) is int for end in ends)
    return slice_of(*ends) if told else _UNKNOWN


_ENDS = dict.fromkeys(("start", "stop", "step"))
_UNKNOWN = "unknown"


def _read_strides(layer: Config) -> tuple[Reference, list[Any]] | None:
    """Before, it was three lists of numbers, and masks with a bit for what is not in them."""
    node, constants = layer["config"]["node_def"], layer["config"]["constants"]
    if node["op"] != "StridedSlice" or set(constants) != {"1", "2", "3"}:
        return None
    masks = {name: int(value.get("i", 0)) for name, value in node["attr"].items()}

    def has(name: str, index: int) -> bool:
        return bool(masks.get(f"{name}_mask", 0) >> index & 1)

    key: list[Any] = []
    for index, (start, stop, step) in enumerate(zip(*(constants[i] for i in "123"), strict=True)):
        if has("ellipsis", index):
            key.append(_ELLIPSIS)
        elif has("new_axis", index):
            key.append(None)
        elif has("shrink_axis", index):
            key.append(start)
        else:
            first = None if has("begin", index) else start
            key.append(slice_of(first, None if has("end", index) else stop, step))
    return layer["inbound_nodes"][0][0], key


def _written_out(key: list[Any], axes: int) -> list[Any]:
    """A key with a slice for each axis in the place of its ellipsis, which no `.h5` can hold."""
    place = key.index(_ELLIPSIS)
    told = sum(item is not None for item in key) - 1
    return [*key[:place], *[slice_of(None, None, None)] * (axes - told), *key[place + 1 :]]


def _axes_of(name: str, graph: Config) -> int | None:
    """How many axes the output of a layer has, if its class, or those before it, tell that."""
    layers = {layer["name"]: layer for layer in graph["layers"]}
    gained = 0
    for _ in layers:
        layer = layers[name]
        kind, calls = layer["class_name"], layer["inbound_nodes"]
        if kind == "InputLayer":
            shape = layer["config"].get("batch_shape")
            return None if shape is None else len(shape) + gained
        if found := _OF_AXES.fullmatch(kind):
            return int(found[1]) + 2 + gained
        if kind == SLICE["class_name"]:
            gained += sum((item is None) - isinstance(item, int) for item in calls[0]["args"][1])
        elif kind not in _OF_ANY_AXES:
            return None
        if len(calls) != 1:  # each may be of other axes
            return None
        name = _first(calls)
    return None


def _first(calls: list[Any]) -> str:
    """The layer of the first tensor that a layer is called on."""
    if isinstance(calls[0], dict):
        name: str = calls[0]["args"][0]["config"]["keras_history"][0]
    else:
        name = next(references(calls))[0]
    return name


_OF_AXES = re.compile(
    r"(?:(?:Depthwise|Separable|)Conv|(?:Average|Max)Pooling|Cropping|SpatialDropout|UpSampling"
    r"|ZeroPadding)([123])D(?:Transpose)?"
)
"""Layers that are called after how many axes they take beside batch and channels."""
_OF_ANY_AXES = frozenset(
    (
        *("Activation", "BatchNormalization", "Dropout", "ELU", "LayerNormalization"),
        *("LeakyReLU", "Normalization", "PReLU", "ReLU", "Rescaling", "Softmax"),
        *("CenterCrop", "RandomContrast", "RandomFlip", "RandomRotation", "RandomZoom", "Resizing"),
    )
)
"""Layers whose output has the axes of their input."""

_SLICES: dict[str, Callable[[Config], tuple[Reference, list[Any]] | None]] = {
    "SlicingOpLambda": _read_key,
    "TensorFlowOpLayer": _read_strides,
}
