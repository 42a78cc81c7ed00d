"""Changes of an ONNX graph: settings and sizes of convolutions, tensors, and what runtimes run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import onnx
from onnx import AttributeProto, TensorProto, helper

from tests.campaign import fields
from tests.campaign.onnx_families import FAMILIES
from tests.fuzz import hostile, protobuf


def convolution(model: onnx.ModelProto, random: Random) -> str:
    """Settings of one convolution: mostly as many as there are axes, and one of them odd."""
    nodes = [node for node in every_node(model.graph) if "Conv" in node.op_type]
    nodes = nodes or list(model.graph.node) or [model.graph.node.add(op_type="Conv")]
    node = random.choice(nodes)
    name = random.choice(["kernel_shape", "strides", "dilations", "pads", "group", "auto_pad",
                          "output_shape", "output_padding"])  # fmt: skip
    if name.startswith("output") and node.op_type == "Conv" and random.random() < 0.9:
        name = random.choice(["strides", "dilations", "pads"])
    kept = [found for found in node.attribute if found.name != name]
    rank = next((len(found.ints) for found in kept if found.name == "kernel_shape"), 2)
    if random.random() < 0.8:
        whole = [1] * (2 * rank if name == "pads" else rank)
        count = min(random.choice([1, len(whole)]), len(whole))
        for at in random.sample(range(len(whole)), count):
            whole[at] = abs(hostile.integer(random)) % 2**63
    else:
        whole = [hostile.integer(random) for _ in range(random.choice([0, 1, 2, 4, 40]))]
    value: Any = whole if random.random() < 0.9 else hostile.text(random)
    if name in ("group", "auto_pad") and random.random() < 0.8:
        modes = ["SAME_UPPER", "SAME_LOWER", "VALID", hostile.text(random)]
        value = hostile.integer(random) if name == "group" else random.choice(modes)
    value = value.encode(errors="replace") if isinstance(value, str) else value
    del node.attribute[:]
    kind = AttributeProto.INTS if value == [] else None
    node.attribute.extend([*kept, helper.make_attribute(name, value, attr_type=kind)])
    return f"{name} of {node.op_type}: {value!r:.60}"


def sizes(model: onnx.ModelProto, random: Random) -> str:
    """Sizes of an input, with which the rest of the file agrees."""
    shapes = [
        info.type.tensor_type.shape
        for info in model.graph.input
        if info.type.HasField("tensor_type")
    ]
    shapes = [shape for shape in shapes if shape.dim] or [onnx.TensorShapeProto()]
    shape = random.choice(shapes)
    axes = [at for at in range(len(shape.dim)) if at != 1] or [0]
    for at in random.sample(axes, random.randrange(1, len(axes) + 1)):
        while len(shape.dim) <= at:
            shape.dim.add()
        shape.dim[at].dim_value = abs(hostile.integer(random)) % 2**63
    del model.graph.value_info[:]
    for info in model.graph.output:
        info.type.tensor_type.ClearField("shape")
    return f"an input: {[dim.dim_value for dim in shape.dim][:8]}"


def shapes(model: onnx.ModelProto, random: Random) -> str:
    """Sizes of anything, with which nothing agrees."""
    infos = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    found = [info.type.tensor_type.shape for info in infos if info.type.HasField("tensor_type")]
    if not found or (model.graph.initializer and random.random() < 0.3):
        tensor = random.choice(list(model.graph.initializer) or [model.graph.initializer.add()])
        tensor.dims[:] = [hostile.integer(random) for _ in range(random.choice([0, 1, 4, 4, 40]))]
        return f"dims of {tensor.name[:20]!r}: {list(tensor.dims)[:8]}"
    shape = random.choice(found)
    for at in range(len(shape.dim)):
        if random.random() < 0.3:
            shape.dim[at].dim_value = hostile.integer(random)
    if random.random() < 0.15:
        del shape.dim[random.randrange(max(len(shape.dim), 1)) :]
    for _ in range(random.choice([0, 0, 0, 0, 0, 1, 35])):
        shape.dim.add().dim_value = 1
    return f"a shape: {[dim.dim_value for dim in shape.dim][:8]}"


def tensor(model: onnx.ModelProto, random: Random) -> str:
    """Type and data of one tensor of numbers."""
    found = list(every_tensor(model.graph)) or [model.graph.initializer.add(name="new")]
    chosen = random.choice(found)
    how = random.choice(["type", "type", "no data", "other field", "short", "long", "text"])
    if how == "type":
        chosen.data_type = random.choice([*range(30), 2**31 - 1, -1])
        return f"type of {chosen.name[:20]!r}: {chosen.data_type}"
    raw = chosen.raw_data
    for name in ("raw_data", "float_data", "int64_data", "int32_data"):
        if how != "long":
            chosen.ClearField(name)
    if how == "other field":
        getattr(chosen, random.choice(["int32_data", "int64_data"])).extend([1] * 9)
    elif how == "short":
        chosen.raw_data = raw[: len(raw) // 2]
    elif how == "long":
        chosen.raw_data = raw + raw + b"\0"
    elif how == "text":
        chosen.data_type = TensorProto.STRING
        chosen.string_data.extend([hostile.text(random).encode(errors="replace")] * 3)
    return f"data of {chosen.name[:20]!r}: {how}"


def family(model: onnx.ModelProto, random: Random) -> str:
    """What the campaign changes: the file stays one that runtimes may run."""
    several = [random.choice(sorted(FAMILIES)) for _ in range(5)]
    for name in several:
        made = onnx.ModelProto()
        made.CopyFrom(model)
        try:
            what = FAMILIES[name][0](made, {}, random)
        except Exception:  # that is for whole models of known values
            what = None
        if what is not None:
            model.CopyFrom(made)
            return f"{name}: {what}"
    return fields.mutate(model, random)


def every_node(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """All nodes, those in subgraphs included."""
    found = []
    for node in graph.node:
        found.append(node)
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                found += every_node(inner)
    return found


def every_tensor(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """All tensors: initializers and constants."""
    found = list(graph.initializer)
    for node in every_node(graph):
        found += [attribute.t for attribute in node.attribute if attribute.HasField("t")]
    return found


MUTATORS: Mapping[str, Callable[[onnx.ModelProto, Random], str]] = {
    "any field": fields.mutate,
    "family": family,
    "hostile field": protobuf.field,
    "hostile name": protobuf.names,
    "settings": convolution,
    "sizes": sizes,
    "shapes": shapes,
    "tensor": tensor,
}
"""By name; each changes a model in place and says how."""
