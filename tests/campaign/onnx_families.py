"""Hand-made ways to spoil a converted ONNX model, whatever it holds; the hostile ones among them.

Each family is a function that changes a model in place and says what it did; `None`: there is
nothing of its kind in this model.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.campaign.onnx_constants import (
    Family,
    Values,
    baked,
    compensated,
    constants,
    numbers,
    tensors_of,
    twofold,
)
from tests.campaign.onnx_running import Known
from tests.campaign.onnx_wires import all_nodes, fresh, node_lists, splice, wires


def spliced_same(model: onnx.ModelProto, values: Values, random: Random) -> str | None:
    """Nodes that change nothing."""
    return splice(model, "same", values, random)


def spliced_rare(model: onnx.ModelProto, values: Values, random: Random) -> str | None:
    """Nodes that change something on few inputs."""
    return splice(model, "rare", values, random)


def spliced_odd(model: onnx.ModelProto, values: Values, random: Random) -> str | None:
    """Nodes that change everything."""
    return splice(model, "odd", values, random)


def wiring(model: onnx.ModelProto, _: Values, random: Random) -> str | None:
    """A node reads another value, or two of its inputs are exchanged."""
    wire = random.choice(wires(model))
    inputs = wire.node.input
    if len(inputs) > 1 and random.random() < 0.4:
        to = random.randrange(len(inputs))
        inputs[wire.place], inputs[to] = inputs[to], inputs[wire.place]
        return f"inputs {wire.place} and {to} of '{wire.node.name}' exchanged"
    values = [name for node in all_nodes(model) for name in (*node.input, *node.output) if name]
    values += [port.name for port in model.graph.input]
    old, inputs[wire.place] = wire.name, random.choice(values)
    return f"'{wire.node.name}' reads '{wire.name}' instead of '{old}'"


def operators(model: onnx.ModelProto, _: Values, random: Random) -> str | None:
    """A node of another operator with the same inputs."""
    kin = [
        {"Add", "Sub", "Mul", "Max", "Div"},
        {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceL1", "ReduceSumSquare"},
        {"Relu", "Abs", "Identity", "Elu", "LeakyRelu", "Neg", "Tanh", "Sigmoid", "HardSigmoid"},
        {"MatMul", "Gemm", "com.microsoft.FusedMatMul"},
        {"Gather", "GatherElements", "GatherND"},
        {"MatMulInteger", "MatMul"},
        {"MaxPool", "AveragePool", "LpPool"},
        {"Softmax", "LogSoftmax", "Hardmax"},
    ]
    found = [
        (node, family) for node in all_nodes(model) for family in kin if node.op_type in family
    ]
    if not found:
        return None
    node, family = random.choice(found)
    old, new = node.op_type, random.choice(sorted(family - {node.op_type}))
    node.domain, node.op_type = new.rpartition(".")[::2]
    if node.op_type == "FusedMatMul":
        node.attribute.append(helper.make_attribute("alpha", random.choice([1.0, 1.0001])))
        model.opset_import.add(domain="com.microsoft", version=1)
    return f"{new} instead of {old} '{node.name}'"


_SETTINGS: Mapping[str, tuple[tuple[str, Any], ...]] = {
    "Pad": (("mode", "reflect"), ("mode", "edge"), ("mode", "wrap"), ("mode", "constant")),
    "Reshape": (("allowzero", 1),),
    "Transpose": (("perm", [0, 2, 1, 3]), ("perm", [0, 1, 2, 3]), ("perm", [1, 0, 2, 3])),
    "Gather": (("axis", 0), ("axis", 2), ("axis", -1)),
    "Concat": (("axis", 1), ("axis", 2), ("axis", -1)),
    "Softmax": (("axis", 1), ("axis", -1)),
    "ReduceSum": (("keepdims", 1), ("keepdims", 0), ("noop_with_empty_axes", 1)),
    "Cast": (("to", 1), ("to", 10), ("to", 11), ("to", 6), ("saturate", 0)),
    "Gemm": (("alpha", 1.0001), ("beta", 0.0), ("transB", 1)),
    "BatchNormalization": (("training_mode", 1), ("epsilon", 1e-5), ("momentum", 0.5)),
    "LeakyRelu": (("alpha", 0.01), ("alpha", 0.21)),
    "MaxPool": (("ceil_mode", 1), ("auto_pad", "SAME_UPPER"), ("storage_order", 1)),
    "MatMulInteger": (("alpha", 2.0),),
    "Clip": (("min", -1.0),),
    "block": (("alpha", 0.31), ("axis", 3)),
    "Loop": (("trips", 1),),
}


def settings(model: onnx.ModelProto, _: Values, random: Random) -> str | None:
    """An attribute that a node does not have, or another value of one."""
    found = [node for node in all_nodes(model) if node.op_type in _SETTINGS]
    if not found:
        return None
    node = random.choice(found)
    name, value = random.choice(_SETTINGS[node.op_type])
    if random.random() < 0.8:
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        copies = [onnx.AttributeProto.FromString(a.SerializeToString()) for a in kept]
        del node.attribute[:]
        node.attribute.extend(copies)
    node.attribute.append(helper.make_attribute(name, value))
    return f"{node.op_type} '{node.name}' has {name} = {value}"


def padding(model: onnx.ModelProto, values: Values, random: Random) -> str | None:
    """A pad of another value than zero, or along other axes."""
    pads = [node for node in all_nodes(model) if node.op_type == "Pad" and len(node.input) < 3]
    if not pads:
        return None
    node, name = random.choice(pads), fresh(model, "fill")
    kind = values.get(node.input[0], Known("float")).dtype
    fills: list[float] = [1, 0, 2] if "int" in kind else [1e-3, 1, 0, float("nan"), 1e30]
    value = random.choice(fills)
    dtype = helper.tensor_dtype_to_np_dtype(onnx.TensorProto.DataType.Value(kind.upper()))
    array = np.array(value, np.float64).astype(dtype)
    made = helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))
    for nodes in node_lists(model):
        if any(other is node for other in nodes):
            at = next(i for i, other in enumerate(nodes) if other is node)
            node.input.append(name)
            nodes.insert(at, made)
            break
    return f"'{node.name}' pads with {value}"


def order(model: onnx.ModelProto, _: Values, random: Random) -> str | None:
    """The nodes in another order, twice, or with one that nobody needs."""
    nodes = random.choice([nodes for nodes in node_lists(model) if len(nodes)])
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    how = random.choice(["shuffled", "reversed", "dead", "doubled", "lost"])
    at = random.randrange(len(copies))
    if how == "shuffled":
        random.shuffle(copies)
    elif how == "reversed":
        copies.reverse()
    elif how == "dead":
        name = fresh(model, "dead")
        dead = random.choice(["Relu", "RandomNormalLike", "Neg", "Shape"])
        copies.insert(at + 1, helper.make_node(dead, [copies[at].output[0]], [name], name=name))
    elif how == "doubled":
        twin = onnx.NodeProto.FromString(copies[at].SerializeToString())
        old, twin.output[0] = twin.output[0], fresh(model, "twin")
        copies.insert(at + 1, twin)
        readers = [node for node in copies if node is not twin and old in node.input]
        if readers:
            reader = random.choice(readers)
            reader.input[list(reader.input).index(old)] = twin.output[0]
    else:
        lost = copies.pop(at)
        if lost.input and random.random() < 0.7:
            for node in copies:
                for place, name in enumerate(node.input):
                    if name == lost.output[0]:
                        node.input[place] = lost.input[0]
    del nodes[:]
    nodes.extend(copies)
    return f"{how} at {at}"


def names(model: onnx.ModelProto, _: Values, random: Random) -> str | None:
    """Other names for values, the same one twice, and constants that look like inputs."""
    how = random.choice(["renamed", "input as well", "node names exchanged", "shadowed"])
    nodes = all_nodes(model)
    if how == "renamed":
        node = random.choice(nodes)
        old, new = node.output[0], fresh(model, "other")
        for other in nodes:
            for values in (other.input, other.output):
                for place, name in enumerate(values):
                    values[place] = new if name == old else name
        return f"'{old}' is called '{new}'"
    if how == "input as well":
        if not model.graph.initializer:
            return None
        tensor = random.choice(model.graph.initializer)
        port = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(port)
        return f"'{tensor.name}' is an input, too"
    if how == "node names exchanged":
        a, b = random.choice(nodes), random.choice(nodes)
        a.name, b.name = b.name, a.name
        return f"'{a.name}' and '{b.name}' have each other's name"
    graphs = [a.g for node in nodes for a in node.attribute if a.HasField("g")]
    if not graphs or not tensors_of(model):
        return None
    copy = onnx.TensorProto.FromString(random.choice(tensors_of(model)).SerializeToString())
    array = -numpy_helper.to_array(copy) if copy.data_type < 10 else numpy_helper.to_array(copy)
    random.choice(graphs).initializer.append(numpy_helper.from_array(array, copy.name))
    return f"'{copy.name}' has another meaning in a subgraph"


def versions(model: onnx.ModelProto, _: Values, random: Random) -> str | None:
    """Other versions of operators, of the file or of a function."""
    imports = random.choice([model.opset_import, *(f.opset_import for f in model.functions)])
    if random.random() < 0.15:
        model.ir_version = random.choice([3, 4, 6, 8, 9, 10])
        return f"IR version {model.ir_version}"
    entry = random.choice(imports)
    entry.version = random.choice([1, 6, 7, 8, 9, 10, 11, 12, 13, 16, 18, 20, 21])
    return f"version {entry.version} of '{entry.domain}'"


def in_a_function(model: onnx.ModelProto, _: Values, random: Random) -> str | None:
    """A node becomes a call of a function, which may stand for a standard operator."""
    nodes = [node for node in model.graph.node if len(node.output) == 1 and not node.domain]
    nodes = [n for n in nodes if n.input and not any(a.HasField("g") for a in n.attribute)]
    if not nodes:
        return None
    node = random.choice(nodes)
    inner = onnx.NodeProto.FromString(node.SerializeToString())
    inputs = [f"i{place}" for place in range(len(node.input))]
    inner.input[:], inner.output[:] = inputs, ["mid"]
    end = random.choice(["Identity", "Neg", "Relu"])
    body = [inner, helper.make_node(end, ["mid"], ["out"])]
    domain, name = random.choice(
        [("own", "wrapped"), ("", node.op_type), ("ai.onnx", node.op_type)]
    )
    imports = [entry for entry in model.opset_import if entry.domain == ""]
    if domain:
        node.domain, node.op_type = domain, name
        del node.attribute[:]
        if domain not in {entry.domain for entry in model.opset_import}:
            model.opset_import.add(domain=domain, version=1)
    model.functions.append(helper.make_function(domain, name, inputs, ["out"], body, imports))
    model.ir_version = max(model.ir_version, 8)
    return f"'{node.name}' calls a function {domain}.{name} that ends in {end}"


def as_gemm(model: onnx.ModelProto, _: Values, random: Random) -> str | None:
    """MatMul and Add are one Gemm, as simplifiers write it, or nearly."""
    for nodes in node_lists(model):
        for at, node in enumerate(nodes):
            users = [other for other in nodes if node.output[0] in other.input]
            if node.op_type == "MatMul" and len(users) == 1 and users[0].op_type == "Add":
                (add,) = users
                bias = next(name for name in add.input if name != node.output[0])
                alpha = random.choice([1.0, 1.0, 1.0001, 2.0])
                gemm = helper.make_node(
                    "Gemm", [*node.input, bias], add.output, name=node.name, alpha=alpha
                )
                nodes.remove(add)
                del nodes[at]
                nodes.insert(at, gemm)
                return f"Gemm, alpha {alpha}"
    return None


FAMILIES: Mapping[str, tuple[Family, int]] = {
    "same nodes": (spliced_same, 5),
    "rare nodes": (spliced_rare, 14),
    "odd nodes": (spliced_odd, 12),
    "wiring": (wiring, 6),
    "numbers": (numbers, 8),
    "baked sizes": (baked, 4),
    "compensated": (compensated, 3),
    "operators": (operators, 5),
    "settings": (settings, 5),
    "padding": (padding, 2),
    "order": (order, 5),
    "names": (names, 4),
    "twofold": (twofold, 5),
    "versions": (versions, 3),
    "functions": (in_a_function, 4),
    "gemm": (as_gemm, 2),
    "constants": (constants, 2),
}
"""By name: the family, and how often it comes."""
