"""In the dense form, what is affine around convolutions is part of a matrix."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

import convfc
from convfc import Verdict
from convfc.errors import ConversionError, UsageError
from convfc.formats.onnx import affine
from convfc.formats.onnx.known_values import Known
from convfc.formats.provenance import KEY
from tests.onnx_models import Array, run, save
from tests.program import Here
from tests.thinned import thinned

PLAIN = {"Reshape", "MatMul", "Add", "Mul", "Relu", "Sigmoid", "Gemm", "Flatten"}
WEIGHTS: dict[str, Array] = {}


def numbers(name: str, *shape: int, low: float = -1) -> None:
    random = np.random.default_rng(len(WEIGHTS))
    WEIGHTS[name] = random.uniform(low, 1, shape).astype(np.float32)


def whole(name: str, *values: int) -> None:
    WEIGHTS[name] = np.array(values, np.int64)


numbers("W", 4, 2, 3, 2)
numbers("b", 4)
numbers("T", 2, 3, 2, 3)  # transposed: 2 channels to 6 filters, in 2 groups
numbers("L", 5, 2, 2, 3)
for letter, channels in (("", 4), ("2", 2), ("6", 6)):
    for one in ("scale", "shift", "mean"):
        numbers(one + letter, channels)
    numbers("variance" + letter, channels, low=0.1)
numbers("few", 3, 44)
numbers("many", 140, 3)
numbers("wide", 3, 140)
numbers("shift3", 3)
numbers("rows", 56, 3)
whole("pads", 0, 0, 1, 2, 0, 0, 0, 3)
whole("crop", 0, 0, -1, 2, 0, 0, 0, -3)
whole("flat", -1, 56)
whole("one", 1)
whole("cut", 0, 0, -1, -1, 0, 0, -1, -1)
numbers("K", 2, 1, 2, 2)
whole("three", 3, 4, 10, 14)
numbers("M", 3, 5, 2, 2)
WEIGHTS["twice"] = np.array([1, 1, 2, 3], np.float32)
WEIGHTS["zero"] = np.array(0, np.float32)
NORM = "scale{0} shift{0} mean{0} variance{0}"


def node(op: str, inputs: str, output: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(" "), [output], name=f"n_{output}", **attributes)


CASES: dict[str, Sequence[onnx.NodeProto]] = {
    "a normalized convolution": [
        node("Conv", "x W b", "c", strides=[2, 1]),
        node("BatchNormalization", "c " + NORM.format(""), "n", epsilon=0.01),
        node("Relu", "n"),
    ],
    "a normalized transposed one in groups": [
        node("ConvTranspose", "x T", "c", group=2, strides=[1, 2]),
        node("BatchNormalization", "c " + NORM.format("6"), "n"),
        node("Relu", "n"),
    ],
    "a normalization alone": [
        node("BatchNormalization", "x " + NORM.format("2"), "n"),
        node("Relu", "n", "r"),
        node("Conv", "r W"),
    ],
    "an average": [
        node("AveragePool", "x", kernel_shape=[2, 3], strides=[2, 1]),
    ],
    "an average of what is there": [
        node("AveragePool", "x", kernel_shape=[2, 3], strides=[1, 2], pads=[1, 1, 0, 2]),
    ],
    "an average of pads, too": [
        node("AveragePool", "x", kernel_shape=[3, 3], pads=[0, 1, 2, 1], count_include_pad=1),
    ],
    "an average by a rule": [
        node("AveragePool", "x", kernel_shape=[2, 3], strides=[2, 3], auto_pad="SAME_LOWER"),
    ],
    "an average whose output is rounded up to no effect": [
        node("AveragePool", "x", kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1),
    ],
    "an average of all": [
        node("Conv", "x W", "c"),
        node("Relu", "c", "r"),
        node("GlobalAveragePool", "r"),
    ],
    "a mean of all": [node("ReduceMean", "x", axes=[-1, 2], keepdims=0)],
    "pads of a convolution": [node("Pad", "x pads", "p"), node("Conv", "p W", pads=[1, 0, 0, 2])],
    "pads of an average": [
        node("Pad", "x pads zero", "p"),
        node("AveragePool", "p", kernel_shape=[2, 2]),
    ],
    "a crop before pads": [node("Pad", "x crop", "p"), node("Conv", "p W", pads=[1, 0, 0, 3])],
    "a crop": [node("Pad", "x crop", "p"), node("Sigmoid", "p")],
    "blocks of pixels": [
        node(
            *("Resize", "x  twice"),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
    ],
    "blocks of pixels by centres": [node("Resize", "x  twice", mode="nearest")],
    "nothing": [
        node("Identity", "x", "i"),
        node("Conv", "i W", "c"),
        node("Dropout", "c", "d"),
        node("Relu", "d"),
    ],
    "other axes before a product": [
        node("AveragePool", "x", "a", kernel_shape=[1, 2], strides=[1, 2]),
        node("Transpose", "a", "t", perm=[0, 2, 3, 1]),
        node("Reshape", "t flat", "f"),
        node("MatMul", "f rows"),
    ],
    "other sizes": [
        node("Conv", "x L", "c", pads=[0, 1, 1, 1]),
        node("Relu", "c", "r"),
        node("Unsqueeze", "r one", "u"),
        node("Sigmoid", "u", "s"),
        node("Squeeze", "s one", "z"),
        node("Conv", "z M"),
    ],
}


def file(path: Path, nodes: Sequence[onnx.NodeProto], *sizes: int) -> Path:
    read = {name for one in nodes for name in one.input}
    weights = {name: array for name, array in WEIGHTS.items() if name in read}
    return save(path, nodes, {"x": ["n", *(sizes or (2, 7, 8))]}, ["y"], weights)


def image(*sizes: int) -> Array:
    shape = (3, *(sizes or (2, 7, 8)))
    return np.random.default_rng(7).uniform(-1, 1, shape).astype(np.float32)


def proved(path: Path, x: Array, **options: Any) -> list[str]:
    """The operators of the dense form, which is proved and gives the same numbers."""
    done = convfc.convert(path, form="dense", force=True, **options)
    assert done.complete
    assert done.layers
    rows = x.reshape(len(x), -1) if options.get("flat_io") else x
    (expected,), (got,) = run(path, x=x), run(done.out, x=rows)
    assert np.abs(got.reshape(expected.shape) - expected).max() < 2e-6
    found = convfc.verify(path, done.out, samples=3)
    assert found.verdict is Verdict.EQUIVALENT, found.reason
    return [one.op_type for one in onnx.load(done.out).graph.node]


@pytest.mark.parametrize("case", thinned(CASES))
def test_an_affine_operator_is_a_matrix(case: str, tmp_path: Path) -> None:
    operators = proved(file(tmp_path / "m.onnx", CASES[case]), image())
    assert not {*operators} - PLAIN
    assert operators.count("Reshape") <= 2  # at the ends


def test_a_whole_net_is_a_chain(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", "x", "t", perm=[0, 3, 1, 2]),
        node("Pad", "t pads", "p"),
        node("Conv", "p W b", "c", strides=[2, 1]),
        node("BatchNormalization", "c " + NORM.format(""), "n"),
        node("Relu", "n", "r"),
        node("AveragePool", "r", "a", kernel_shape=[2, 2], strides=[2, 1]),
        node("Transpose", "a", "k", perm=[0, 2, 3, 1]),
        node("Flatten", "k", "f"),
        node("Gemm", "f few", transB=1),
    ]
    path = file(tmp_path / "m.onnx", nodes, 7, 8, 2)
    operators = proved(path, image(7, 8, 2), flat_io=True)
    assert operators == ["MatMul", "Add", "Relu", "MatMul", "MatMul"]


@pytest.mark.parametrize(
    ("inputs", "attributes", "expected"),
    [
        ("f wide", {"transB": 1}, ["MatMul"]),
        ("f many shift3", {}, ["MatMul", "Add"]),
        ("f wide shift3", {"transB": 1, "alpha": 1.0}, ["MatMul", "Add"]),
        ("f many shift3", {"alpha": 0.5}, ["Gemm"]),
        ("f many shift3", {"beta": 2.0}, ["Gemm"]),
    ],
)
def test_gemm_is_a_product_and_a_sum(
    tmp_path: Path, inputs: str, attributes: dict[str, Any], expected: list[str]
) -> None:
    nodes = [node("Conv", "x W b", "c"), node("Flatten", "c", "f")]
    path = file(tmp_path / "m.onnx", [*nodes, node("Gemm", inputs, **attributes)])
    assert proved(path, image())[-len(expected) :] == expected


LEFT: dict[str, Sequence[onnx.NodeProto]] = {
    "rounded up": [
        node("AveragePool", "c", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    ],
    "between pixels": [node("Resize", "c  twice", mode="linear")],
    "as many samples as sizes say": [
        node("Resize", "c   three", mode="nearest", coordinate_transformation_mode="half_pixel"),
    ],
    "a mirror": [node("Pad", "c pads", mode="reflect")],
    "an axis alone": [node("ReduceMean", "c", axes=[2])],
    "a pool": [node("MaxPool", "c", kernel_shape=[2, 2])],
    "channels among the pixels": [node("Transpose", "c", perm=[0, 2, 1, 3])],
}


@pytest.mark.parametrize("case", LEFT)
def test_what_is_none_stays(case: str, tmp_path: Path) -> None:
    path = file(tmp_path / "m.onnx", [node("Conv", "x W", "c"), *LEFT[case]])
    assert LEFT[case][0].op_type in proved(path, image())


@pytest.mark.parametrize("kernel", thinned([[2, 2], [3, 1], [1, 4], [3, 2]], 4))
@pytest.mark.parametrize("relu", ["before", "behind"])
def test_a_max_pool_in_relu(kernel: list[int], relu: str, tmp_path: Path) -> None:
    pool: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": [2, 1],
        "pads": [kernel[0] - 1, 0, 0, kernel[1] // 2],
    }
    nodes = {
        "before": [node("Relu", "x", "r"), node("MaxPool", "r", **pool)],
        "behind": [node("MaxPool", "x", "m", **pool), node("Relu", "m")],
    }
    path = file(tmp_path / "m.onnx", nodes[relu])
    assert {*proved(path, image(), max_pool="relu")} == {"Reshape", "MatMul", "Relu"}
    assert {*proved(path, image(), max_pool="relu", flat_io=True)} == {"MatMul", "Relu"}


def test_a_max_pool_of_negative_numbers_stays(tmp_path: Path) -> None:
    nodes = [node("Conv", "x W", "c"), node("MaxPool", "c", kernel_shape=[2, 2])]
    assert "MaxPool" in proved(file(tmp_path / "m.onnx", nodes), image(), max_pool="relu")


def test_rows_in_and_out(tmp_path: Path) -> None:
    path = file(tmp_path / "m.onnx", [node("Conv", "x W b", "c"), node("Relu", "c")])
    assert proved(path, image(), flat_io=True) == ["MatMul", "Add", "Relu"]
    graph = onnx.load(tmp_path / "m_fc.onnx").graph
    shapes = [
        [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    ]
    assert shapes == [[0, 112], [0, 140]]


@pytest.mark.parametrize(
    "case", ["a normalized convolution", "a normalization alone", "an average"]
)
def test_one_bit_is_seen(case: str, tmp_path: Path) -> None:
    path = file(tmp_path / "m.onnx", CASES[case])
    done = convfc.convert(path, form="dense")
    for number, tensor in enumerate(onnx.load(done.out).graph.initializer):
        array = numpy_helper.to_array(tensor).copy()
        if array.dtype == np.float32 and array.size:
            place = np.unravel_index(np.abs(array).argmax(), array.shape)
            array[place] = np.nextafter(array[place], np.float32(9))
            model = onnx.load(done.out)
            model.graph.initializer[number].CopyFrom(numpy_helper.from_array(array, tensor.name))
            onnx.save(model, tmp_path / "other_fc.onnx")
            found = convfc.verify(path, tmp_path / "other_fc.onnx", samples=2)
            assert found.verdict is Verdict.NOT_EQUIVALENT, tensor.name


@pytest.mark.parametrize("claim", [{"affine": False}, {"flat_io": True}, {"max_pool": "relu"}])
def test_a_record_cannot_make_it_equivalent(claim: dict[str, Any], tmp_path: Path) -> None:
    """Another function stays one, whatever is claimed of how the original is to be read."""
    path = file(tmp_path / "m.onnx", CASES["a normalized convolution"])
    done = convfc.convert(path, form="dense")
    model = onnx.load(done.out)
    bias = next(one for one in model.graph.initializer if one.name.endswith("bias"))
    bias.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(bias), bias.name))
    (record,) = (entry for entry in model.metadata_props if entry.key == KEY)
    record.value = json.dumps({**json.loads(record.value), **claim})
    onnx.save(model, tmp_path / "m_fc.onnx")
    assert convfc.verify(path, tmp_path / "m_fc.onnx", samples=2).verdict is not Verdict.EQUIVALENT


def test_the_commands(tmp_path: Path, here: Here) -> None:
    path = file(tmp_path / "m.onnx", CASES["an average of all"])
    done = here(
        "convert", path.name, "--form", "dense", "--flat-io", "--max-pool", "relu", cwd=tmp_path
    )
    assert done.returncode == 0
    assert "'x' is flat now: a row has its 2x7x8 in that order." in done.stdout
    assert "1 GlobalAveragePool" in done.stdout
    told = here("shapes", path.name, "--form", "dense", cwd=tmp_path)
    assert "n_y" in told.stdout  # the average, as a layer
    with pytest.raises(UsageError, match="--form patches does not go with --flat-io"):
        convfc.convert(path, flat_io=True)


def test_a_rule_that_is_wrong_is_found_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is read and what is written agree. The file does not, but where edges are black."""
    monkeypatch.setattr(affine, "_OTHERS", {"Pad": wrong_crop})
    nodes = [node("Pad", "x cut", "p"), node("Conv", "p K", pads=[1, 1, 1, 1])]
    path = file(tmp_path / "m.onnx", nodes, 1, 28, 28)
    with pytest.raises(ConversionError, match="not the same function"):
        convfc.convert(path, form="dense")
    done = convfc.convert(path, form="dense", check=False)
    found = convfc.verify(path, done.out, samples=3)
    assert found.verdict is not Verdict.EQUIVALENT
    assert "on random numbers" in (found.reason or "")


def wrong_crop(known: Known, pad: ir.Node) -> bool:
    """What is cut off is put there again as it was."""
    conv = known.only_reader(pad.outputs[0])
    assert conv is not None
    conv.attributes.add(ir.AttrInt64s("pads", [0, 0, 0, 0]))
    conv.replace_input_with(0, pad.inputs[0])
    known.remove(pad)
    return True


@pytest.mark.parametrize("kernel", ["T", "V"])
def test_rows_of_the_size_that_runtimes_make(kernel: str, tmp_path: Path) -> None:
    """Of SAME with output_padding, shape inference of onnx tells another size."""
    padded = {"auto_pad": "SAME_UPPER", "output_padding": [1, 2]}
    nodes = [
        node("Abs", "T", "V"),  # known only after some inference
        node("ConvTranspose", f"x {kernel}", "c", group=2, strides=[2, 4], **padded),
        node("Relu", "c"),
    ]
    path = file(tmp_path / "m.onnx", nodes)
    assert "MatMul" in proved(path, image(), flat_io=True)
    made = onnx.load(tmp_path / "m_fc.onnx").graph.output[0].type.tensor_type.shape.dim
    assert made[1].dim_value == 6 * 14 * 32
