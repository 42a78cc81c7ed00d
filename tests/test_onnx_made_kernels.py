"""Kernels that a graph makes of its weights: from blocks of few bits, by a norm, behind an If."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc import Verdict
from tests.onnx_models import integers, operators, run_anywhere, save

X = integers([1, 4, 6, 5])
SHAPE = [4, 4, 3, 3]


def proved(path: Path, **feed: np.ndarray) -> None:
    """Convert, compare with numbers, and prove."""
    done = convfc.convert(path)
    assert done.complete, [layer.reason for layer in done.layers]
    assert not {name for name in operators(done.out) if "Conv" in name}
    (expected,), (got,) = run_anywhere([path, done.out], feed)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4 * abs(expected).max())
    assert convfc.verify(path, done.out).verdict is Verdict.EQUIVALENT


@pytest.mark.parametrize("kind", ["INT8", "UINT4", "INT4", "INT2"])
def test_a_kernel_quantized_in_blocks(tmp_path: Path, kind: str) -> None:
    """INT2 is of opset 25."""
    element = getattr(TensorProto, kind)
    numbers = np.random.default_rng(1).integers(0 if kind[0] == "U" else -2, 2, SHAPE)
    kernel = helper.make_tensor("q", element, SHAPE, numbers.flatten().tolist())
    scale = numpy_helper.from_array(abs(integers([4, 2, 3, 3], 2)) / 16 + 0.25, "s")
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["W"], axis=1, block_size=2),
        helper.make_node("Conv", ["x", "W"], ["y"], name="conv", pads=[1, 0, 1, 2]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        [kernel, scale],
    )
    imports = [helper.make_opsetid("", 25 if kind == "INT2" else 21)]
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=10), path)
    proved(path, x=X)


@pytest.mark.parametrize("rule", ["SAME_UPPER", "SAME_LOWER"])
def test_a_transposed_one_with_a_rule_and_a_shape(tmp_path: Path, rule: str) -> None:
    settings: dict[str, Any] = {"auto_pad": rule, "output_shape": [13, 9], "strides": [2, 2]}
    node = helper.make_node("ConvTranspose", ["x", "W"], ["y"], name="up", **settings)
    proved(save(tmp_path / "m.onnx", [node], {"x": X.shape}, ["y"], {"W": integers(SHAPE)}), x=X)


def test_a_kernel_behind_an_if(tmp_path: Path) -> None:
    branches = {}
    for name in "ab":
        made = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, SHAPE)
        node = helper.make_node("Identity", [name], [f"{name}_out"])
        branches[name] = helper.make_graph([node], name, [], [made])
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "zero"], ["some"]),
        helper.make_node(
            "If", ["some"], ["W"], then_branch=branches["a"], else_branch=branches["b"]
        ),
        helper.make_node("Conv", ["x", "W"], ["y"], name="conv"),
    ]
    weights = {"a": integers(SHAPE), "b": integers(SHAPE, 1), "zero": np.zeros((), np.float32)}
    path = save(tmp_path / "m.onnx", nodes, {"x": X.shape}, ["y"], weights)
    proved(path, x=X)


def test_a_kernel_of_a_length_of_its_own(tmp_path: Path) -> None:
    """Weight norm, as PyTorch exports it."""
    nodes = [
        helper.make_node("ReduceL2", ["v"], ["norm"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Div", ["v", "norm"], ["unit"]),
        helper.make_node("Mul", ["unit", "g"], ["W"]),
        helper.make_node("Conv", ["x", "W"], ["y"], name="conv"),
    ]
    weights = {"v": integers(SHAPE), "g": integers([4, 1, 1, 1], 1)}
    path = save(tmp_path / "m.onnx", nodes, {"x": X.shape}, ["y"], weights)
    proved(path, x=X)
