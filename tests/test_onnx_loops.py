"""ONNX convolutions whose kernel a loop carries along: its shape is found by induction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import convfc
from tests.onnx_models import integers, model, same, value

KERNELS = {"W": np.sign(integers([6, 4, 2, 3], 1)), "V": np.sign(integers([6, 4, 2, 3], 2))}


def loop(path: Path, steps: list[onnx.NodeProto], *, other: tuple[int, ...] = (6, 4, 2, 3)) -> Path:
    """Two rounds in which W and V become what `steps` make of them."""
    body = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "W_in"], ["c"], name="conv", strides=[1, 2]),
            helper.make_node("ReduceSum", ["c"], ["total"], keepdims=0),
            helper.make_node("Add", ["sum", "total"], ["sum_out"]),
            helper.make_node("Identity", ["go_on"], ["go_on_out"]),
            *steps,
        ],
        "body",
        [
            value("i", [], TensorProto.INT64),
            value("go_on", [], TensorProto.BOOL),
            value("sum", []),
            value("W_in", None),
            value("V_in", None),
        ],
        [
            value("go_on_out", [], TensorProto.BOOL),
            value("sum_out", []),
            value("W_out", None),
            value("V_out", None),
        ],
    )
    names = ["two", "yes", "zero", "W", "V"]
    node = helper.make_node("Loop", names, ["y", "W_end", "V_end"], name="loop", body=body)
    constants = {
        **KERNELS,
        "V": KERNELS["V"][: other[0]],
        "two": np.array(2),
        "yes": np.array(True),
        "zero": np.array(0, np.float32),
    }
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(
        [node], "net", [value("x", ["n", 4, 5, 6])], [value("y", [])], tensors
    )
    return model(path, graph)


def become(w: str, v: str) -> list[onnx.NodeProto]:
    """What the kernels are in the next round, from W_in and V_in."""
    return [
        helper.make_node("Neg", [w], ["W_out"]),
        helper.make_node("Identity", [v], ["V_out"]),
    ]


@pytest.mark.parametrize("after", [("W_in", "V_in"), ("V_in", "W_in"), ("V_in", "V_in")])
def test_a_kernel_that_keeps_its_shape(tmp_path: Path, after: tuple[str, str]) -> None:
    path = loop(tmp_path / "m.onnx", become(*after))
    same(path, {"x": np.sign(integers([2, 4, 5, 6]))})
    found = convfc.verify(path, samples=2)
    assert found.proved, found.reason
    (layer,) = convfc.shapes(path)
    assert layer.site.sizes == (5, 6)


def test_a_kernel_whose_shape_changes_is_left(tmp_path: Path) -> None:
    """W keeps its shape if V does, which has another shape from the beginning."""
    swapped = loop(tmp_path / "swapped.onnx", become("V_in", "W_in"), other=(5, 4, 2, 3))
    twice = helper.make_node("Concat", ["W_in", "W_in"], ["W_out"], axis=0)
    grown = loop(tmp_path / "grown.onnx", [twice, *become("V_in", "V_in")[1:]])
    for path in (swapped, grown):
        (layer,) = convfc.shapes(path)
        assert "unknown before run time" in str(layer.reason)
