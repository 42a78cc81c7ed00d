"""Ways to spoil the constants of a converted ONNX model; families as in `onnx_families`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.campaign.fields import other_numbers
from tests.campaign.onnx_running import Known
from tests.campaign.onnx_wires import all_nodes, fresh

Values = Mapping[str, Known]
Family = Callable[[onnx.ModelProto, Values, Random], str | None]
"""Changes a model in place and says what it did; ``None``: nothing of its kind is in the model."""


def numbers(model: onnx.ModelProto, _: Values, random: Random) -> str | None:
    """Other numbers in a constant: weights, or ends, shapes and indices."""
    tensors = tensors_of(model)
    if not tensors:
        return None
    tensor = random.choice(tensors)
    array = numpy_helper.to_array(tensor).copy()
    if not array.size:
        return None
    other_numbers(array, random)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return f"other numbers in '{tensor.name}'"


def baked(model: onnx.ModelProto, _: Values, random: Random) -> str | None:
    """Ends and sizes that hold for all inputs hold for small ones only."""
    end, found = random.choice([66, 70, 100, 1000]), None
    for tensor in tensors_of(model):
        if tensor.data_type != onnx.TensorProto.INT64:
            continue
        array = numpy_helper.to_array(tensor).copy()
        if (array > 2**31).any() or (array == -1).any():
            array[array > 2**31] = end
            if random.random() < 0.3:
                array[array == -1] = random.choice([end, 6, 12])
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
            found = f"'{tensor.name}' ends at {end}"
            if random.random() < 0.5:
                break
    return found


def compensated(model: onnx.ModelProto, _: Values, random: Random) -> str | None:
    """Several constants changed at once, so that some changes cancel."""
    tensors = [t for t in tensors_of(model) if t.data_type == onnx.TensorProto.FLOAT and t.dims]
    if len(tensors) < 2:
        return None
    chosen = random.sample(tensors, random.choice([2, 2, len(tensors)]))
    how = random.choice(["minus", "scaled", "turned", "exchanged"])
    arrays = [numpy_helper.to_array(tensor).copy() for tensor in chosen]
    if how == "minus":
        arrays = [-array for array in arrays]
    elif how == "scaled":
        arrays = [a * np.float32(2.0 if i % 2 else 0.5) for i, a in enumerate(arrays)]
    elif how == "turned":
        arrays = [np.roll(a, 1, axis=-1 if i == 0 else 0) for i, a in enumerate(arrays)]
    else:
        arrays = [*arrays[1:], arrays[0]]
    for tensor, array in zip(chosen, arrays, strict=True):
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))
    return f"{how}: {', '.join(tensor.name for tensor in chosen)}"


def constants(model: onnx.ModelProto, _: Values, random: Random) -> str | None:
    """An initializer comes from a node: a Constant, or another one that is passed through."""
    if not model.graph.initializer:
        return None
    at = random.randrange(len(model.graph.initializer))
    tensor = onnx.TensorProto.FromString(model.graph.initializer[at].SerializeToString())
    how = random.choice(["Constant", "Identity", "Neg"])
    if how == "Constant":
        del model.graph.initializer[at]
        made = helper.make_node("Constant", [], [tensor.name], value=tensor)
    else:
        model.graph.initializer[at].name = inner = fresh(model, "hidden")
        made = helper.make_node(how, [inner], [tensor.name])
    model.graph.node.insert(0, made)
    return f"'{tensor.name}' comes from {how}"


def twofold(model: onnx.ModelProto, _: Values, random: Random) -> str | None:
    """What a file says twice, and otherwise the second time."""
    how = random.choice(["numbers", "initializer", "attribute", "opset", "metadata", "function"])
    if how in ("numbers", "initializer"):
        tensors = [t for t in tensors_of(model) if t.data_type == onnx.TensorProto.FLOAT and t.dims]
        if not tensors:
            return None
        tensor = random.choice(tensors)
        array = numpy_helper.to_array(tensor)
        if how == "numbers":
            if random.random() < 0.3:
                tensor.ClearField("raw_data")
                tensor.float_data.extend(array.reshape(-1).tolist()[:-1])
                return f"too few numbers in '{tensor.name}'"
            tensor.float_data.extend((-array).reshape(-1).tolist())
        else:
            again = numpy_helper.from_array(-array, tensor.name)
            model.graph.initializer.insert(random.choice([0, len(model.graph.initializer)]), again)
        return f"{how} of '{tensor.name}' twice"
    if how == "attribute":
        found = [(n, a) for n in all_nodes(model) for a in n.attribute]
        node, attribute = random.choice(found) if found else (None, None)
        if node is None or attribute is None:
            return None
        other = onnx.AttributeProto.FromString(attribute.SerializeToString())
        other.i, other.f = other.i + 1, other.f * 2
        if len(other.ints) > 1:
            other.ints[0], other.ints[-1] = other.ints[-1], other.ints[0]
        node.attribute.insert(random.choice([0, len(node.attribute)]), other)
        return f"{attribute.name} of '{node.name}' twice"
    if how == "opset":
        version, name = random.choice([8, 11, 12, 13, 18, 21]), random.choice(["", "ai.onnx"])
        entry = helper.make_opsetid(name, version)
        model.opset_import.insert(random.choice([0, len(model.opset_import)]), entry)
        return f"opset of '{name}' twice, {version}"
    if how == "function" and model.functions:
        again = onnx.FunctionProto.FromString(model.functions[0].SerializeToString())
        again.node[-1].op_type = "Relu"
        del again.node[-1].attribute[:]
        model.functions.insert(random.choice([0, 1]), again)
        return "function twice"
    model.metadata_props.add(key=random.choice(["convfc", "mean", "x"]), value="{}")
    return "metadata"


def tensors_of(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Every constant: initializers of all graphs, and values of Constant nodes."""
    found = list(model.graph.initializer)
    for node in all_nodes(model):
        for attribute in node.attribute:
            found += list(attribute.g.initializer)
            if node.op_type == "Constant" and attribute.HasField("t"):
                found.append(attribute.t)
    return found
