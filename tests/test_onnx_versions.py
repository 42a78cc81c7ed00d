"""Every opset and IR version: the forms that operators and weights have there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import convfc
from tests.onnx_models import (
    CONV,
    KERNEL,
    X,
    attributes,
    conv_file,
    integers,
    model,
    operators,
    run,
    run_anywhere,
    same,
    save,
    value,
)
from tests.thinned import thinned


@pytest.mark.parametrize("opset", range(1, onnx.defs.onnx_opset_version() + 1))
def test_every_opset(tmp_path: Path, opset: int) -> None:
    path = conv_file(tmp_path / "m.onnx", CONV, (5, None), opset=opset)
    proto = onnx.load(path)
    proto.ir_version = 8 if opset < 24 else 13
    onnx.save(proto, path)
    done = convfc.convert(path)
    assert done.complete
    after = onnx.load(done.out).opset_import[0].version
    assert after == max(opset, 7), "before, nothing slices with steps"
    assert bool(done.notes) == (opset < 7)
    one, other = run_anywhere([path, done.out], {"x": X})
    assert np.array_equal(one[0], other[0])


STYLE = [
    helper.make_node("ImageScaler", ["x"], ["a"], name="s", scale=0.5, bias=[1.0, 2.0, 3.0]),
    helper.make_node("Affine", ["a"], ["b"], name="affine", alpha=2.0, beta=1.0),
    helper.make_node("Pad", ["b"], ["c"], pads=[0, 0, 1, 2, 0, 0, 2, 1], mode="reflect"),
    helper.make_node("Conv", ["c", "W"], ["d"], name="conv", strides=[2, 1], auto_pad="SAME_UPPER"),
    helper.make_node("Upsample", ["d"], ["e"], name="larger", scales=[1.0, 1.0, 2.0, 1.0]),
    helper.make_node(
        "ConvTranspose", ["e", "V"], ["f"], name="up", strides=[2, 1], output_shape=[23, 14]
    ),
    helper.make_node("Crop", ["f"], ["y"], name="crop", border=[1, 0, 2, 3]),
]
"""A net of 2018 on images of any size, of operators that later versions have not."""


@pytest.mark.parametrize("ir_version", thinned([3, 4]))
def test_experimental_operators_where_the_opset_is_raised(
    tmp_path: Path, ir_version: int, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = {"W": integers([4, 3, 3, 2], 1), "V": integers([4, 2, 3, 2], 2)}
    path = save(
        tmp_path / "m.onnx",
        STYLE,
        {"x": ["n", 3, "h", "w"]},
        ["y"],
        weights,
        opset=7,
        ir_version=ir_version,
        overridable=ir_version == 3,
    )
    done = convfc.convert(path)
    assert done.complete
    assert capfd.readouterr() == ("", ""), "onnx's checker warns of them in C++"
    assert any("from 7 to 11" in note for note in done.notes)
    assert not {node.op_type for node in STYLE} & operators(done.out) - {"Pad"}
    x = integers([2, 3, 9, 11])
    assert np.array_equal(run(path, x=x)[0], run(done.out, x=x)[0])
    shape = {"x": [1, 3, 9, 11]}
    assert convfc.verify(path, samples=2, shapes=shape).equivalent
    twin = onnx.load(done.out)
    for node in twin.graph.node:
        if node.op_type == "Constant" and "a/bias" in node.output:
            node.attribute[0].t.CopyFrom(numpy_helper.from_array(np.ones((3, 1, 1), np.float32)))
    onnx.save(twin, done.out)
    found = convfc.verify(path, done.out, samples=2, shapes=shape)
    assert found.verdict is convfc.Verdict.NOT_EQUIVALENT


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.FLOAT])
def test_bounds_and_fillings_keep_their_type_where_the_opset_is_raised(
    tmp_path: Path, kind: int
) -> None:
    """They were attributes, and are operands of the type of the data."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    half: Any = {"auto_pad": "SAME_UPPER", "strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", ["x", "W"], ["a"], name="conv", **half),
        helper.make_node("Clip", ["a"], ["b"], min=0.0),
        helper.make_node("Pad", ["b"], ["y"], pads=[0, 0, 1, 0, 0, 0, 0, 2], value=3.0),
    ]
    ports = value("x", ["n", 2, "h", "w"], kind), value("y", [None] * 4, kind)
    kernel = numpy_helper.from_array((integers([3, 2, 2, 3], 1) % 5).astype(dtype), "W")
    graph = helper.make_graph(nodes, "net", ports[:1], ports[1:], [kernel])
    path = model(tmp_path / "m.onnx", graph, opset=10)
    feed = {"x": (integers([2, 2, 5, 8], 2) % 5).astype(dtype)}
    done = convfc.convert(path)
    assert any("from 10 to 11" in note for note in done.notes)
    assert np.array_equal(run(path, **feed)[0], run(done.out, **feed)[0])
    assert convfc.verify(path, samples=2, shapes={"x": [1, 2, 5, 8]}).equivalent


@pytest.mark.parametrize("rows", [[1, 4, 1, 1], [4, 1, 1]])
def test_sums_of_before_opset_7_on_images_of_any_size(tmp_path: Path, rows: list[int]) -> None:
    """onnxruntime has no such operators."""
    nodes = [
        helper.make_node("Conv", ["x", "W"], ["c"], name="conv", strides=[2, 1], pads=[1, 0, 1, 1]),
        helper.make_node("Mul", ["c", "s"], ["d"], name="scaled", broadcast=1),
        helper.make_node("Relu", ["d"], ["e"], name="relu"),
        helper.make_node("Add", ["d", "e"], ["y"], name="sum"),
    ]
    weights = {"W": integers([4, 3, 3, 2], 1), "s": integers(rows, 2)}
    shape: dict[str, list[int | str | None]] = {"x": ["n", 3, "h", None]}
    path = save(
        tmp_path / "m.onnx", nodes, shape, ["y"], weights, opset=6, ir_version=3, overridable=True
    )
    done = convfc.convert(path)
    assert done.complete
    after = onnx.load(done.out)
    assert after.opset_import[0].version == 7
    assert after.graph.input[0] == onnx.load(path).graph.input[0]
    assert after.graph.output == onnx.load(path).graph.output
    del nodes[1].attribute[:]
    modern = save(tmp_path / "modern.onnx", nodes, shape, ["y"], weights)
    x = integers([2, 3, 9, 11])
    assert np.array_equal(run(modern, x=x)[0], run(done.out, x=x)[0])
    assert convfc.verify(path, samples=2, shapes={"x": [1, 3, 9, 11]}).equivalent


def test_weights_that_had_to_be_inputs(tmp_path: Path) -> None:
    """Before IR version 4 each was, and no runtime let anybody override it: they are constants."""
    weights = {"W": KERNEL, "B": integers([6], 2)}
    node = helper.make_node("Conv", ["x", "W", "B"], ["c"], name="conv", **attributes(CONV))
    last = helper.make_node("Add", ["c", "unlisted first"], ["y"], name="add")
    for opset in (7, 8):
        path = save(
            tmp_path / f"{opset}.onnx",
            [node, last],
            {"x": ["n", 4, 5, 6]},
            ["y"],
            {"unlisted first": integers([1]), **weights},
            opset=opset,
            ir_version=3,
            overridable=True,
        )
        proto = onnx.load(path)
        proto.graph.input.insert(0, proto.graph.input.pop())
        onnx.save(proto, path)
        out = same(path, {"x": X})
        after = onnx.load(out)
        assert after.ir_version == 3
        inputs = [port.name for port in after.graph.input]
        assert inputs[:3] == ["B", "x", "unlisted first"], "in their old order"
        assert {"x", *(w.name for w in after.graph.initializer)} == set(inputs)
        assert "conv/filter_matrix" in inputs
        assert not {"Constant", "W"} & {*operators(out), *inputs}
        assert convfc.verify(path).equivalent
        assert any("IR version 3" in note for note in convfc.convert(path).notes)


def test_a_wrong_number_among_weights_that_are_inputs(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "W"], ["y"], name="conv", **attributes(CONV))
    shape: dict[str, list[int | str | None]] = {"x": ["n", 4, 5, 6]}
    path = tmp_path / "m.onnx"
    save(path, [node], shape, ["y"], {"W": KERNEL}, opset=8, ir_version=3, overridable=True)
    out = convfc.convert(path).out
    proto = onnx.load(out)
    (matrix,) = [w for w in proto.graph.initializer if "filter_matrix" in w.name]
    wrong = numpy_helper.to_array(matrix).copy()
    wrong[-1, -1, -1] += 1
    matrix.CopyFrom(numpy_helper.from_array(wrong, matrix.name))
    onnx.save(proto, out)
    assert convfc.verify(path, out).verdict is convfc.Verdict.NOT_EQUIVALENT


@pytest.mark.parametrize("opset", [10, 11, 21])
@pytest.mark.parametrize("zero", [None, 3])
@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_integers_of_every_opset_that_has_them(
    tmp_path: Path, opset: int, zero: int | None, kind: str
) -> None:
    """Pads are filled with the zero point, which opset 10 has no operator for."""
    dtype = np.dtype(kind)
    tensor_type = helper.np_dtype_to_tensor_dtype(dtype)
    constants = {"W": KERNEL.astype(dtype)}
    if zero is not None:
        constants["z"] = np.array(zero, dtype)
    node = helper.make_node("ConvInteger", ["x", *constants], ["y"], **attributes(CONV))
    graph = helper.make_graph(
        [node],
        "net",
        [value("x", ["n", 4, 5, "w"], tensor_type)],
        [value("y", kind=TensorProto.INT32)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    same(model(tmp_path / "m.onnx", graph, opset=opset), {"x": X.astype(dtype)})
