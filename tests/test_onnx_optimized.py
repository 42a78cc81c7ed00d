"""Files that onnxruntime's optimizer wrote: what it fused is taken apart again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc import Verdict
from tests.onnx_models import integers, operators, run, save
from tests.thinned import thinned

X = integers([2, 3, 6, 5])
WEIGHTS = {
    "W": integers([4, 3, 3, 2], 1),
    "B": integers([4], 2),
    "Z": integers([2, 4, 3, 6], 3),
}
SETTINGS: dict[str, Any] = {"strides": [2, 1], "pads": [0, 1, 1, 1]}


def fused(activation: str | None, parameters: list[float], inputs: str = "xWB") -> onnx.NodeProto:
    """A convolution with an activation; no letter but a space leaves an input out."""
    node = helper.make_node(
        "FusedConv",
        [name.strip() for name in inputs],
        ["y"],
        name="conv",
        domain="com.microsoft",
        **SETTINGS,
    )
    if activation is not None:
        node.attribute.append(helper.make_attribute("activation", activation))
    if parameters:
        node.attribute.append(helper.make_attribute("activation_params", parameters))
    return node


def file(path: Path, node: onnx.NodeProto, opset: int = 13) -> Path:
    last = helper.make_node("Mul", ["y", "Z"], ["z"], name="last")
    return save(path, [node, last], {"x": [2, 3, 6, 5]}, ["z"], WEIGHTS, opset=opset)


ACTIVATIONS: dict[str, tuple[str | None, list[float]]] = {
    "none": (None, []),
    "relu": ("Relu", []),
    "tanh": ("Tanh", []),
    "sigmoid": ("Sigmoid", []),
    "leaky": ("LeakyRelu", [0.1]),
    "clip": ("Clip", [-300.0, 600.0]),
    "hard": ("HardSigmoid", [0.001, 0.4]),
    "swish": ("HardSwish", []),
}


@pytest.mark.parametrize("opset", [7, 10, 13, 17])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_that_onnxruntime_fuses(tmp_path: Path, name: str, opset: int) -> None:
    path = file(tmp_path / "m.onnx", fused(*ACTIVATIONS[name]), opset)
    done = convfc.convert(path)
    assert done.complete
    assert "fused" in done.notes[0]
    assert not {"FusedConv", "Conv"} & operators(done.out)
    expected, found = run(path, x=X)[0], run(done.out, x=X)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("inputs", thinned(["xW", "xWB", "xWBZ", "xW Z"]))
def test_a_sum_that_is_fused_with_it(tmp_path: Path, inputs: str) -> None:
    path = file(tmp_path / "m.onnx", fused("Relu", [], inputs))
    done = convfc.convert(path)
    assert done.complete
    assert np.array_equal(run(path, x=X)[0], run(done.out, x=X)[0])
    assert convfc.verify(path, samples=3).equivalent


def test_what_is_skipped_is_in_standard_operators_too(tmp_path: Path) -> None:
    path = file(tmp_path / "m.onnx", fused("Clip", [-300.0, 600.0], "xWBZ"))
    out = convfc.convert(path, skip=["conv"]).out
    assert operators(out) == {"Conv", "Add", "Constant", "Clip", "Mul"}
    assert np.array_equal(run(path, x=X)[0], run(out, x=X)[0])
    assert convfc.verify(path, out, samples=3).equivalent


TWINS: dict[str, tuple[str | None, list[float], str]] = {
    "no activation": (None, [], "xWBZ"),
    "another activation": ("LeakyRelu", [0.1], "xWBZ"),
    "another limit": ("Clip", [-300.0, 601.0], "xWBZ"),
    "another limit below": ("Clip", [-301.0, 600.0], "xWBZ"),
    "no sum": ("Clip", [-300.0, 600.0], "xWB"),
    "no bias": ("Clip", [-300.0, 600.0], "xW Z"),
}


@pytest.mark.parametrize("name", thinned(TWINS))
def test_another_fusion_is_another_function(tmp_path: Path, name: str) -> None:
    """The file of one is held against the other, with and without samples."""
    path = file(tmp_path / "m.onnx", fused("Clip", [-300.0, 600.0], "xWBZ"))
    out = convfc.convert(path).out
    assert convfc.verify(path, out, samples=2).equivalent
    twin = file(tmp_path / "twin.onnx", fused(*TWINS[name]))
    for quick in (False, True):
        found = convfc.verify(twin, out, samples=2, quick=quick)
        assert found.verdict is not Verdict.EQUIVALENT


UNKNOWN: dict[str, onnx.NodeProto] = {
    "an activation": fused("Elu", [1.0]),
    "too few parameters": fused("Clip", [1.0]),
    "a number for a name": fused(None, []),
    "a setting": fused("Relu", []),
}
UNKNOWN["a number for a name"].attribute.append(helper.make_attribute("activation", 3))
UNKNOWN["a setting"].attribute.append(helper.make_attribute("beta", 3.0))


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_fused_in_an_unknown_way_is_left(tmp_path: Path, name: str) -> None:
    path = file(tmp_path / "m.onnx", UNKNOWN[name])
    (layer,) = convfc.shapes(path)
    assert "fused in a way that convfc does not know" in str(layer.reason)
    assert convfc.convert(path, partial=True, check=False).written


def test_fused_layers_in_branches_and_functions(tmp_path: Path) -> None:
    """Their new values have names that nothing has, there or around."""
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "te"]
    first, second = fused("Clip", [-300.0, 600.0]), fused("Relu", [])
    first.output[0], second.output[0] = "t", "e"
    branches = helper.make_node(
        "If",
        ["which"],
        ["y/conv"],
        then_branch=helper.make_graph([first], "t", [], outputs[:1]),
        else_branch=helper.make_graph([second], "e", [], outputs[1:]),
    )
    imports = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    body = [fused("LeakyRelu", [0.5])]
    function = helper.make_function("own", "Layer", ["x", "W", "B"], ["y"], body, imports)
    call = helper.make_node("Layer", ["x", "W", "B"], ["y"], domain="own", name="call")
    path = tmp_path / "m.onnx"
    which = numpy_helper.from_array(np.array(True), "which")
    graph = helper.make_graph(
        [branches, call, helper.make_node("Add", ["y/conv", "y"], ["z"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 6, 5])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [None] * 4)],
        [which, *(numpy_helper.from_array(WEIGHTS[name], name) for name in "WB")],
    )
    imports.append(helper.make_opsetid("own", 1))
    model = helper.make_model(graph, opset_imports=imports, functions=[function], ir_version=8)
    onnx.save(model, path)
    done = convfc.convert(path)
    assert done.complete
    assert len(done.layers) == 3
    assert "FusedConv" not in operators(done.out)
    np.testing.assert_allclose(run(done.out, x=X)[0], run(path, x=X)[0], rtol=1e-5)
    assert convfc.verify(path, samples=2).equivalent


def optimized(path: Path, level: str) -> Path:
    """A net as onnxruntime's own optimizer writes it."""
    nodes = [
        helper.make_node("Conv", ["x", "W", "B"], ["a"], name="first", **SETTINGS),
        helper.make_node("LeakyRelu", ["a"], ["b"], alpha=0.25),
        helper.make_node("Conv", ["b", "V", "B"], ["c"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "b"], ["d"]),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("Conv", ["e", "V"], ["f"], name="third", pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["f", "low", "high"], ["g"]),
        helper.make_node("AveragePool", ["g"], ["y"], kernel_shape=[2, 2]),
    ]
    weights = {
        "W": integers([64, 3, 3, 2], 1) / 32,
        "V": integers([64, 64, 3, 3], 2) / 512,
        "B": integers([64], 3),
        "low": np.array(-20, np.float32),
        "high": np.array(30, np.float32),
    }
    plain = save(path.with_name("plain.onnx"), nodes, {"x": ["n", 3, 6, "w"]}, ["y"], weights)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(plain), options, providers=["CPUExecutionProvider"])
    return path


def test_what_the_optimizer_itself_writes(tmp_path: Path) -> None:
    path = optimized(tmp_path / "m.onnx", "ORT_ENABLE_EXTENDED")
    assert "FusedConv" in operators(path)
    done = convfc.convert(path)
    assert done.complete
    assert len(done.layers) == 3
    found = run(done.out, x=X)[0]
    assert found.std() > 5
    np.testing.assert_allclose(found, run(path, x=X)[0], rtol=1e-4, atol=1e-3)
    assert convfc.verify(path, samples=2).equivalent


def test_what_it_lays_out_for_one_processor_is_left(tmp_path: Path) -> None:
    path = optimized(tmp_path / "m.onnx", "ORT_ENABLE_ALL")
    if not any(node.domain == "com.microsoft.nchwc" for node in onnx.load(path).graph.node):
        pytest.skip("on this processor onnxruntime has no such layout")
    done = convfc.convert(path)
    assert not done.complete
    left = [layer.reason for layer in done.layers if layer.reason is not None]
    assert left
    assert all("in blocks (NCHWc)" in reason for reason in left)


def test_a_function_of_the_file_that_is_called_like_a_fused_one(tmp_path: Path) -> None:
    """It is what its body says, or what a runtime takes it for: nobody takes it apart."""
    imports = [helper.make_opsetid("", 13)]
    body = [helper.make_node("Conv", ["x", "W", "B"], ["y"], name="inner", **SETTINGS)]
    function = helper.make_function(
        "com.microsoft", "FusedConv", ["x", "W", "B"], ["y"], body, imports
    )
    call = helper.make_node("FusedConv", ["x", "W", "B"], ["y"], domain="com.microsoft")
    path = tmp_path / "m.onnx"
    save(path, [call], {"x": [2, 3, 6, 5]}, ["y"], WEIGHTS, functions=[function])
    done = convfc.convert(path, partial=True)
    assert "FusedConv" in operators(done.out)
    assert not any("fused" in note for note in done.notes)


def quantized(path: Path, domain: str, *, last: bool, **more: Any) -> Path:
    """A convolution of 8-bit integers, perhaps with its channels last."""
    rng = np.random.default_rng(0)
    constants = {
        "xs": np.float32(0.5),
        "xz": np.uint8(7),
        "w": rng.integers(0, 255, (4, 3, 3, 2), dtype=np.uint8),
        "ws": np.float32(0.25),
        "wz": np.uint8(130),
        "ys": np.float32(20),
        "yz": np.uint8(99),
        "b": rng.integers(-99, 99, 4, dtype=np.int32),
    }
    node = helper.make_node(
        "QLinearConv", ["x", *constants], ["y"], name="conv", domain=domain, **SETTINGS, **more
    )
    shape = [2, 6, 5, 3] if last else [2, 3, 6, 5]
    graph = helper.make_graph(
        [node],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [None] * 4)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    imports = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    return path


@pytest.mark.parametrize("last", [False, True])
def test_its_own_quantized_convolution(tmp_path: Path, last: bool) -> None:
    path = quantized(tmp_path / "m.onnx", "com.microsoft", last=last, channels_last=int(last))
    done = convfc.convert(path)
    assert done.complete
    assert "QLinearConv" not in operators(done.out)
    shape = (2, 6, 5, 3) if last else (2, 3, 6, 5)
    x = np.random.default_rng(1).integers(0, 255, shape, dtype=np.uint8)
    found = run(done.out, x=x)[0]
    assert found.std() > 20
    assert np.array_equal(run(path, x=x)[0], found)
    assert convfc.verify(path, samples=2).equivalent


def test_channels_that_are_last_only_in_one_of_two(tmp_path: Path) -> None:
    """Sizes are chosen so that both fit."""
    first = quantized(tmp_path / "m.onnx", "com.microsoft", last=True, channels_last=1)
    model = onnx.load(first)
    for side in model.graph.input[0].type.tensor_type.shape.dim[1:]:
        side.dim_value = 3
    onnx.save(model, first)
    out = convfc.convert(first).out
    for attribute in model.graph.node[0].attribute:
        if attribute.name == "channels_last":
            attribute.i = 0
    onnx.save(model, tmp_path / "twin.onnx")
    assert convfc.verify(first, out, samples=2).equivalent
    found = convfc.verify(tmp_path / "twin.onnx", out, samples=2)
    assert found.verdict is not Verdict.EQUIVALENT


@pytest.mark.parametrize(
    ("domain", "kind", "words"),
    [
        ("com.microsoft.nchwc", "Conv", "in blocks (NCHWc)"),
        ("com.microsoft", "NhwcFusedConv", "channels are last"),
        ("com.microsoft", "NhwcConv", "channels are last"),
        ("qonnx.custom_op.channels_last", "Conv", "channels are last"),
        ("mmdeploy", "MMCVModulatedDeformConv2d", "knows no MMCVModulatedDeformConv2d of"),
        ("custom", "deconv", "knows no deconv of the domain 'custom'"),
    ],
)
def test_other_layouts_and_other_peoples_convolutions_are_left(
    tmp_path: Path, domain: str, kind: str, words: str
) -> None:
    node = helper.make_node(kind, ["x", "W"], ["y"], name="conv", domain=domain)
    path = save(tmp_path / "m.onnx", [node], {"x": ["n", 3, 6, 5]}, ["y"], WEIGHTS)
    done = convfc.convert(path)
    assert not done.complete
    assert [words in str(layer.reason) for layer in done.layers] == [True]


def test_what_only_begins_like_one_is_none(tmp_path: Path) -> None:
    """And a function of the model itself is looked into."""
    layer = helper.make_node("Conv", ["x", "W"], ["y"], name="conv", **SETTINGS)
    imports = [helper.make_opsetid("", 17)]
    function = helper.make_function("own", "Conv2d", ["x", "W"], ["y"], [layer], imports)
    call = helper.make_node("Conv2d", ["x", "W"], ["c"], name="call", domain="own")
    other = helper.make_node("Converter", ["c"], ["y"], domain="custom")
    path = tmp_path / "m.onnx"
    save(path, [call, other], {"x": ["n", 3, 6, 5]}, ["y"], WEIGHTS, functions=[function])
    assert [layer.site.name for layer in convfc.shapes(path)] == ["Conv2d/conv"]
