"""Proofs of converted files that other tools have given another form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantFormat, quantize_dynamic, quantize_static

import convfc
from convfc import Verdict
from convfc.formats.onnx.grids import rounded_once
from convfc.formats.protocols import Alignment
from convfc.verification.verdict import conclude
from tests.onnx_models import save
from tests.test_revert import changed, optimized
from tests.test_revert_forms import SHAPE, Samples, network, packed, split_in_two
from tests.thinned import thinned

pytestmark = pytest.mark.usefixtures("quiet")


def dynamic(fc: Path) -> Path:
    quantize_dynamic(fc, fc.with_name("dynamic.onnx"), per_channel=True)
    return fc.with_name("dynamic.onnx")


def static(fc: Path) -> Path:
    out = fc.with_name("static.onnx")
    kinds = ["MatMul"]
    quantize_static(fc, out, Samples(), quant_format=QuantFormat.QDQ, op_types_to_quantize=kinds)
    return out


def split(fc: Path) -> Path:
    changed(fc, split_in_two("first", 2))
    return fc


@pytest.mark.parametrize("tool", thinned([dynamic, split, static, packed]))
def test_a_file_in_another_form_and_what_comes_back(
    tmp_path: Path, tool: Callable[[Path], Path]
) -> None:
    """Proved both ways round; a number that moves a little is not."""
    fc = tool(convfc.convert(network(tmp_path / "m.onnx", opset=17)).out)
    back = convfc.revert(fc).out
    for pair in ((fc, back), (back, fc)):
        found = convfc.verify(*pair, samples=2)
        assert found.verdict is Verdict.EQUIVALENT, found.reason
        assert found.layers

    def nudge(model: onnx.ModelProto) -> None:
        (tensor,) = [t for t in model.graph.initializer if t.name == "B1"]
        numbers = numpy_helper.to_array(tensor).copy()
        numbers[0] *= 1 + 2**-20
        tensor.CopyFrom(numpy_helper.from_array(numbers, tensor.name))

    changed(back, nudge)
    assert convfc.verify(fc, back, samples=2).verdict is not Verdict.EQUIVALENT


def test_packed_weights_of_any_batch_without_a_bias(tmp_path: Path) -> None:
    """Standard shape inference does not know the product, so what is behind it had no sizes."""
    rng = np.random.default_rng(4)
    nodes = [
        helper.make_node("Conv", ["x", "W1"], ["y"], strides=[2, 1], pads=[1, 0, 0, 2]),
        helper.make_node("Relu", ["y"], ["r"]),
        helper.make_node("Conv", ["r", "W2"], ["z"]),
    ]
    weights = {"W1": rng.normal(size=(6, 3, 3, 2)), "W2": rng.normal(size=(5, 6, 2, 3))}
    given = {name: value.astype(np.float32) for name, value in weights.items()}
    path = tmp_path / "m.onnx"
    save(path, nodes, {"x": [None, 3, 9, 8]}, ["z"], given)
    fc = packed(convfc.convert(path, client="matmul-quantizer").out)
    found = convfc.verify(fc, convfc.revert(fc).out, samples=2)
    assert found.verdict is Verdict.EQUIVALENT, found.reason


def test_a_factor_is_said_to_be_one(tmp_path: Path) -> None:
    fc = split(convfc.convert(network(tmp_path / "m.onnx")).out)
    first, *rest = convfc.verify(fc, convfc.revert(fc).out, samples=2).layers
    assert first.structure == "its product is split"
    assert first.draws > 8
    assert first.chance is not None
    assert first.chance <= 1e-6
    assert all(layer.structure is None for layer in rest)


def quantized(path: Path) -> Path:
    """Two convolutions between quantizers, the first one's kernel of 8 bits with many scales."""
    random = np.random.default_rng(0)
    whole = random.integers(-100, 101, (5, 4, 3, 2)).astype(np.int8)
    weights: dict[str, Any] = {
        "W": whole,
        "steps": (random.random(5) / 50 + 0.01).astype(np.float32),
        "zeros": np.zeros(5, np.int8),
        "s": np.array(0.07, np.float32),
        "z": np.array(100, np.uint8),
        "V": random.normal(size=(3, 5, 1, 1)).astype(np.float32),
        "B": random.normal(size=3).astype(np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["W", "steps", "zeros"], ["w"], axis=0),
        helper.make_node("Conv", ["d", "w"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("QuantizeLinear", ["b", "s", "z"], ["p"]),
        helper.make_node("DequantizeLinear", ["p", "s", "z"], ["e"]),
        helper.make_node("Conv", ["e", "V", "B"], ["y"], name="second"),
    ]
    return save(path, nodes, {"x": [*SHAPE]}, ["y"], weights, opset=13)


@pytest.mark.parametrize("make", [network, quantized])
def test_after_the_basic_optimization_of_onnxruntime(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    """It fuses Gemms, quantizes between moves, and lays out weights before they are dequantized."""
    path = make(tmp_path / "m.onnx")
    basic = optimized(convfc.convert(path).out)
    found = convfc.verify(path, basic, samples=2)
    assert found.verdict is Verdict.EQUIVALENT, found.reason

    def nudge(model: onnx.ModelProto) -> None:
        """The last scale that rounds anything is another one."""
        (*_, last) = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "Relu")]
        if last.op_type == "Relu":
            last.op_type = "Tanh"
            return
        model.graph.initializer.append(numpy_helper.from_array(np.array(0.0701, "f"), "other"))
        last.input[1] = "other"

    changed(basic, nudge)
    assert convfc.verify(path, basic, samples=2).verdict is not Verdict.EQUIVALENT


def test_a_statement_that_has_no_ground_stays_one(tmp_path: Path) -> None:
    """What comes back states what the original does: the file is asked, too."""
    path = network(tmp_path / "m.onnx")
    basic = optimized(convfc.convert(path).out)

    def claim(model: onnx.ModelProto) -> None:
        gemm = next(n for n in model.graph.node if n.op_type == "Gemm")
        kept = [v for v in model.graph.value_info if v.name != gemm.output[0]]
        del model.graph.value_info[:]
        model.graph.value_info.extend(kept)
        told = helper.make_tensor_value_info(gemm.output[0], onnx.TensorProto.FLOAT, [36, 8])
        model.graph.value_info.append(told)

    changed(basic, claim)
    found = convfc.verify(path, basic, samples=2)
    assert found.verdict is Verdict.COULD_NOT_CHECK
    assert "do not follow" in str(found.reason)


@pytest.mark.parametrize(
    ("unknown", "verdict"), [((), "not equivalent"), (("n",), "could not check")]
)
def test_a_name_is_no_evidence_where_all_is_built_otherwise(
    unknown: tuple[str, ...], verdict: str
) -> None:
    found, why = conclude(Alignment((), ("its perm changed",), unknown), (), (), "agree", None)
    assert found.value == verdict
    assert "its perm changed" in str(why) or unknown


@pytest.mark.parametrize(
    ("scale", "again", "count"), [(0.07, 0.07, 1), (0.07, 0.0701, 2), (1e-44, 1e-44, 2)]
)
def test_what_is_rounded_twice(scale: float, again: float, count: int) -> None:
    """To one grid; another one stays, and so does one that does not round its own numbers so."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Transpose", ["d"], ["t"], perm=[1, 0]),
        helper.make_node("QuantizeLinear", ["t", "r", "z"], ["p"]),
        helper.make_node("DequantizeLinear", ["p", "r", "z"], ["e"]),
        helper.make_node("Neg", ["e"], ["y"]),
    ]
    stored = {"s": np.float32(scale), "r": np.float32(again), "z": np.uint8(7)}
    constants = [numpy_helper.from_array(np.asarray(v), name) for name, v in stored.items()]
    x, y = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [2, 3]) for n in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model = ir.from_proto(made)
    rounded_once(model, {})
    assert sum(node.op_type == "QuantizeLinear" for node in model.graph) == count
