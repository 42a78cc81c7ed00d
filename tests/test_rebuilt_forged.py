"""Files that are forged so that what comes back is nearly what they are: no proof of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from keras import layers
from onnx import helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic

import convfc
from convfc.formats.keras.factored import merged
from convfc.formats.onnx.few_bits import unpack_products
from convfc.formats.onnx.runtimes import Session
from tests.onnx_models import save
from tests.test_revert import changed


@pytest.mark.parametrize("shape", [(9,), (9, 1)])
def test_scales_of_positions_are_none_of_filters(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """There are as many filters as positions, and the scales are nearly one."""
    weights = {"W": np.random.default_rng(0).normal(size=(9, 2, 3, 2)).astype(np.float32)}
    node = helper.make_node("Conv", ["x", "W"], ["y"], name="conv")
    path = save(tmp_path / "m.onnx", [node], {"x": [1, 2, 5, 4]}, ["y"], weights, opset=17)
    fc = tmp_path / "dynamic.onnx"
    quantize_dynamic(convfc.convert(path).out, fc, per_channel=True)

    def forge(model: onnx.ModelProto) -> None:
        (scales,) = [t for t in model.graph.initializer if t.name.endswith("matrix_scale")]
        numbers = np.linspace(0.01, 0.010001, 9, dtype=np.float32).reshape(shape)
        scales.CopyFrom(numpy_helper.from_array(numbers, scales.name))

    changed(fc, forge)
    (layer,) = convfc.revert(fc).layers
    assert ("no scale of its filters" in str(layer.way.reason)) is (len(shape) > 1)


@pytest.mark.parametrize(
    ("level", "zeros", "op"),
    [
        (0, "z", "MatMul"),
        (1, "", "MatMul"),
        (4, "z", "MatMulNBits"),
        (0, "computed", "MatMulNBits"),
    ],
)
def test_what_is_not_known_of_packed_weights(level: int, zeros: str, op: str) -> None:
    """Rows may be rounded, or zero points be computed."""
    stored = {"F": np.zeros((3, 1, 8), np.uint8), "s": np.ones(3, np.float32)}
    sizes: dict[str, Any] = {"K": 5, "N": 3, "bits": 4, "block_size": 16, "accuracy_level": level}
    given = ["x", *stored, zeros]
    node = helper.make_node("MatMulNBits", given, ["y"], domain="com.microsoft", **sizes)
    made = helper.make_node("Neg", ["z"], ["computed"])
    x, y = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in "xy")
    constants = [numpy_helper.from_array(np.asarray(v), name) for name, v in stored.items()]
    constants.append(numpy_helper.from_array(np.full(3, 7, np.uint8), "z"))
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([made, node], "g", [x], [y], constants)
    model = ir.from_proto(helper.make_model(graph, opset_imports=opsets))
    unpack_products(model, set())
    assert list(model.graph)[-1].op_type == op


@pytest.mark.parametrize(("dtype", "is_one"), [("float32", True), ("float16", False)])
def test_factors_of_other_types_are_no_product(dtype: str, is_one: bool) -> None:
    first = layers.Dense(2, use_bias=False, dtype=dtype)
    model = keras.Sequential([keras.Input((5,)), first, layers.Dense(3)])
    assert (merged(model) is not None) is is_one


@pytest.mark.parametrize("count", [6, 8])
def test_a_product_in_so_many_that_no_draw_could_tell(tmp_path: Path, count: int) -> None:
    weights = {"W": np.ones((3, 1, 1, 2), np.float32)}
    node = helper.make_node("Conv", ["x", "W"], ["y"], name="conv")
    path = save(tmp_path / "m.onnx", [node], {"x": ["n", 1, 5, 4]}, ["y"], weights, opset=17)
    fc = convfc.convert(path).out

    def split(model: onnx.ModelProto) -> None:
        graph = model.graph
        (product,) = [one for one in graph.node if one.op_type == "MatMul"]
        place, (rows, _), (end,) = list(graph.node).index(product), product.input, product.output
        graph.node.remove(product)
        del graph.value_info[:]
        for number in range(count):
            shape = 2 if number == 0 else 1, 3 if number == count - 1 else 1
            graph.initializer.append(numpy_helper.from_array(np.ones(shape, "f"), f"F{number}"))
            made = end if number == count - 1 else f"product{number}"
            new = helper.make_node("MatMul", [rows, f"F{number}"], [made])
            graph.node.insert(place + number, new)
            rows = made

    changed(fc, split)
    found = convfc.verify(fc, convfc.revert(fc).out, samples=1)
    assert found.verdict is convfc.Verdict.COULD_NOT_CHECK


def test_rows_are_not_rounded_where_a_matrix_is_dequantized(tmp_path: Path) -> None:
    """Which onnxruntime would do of itself, by 1e-3 of them."""
    random = np.random.default_rng(0)
    x, whole = random.normal(size=(3, 40)), random.integers(-100, 101, (40, 5))
    stored: dict[str, Any] = {"F": whole.astype(np.int8), "s": np.array(0.02, np.float32)}
    nodes = [
        helper.make_node("DequantizeLinear", ["F", "s"], ["f"]),
        helper.make_node("MatMul", ["x", "f"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"x": [3, 40]}, ["y"], stored, opset=21)
    (y,) = Session(path, "m").run(["y"], {"x": x.astype(np.float32)})
    np.testing.assert_allclose(y, x @ whole * 0.02, rtol=1e-4, atol=1e-4)
