"""The way back of files that onnxruntime's static quantizer has rounded between all nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

import convfc
from convfc import Verdict
from convfc.formats.onnx.late_rounding import rounded_late
from tests.onnx_models import Array, operators, save
from tests.test_revert_forms import SHAPE, Samples, reverted

pytestmark = pytest.mark.usefixtures("quiet")


def network(path: Path, depthwise: int = 1) -> Path:
    """A residual sum, a pooling, activations that the quantizer absorbs, and one that it keeps."""
    random = np.random.default_rng(0)
    shapes = {"W1": [8, 4, 3, 2], "B1": [8], "W2": [8, 8, 3, 3], "B2": [8]}
    shapes |= {"W3": [8, 8 // depthwise, 2, 1], "B3": [8], "W4": [5, 8, 1, 1]}
    weights: dict[str, Array] = {
        name: (random.normal(size=shape) / 3).astype(np.float32) for name, shape in shapes.items()
    }
    weights |= {"low": np.array(0, np.float32), "high": np.array(0.5, np.float32)}
    same: dict[str, Any] = {"pads": [1, 1, 1, 1]}
    first: dict[str, Any] = {"strides": [2, 1], "pads": [1, 0, 0, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "W1", "B1"], ["a"], name="first", **first),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "W2", "B2"], ["c"], name="second", **same),
        helper.make_node("Add", ["c", "b"], ["d"], name="sum"),
        helper.make_node("Sigmoid", ["d"], ["e"], name="sigmoid"),
        helper.make_node("MaxPool", ["e"], ["f"], name="pool", kernel_shape=[2, 1]),
        helper.make_node("Conv", ["f", "W3", "B3"], ["g"], name="third", group=depthwise),
        helper.make_node("Clip", ["g", "low", "high"], ["h"], name="clip"),
        helper.make_node("Conv", ["h", "W4"], ["y"], name="fourth"),
    ]
    return save(path, nodes, {"x": [*SHAPE]}, ["y"], weights, opset=17)


def quantized(fc: Path, **options: object) -> Path:
    out = fc.with_name("static.onnx")
    quantize_static(fc, out, Samples(), quant_format=QuantFormat.QDQ, **options)
    return out


@pytest.mark.parametrize("unsigned", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_all_that_the_quantizer_rounds(tmp_path: Path, unsigned: bool) -> None:
    """Signed with a scale for all of a kernel, unsigned with one for each filter."""
    kind = QuantType.QUInt8 if unsigned else QuantType.QInt8
    fc = convfc.convert(network(tmp_path / "m.onnx")).out
    static = quantized(fc, activation_type=kind, per_channel=unsigned)
    back = reverted(static)
    made = operators(back)
    assert made >= {"Conv", "Relu", "Clip", "Sigmoid", "MaxPool", "Add", "QuantizeLinear"}
    assert not made & {"MatMul", "Gather"}
    for pair in ((static, back), (back, static)):
        found = convfc.verify(*pair, samples=2)
        assert found.verdict is Verdict.EQUIVALENT, found.reason


def test_products_that_are_rounded_one_by_one(tmp_path: Path) -> None:
    """A depthwise layer multiplies and adds up, and the quantizer rounds in between."""
    fc = convfc.convert(network(tmp_path / "m.onnx", depthwise=8)).out
    layers = convfc.revert(quantized(fc)).layers
    reasons = {layer.way.site.name: layer.way.reason for layer in layers}
    why = "its products are rounded before they are added up, as in no convolution"
    assert reasons == {"first": None, "second": None, "third": why, "fourth": None}


def activation(op: str, *bounds: float) -> ir.Node:
    """What makes b of a in an original."""
    a = ir.node("Abs", [ir.Value(name="x")]).outputs[0]
    a.name = "a"
    given = [ir.Value(name=f"to{end}", const_value=ir.tensor(np.float32(end))) for end in bounds]
    made = ir.node(op, [a, *given])
    made.outputs[0].name = "b"
    ir.Graph([], made.outputs, nodes=[], initializers=given)
    return made


def graph_of(x: ir.Value, first: ir.Node, zero: int, *more: ir.Node) -> ir.Graph:
    """A graph that rounds what a node makes, and goes on with that."""
    s = ir.Value(name="s", const_value=ir.tensor(np.float32(0.1)))
    z = ir.Value(name="z", const_value=ir.tensor(np.int8(zero)))
    there = ir.node("QuantizeLinear", [first.outputs[0], s, z])
    nodes = [first, there, ir.node("DequantizeLinear", [there.outputs[0], s, z])]
    for node in more:
        node.replace_input_with(0, nodes[-1].outputs[0])
        nodes.append(node)
    stored = {value: None for node in nodes for value in node.inputs if value and value.const_value}
    end = nodes[-1].outputs
    return ir.Graph([x], end, nodes=nodes, initializers=[*stored], opset_imports={"": 17})


@pytest.mark.parametrize(("filler", "behind"), [(0, True), (1, False)])
def test_what_is_padded_with_another_number_is_rounded_before(filler: int, behind: bool) -> None:
    """1 is not on the grid."""
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT))
    pads = ir.Value(name="pads", const_value=ir.tensor(np.array([0, 1], np.int64)))
    value = ir.Value(name="value", const_value=ir.tensor(np.float32(filler)))
    moves = [ir.node("Pad", [x, pads, value]), ir.node("Neg", [x])]
    graph = graph_of(x, ir.node("Sum", [x]), -3, *moves)
    rounded_late(ir.Model(graph, ir_version=10), {})
    pair = ["QuantizeLinear", "DequantizeLinear"]
    made = ["Pad", *pair] if behind else [*pair, "Pad"]
    assert [node.op_type for node in graph] == ["Sum", *made, "Neg"]


@pytest.mark.parametrize(
    ("zero", "own", "back"),
    [
        (-128, activation("Relu"), True),
        (-127, activation("Relu"), False),  # one number of the grid is below 0
        (-128, activation("Clip", 0, 25.5), True),
        (-128, activation("Clip", 0, 25), False),  # 25.5 is on the grid
        (-128, activation("Clip", 0.5, 30), False),
        (-100, activation("Clip", -3, 30), True),
        (-128, activation("Sigmoid"), False),
    ],
)
def test_what_comes_back_is_what_the_rounding_does(zero: int, own: ir.Node, back: bool) -> None:
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT))
    rows = ir.node("Sum", [x])
    rows.outputs[0].name = "b/rows"
    graph = graph_of(x, rows, zero)
    first = own.inputs[0]
    assert first is not None
    known = {"a": first.producer(), "b": own}
    rounded_late(ir.Model(graph, ir_version=10), {n: v for n, v in known.items() if v is not None})
    made = [node.op_type for node in graph]
    assert made == ["Sum", *([own.op_type] if back else []), "QuantizeLinear", "DequantizeLinear"]
