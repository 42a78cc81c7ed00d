"""How layers are put together: inputs, names, calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from convfc.formats.keras.upgrades.classes import objects

Config = dict[str, Any]


def make_inputs(config: Config) -> bool:
    """In Keras 2 the first layer of a Sequential could say what its input looks like."""
    changed = False
    for model in objects(config):
        if model["class_name"] != "Sequential" or not model["config"].get("layers"):
            continue
        stack = model["config"]["layers"]
        first = stack[0].get("config", {})
        if stack[0].get("class_name") == "InputLayer" or "batch_input_shape" not in first:
            continue
        dtype = first.get("input_dtype") or first.get("dtype") or "float32"
        if stack[0]["class_name"] == "Embedding":
            dtype = "int32" if "input_dtype" not in first else dtype
        stack.insert(
            0,
            {
                "class_name": "InputLayer",
                "module": "keras.layers",
                "registered_name": None,
                "config": {
                    "batch_shape": first["batch_input_shape"],
                    "dtype": dtype if isinstance(dtype, str) else "float32",
                    "name": f"{first['name']}_input",
                },
            },
        )
        changed = True
    return changed


def lacks_input(config: Config) -> bool:
    """Whether a Sequential does not say what its input looks like: Keras 2.2 forgot it at times."""
    inner = config["config"]
    if config["class_name"] != "Sequential" or inner.get("build_input_shape"):
        return False
    first = next(iter(inner.get("layers", [])), None)
    whole = ("InputLayer", "Functional", "Sequential")
    return first is not None and first["class_name"] not in whole


def rename_layers(config: Config) -> bool:
    """Keras 3 keeps '/' in names for paths."""
    given = [
        holder.get("name")
        for found in objects(config)
        # An operation of TensorFlow has one name in its graph and one as a layer.
        for holder in (found, found["config"])
        if isinstance(holder, dict)
    ]
    names = {name for name in given if isinstance(name, str)}
    taken = set(names)
    new_names = {}
    for name in sorted(name for name in names if "/" in name):
        new = name.replace("/", "_")
        while new in taken:
            new += "_"
        taken.add(new)
        new_names[name] = new

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: renamed(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [renamed(inner) for inner in value]
        return new_names.get(value, value) if isinstance(value, str) else value

    if new_names:
        config.update(renamed(config))
    return bool(new_names)


def graphs(config: Any) -> Iterator[Config]:
    """The configurations of all Functional models, outer ones first."""
    for found in objects(config):
        inner = found["config"]
        if isinstance(inner, dict) and {"layers", "input_layers", "output_layers"} <= set(inner):
            yield inner


def name_tensors(config: Config) -> bool:
    """In Keras 2 a call was a list of tensors, with arguments that could be tensors, too."""
    changed = False
    for graph in graphs(config):
        names = {layer["name"] for layer in graph["layers"]}
        for layer in graph["layers"]:
            for index, call in enumerate(layer["inbound_nodes"]):
                if not isinstance(call, list) or not all(
                    is_reference(ref) and len(ref) == 4 for ref in call
                ):
                    continue
                given = call[0][3]
                named = {
                    name: tensor(value) if is_reference(value) and value[0] in names else value
                    for name, value in given.items()
                }
                if named != given:
                    tensors = [tensor(ref) for ref in call]
                    args = tensors if len(tensors) == 1 else [tensors]
                    layer["inbound_nodes"][index] = {"args": args, "kwargs": named}
                    changed = True
    return changed


def tensor(reference: list[Any]) -> Config:
    """An output of a layer as Keras 3 mentions it, given how Keras 2 did."""
    history = {"shape": [None], "dtype": "float32", "keras_history": reference[:3]}
    return {"class_name": "__keras_tensor__", "config": history}


def count_calls(config: Config) -> bool:
    """In Keras 2 a nested model counted its own making as its first call.

    Keras 3 does so for a Functional model too, but only where it is an output of the outer one.
    """
    changed = False
    for graph in graphs(config):
        kinds = {layer["name"]: layer["class_name"] for layer in graph["layers"]}
        inner = [ref for layer in graph["layers"] for ref in references(layer["inbound_nodes"])]
        outer = list(references(graph["output_layers"]))
        for name, kind in kinds.items():
            if kind not in ("Functional", "Sequential"):
                continue
            calls = [ref for ref in (*inner, *outer) if ref[0] == name]
            first = min((ref[1] for ref in calls), default=0)
            for ref in calls:
                own = kind == "Functional" and any(ref is output for output in outer)
                changed |= first != own
                ref[1] += own - first
    return changed


def is_reference(value: Any) -> bool:
    """Whether it mentions a layer's output: [name, call, output, ..]."""
    return isinstance(value, list) and len(value) in (3, 4) and isinstance(value[0], str)


def references(nodes: Any) -> Iterator[list[Any]]:
    """Every mention of a layer's output, [name, call, output, ..], in a layer's calls."""
    if isinstance(nodes, list):
        if is_reference(nodes):
            yield nodes
            nodes = nodes[3:]
        for value in nodes:
            yield from references(value)
    elif isinstance(nodes, dict):
        for value in nodes.values():
            yield from references(value)


def unwrap_singles(config: Config) -> bool:
    """Keras 2 took a list of one tensor for that tensor."""
    changed = False
    for graph in graphs(config):
        for key in ("input_layers", "output_layers"):
            tensors = graph[key]
            if isinstance(tensors, list) and len(tensors) == 1 and isinstance(tensors[0], list):
                graph[key] = tensors[0]
                changed = True
    return changed
