"""TensorFlow operations that stood in a Keras 2 graph, where Keras 3 says the same.

TF 2.0 to 2.3 wrote a `TensorFlowOpLayer` with a node of a TensorFlow graph and its constants;
later versions wrote a `TFOpLambda` with the name of a Python function and its arguments.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from convfc.formats.keras.internals import OPERATIONS, SLICE
from convfc.formats.keras.upgrades.classes import arguments
from convfc.formats.keras.upgrades.graphs import graphs, is_reference, references, tensor
from convfc.formats.keras.upgrades.slices import slice_of
from convfc.formats.keras.upgrades.tensorflow_calls import Call, Config, Operation, Reference, Stock
from convfc.formats.keras.upgrades.tensorflow_layers import stock_layer
from convfc.formats.keras.upgrades.tensorflow_operations import operation_of


def replace_operations(config: Config) -> bool:
    """Replace what has a stock layer, or else an operation of Keras; it refuses the rest."""
    changed, masks = False, _makes_masks(config)
    for graph in graphs(config):
        for layer in list(graph["layers"]):
            if len(layer["inbound_nodes"]) != 1:
                continue
            read = _READERS.get(layer["class_name"])
            call = read(layer) if read else None
            made = _stand_in(call, config) if call else None
            if made is None or call is None:
                continue
            name = {"name": layer["name"]}
            if isinstance(made, Stock):
                kept = {key: layer["config"][key] for key in ("trainable", "dtype")}
                given = _unmasked(call.tensors, graph, layer["name"]) if masks else call.tensors
                layer.update(
                    class_name=made.kind,
                    module="keras.layers",
                    registered_name=None,
                    config={**name, **kept, **made.config},
                    inbound_nodes=[[[*ref[:3], {}] for ref in given]],
                )
            else:
                layer.update(
                    class_name=made.kind,
                    module=OPERATIONS[made.kind],
                    registered_name=made.kind,
                    config={**name, **made.config},
                    inbound_nodes=[{"args": _mentioned(made.given), "kwargs": {}}],
                )
            layer.pop("build_config", None)
            changed = True
    return changed


def _stand_in(call: Call, config: Config) -> Stock | Operation | None:
    """What stands for a call; a layer before an operation.

    The file does not say of what rank a tensor is: a mean over the axes 1 to 3 is that of all
    numbers of an image, unless videos or volumes come in, for which there is a layer.
    """
    layer = stock_layer(call)
    if layer is not None and layer.kind.endswith("Pooling3D") and not _takes_volumes(config):
        return operation_of(call) or layer
    return layer or operation_of(call)


def _takes_volumes(config: Config) -> bool:
    """Whether it does, or may."""
    shapes = (given.get("batch_shape") for kind, given in arguments(config) if kind == "InputLayer")
    return any(shape is None or len(shape) == 5 for shape in shapes)


def _makes_masks(config: Config) -> bool:
    return any(kind == "Masking" or given.get("mask_zero") for kind, given in arguments(config))


def _unmasked(tensors: list[Reference], graph: Config, reader: str) -> list[Reference]:
    """Tensors without their masks, which ended at an operation of TensorFlow.

    A stock layer would hand a mask on, or heed it: each is read through a slice of all of it.
    """
    taken = {layer["name"] for layer in graph["layers"]}
    found: list[Reference] = []
    for reference in tensors:
        name = f"{reader}_unmasked"
        while name in taken:
            name += "_"
        taken.add(name)
        call = {"args": [tensor(reference), [slice_of(None, None, None)]], "kwargs": {}}
        slicing = {**SLICE, "name": name, "config": {"name": name}, "inbound_nodes": [call]}
        graph["layers"].append(slicing)
        found.append([name, 0, 0])
    return found


def _mentioned(given: list[Any]) -> list[Any]:
    """Arguments as Keras 3 writes them, outputs of layers among them."""
    return [
        tensor(x) if is_reference(x) else _mentioned(x) if isinstance(x, list) else x for x in given
    ]


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
    if not isinstance(node, dict):  # bytes of the node
        return None
    constants = {int(index): value for index, value in layer["config"]["constants"].items()}
    tensors = iter(layer["inbound_nodes"][0])
    count = len(node["input"])
    operands = [constants[i] if i in constants else next(tensors, None) for i in range(count)]
    options = {name: _attribute(value) for name, value in node.get("attr", {}).items()}
    name = str(node["op"])
    if name == "Split":  # its axis comes first
        options["axis"] = operands.pop(0)
    elif name == "SplitV":
        options["axis"] = operands.pop()
        options["num_split"] = operands.pop()
    for option in reversed(_NODE_OPTIONS.get(name, ())):
        options[option] = operands.pop()
    options = {_ATTRIBUTES.get((name, key), key): value for key, value in options.items()}
    if name.startswith("Resize"):  # what a node does not say is false
        options.setdefault("half_pixel_centers", False)
    if name == "ResizeNearestNeighbor":
        options["method"] = "nearest"
    return Call(_NODES.get(name, name), operands, options, _policy(layer))


def _attribute(value: Config) -> Any:
    """An attribute of a node, as protobuf writes one in JSON."""
    kind: str
    found: Any
    kind, found = next(iter(value.items()), ("", None))
    if kind == "i":
        return int(found)
    if kind == "s":
        return base64.b64decode(found).decode(errors="replace")
    if kind == "list":
        return [int(item) for item in found.get("i", [])]
    return found


def _read_function(layer: Config) -> Call | None:
    node = layer["inbound_nodes"][0]
    family, _, name = layer["config"]["function"].rpartition(".")
    if family not in _FAMILIES:
        return None
    if isinstance(node[0], list):  # a list of tensors
        given: Config = next((ref[3] for ref in references(node) if len(ref) > 3), {})
        return Call(name, [_operand(ref) for ref in node], given, _policy(layer))
    options = dict(node[3]) if len(node) > 3 else {}
    others = [options.pop(key) for key in ("x", "y", "b") if key in options]
    return Call(name, [_operand(node), *others], options, _policy(layer))


def _operand(given: list[Any]) -> Any:
    """What a function is called on: a layer's output, or a constant, maybe number by number."""
    if not is_reference(given):
        return [_operand(item) for item in given]
    return given[2] if given[0] == "_CONSTANT_VALUE" else given[:3]


def _policy(layer: Config) -> str:
    return str(layer["config"].get("dtype"))


_FAMILIES = (
    *("", "math", "nn", "linalg", "image", "activations", "keras.activations", "__operators__"),
    *("compat.v1", "compat.v1.nn", "compat.v1.math", "compat.v1.linalg"),
)
"""Modules of TensorFlow in which a name is one function; `compat.v1.image` resizes otherwise."""

_READERS: dict[str, Callable[[Config], Call | None]] = {
    "TensorFlowOpLayer": _read_node,
    "TFOpLambda": _read_function,
}
CALLED = frozenset(_READERS)
"""The classes of layers that are a call of a TensorFlow function."""

_UNREADABLE = ("SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty")

_NODES = {
    "Abs": "abs",
    "Add": "add",
    "AddN": "add_n",
    "AddV2": "add",
    "BiasAdd": "bias_add",
    "Cast": "cast",
    "Ceil": "ceil",
    "ConcatV2": "concat",
    "DepthToSpace": "depth_to_space",
    "Elu": "elu",
    "Exp": "exp",
    "ExpandDims": "expand_dims",
    "Floor": "floor",
    "FloorDiv": "floordiv",
    "FloorMod": "floormod",
    "GatherV2": "gather",
    "Greater": "greater",
    "GreaterEqual": "greater_equal",
    "Identity": "identity",
    "LeakyRelu": "leaky_relu",
    "Less": "less",
    "LessEqual": "less_equal",
    "Log": "log",
    "LogicalAnd": "logical_and",
    "LogicalNot": "logical_not",
    "LogicalOr": "logical_or",
    "Max": "reduce_max",
    "Maximum": "maximum",
    "Mean": "reduce_mean",
    "Min": "reduce_min",
    "Minimum": "minimum",
    "MirrorPad": "pad",
    "Mul": "multiply",
    "Neg": "negative",
    "OnesLike": "ones_like",
    "Pack": "stack",
    "Pad": "pad",
    "PadV2": "pad",
    "Pow": "pow",
    "Prod": "reduce_prod",
    "RealDiv": "truediv",
    "Relu": "relu",
    "Relu6": "relu6",
    "Reshape": "reshape",
    "ResizeBilinear": "resize",
    "ResizeNearestNeighbor": "resize",
    "ReverseV2": "reverse",
    "Round": "round",
    "Rsqrt": "rsqrt",
    "SelectV2": "where",
    "Selu": "selu",
    "Sigmoid": "sigmoid",
    "Sign": "sign",
    "Softmax": "softmax",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "SpaceToDepth": "space_to_depth",
    "Split": "split",
    "SplitV": "split",
    "Sqrt": "sqrt",
    "Square": "square",
    "Squeeze": "squeeze",
    "StopGradient": "stop_gradient",
    "Sub": "subtract",
    "Sum": "reduce_sum",
    "Tanh": "tanh",
    "Tile": "tile",
    "Transpose": "transpose",
    "Unpack": "unstack",
    "ZerosLike": "zeros_like",
}
"""TensorFlow's nodes and its Python functions of the same meaning."""

_REDUCTIONS = dict.fromkeys(("Max", "Mean", "Min", "Prod", "Sum"), ("axis",))

_NODE_OPTIONS: dict[str, tuple[str, ...]] = {
    **_REDUCTIONS,
    "ConcatV2": ("axis",),
    "ExpandDims": ("axis",),
    "GatherV2": ("indices", "axis"),
    "MirrorPad": ("paddings",),
    "Pad": ("paddings",),
    "PadV2": ("paddings", "constant_values"),
    "Reshape": ("shape",),
    "ResizeBilinear": ("size",),
    "ResizeNearestNeighbor": ("size",),
    "ReverseV2": ("axis",),
    "Tile": ("multiples",),
    "Transpose": ("perm",),
}
"""What the last inputs of a node are to the function."""

_ATTRIBUTES = {
    **{(node, "keep_dims"): "keepdims" for node in _REDUCTIONS},
    ("Cast", "DstT"): "dtype",
    ("Split", "num_split"): "num_or_size_splits",
    ("SplitV", "num_split"): "num_or_size_splits",
    ("Squeeze", "squeeze_dims"): "axis",
}
"""Attributes of nodes that the function calls otherwise."""
