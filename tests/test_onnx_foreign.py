"""Operators that only some library knows, around convolutions: what shapes they have is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc import Verdict
from tests.onnx_models import integers, run, save

X = integers([1, 3, 8, 7])
KERNEL = integers([4, 3, 3, 2], 1)
_CONV: dict[str, Any] = {"name": "conv", "strides": [2, 1], "pads": [0, 1, 1, 0]}
QUANTIZERS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "Quant": (["scale", "zero", "bits"], {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"}),
    "IntQuant": (["scale", "zero", "bits"], {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"}),
    "BipolarQuant": (["scale"], {}),
}


@pytest.mark.parametrize("domain", ["qonnx.custom_op.general", "onnx.brevitas"])
@pytest.mark.parametrize("kind", QUANTIZERS)
def test_kernels_and_images_behind_quantizers(tmp_path: Path, kind: str, domain: str) -> None:
    """No runtime runs the file; the domain has no version in it, as Brevitas wrote it."""
    more, settings = QUANTIZERS[kind]
    weights = {
        "W": KERNEL,
        "scale": np.array([[[[0.5]]]], np.float32),
        "zero": np.zeros((), np.float32),
        "bits": np.array(4, np.float32),
    }
    nodes = [
        helper.make_node(kind, ["x", *more], ["q"], name="image", domain=domain, **settings),
        helper.make_node(kind, ["W", *more], ["V"], name="kernel", domain=domain, **settings),
        helper.make_node("Conv", ["q", "V"], ["y"], **_CONV),
    ]
    path = tmp_path / "m.onnx"
    save(path, nodes, {"x": ["n", 3, 8, 7]}, ["y"], weights)
    model = onnx.load(path)
    del model.opset_import[1:]
    onnx.save(model, path)
    done = convfc.convert(path)
    assert done.complete
    assert done.layers[0].site.sizes == (8, 7)
    assert convfc.verify(path).equivalent
    twin = onnx.load(done.out)
    scale = next(tensor for tensor in twin.graph.initializer if tensor.name == "scale")
    scale.CopyFrom(numpy_helper.from_array(np.array([[[[0.25]]]], np.float32), "scale"))
    onnx.save(twin, done.out)
    assert convfc.verify(path).verdict is Verdict.NOT_EQUIVALENT


def test_a_function_of_the_file_that_is_called_like_one(tmp_path: Path) -> None:
    """It is what its body says: here it makes an image smaller."""
    domain = "qonnx.custom_op.general"
    imports = [helper.make_opsetid("", 17)]
    body = [helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2])]
    function = helper.make_function(domain, "Quant", ["a"], ["b"], body, imports)
    nodes = [
        helper.make_node("Quant", ["x"], ["q"], domain=domain),
        helper.make_node("Conv", ["q", "W"], ["y"], **_CONV),
    ]
    path = tmp_path / "m.onnx"
    save(path, nodes, {"x": ["n", 3, 8, 7]}, ["y"], {"W": KERNEL}, functions=[function])
    done = convfc.convert(path)
    assert done.layers[0].site.sizes != (8, 7)
    assert np.array_equal(run(path, x=X)[0], run(done.out, x=X)[0])
    assert convfc.verify(path, samples=2).equivalent


@pytest.mark.parametrize("kind", ["Gelu", "FastGelu", "QuickGelu"])
def test_activations_of_onnxruntime(tmp_path: Path, kind: str) -> None:
    nodes = [
        helper.make_node(kind, ["x"], ["a"], domain="com.microsoft"),
        helper.make_node("Conv", ["a", "W"], ["y"], **_CONV),
    ]
    path = tmp_path / "m.onnx"
    save(path, nodes, {"x": ["n", 3, 8, 7]}, ["y"], {"W": KERNEL})
    done = convfc.convert(path)
    assert done.layers[0].site.sizes == (8, 7)
    np.testing.assert_allclose(run(done.out, x=X)[0], run(path, x=X)[0], rtol=1e-4, atol=1e-3)
    assert convfc.verify(path, samples=2).equivalent


def test_sizes_behind_quantized_operators_of_onnxruntime(tmp_path: Path) -> None:
    """Each between two convolutions of 8-bit integers, as its quantizer writes them."""
    rng = np.random.default_rng(0)
    constants: dict[str, np.ndarray[Any, Any]] = {
        "s": np.array(0.5, np.float32),
        "z": np.array(9, np.uint8),
        "w": rng.integers(0, 255, (6, 6, 3, 2), dtype=np.uint8),
    }
    scale = ["s", "z"]

    def its(kind: str, inputs: list[str], output: str, **settings: Any) -> onnx.NodeProto:
        return helper.make_node(kind, inputs, [output], domain="com.microsoft", **settings)

    def conv(x: str, y: str, kernel: str = "w") -> onnx.NodeProto:
        inputs = [x, *scale, kernel, *scale, *scale]
        return helper.make_node("QLinearConv", inputs, [y], name=f"to {y}", pads=[1, 0, 1, 1])

    halved = {"kernel_shape": [2, 2], "strides": [2, 1]}
    nodes = [
        its("QLinearSigmoid", ["x", *scale, *scale], "a"),
        conv("a", "b"),
        its("QLinearAdd", ["b", *scale, "x", *scale, *scale], "c"),
        conv("c", "d"),
        its("QLinearConcat", [*scale, "c", *scale, "d", *scale], "e", axis=2),
        conv("e", "f"),
        its("QLinearAveragePool", ["f", *scale, *scale], "g", **halved),
        conv("g", "h"),
        its("QLinearGlobalAveragePool", ["h", *scale, *scale], "i", channels_last=0),
        its("QLinearMul", ["h", *scale, "i", *scale, *scale], "j"),
        its("QLinearLeakyRelu", ["j", *scale, *scale], "k", alpha=0.5),
        conv("k", "y"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["n", 6, 8, 7])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    imports = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    done = convfc.convert(path)
    sizes = [layer.site.sizes for layer in done.layers]
    assert sizes == [(8, 7), (8, 7), (16, 7), (8, 6), (8, 6)]
    x = rng.integers(0, 255, (2, 6, 8, 7), dtype=np.uint8)
    assert np.array_equal(run(path, x=x)[0], run(done.out, x=x)[0])
    assert convfc.verify(path, samples=2).equivalent
