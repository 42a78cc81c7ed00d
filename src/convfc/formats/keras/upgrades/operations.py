"""TensorFlow operations that stood in a Keras 2 graph, where a stock layer says the same.

TF 2.0 to 2.3 wrote a `TensorFlowOpLayer` with a node of a TensorFlow graph and its constants;
later versions wrote a `TFOpLambda` with the name of a Python function and its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from convfc.formats.keras.internals import SLICE
from convfc.formats.keras.upgrades.graphs import graphs, is_reference, tensor

Config = dict[str, Any]
Reference = list[Any]


class Call(NamedTuple):
    """An operation: what it is, what it works on in this order, and how."""

    name: str
    operands: list[Any]
    options: Mapping[str, Any]

    @property
    def tensors(self) -> list[Reference]:
        """The operands that are outputs of layers."""
        return [operand for operand in self.operands if is_reference(operand)]

    def says_only(self, *names: str) -> bool:
        """Whether no other option says anything; types and counts go without saying."""
        rest = {name: value for name, value in self.options.items() if name not in names}
        return all(value is None or name[0] in "TN_" for name, value in rest.items())


class Stock(NamedTuple):
    """A stock layer for it, called with all tensors among the operands."""

    kind: str
    config: Config


def replace_operations(config: Config) -> bool:
    """Replace what has a stock layer; Keras refuses the rest by its class."""
    changed = False
    for graph in graphs(config):
        for layer in graph["layers"]:
            if len(layer["inbound_nodes"]) != 1:
                continue
            read = _READERS.get(layer["class_name"])
            call = read(layer) if read else None
            make = _LAYERS.get(call.name) if call else None
            stock = make(call) if make and call else None
            if stock is None or call is None:
                continue
            kept = {key: layer["config"][key] for key in ("trainable", "dtype")}
            layer.update(
                class_name=stock.kind,
                module="keras.layers",
                registered_name=None,
                config={"name": layer["name"], **kept, **stock.config},
                inbound_nodes=[[[*ref[:3], {}] for ref in call.tensors]],
            )
            layer.pop("build_config", None)
            changed = True
    return changed


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
            call = {"args": [tensor(reference), key], "kwargs": {}}
            layer.update(SLICE, config={"name": layer["name"]}, inbound_nodes=[call])
            layer.pop("build_config", None)
            changed = True
    return changed


def _slice(start: int | None, stop: int | None, step: int | None) -> Config:
    return {"class_name": "__slice__", "config": {"start": start, "stop": stop, "step": step}}


def _read_key(layer: Config) -> tuple[Reference, list[Any]] | None:
    """From TF 2.4 on the key is given as Python has it, with dictionaries for its slices."""
    reference = layer["inbound_nodes"][0]
    given = reference[3] if len(reference) > 3 else {}
    key = given.get("slice_spec")
    if layer["config"].get("function") != "__operators__.getitem" or not isinstance(key, list):
        return None
    if any(is_reference(item) for item in key):  # an index that is a tensor
        return None
    return reference, [_slice(**item) if isinstance(item, dict) else item for item in key]


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
            key.append({"class_name": "__ellipsis__", "config": {}})
        elif has("new_axis", index):
            key.append(None)
        elif has("shrink_axis", index):
            key.append(start)
        else:
            first = None if has("begin", index) else start
            key.append(_slice(first, None if has("end", index) else stop, step))
    return layer["inbound_nodes"][0][0], key


_SLICES: dict[str, Callable[[Config], tuple[Reference, list[Any]] | None]] = {
    "SlicingOpLambda": _read_key,
    "TensorFlowOpLayer": _read_strides,
}


def left_over(config: Config) -> list[tuple[str, str]]:
    """Operations without a stock layer: the names of their layers, and what they are."""
    return [
        (layer["name"], layer["config"].get("function") or layer["class_name"])
        for graph in graphs(config)
        for layer in graph["layers"]
        if layer["class_name"] in (*_READERS, *_UNREADABLE)
    ]


def _read_node(layer: Config) -> Call | None:
    node = layer["config"]["node_def"]
    constants = {int(index): value for index, value in layer["config"]["constants"].items()}
    tensors = iter(layer["inbound_nodes"][0])
    count = len(node["input"])
    operands = [constants[i] if i in constants else next(tensors, None) for i in range(count)]
    options = {name: next(iter(value.values())) for name, value in node.get("attr", {}).items()}
    name = node["op"]
    if name == "ConcatV2":
        options["axis"] = operands.pop()
    elif name in _NODE_OPTIONS:
        options[_NODE_OPTIONS[name]] = operands.pop()
    return Call(_NODES.get(name, name), operands, options)


def _read_function(layer: Config) -> Call | None:
    node = layer["inbound_nodes"][0]
    name = layer["config"]["function"].rsplit(".", 1)[-1]
    if isinstance(node[0], list):  # a list of tensors
        return Call(name, [ref[:3] for ref in node], node[0][3] if len(node[0]) > 3 else {})
    options = dict(node[3]) if len(node) > 3 else {}
    first = node[2] if node[0] == "_CONSTANT_VALUE" else node[:3]
    second = [options.pop("y")] if "y" in options else []
    return Call(name, [first, *second], options)


_READERS: dict[str, Callable[[Config], Call | None]] = {
    "TensorFlowOpLayer": _read_node,
    "TFOpLambda": _read_function,
}

_UNREADABLE = ("SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty")

_NODES = {
    "Mul": "multiply",
    "Add": "add",
    "AddV2": "add",
    "Sub": "subtract",
    "RealDiv": "truediv",
    "Maximum": "maximum",
    "Minimum": "minimum",
    "Relu": "relu",
    "Relu6": "relu6",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Softmax": "softmax",
    "Elu": "elu",
    "Selu": "selu",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "LeakyRelu": "leaky_relu",
    "Max": "reduce_max",
    "ResizeBilinear": "resize",
    "ConcatV2": "concat",
    "Mean": "reduce_mean",
    "Pad": "pad",
    "Transpose": "transpose",
    "Reshape": "reshape",
}
"""TensorFlow's nodes and its Python functions of the same meaning."""

_NODE_OPTIONS = {
    "Mean": "axis",
    "Max": "axis",
    "Pad": "paddings",
    "Transpose": "perm",
    "Reshape": "shape",
    "ResizeBilinear": "size",
}


def _scaled(scale: Any, offset: Any) -> Stock:
    return Stock("Rescaling", {"scale": scale, "offset": offset})


def _binary(kind: str | None, scaled: Callable[[float, bool], Stock | None]) -> Any:
    """A merging layer for two tensors, or a scaling for a tensor and a number."""

    def make(call: Call) -> Stock | None:
        plain = len(call.operands) == 2 and call.says_only()
        first, second = call.operands if plain else (None, None)
        if is_reference(first) and is_reference(second):
            return Stock(kind, {}) if kind else None
        number, leads = (second, False) if is_reference(first) else (first, True)
        return scaled(number, leads) if isinstance(number, (int, float)) else None

    return make


def _activation(call: Call) -> Stock | None:
    plain = call.says_only("axis") and call.options.get("axis") in (None, -1)
    plain &= len(call.operands) == 1
    return Stock("Activation", {"activation": call.name}) if plain else None


_ACTIVATIONS = (
    *("relu", "relu6", "elu", "selu", "silu", "swish"),
    *("sigmoid", "tanh", "softmax", "softplus", "softsign"),
)


def _leaky_relu(call: Call) -> Stock | None:
    slope = call.options.get("alpha", 0.2)
    return Stock("LeakyReLU", {"negative_slope": slope}) if call.says_only("alpha") else None


def _clip(call: Call) -> Stock | None:
    low, high = (call.options.get(f"clip_value_{end}") for end in ("min", "max"))
    fits = low == 0 and isinstance(high, (int, float))
    return Stock("ReLU", {"max_value": high}) if fits else None


def _resize(call: Call) -> Stock | None:
    size, method = call.options.get("size"), call.options.get("method") or "bilinear"
    if not isinstance(size, list) or method not in ("bilinear", "nearest"):
        return None
    if any(call.options.get(name) for name in _OTHER_RESIZING):
        return None
    if not call.options.get("half_pixel_centers", True):
        return None
    config = {"height": size[0], "width": size[1], "interpolation": method}
    return Stock("Resizing", {**config, "data_format": "channels_last"})


_OTHER_RESIZING = ("preserve_aspect_ratio", "antialias", "align_corners")


def _concat(call: Call) -> Stock | None:
    return Stock("Concatenate", {"axis": call.options.get("axis", -1)})


def _pooling(kind: str) -> Callable[[Call], Stock | None]:
    """A reduction over all spatial axes."""

    def make(call: Call) -> Stock | None:
        axes = call.options.get("axis")
        kept = bool(call.options.get("keepdims") or call.options.get("keep_dims"))
        for rank in (1, 2, 3):
            for data_format, start in (("channels_last", 1), ("channels_first", 2)):
                if axes == [*range(start, start + rank)]:
                    config = {"data_format": data_format, "keepdims": kept}
                    return Stock(f"Global{kind}Pooling{rank}D", config)
        return None

    return make


def _pad(call: Call) -> Stock | None:
    pads = call.options.get("paddings")
    zeros = call.options.get("mode", "CONSTANT") == "CONSTANT"
    zeros &= not call.options.get("constant_values")
    if not zeros or not isinstance(pads, list) or not 3 <= len(pads) <= 5:
        return None
    if any(pads[0]) or any(pads[-1]):
        return None
    inner = pads[1:-1]
    padding = inner[0] if len(inner) == 1 else inner
    config = {"padding": padding, "data_format": "channels_last"}
    return Stock(f"ZeroPadding{len(inner)}D", config)


def _transpose(call: Call) -> Stock | None:
    order = call.options.get("perm")
    fits = isinstance(order, list) and order[0] == 0 and not call.options.get("conjugate")
    return Stock("Permute", {"dims": order[1:]}) if fits and order else None


def _reshape(call: Call) -> Stock | None:
    shape = call.options.get("shape")
    fits = isinstance(shape, list) and shape[0] == -1
    return Stock("Reshape", {"target_shape": shape[1:]}) if fits and shape else None


_LAYERS: dict[str, Callable[[Call], Stock | None]] = {
    "multiply": _binary("Multiply", lambda c, _: _scaled(c, 0.0)),
    "add": _binary("Add", lambda c, _: _scaled(1.0, c)),
    "subtract": _binary(
        "Subtract", lambda c, leads: _scaled(-1.0, c) if leads else _scaled(1.0, -c)
    ),
    "truediv": _binary(None, lambda c, leads: None if leads else _scaled(1 / c, 0.0)),
    "maximum": _binary("Maximum", lambda c, _: Stock("ReLU", {}) if c == 0 else None),
    "minimum": _binary(
        "Minimum",
        lambda c, _: Stock("ReLU", {"max_value": c, "negative_slope": 1.0}) if c >= 0 else None,
    ),
    **dict.fromkeys(_ACTIVATIONS, _activation),
    "leaky_relu": _leaky_relu,
    "clip_by_value": _clip,
    "concat": _concat,
    "reduce_mean": _pooling("Average"),
    "reduce_max": _pooling("Max"),
    "resize": _resize,
    "pad": _pad,
    "transpose": _transpose,
    "reshape": _reshape,
}
"""By the name of TensorFlow's Python function."""
