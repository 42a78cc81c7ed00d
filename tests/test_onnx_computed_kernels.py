"""Kernels that the graph computes: dequantized in blocks, normalized, chosen by an If."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc import Verdict
from tests.onnx_models import operators
from tests.thinned import thinned

FLOAT = TensorProto.FLOAT
SHAPE = [4, 8, 3, 3]
RANGES: dict[int, tuple[int, int]] = {
    TensorProto.INT8: (-127, 127),
    TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-999, 999),
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT4: (0, 15),
    TensorProto.INT2: (-2, 1),
    TensorProto.UINT2: (0, 3),
    TensorProto.FLOAT8E4M3FN: (-9, 9),
}


def proved(
    path: Path, nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto], opset: int = 21
) -> None:
    """With these nodes making its kernel, a convolution is converted and proved."""
    conv = helper.make_node("Conv", ["x", "W"], ["y"], name="conv", pads=[1] * 4)
    graph = helper.make_graph(
        [*nodes, conv],
        "net",
        [helper.make_tensor_value_info("x", FLOAT, [1, 8, 6, 6])],
        [helper.make_tensor_value_info("y", FLOAT, [1, 4, 6, 6])],
        weights,
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    done = convfc.convert(path)
    assert done.complete, [layer.reason for layer in done.layers]
    assert "Conv" not in operators(done.out)
    assert convfc.verify(path, done.out).verdict is Verdict.EQUIVALENT


def normal(name: str, *shape: int) -> onnx.TensorProto:
    numbers = np.random.default_rng(len(name)).normal(size=shape)
    return numpy_helper.from_array(numbers.astype(np.float32), name)


@pytest.mark.parametrize("dtype", thinned(RANGES))
def test_kernels_that_are_dequantized_in_blocks(tmp_path: Path, dtype: int) -> None:
    """Each scale is of four channels."""
    rng, (low, high) = np.random.default_rng(0), RANGES[dtype]
    numbers = rng.integers(low, high + 1, SHAPE).ravel().tolist()
    kernel = helper.make_tensor("Q", dtype, SHAPE, numbers)
    scales = numpy_helper.from_array(rng.uniform(0.1, 1, (4, 2, 3, 3)).astype(np.float32), "s")
    node = helper.make_node("DequantizeLinear", ["Q", "s"], ["W"], axis=1, block_size=4)
    small = dtype in (TensorProto.INT2, TensorProto.UINT2)
    proved(tmp_path / "m.onnx", [node], [kernel, scales], opset=25 if small else 21)


def test_a_kernel_that_is_normalized_in_the_graph(tmp_path: Path) -> None:
    """As PyTorch's weight_norm is exported: g v / |v|, a norm for each filter."""
    axes = numpy_helper.from_array(np.array([1, 2, 3]), "axes")
    nodes = [
        helper.make_node("ReduceL2", ["v", "axes"], ["norm"], keepdims=1),
        helper.make_node("Div", ["v", "norm"], ["unit"]),
        helper.make_node("Mul", ["unit", "g"], ["W"]),
    ]
    proved(tmp_path / "m.onnx", nodes, [normal("v", *SHAPE), normal("g", 4, 1, 1, 1), axes])


@pytest.mark.parametrize("chosen", [True, False])
def test_a_kernel_that_an_if_chooses(tmp_path: Path, chosen: bool) -> None:
    made = helper.make_tensor_value_info("b", FLOAT, SHAPE)
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("Identity", [kernel], ["b"])], name, [], [made]
        )
        for name, kernel in (("then", "one"), ("else", "other"))
    }
    weights = [normal("one", *SHAPE), normal("other", *SHAPE)]
    weights.append(numpy_helper.from_array(np.array(chosen), "yes"))
    node = helper.make_node("If", ["yes"], ["W"], name="if", **branches)
    proved(tmp_path / "m.onnx", [node], weights)
