"""There and back: what `revert` makes of converted ONNX files."""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.quantization.quant_utils import QuantFormat

import convfc
from convfc import Change, Code, ConversionError, Fate, FileError, UsageError, Verdict, convolution
from convfc.formats.provenance import KEY, Provenance
from convfc.reversion import reverting
from tests.onnx_fields import fields
from tests.onnx_layers import random_layer
from tests.onnx_models import (
    CONV,
    KERNEL,
    Array,
    attributes,
    conv_file,
    conv_node,
    integers,
    model,
    operators,
    run,
    save,
    value,
)
from tests.program import SAMPLES, Here
from tests.thinned import thinned

NET = convolution([2, 3], channels=4, filters=4, strides=[1, 2], padding=[(1, 0), (0, 1)], groups=2)


def there_and_back(path: Path, **options: Any) -> convfc.Reversion:
    """A file that comes back as it was."""
    done = convfc.convert(path, force=True, check=False, **options)
    assert done.complete, [layer.reason for layer in done.layers]
    back = convfc.revert(done.out, force=True)
    assert back.complete, [layer.way.reason for layer in back.layers]
    assert {layer.way.change for layer in back.layers} == {Change.NOTHING}
    assert fields(back.out) == fields(path)
    return back


def changed(path: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    made = onnx.load(path)
    change(made)
    onnx.save(made, path)


def network(path: Path, opset: int = 17) -> Path:
    """Two convolutions with what moves between them: constants and axes are written anew."""
    weights = {
        "W1": integers([4, 2, 2, 3], 1),
        "B1": integers([4], 2),
        "scale": integers([4, 1, 1], 3),
        "W2": integers([6, 4, 3, 1], 4),
    }
    nodes = [
        helper.make_node("Conv", ["x", "W1", "B1"], ["a"], name="first", **attributes(NET)),
        helper.make_node("Relu", ["a"], ["b"], name="relu", doc_string="kept"),
        helper.make_node("Mul", ["b", "scale"], ["c"], name="scaled"),
        helper.make_node("Conv", ["c", "W2"], ["d"], name="second", pads=[1, 0, 0, 0]),
        helper.make_node("Sigmoid", ["d"], ["y"]),
    ]
    return save(path, nodes, {"x": ["n", 4, 5, 6]}, ["y"], weights, opset=opset)


@pytest.mark.parametrize("name", ["mnist_cnn", "paper_autoencoder"])
def test_the_samples_come_back(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes((SAMPLES / f"{name}.onnx").read_bytes())
    there_and_back(path)


@pytest.mark.parametrize(
    "options",
    thinned(
        [
            {},
            {"patches": "slice"},
            {"patches": "gather", "patch_memory": 500},
            {"client": "matmul-quantizer"},
        ]
    ),
)
@pytest.mark.parametrize("opset", [6, 9, 13, 21])
def test_every_opset_and_way_to_write_a_layer(
    tmp_path: Path, opset: int, options: dict[str, Any]
) -> None:
    there_and_back(network(tmp_path / "m.onnx", opset), **options)


@pytest.mark.parametrize("seed", thinned(range(60)))
def test_random_layers_come_back(tmp_path: Path, seed: int) -> None:
    layer = random_layer(Random(seed))  # noqa: S311 - nothing is secret here
    path = tmp_path / "m.onnx"
    onnx.save(layer.model, path)
    if convfc.convert(path, patches=layer.patches, check=False, force=True).complete:
        there_and_back(path, patches=layer.patches)


@pytest.mark.parametrize("seed", thinned(range(80)))
def test_dense_layers_come_back(tmp_path: Path, seed: int) -> None:
    """Numbers that lie in many places, and zero points between them."""
    layer = random_layer(Random(seed))  # noqa: S311 - nothing is secret here
    path = tmp_path / "m.onnx"
    onnx.save(layer.model, path)
    if seed != UNMET and convfc.convert(path, form="dense", check=False, force=True).complete:
        there_and_back(path, form="dense")


def test_what_was_folded_stays_so(tmp_path: Path) -> None:
    """The dense form takes a normalization into the kernel: its own numbers are nowhere."""
    weights = {name: abs(integers([3], seed)) + 1 for seed, name in enumerate("sbmv")}
    nodes = [
        helper.make_node("Conv", ["x", "W"], ["a"], name="conv", strides=[2, 1]),
        helper.make_node("BatchNormalization", ["a", *"sbmv"], ["y"], name="norm"),
    ]
    weights["W"] = integers([3, 2, 2, 3])
    path = save(tmp_path / "m.onnx", nodes, {"x": ["n", 2, 5, 6]}, ["y"], weights, opset=17)
    back = convfc.revert(convfc.convert(path, form="dense").out)
    assert operators(back.out) == {"Conv"}
    (note,) = back.notes
    assert note.startswith("What was affine in the original was read as convolutions")


UNMET = 8
"""Of this layer, a tap meets no input, only pads: it is not in the matrix."""


def test_a_tap_that_meets_no_input_is_zero(tmp_path: Path) -> None:
    layer = random_layer(Random(UNMET))  # noqa: S311 - nothing is secret here
    path = tmp_path / "m.onnx"
    onnx.save(layer.model, path)
    back = convfc.revert(convfc.convert(path, form="dense").out, verify=True)
    assert back.complete
    found, was = stored(back.out)["W"], stored(path)["W"]
    assert np.array_equal(found[found != 0], was[found != 0])
    assert (was[found == 0] != 0).any()


def test_a_dense_matrix_whose_entries_disagree_is_left(tmp_path: Path) -> None:
    path = conv_file(tmp_path / "m.onnx", convolution([2, 2], channels=2, filters=3), (4, 4))
    fc = convfc.convert(path, form="dense").out

    def change(made: onnx.ModelProto) -> None:
        (tensor,) = [t for t in made.graph.initializer if t.name == "conv/dense_matrix"]
        numbers = numpy_helper.to_array(tensor).copy()
        numbers[0, 0] += 1
        tensor.CopyFrom(numpy_helper.from_array(numbers, tensor.name))

    assert convfc.revert(fc).complete
    changed(fc, change)
    (layer,) = convfc.revert(fc, force=True).layers
    assert layer.fate is Fate.LEFT


@pytest.mark.parametrize("groups", [1, 2])
def test_weights_in_four_bits_stay_so(tmp_path: Path, groups: int) -> None:
    """By onnxruntime's own quantizer: the kernel is laid out in the graph."""
    conv = convolution([3, 2], channels=8, filters=4, strides=[2, 1], groups=groups)
    path = conv_file(tmp_path / "m.onnx", conv, (7, 6))
    fc = convfc.convert(path).out
    if groups == 1:
        quantizer = MatMulNBitsQuantizer(onnx.load(fc), 4, 16, quant_format=QuantFormat.QDQ)
        quantizer.process()
        quantizer.model.save_model_to_file(str(fc))
    else:  # of a batch of matrices it makes nothing
        changed(fc, in_eight_bits)
    back = convfc.revert(fc)
    (layer,) = back.layers
    assert (layer.fate, layer.way.change) == (Fate.REVERTED, Change.FORM)
    laid_out = {"Reshape", "Transpose"} if groups == 1 else set()  # blocks have scales of their own
    assert operators(back.out) == {"Conv", "DequantizeLinear"} | laid_out
    bits = {TensorProto.INT4, TensorProto.UINT4} if groups == 1 else {TensorProto.INT8}
    assert bits & {t.data_type for t in onnx.load(back.out).graph.initializer}
    x = np.random.default_rng(0).random((2, 8, 7, 6), np.float32)
    # onnxruntime would make a product of its own of four bits, which rounds its input, too.
    before, after = (as_written(file, x) for file in (fc, back.out))
    assert np.allclose(before, after, rtol=1e-5, atol=1e-4)
    assert not np.allclose(run(path, x=x)[0], run(back.out, x=x)[0], rtol=1e-5, atol=1e-4)


def as_written(path: Path, x: Array) -> Array:
    """The output of a file without any optimization."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    found: Array = onnxruntime.InferenceSession(str(path), options).run(None, {"x": x})[0]
    return found


def optimized(path: Path) -> Path:
    """What onnxruntime's basic optimization makes of a file, beside it."""
    options = onnxruntime.SessionOptions()
    basic = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.graph_optimization_level = basic
    made = path.with_name(f"optimized_{path.name}")
    options.optimized_model_filepath = str(made)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(path), options)
    return made


def test_a_file_that_onnxruntime_optimized(tmp_path: Path) -> None:
    """It makes Gemms, adds up index maps, cuts weights into rows, and writes defaults down."""
    path = tmp_path / "m.onnx"
    path.write_bytes((SAMPLES / "mnist_cnn.onnx").read_bytes())
    made = optimized(convfc.convert(path).out)
    back = convfc.revert(made)
    assert back.complete
    assert {layer.way.change for layer in back.layers} == {Change.NOTHING}
    x = np.random.default_rng(0).random((2, 1, 28, 28), np.float32)
    assert np.allclose(run(path, image=x)[0], run(back.out, image=x)[0], rtol=0, atol=1e-6)
    found, was = stored(back.out), stored(path)
    assert {name for name in was if not np.array_equal(was[name], found[name])} == set()


def in_eight_bits(made: onnx.ModelProto) -> None:
    (tensor,) = [t for t in made.graph.initializer if t.name == "conv/filter_matrix"]
    numbers = numpy_helper.to_array(tensor)
    made.graph.initializer.remove(tensor)
    stored = np.round(numbers / 0.3).clip(-128, 127).astype(np.int8)
    made.graph.initializer.append(numpy_helper.from_array(stored, "quantized"))
    made.graph.initializer.append(numpy_helper.from_array(np.array(0.3, np.float32), "scale"))
    node = helper.make_node("DequantizeLinear", ["quantized", "scale"], ["conv/filter_matrix"])
    made.graph.node.insert(0, node)


def test_a_matrix_that_depends_on_the_data_is_no_kernel(tmp_path: Path) -> None:
    path = conv_file(tmp_path / "m.onnx", convolution([2, 2], channels=2, filters=3), (4, 4))
    fc = convfc.convert(path).out

    def change(made: onnx.ModelProto) -> None:
        (tensor,) = [t for t in made.graph.initializer if t.name == "conv/filter_matrix"]
        tensor.name = "matrix"
        nodes = [
            helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
            helper.make_node("Mul", ["matrix", "largest"], ["conv/filter_matrix"]),
        ]
        for node in reversed(nodes):
            made.graph.node.insert(0, node)

    changed(fc, change)
    (layer,) = convfc.revert(fc).layers
    assert layer.fate is Fate.LEFT


def test_branches_functions_and_constants_come_back(tmp_path: Path) -> None:
    kernel = helper.make_node("Constant", [], ["K"], value=numpy_helper.from_array(KERNEL, "K"))
    branches = {}
    for name in ("then_branch", "else_branch"):
        node = conv_node(W="K" if name == "then_branch" else "W", y=f"{name}_y")
        node.name = "same name"
        nodes = [kernel, node] if name == "then_branch" else [node]
        branches[name] = helper.make_graph(nodes, name, [], [value(f"{name}_y")])
    inner = [kernel, conv_node(W="K"), helper.make_node("Relu", ["y"], ["z"])]
    function = helper.make_function(
        "here", "block", ["x"], ["z"], inner, [helper.make_opsetid("", 21)]
    )
    graph = helper.make_graph(
        [
            helper.make_node("If", ["c"], ["a"], name="choice", **branches),
            helper.make_node("block", ["x"], ["b"], domain="here", name="call"),
            helper.make_node("Add", ["a", "b"], ["y"]),
        ],
        "net",
        [value("c", [], TensorProto.BOOL), value("x", ["n", 4, 5, 6])],
        [value("y")],
        [numpy_helper.from_array(KERNEL + 1, "W")],
    )
    back = there_and_back(model(tmp_path / "m.onnx", graph, functions=[function]))
    assert len(back.layers) == 3


def test_weights_in_a_file_of_their_own_come_back(tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx")
    made = onnx.load(path)
    onnx.save(made, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    back = there_and_back(path)
    assert any(
        t.data_location for t in onnx.load(back.out, load_external_data=False).graph.initializer
    )


def test_a_kernel_that_two_layers_share_is_one_again(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "W", "B"], ["a"], name="one", strides=[2, 1]),
        helper.make_node("Conv", ["x", "W"], ["b"], name="two", dilations=[1, 2]),
        helper.make_node("Concat", ["a", "b"], ["y"], axis=-1, name="join"),
    ]
    nodes[1].attribute.extend([helper.make_attribute("strides", [2, 1])])
    weights = {"W": integers([4, 3, 2, 2], 1), "B": integers([4], 2)}
    path = save(tmp_path / "m.onnx", nodes, {"x": ["n", 3, 6, 6]}, ["y"], weights)
    back = there_and_back(path)

    def other(made: onnx.ModelProto) -> None:
        """One of the matrices changes, if there are two; they may share one."""
        (first, *more) = [t for t in made.graph.initializer if t.name.endswith("filter_matrix")]
        first.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(first) * 2, first.name))
        assert not more

    fc = tmp_path / "m_fc.onnx"
    changed(fc, other)
    assert convfc.revert(fc).complete
    assert np.array_equal(weights["W"] * 2, stored(back.out)["W"])


def stored(path: Path) -> dict[str, Any]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def test_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    """Pruned, and a bias trained: zeros stay zeros."""
    path = network(tmp_path / "m.onnx")
    fc = convfc.convert(path).out

    def train(made: onnx.ModelProto) -> None:
        for tensor in made.graph.initializer:
            numbers = numpy_helper.to_array(tensor).copy()
            if tensor.name == "first/filter_matrix":
                numbers[abs(numbers) < 10] = 0
            elif tensor.name == "B1":
                numbers += 1
            tensor.CopyFrom(numpy_helper.from_array(numbers, tensor.name))

    changed(fc, train)
    done = convfc.revert(fc)
    assert [layer.way.change.value for layer in done.layers] == ["numbers", "nothing"]
    found, was = stored(done.out), stored(path)
    assert np.array_equal(found["W1"], np.where(abs(was["W1"]) < 10, 0, was["W1"]))
    assert np.array_equal(found["B1"], was["B1"] + 1)
    x = integers([2, 4, 5, 6])
    assert np.allclose(run(fc, x=x)[0], run(done.out, x=x)[0], rtol=0, atol=1e-6)
    assert {node.op_type for node in onnx.load(done.out).graph.node} >= {"Conv", "Mul", "Relu"}
    verified = convfc.verify(fc, done.out)
    assert verified.verdict is Verdict.EQUIVALENT
    assert len(verified.layers) == 2


def test_zeros_that_no_kernel_has_must_be_zeros(tmp_path: Path) -> None:
    """Of three taps with stride two, one phase has one: the other place in it is no weight."""
    node = helper.make_node("ConvTranspose", ["x", "W"], ["y"], name="up", strides=[2])
    path = save(tmp_path / "m.onnx", [node], {"x": ["n", 2, 5]}, ["y"], {"W": integers([2, 1, 3])})
    there_and_back(path)

    def put(number: float) -> Callable[[onnx.ModelProto], None]:
        def change(made: onnx.ModelProto) -> None:
            (tensor,) = [t for t in made.graph.initializer if t.name == "up/filter_matrix"]
            numbers = numpy_helper.to_array(tensor).copy()
            numbers[numbers == 0] = number
            tensor.CopyFrom(numpy_helper.from_array(numbers, tensor.name))

        return change

    fc = tmp_path / "m_fc.onnx"
    changed(fc, put(-0.0))
    assert convfc.revert(fc).complete
    changed(fc, put(0.5))
    (layer,) = convfc.revert(fc).layers
    assert layer.way.refusal is not None
    assert layer.way.refusal.code is Code.NO_CONVOLUTION
    assert "numbers where a convolution of its size has zeros" in layer.way.refusal.reason


def with_dropout(made: onnx.ModelProto) -> None:
    """Noise on the patches, which no convolution has."""
    (product,) = [n for n in made.graph.node if n.input[0] == "second/patch_matrix"]
    place = list(made.graph.node).index(product)
    noise = helper.make_node("Sqrt", [product.input[0]], ["noisy"], name="noise")
    product.input[0] = "noisy"
    made.graph.node.insert(place, noise)


def test_what_is_no_convolution_any_more_is_left(tmp_path: Path) -> None:
    fc = convfc.convert(network(tmp_path / "m.onnx")).out
    changed(fc, with_dropout)
    done = convfc.revert(fc)
    assert not done.written
    assert not done.out.exists()
    assert [layer.fate for layer in done.layers] == [Fate.REVERTED, Fate.LEFT]
    assert "'noise' is a Sqrt" in str(done.layers[1].way.reason)
    half = convfc.revert(fc, partial=True)
    assert half.written
    assert not half.complete
    assert operators(half.out) >= {"Conv", "MatMul", "Sqrt"}
    x = abs(integers([2, 4, 5, 6]))
    assert np.array_equal(run(fc, x=x)[0], run(half.out, x=x)[0], equal_nan=True)


def test_a_part_of_the_layers_and_later_the_rest(tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx")
    fc = convfc.convert(path).out
    some = convfc.revert(fc, tmp_path / "some.onnx", skip="first")
    assert [layer.fate for layer in some.layers] == [Fate.SKIPPED, Fate.REVERTED]
    assert convfc.verify(path, some.out).equivalent
    rest = convfc.revert(some.out)
    assert rest.complete
    assert fields(rest.out) == fields(path)


def test_a_record_without_an_outline_takes_the_original(tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx")
    fc = convfc.convert(path).out

    def older(made: onnx.ModelProto) -> None:
        (entry,) = [entry for entry in made.metadata_props if entry.key == KEY]
        entry.value = replace(Provenance.from_json(entry.value, fc), outline="").to_json()

    changed(fc, older)
    assert fields(convfc.revert(fc).out) == fields(path)
    moved = path.rename(tmp_path / "elsewhere.onnx")
    with pytest.raises(FileError, match="does not tell what the original looked like") as caught:
        convfc.revert(fc)
    assert caught.value.code is Code.NO_OUTLINE
    assert "--like" in str(caught.value)
    assert fields(convfc.revert(fc, like=moved).out) == fields(moved)
    path.write_bytes(conv_file(tmp_path / "other.onnx", CONV, (5, 6)).read_bytes())
    with pytest.raises(FileError):  # what lies beside it is another file
        convfc.revert(fc)
    left = convfc.revert(fc, like=path)
    assert [layer.way.reason for layer in left.layers] == [
        "there is no convolution of that name in the original"
    ] * 2


@pytest.mark.parametrize("outline", ["x", "AAAA", "eJwzAAAAMQAx"])
def test_a_damaged_outline(tmp_path: Path, outline: str) -> None:
    fc = convfc.convert(network(tmp_path / "m.onnx")).out

    def damage(made: onnx.ModelProto) -> None:
        (entry,) = [entry for entry in made.metadata_props if entry.key == KEY]
        entry.value = json.dumps({**json.loads(entry.value), "outline": outline})

    changed(fc, damage)
    with pytest.raises(FileError, match="the outline in it") as caught:
        convfc.revert(fc)
    assert caught.value.code is Code.RECORD


def test_an_outline_that_contradicts_itself(tmp_path: Path) -> None:
    """What the record says beside it is no way around: no runtime would take the convolution."""
    fc = convfc.convert(network(tmp_path / "m.onnx")).out

    def forge(made: onnx.ModelProto) -> None:
        (entry,) = [entry for entry in made.metadata_props if entry.key == KEY]
        record = json.loads(entry.value)
        outline = onnx.ModelProto.FromString(zlib.decompress(b64decode(record["outline"])))
        outline.graph.node[0].attribute.append(helper.make_attribute("kernel_shape", [1, 1]))
        packed = zlib.compress(outline.SerializeToString())
        entry.value = json.dumps({**record, "outline": b64encode(packed).decode()})

    changed(fc, forge)
    first, _ = convfc.revert(fc).layers
    assert first.way.refusal is not None
    assert first.way.refusal.code is Code.CONTRADICTION


def test_files_that_have_no_way_back(tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx")
    with pytest.raises(FileError, match="was not made by convfc") as caught:
        convfc.revert(path)
    assert caught.value.code is Code.NO_OUTLINE
    fc = convfc.convert(path).out
    back = convfc.revert(fc).out
    with pytest.raises(UsageError, match="was made by revert"):
        convfc.revert(back)
    assert convfc.revert(fc).written  # what revert wrote is ours to replace
    again = convfc.convert(back)
    assert fields(convfc.revert(again.out, tmp_path / "b.onnx").out) == fields(path)
    with pytest.raises(FileError, match="not made by convfc"):
        convfc.revert(fc, path)
    with pytest.raises(UsageError, match="never overwrites"):
        convfc.revert(fc, fc)


def test_another_function_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fc = convfc.convert(network(tmp_path / "m.onnx")).out
    monkeypatch.setattr(
        "convfc.formats.onnx.laid_out.put_back", lambda x, shape, *_: x.reshape(shape)
    )
    with pytest.raises(ConversionError, match="the reverted model is not the same function"):
        convfc.revert(fc)
    assert convfc.revert(fc, verify=True).written is False
    assert not (tmp_path / "m_conv.onnx").exists()


def test_the_verdict_names_the_file_that_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no record tells which of the two is the original, and they stand as they came."""
    fc = convfc.convert(network(tmp_path / "m.onnx")).out
    seen = convfc.verify(fc)
    for first, second in (("original", "converted"), ("converted", "original")):
        monkeypatch.setattr(
            "convfc.reversion.verify_files",
            lambda a, b, names=(first, second), **_: replace(
                seen, **dict(zip(names, (a, b), strict=True))
            ),
        )
        back = convfc.revert(fc, verify=True).verification
        assert (getattr(back, first), getattr(back, second)) == (fc, tmp_path / "m_conv.onnx")


def test_reverting_has_the_arguments_of_revert() -> None:
    of_both = [signature(function).parameters for function in (convfc.revert, reverting)]
    assert of_both[0] == of_both[1]


def test_the_program(tmp_path: Path, golden: Callable[[str, str], None], here: Here) -> None:
    fc = convfc.convert(network(tmp_path / "m.onnx")).out
    done = here("revert", fc.name, "--verify", "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert (told["written"], told["verification"]["verdict"]) == (True, "equivalent")
    assert [layer["changed"] for layer in told["layers"]] == ["nothing", "nothing"]
    changed(fc, with_dropout)
    done = here("revert", fc.name, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    golden("revert", done.stdout)
    assert here("revert", fc.name, "--only", "nobody", cwd=tmp_path).returncode == 2
