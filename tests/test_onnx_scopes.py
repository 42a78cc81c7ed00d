"""What is said of values outside of the layers: names that two graphs have, sizes of outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc import Verdict
from tests.onnx_edits import of_any_shape
from tests.onnx_models import integers, run, save

BATCH = 4


def net(path: Path, *then: onnx.NodeProto, local: bool = False) -> Path:
    """Conv, Relu 'r', Conv; and an If that takes nodes, which make 't', where x is large."""
    nothing = helper.make_node("Identity", ["x"], ["e"])
    taken = helper.make_graph(list(then), "then", [], [of_any_shape("t")])
    other = helper.make_graph([nothing], "else", [], [of_any_shape("e")])
    weights = {"W": integers([3, 3, 3, 3]), "V": integers([2, 3, 2, 2])}
    weights |= {"k": np.ones(1, np.float32), "large": np.array(1e3, np.float32)}
    if local:
        taken.initializer.append(numpy_helper.from_array(weights.pop("k"), "k"))
    nodes = [
        helper.make_node("Conv", ["x", "W"], ["y"]),
        helper.make_node("Relu", ["y"], ["r"]),
        helper.make_node("Conv", ["r", "V"], ["w"]),
        helper.make_node("ReduceMax", ["x"], ["max"], keepdims=0),
        helper.make_node("Greater", ["max", "large"], ["c"]),
        helper.make_node("If", ["c"], ["z"], then_branch=taken, else_branch=other),
    ]
    return save(path, nodes, {"x": [BATCH, 3, 6, 6]}, ["w", "z"], weights)


def graph_taken(model: onnx.ModelProto) -> onnx.GraphProto:
    (node,) = (node for node in model.graph.node if node.op_type == "If")
    (graph,) = (each.g for each in node.attribute if each.name == "then_branch")
    found: onnx.GraphProto = graph
    return found


def differs(original: Path, other: Path) -> bool:
    x = integers([BATCH, 3, 6, 6]) + 5000
    a, b = (run(path, x=x)[1] for path in (original, other))
    return not np.allclose(a, b)


@pytest.mark.parametrize("local", [False, True])
def test_a_weight_of_a_branch_is_not_one_around_it(local: bool, tmp_path: Path) -> None:
    path = net(tmp_path / "m.onnx", helper.make_node("Add", ["y", "k"], ["t"]), local=local)
    out = convfc.convert(path).out
    assert convfc.verify(path, out, samples=1).verdict is Verdict.EQUIVALENT
    model = onnx.load(out)
    graphs = [model.graph, graph_taken(model)]
    here, there = reversed(graphs) if local else graphs
    (weight,) = (tensor for tensor in here.initializer if tensor.name == "k")
    here.initializer.remove(weight)
    there.initializer.append(numpy_helper.from_array(np.full(1, 7, np.float32), "k"))
    onnx.save(model, out)
    assert differs(path, out)
    found = convfc.verify(path, out, samples=1)
    assert found.verdict is Verdict.NOT_EQUIVALENT
    assert "'k' differs in element 0" in (found.reason or "")


@pytest.mark.parametrize("form", ["patches", "dense"])
def test_what_is_put_back_does_not_hide_behind_a_name_of_a_branch(
    form: str, tmp_path: Path
) -> None:
    conv = helper.make_node("Conv", ["x", "r"], ["t"], pads=[1] * 4)
    path = net(tmp_path / "m.onnx", conv)
    out = convfc.convert(path, form=form).out
    assert convfc.verify(path, out, samples=1).verdict is Verdict.EQUIVALENT
    model = onnx.load(out)
    (back,) = (node for node in model.graph.node if "r" in node.output)
    model.graph.node.remove(back)  # all others read what it was made of
    kernel = numpy_helper.from_array(integers([BATCH, 3, 4, 4]), "r")
    graph_taken(model).initializer.append(kernel)
    onnx.save(model, out)
    assert differs(path, out)
    assert convfc.verify(path, out, samples=1).verdict is not Verdict.EQUIVALENT


def test_sizes_of_an_output_that_follow_from_nothing_prove_nothing(tmp_path: Path) -> None:
    """onnxruntime computes with them: here, z is y times the number of its rows."""
    nodes = [
        helper.make_node("Conv", ["x", "W"], ["y"]),
        helper.make_node("Shape", ["y"], ["sizes"]),
        helper.make_node("Cast", ["sizes"], ["s"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["s"], ["rows"], keepdims=0),
        helper.make_node("Mul", ["y", "rows"], ["z"]),
    ]
    inputs: dict[str, list[int | str | None]] = {"x": ["n", 3, "h", "w"]}
    path = save(tmp_path / "m.onnx", nodes, inputs, ["y", "z"], {"W": integers([2, 3, 3, 3])})
    out = convfc.convert(path).out
    model = onnx.load(out)
    sides = model.graph.output[0].type.tensor_type.shape.dim
    for side, size in zip(sides, [1, 2, 10, 10], strict=True):
        side.dim_value = size
    onnx.save(model, out)
    x = integers([2, 3, 7, 9])
    a, b = (run(each, x=x)[1] for each in (path, out))
    assert not np.allclose(a, b)
    found = convfc.verify(path, out, samples=1, shapes={"x": [1, 3, 12, 12]})
    assert found.verdict is Verdict.COULD_NOT_CHECK
    assert "the sizes of 'y' are stated" in (found.reason or "")
