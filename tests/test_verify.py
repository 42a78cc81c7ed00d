"""`convfc.verify`: which files, which samples, which verdict."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc import FileError, UnsupportedModelError, UsageError, Verdict, convolution
from convfc.cli.verification_tables import verification_summary
from convfc.formats.onnx.runtimes import run_anywhere
from tests.onnx_models import FLOAT, conv_file, integers, save

Array = NDArray[Any]
CONV = convolution([3, 2], channels=1, filters=3, strides=[1, 2])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """One convolution, not yet converted."""
    return conv_file(tmp_path / "net.onnx", CONV, (9, 8))


def edit_weight(path: Path, change: float) -> None:
    """Add to the first number of the filter matrix."""
    model = onnx.load(path)
    weight = next(w for w in model.graph.initializer if w.data_type == FLOAT and len(w.dims) == 2)
    array = numpy_helper.to_array(weight).copy()
    array.flat[0] += change
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    onnx.save(model, path)


def test_a_true_conversion(model: Path) -> None:
    out = convfc.convert(model).out
    seen: list[str] = []
    result = convfc.verify(model, out, samples=40, progress=seen.append)
    assert result.verdict is Verdict.EQUIVALENT
    assert (result.original, result.converted) == (model, out)
    assert result.samples == 40
    assert "layer 1 of 1: conv" in seen
    assert seen[-2:] == ["sample 32 of 40", "the original in float64"]
    assert result.proved
    layer = result.layers[0]
    assert (layer.name, layer.kind, layer.parameters_equal) == ("conv", "Conv", True)
    assert layer.chance is not None
    assert layer.chance < 1e-6
    assert layer.share is not None
    assert 0 <= layer.share <= 1
    assert "MNIST" in result.fed[0]
    assert result.notes == ()
    assert result.outputs[0].name == "y"


@pytest.mark.parametrize("change", [1.0, np.nan, np.inf])
def test_a_wrong_weight(model: Path, change: float) -> None:
    out = convfc.convert(model).out
    edit_weight(out, change)
    result = convfc.verify(model, out)
    assert result.verdict is Verdict.NOT_EQUIVALENT
    assert "layer 'conv': its parameters are not the convolution's" in str(result.reason)
    compared = convfc.verify(model, out, rtol=1e-4)
    assert compared.verdict is Verdict.NOT_EQUIVALENT
    assert not compared.proved
    assert "output 'y'" in str(compared.reason)
    assert compared.outputs[0].witness is not None


def test_one_file_finds_the_other(model: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="convert it first"):
        convfc.verify(model)
    out = convfc.convert(model).out
    for given in (model, out):
        result = convfc.verify(given)
        assert (result.original, result.converted) == (model, out)
    elsewhere = convfc.convert(model, tmp_path / "other.onnx").out
    assert convfc.verify(elsewhere).original == model
    model.rename(tmp_path / "gone.onnx")
    with pytest.raises(FileError, match=r"'net\.onnx', which is not beside it"):
        convfc.verify(elsewhere)


def test_a_converted_file_may_be_converted_again(model: Path) -> None:
    once = convfc.convert(model).out
    twice = convfc.convert(once).out
    for given in ([once, twice], [twice, once], [twice]):
        result = convfc.verify(*given, samples=4)
        assert (result.original, result.converted) == (once, twice)
        assert result.equivalent


def test_a_folder(model: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no model that convfc made"):
        convfc.verify_folder(tmp_path)
    convfc.convert(model)
    wrong = convfc.convert(model, tmp_path / "wrong.onnx").out
    edit_weight(wrong, 1.0)
    (tmp_path / "cut.onnx").write_bytes(wrong.read_bytes()[:99])
    results = convfc.verify_folder(tmp_path, samples=8)
    assert [(result.converted.name, result.verdict) for result in results] == [
        ("cut.onnx", Verdict.COULD_NOT_CHECK),
        ("net_fc.onnx", Verdict.EQUIVALENT),
        ("wrong.onnx", Verdict.NOT_EQUIVALENT),
    ]


def test_an_original_that_has_changed_is_told(model: Path) -> None:
    out = convfc.convert(model).out
    changed = onnx.load(model)
    changed.doc_string = "new words"
    onnx.save(changed, model)
    result = convfc.verify(model, out)
    assert result.verdict is Verdict.EQUIVALENT  # nobody computes with a description
    assert result.notes == (
        "'net.onnx' has changed since it was converted",
        "the model's doc_string changed",
    )


def relu(path: Path, inputs: list[str], output: str, op: str = "Relu") -> Path:
    node = helper.make_node(op, inputs, [output])
    return save(path, [node], {name: [None, 1, 5, 5] for name in inputs}, [output], {})


def test_other_inputs_or_outputs_are_no_equivalence(tmp_path: Path) -> None:
    a = relu(tmp_path / "a.onnx", ["x"], "y")
    for name, other in (
        ("input", relu(tmp_path / "b.onnx", ["z"], "y")),
        ("output", relu(tmp_path / "c.onnx", ["x"], "z")),
    ):
        result = convfc.verify(a, other)
        assert result.verdict is Verdict.NOT_EQUIVALENT
        assert f"the {name}s are" in str(result.reason)
    assert convfc.verify(a, relu(tmp_path / "d.onnx", ["x"], "y", "Identity")).equivalent


def test_samples_shapes_and_inputs_reach_the_model(tmp_path: Path) -> None:
    a = conv_file(tmp_path / "a.onnx", CONV, (None, None))
    out = convfc.convert(a).out
    result = convfc.verify(a, out, shapes={"x": [4, 1, 12, 13]}, samples=4)
    assert "4x1x12x13" in result.fed[0]
    result = convfc.verify(a, out, inputs={"x": np.ones((2, 1, 6, 7), np.float32)})
    assert result.samples == 2
    data = tmp_path / "data.npy"
    np.save(data, np.zeros((3, 9, 9), np.float32))
    assert convfc.verify(a, out, data=data).samples == 3


def test_what_cannot_be_checked(model: Path, tmp_path: Path) -> None:
    convfc.convert(model)
    with pytest.raises(UsageError, match="at least 1"):
        convfc.verify(model, samples=0)
    node = helper.make_node("Mystery", ["x"], ["y"], domain="their.own")
    path = save(tmp_path / "custom.onnx", [node], {"x": [1, 2]}, ["y"], {})
    with pytest.raises(UnsupportedModelError, match="onnxruntime cannot load it"):
        convfc.verify(path, path)


def test_a_converted_model_that_does_not_run_is_not_passed(tmp_path: Path) -> None:
    path = conv_file(tmp_path / "m.onnx", convolution([3, 2], channels=2, filters=3), (7, 8))
    out = convfc.convert(path).out
    model = onnx.load(out)
    for weight in model.graph.initializer:
        numbers = onnx.numpy_helper.to_array(weight)
        if "shape" in weight.name:
            weight.CopyFrom(onnx.numpy_helper.from_array(numbers - (numbers == -1), weight.name))
    onnx.save(model, out)
    result = convfc.verify(path, out, samples=2)
    assert result.verdict is Verdict.COULD_NOT_CHECK
    assert result.reason is not None


def test_what_cannot_run_as_a_whole_is_proved_layer_by_layer(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mystery", ["x"], ["m"], domain="their.own", name="custom"),
        # onnxruntime has no SAME with a dilation; onnx's reference evaluator has.
        helper.make_node("Conv", ["m", "W"], ["y"], auto_pad="SAME_UPPER", dilations=[2, 1]),
    ]
    weights = {"W": integers([3, 2, 3, 2])}
    path = save(tmp_path / "m.onnx", nodes, {"x": ["n", 2, 7, 8]}, ["y"], weights)
    model = onnx.load(path)
    model.graph.value_info.append(helper.make_tensor_value_info("m", FLOAT, [None, 2, 7, 8]))
    onnx.save(model, path)
    done = convfc.convert(path)
    assert done.complete
    result = convfc.verify(path)
    assert result.verdict is Verdict.EQUIVALENT, result.reason
    assert result.proved
    assert result.outputs == ()
    assert any("cannot run as a whole" in note for note in result.notes)
    assert verification_summary(result).endswith("but no sample could be run through both")
    edit_weight(done.out, 1e-6)
    assert convfc.verify(path).verdict is Verdict.NOT_EQUIVALENT


@pytest.fixture
def winograd(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime whose convolutions, not its products, are off by a thousandth here and there."""

    def run(
        proto: onnx.ModelProto, names: Sequence[str], feed: Mapping[str, Array], name: str
    ) -> list[Array]:
        found = run_anywhere(proto, names, feed, name)
        if proto.graph.node[-1].op_type == "Conv":
            found[0].flat[::5] *= np.float32(1.001)
        return found

    monkeypatch.setattr("convfc.formats.onnx.layer_pair.run_anywhere", run)


@pytest.mark.usefixtures("winograd")
def test_a_runtime_that_is_not_exact_on_integers(model: Path) -> None:
    out = convfc.convert(model, patches="gather").out
    for quick in (False, True):
        result = convfc.verify(model, out, quick=quick)
        assert result.verdict is Verdict.EQUIVALENT, result.reason
        (layer,) = result.layers
        assert layer.inexact == ("original",)
        assert layer.share is not None
        assert layer.share <= 1
    changed = onnx.load(out)
    index = next(t for t in changed.graph.initializer if t.data_type == TensorProto.INT32)
    array = numpy_helper.to_array(index).copy()
    array[0] += 1
    index.CopyFrom(numpy_helper.from_array(array, index.name))
    onnx.save(changed, out)
    for quick in (False, True):
        result = convfc.verify(model, out, quick=quick)
        assert result.verdict is Verdict.NOT_EQUIVALENT
        assert "layer 'conv': it differs" in str(result.reason)
        assert result.layers[0].witness is not None


@pytest.mark.parametrize("kind", ["ConvInteger", "QLinearConv"])
def test_quantized_layers(tmp_path: Path, kind: str) -> None:
    random = np.random.default_rng(6)
    constants: dict[str, Array] = {
        "xs": np.array(0.1, np.float32),
        "xz": np.array(7, np.uint8),
        "W": random.integers(-128, 128, (3, 2, 3, 2)).astype(np.int8),
        "ws": np.array(0.02, np.float32),
        "wz": np.array(0, np.int8),
        "ys": np.array(1.5, np.float32),
        "yz": np.array(90, np.uint8),
    }
    names = ["x", *constants] if kind == "QLinearConv" else ["x", "W", "xz", "wz"]
    of_y = TensorProto.UINT8 if kind == "QLinearConv" else TensorProto.INT32
    graph = helper.make_graph(
        [helper.make_node(kind, names, ["y"], name="it", pads=[1, 0, 0, 1])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["n", 2, 6, 7])],
        [helper.make_tensor_value_info("y", of_y, ["n", 3, None, None])],
        [numpy_helper.from_array(constants[name], name) for name in names[1:]],
    )
    path = tmp_path / "m.onnx"
    opset = helper.make_opsetid("", 19)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    out = convfc.convert(path, patches="gather").out
    x = random.integers(0, 256, (4, 2, 6, 7)).astype(np.uint8)
    result = convfc.verify(path, out, inputs={"x": x})
    assert result.equivalent, result.reason
    (layer,) = result.layers
    assert layer.parameters_equal
    assert layer.share is None
    if kind == "ConvInteger":
        assert layer.chance == pytest.approx((2 / 256) ** 3)
        assert layer.draws == 3
    else:
        assert layer.chance is None
        assert layer.draws > 4
    true = onnx.load(out)
    for name, reason in (
        ("matrix", "are not the convolution's"),
        ("index", "differs from the conv"),
    ):
        changed = copy.deepcopy(true)
        tensor = next(t for t in changed.graph.initializer if name in t.name)
        array = numpy_helper.to_array(tensor).copy()
        array.flat[-2:] = array.flat[[-1, -2]]
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        onnx.save(changed, out)
        result = convfc.verify(path, out, inputs={"x": x})
        assert result.verdict is Verdict.NOT_EQUIVALENT, result.reason
        assert reason in str(result.reason)
    onnx.save(true, out)
    assert convfc.verify(path, out, inputs={"x": x}).equivalent


def test_text_elsewhere_in_the_model(model: Path) -> None:
    texts = [np.array(words, object) for words in (["yes", "no"], ["yes", "ja"])]
    original = onnx.load(model)
    original.graph.initializer.append(numpy_helper.from_array(texts[0], "labels"))
    onnx.save(original, model)
    out = convfc.convert(model).out
    assert convfc.verify(model, out).equivalent
    changed = onnx.load(out)
    labels = next(t for t in changed.graph.initializer if t.name == "labels")
    labels.CopyFrom(numpy_helper.from_array(texts[1], "labels"))
    onnx.save(changed, out)
    assert "initializer 'labels' differs in element 1" in str(convfc.verify(model, out).reason)
