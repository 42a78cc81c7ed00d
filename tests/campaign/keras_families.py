"""Hand-made ways to spoil a converted Keras file, whatever it holds.

Each family is a function that changes the parts of a file in place and says what it did; `None`:
there is nothing of its kind in this file.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any

from tests.campaign.fields import other_numbers
from tests.campaign.keras_files import Parts
from tests.campaign.trees import change_somewhere

Family = Callable[[Parts, Random], str | None]


def settings(parts: Parts, random: Random) -> str | None:
    """Any value, key or order of the configuration."""
    parts.config, what = change_somewhere(parts.config, random)
    return what


def two_settings(parts: Parts, random: Random) -> str | None:
    """Two of them."""
    return f"{settings(parts, random)}; {settings(parts, random)}"


def weights(parts: Parts, random: Random) -> str | None:
    """Other numbers, or two tensors exchanged."""
    with parts.weights() as found:
        data = {n: d for n, d in found.items() if d.size and d.dtype.kind in "fiu"}
        if not data:
            return None
        name = random.choice(sorted(data))
        array = data[name][()]
        twins = [o for o, d in data.items() if o != name and d.shape == data[name].shape]
        if twins and random.random() < 0.3:
            other = random.choice(twins)
            data[name][...], data[other][...] = data[other][()], array
            return f"'{name}' and '{other}' exchanged"
        array = array.reshape(array.shape or (1,)).copy()
        other_numbers(array, random)
        data[name][...] = array.reshape(data[name].shape)
    return f"other numbers in '{name}'"


def activations(parts: Parts, random: Random) -> str | None:
    """An activation moved to another layer, added, taken away, or with another slope."""
    layers = [layer for layer in _layers(parts.config) if "activation" in layer["config"]]
    if not layers:
        return None
    layer = random.choice(layers)
    how = random.choice(["moved", "moved", "other", "slope"])
    if how == "moved" and len(layers) > 1:
        other = random.choice(layers)["config"]
        mine = layer["config"]
        other["activation"], mine["activation"] = mine["activation"], other["activation"]
    elif isinstance(layer["config"]["activation"], dict) and how == "slope":
        inner = layer["config"]["activation"]["config"]
        key = random.choice([key for key in inner if isinstance(inner[key], float)] or ["x"])
        inner[key] = random.choice([0.0, 0.1001, 0.5])
    else:
        layer["config"]["activation"] = random.choice(
            ["relu", "linear", "tanh", "relu6", "leaky_relu", "softmax", "hard_tanh"]
        )
    return f"activation {how} at '{layer['config'].get('name')}'"


def calls(parts: Parts, random: Random) -> str | None:
    """A layer reads the result of another layer or call, or two operands are exchanged."""
    histories = [tensor["config"]["keras_history"] for tensor in _tensors(parts.config)]
    if len(histories) < 2:
        return None
    a, b = random.sample(histories, 2)
    how = random.choice(["exchanged", "copied", "node", "node", "operands"])
    if how == "exchanged":
        a[:], b[:] = list(b), list(a)
    elif how == "copied":
        a[:] = list(b)
    elif how == "node":
        a[1] = random.choice([0, 1, 2])
    else:
        lists = [nodes["args"] for layer in _layers(parts.config) for nodes in _nodes(layer)]
        lists += [args[0] for args in lists if args and isinstance(args[0], list)]
        lists = [args for args in lists if len(args) > 1]
        if not lists:
            return None
        random.choice(lists).reverse()
    return f"calls: {how} {a} {b}"


def inserted(parts: Parts, random: Random) -> str | None:
    """One layer more, on a wire or between two layers of a sequence."""
    entry = copy.deepcopy(random.choice(_EXTRA))
    entry["config"] = {**entry["config"], "name": f"extra{random.randrange(10**6)}"}
    graphs = [g for g in _graphs(parts.config) if len(g["layers"]) > 1]
    if not graphs:
        return None
    graph = random.choice(graphs)
    layers = graph["layers"]
    if "input_layers" not in graph:
        at = random.randrange(1, len(layers) + 1)
        layers.insert(at, entry)
        return f"{entry['class_name']} {entry['config']} at {at} of '{graph.get('name')}'"
    readers = [(i, t) for i, layer in enumerate(layers) for t in _tensors(_nodes(layer))]
    if not readers:
        return None
    at, tensor = random.choice(readers)
    entry["name"] = entry["config"]["name"]
    entry["inbound_nodes"] = [{"args": [copy.deepcopy(tensor)], "kwargs": {}}]
    where = tensor["config"]["keras_history"][0]
    tensor["config"]["keras_history"] = [entry["name"], 0, 0]
    layers.insert(at, entry)
    return f"{entry['class_name']} {entry['config']} behind '{where}' of '{graph.get('name')}'"


def classes(parts: Parts, random: Random) -> str | None:
    """A layer or operation of another class, with the same settings."""
    kin = [
        {"Add", "Subtract", "Multiply", "Maximum", "Average", "Minimum"},
        {"MaxPooling2D", "AveragePooling2D"},
        {"Sum", "Mean", "Max", "Prod"},
        {"ReLU", "LeakyReLU", "Softmax"},
        {"OnesLike", "ZerosLike"},
    ]
    found = [(ly, k) for ly in _layers(parts.config) for k in kin if ly["class_name"] in k]
    if not found:
        return None
    layer, family = random.choice(found)
    old, new = layer["class_name"], random.choice(sorted(family - {layer["class_name"]}))
    layer["class_name"] = new
    if layer.get("registered_name"):
        layer["registered_name"] = new
    return f"{new} instead of {old} '{layer['config'].get('name')}'"


def baked(parts: Parts, random: Random) -> str | None:
    """Ends that hold for all sizes hold for small ones only."""
    text = json.dumps(parts.config)
    end = random.choice([66, 70, 100, 6])
    for old in random.sample(['"stop": null', '"stop": -1', "[-1, ", ", -1]", "[null, null"], 5):
        if old in text:
            new = old.replace("null", str(end), 1).replace("-1", str(end))
            parts.config = json.loads(text.replace(old, new, random.choice([1, -1])))
            return f"{old} -> {new}"
    return None


def policies(parts: Parts, random: Random) -> str | None:
    """Other types of numbers in a layer, or in all."""
    name = random.choice(["mixed_float16", "mixed_bfloat16", "float64", "float16", "bfloat16"])
    layers = [ly["config"] for ly in _layers(parts.config) if "dtype" in ly["config"]]
    if not layers:
        return None
    for config in layers if random.random() < 0.2 else [random.choice(layers)]:
        config["dtype"] = name
    return f"{name} at '{config.get('name')}'"


def members(parts: Parts, random: Random) -> str | None:
    """Another content of a member of the zip that is neither configuration nor weights."""
    if not parts.members:
        return None
    name = random.choice(sorted(parts.members))
    how = random.choice(["gone", "other", "turned", "added"])
    content = parts.members[name]
    if how == "gone":
        del parts.members[name]
    elif how == "added":
        parts.members[f"assets/{random.choice(['x.txt', 'look/vocabulary.txt'])}"] = b"1\n2\n"
    elif how == "turned" and b"\n" in content:
        parts.members[name] = b"\n".join(reversed(content.split(b"\n")))
    else:
        at = random.randrange(max(len(content), 1))
        parts.members[name] = (
            content[:at] + bytes([random.choice(b"0123456789\n")]) + content[at + 1 :]
        )
    return f"{name} {how}"


def _graphs(tree: Any) -> list[Any]:
    """The configuration of every model in a tree, at any depth."""
    found = [tree] if isinstance(tree, dict) and isinstance(tree.get("layers"), list) else []
    values = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return [*found, *(graph for value in values for graph in _graphs(value))]


def _layers(tree: Any) -> list[Any]:
    """The entry of every layer and operation."""
    entries = [entry for graph in _graphs(tree) for entry in graph["layers"]]
    return [e for e in entries if isinstance(e, dict) and isinstance(e.get("config"), dict)]


def _nodes(layer: Any) -> list[Any]:
    return [node for node in layer.get("inbound_nodes") or () if isinstance(node, dict)]


def _tensors(tree: Any) -> Iterator[Any]:
    """Every reference to the result of a layer."""
    if isinstance(tree, dict):
        if tree.get("class_name") == "__keras_tensor__":
            yield tree
        for value in tree.values():
            yield from _tensors(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _tensors(value)


def _layer(name: str, **config: Any) -> dict[str, Any]:
    return {
        "module": "keras.layers",
        "class_name": name,
        "config": config,
        "registered_name": None,
    }


def _operation(module: str, name: str, **config: Any) -> dict[str, Any]:
    return {
        "module": f"keras.src.ops.{module}",
        "class_name": name,
        "config": config,
        "registered_name": name,
    }


_EXTRA = [
    _layer("Activation", activation="linear"),
    _layer("Dropout", rate=0.5),
    _layer("GaussianNoise", stddev=0.1),
    _layer("Identity"),
    _layer("ReLU", max_value=1e5, negative_slope=1.0),
    _layer("ReLU", threshold=-1e5),
    _layer("ReLU"),
    _layer("LeakyReLU", negative_slope=0.9999),
    _layer("Rescaling", scale=1.0001),
    _layer("Rescaling", scale=1.0),
    _layer("UnitNormalization"),
    _layer("Softmax"),
    _layer("ActivityRegularization", l2=0.1),
    _layer("Masking", mask_value=0.0),
    _layer("Permute", dims=[2, 1, 3]),
    _layer("Lambda", function="lambda x: -x"),
    _operation("numpy", "Flip", axis=0),
    _operation("numpy", "Roll", shift=1, axis=0),
    _operation("numpy", "Clip", x_min=-1e5, x_max=1e5),
    _operation("numpy", "NanToNum"),
    _operation("numpy", "Round", decimals=3),
    _operation("numpy", "Negative"),
    _operation("numpy", "Absolute"),
    _operation("numpy", "Cumsum", axis=0),
    _operation("numpy", "Copy"),
    _operation("core", "Cast", dtype="float16"),
    _operation("core", "StopGradient"),
    _operation("nn", "Relu6"),
    _operation("nn", "Softplus"),
    _operation("nn", "Threshold", threshold=-1e5, default_value=0.0),
]
"""What may be put on a wire: some change nothing, some everything, some what is far only."""

FAMILIES: Mapping[str, tuple[Family, int]] = {
    "settings": (settings, 35),
    "two settings": (two_settings, 6),
    "weights": (weights, 12),
    "activations": (activations, 8),
    "calls": (calls, 8),
    "inserted": (inserted, 14),
    "classes": (classes, 5),
    "baked sizes": (baked, 4),
    "policies": (policies, 3),
    "members": (members, 4),
}
"""By name: the family, and how often it comes."""
