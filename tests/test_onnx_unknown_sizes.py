"""ONNX convolutions whose pads or crops depend on sizes that only the run tells."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

import convfc
from convfc import convolution
from convfc.formats.onnx.operators import known_shape
from convfc.formats.onnx.shape_inference import infer
from tests.onnx_models import conv_file, integers, operators, run, run_anywhere, save
from tests.thinned import thinned


@pytest.mark.parametrize("padding", ["same", "same_lower"])
def test_same_with_strides_on_sizes_that_change(tmp_path: Path, padding: str) -> None:
    conv = convolution([3, 4, 1], channels=2, filters=3, strides=[2, 3, 4], padding=padding)
    path = conv_file(tmp_path / "m.onnx", conv, (None, None, 9))
    done = convfc.convert(path)
    assert done.complete
    for size in range(1, 8):
        for batch in (1, 3):
            x = integers([batch, 2, size, 8 - size, 9])
            before, after = run_anywhere([path, done.out], {"x": x})
            assert np.array_equal(before[0], after[0])
    # Before opset 11 no pads can be computed.
    old = conv_file(tmp_path / "old.onnx", conv, (None, None, 9), opset=9)
    raised = convfc.convert(old)
    assert raised.complete
    assert [note for note in raised.notes if "from 9 to 11" in note]
    assert onnx.load(raised.out).opset_import[0].version == 11


BANDED = {
    "overlapping": convolution([3, 2], channels=2, filters=3, padding="half"),
    "strided": convolution([5, 3], channels=2, filters=3, strides=[2, 1], padding="same"),
    "dilated": convolution([3, 1], channels=2, filters=3, dilations=[3, 1], padding="full"),
    "with gaps": convolution([2, 2], channels=2, filters=3, strides=[3, 2], padding="same_lower"),
    "one row of each": convolution([1, 3], channels=2, filters=3, strides=[4, 1]),
    "one axis": convolution([4], channels=2, filters=3, padding="half"),
    "three axes": convolution([2, 2, 1], channels=1, filters=2, strides=[1, 2, 1]),
}


@pytest.mark.parametrize("patches", thinned(["slice", "gather", "shift"]))
@pytest.mark.parametrize("kind", thinned(BANDED))
def test_bands_of_sizes_that_change(tmp_path: Path, kind: str, patches: str) -> None:
    """From fewer rows than bands to several rows in each."""
    conv = BANDED[kind]
    path = conv_file(tmp_path / "m.onnx", conv, (None,) * conv.rank, opset=13)
    lowering = convfc.lower(conv, (None,) * conv.rank, patches, memory=1, banded=True)
    if not isinstance(lowering, convfc.Lowering):
        assert patches == "shift"
        return
    assert lowering.bands == 4
    done = convfc.convert(path, patches=patches, patch_memory=1)
    assert done.complete
    assert [node.op_type for node in onnx.load(done.out).graph.node].count("MatMul") == 4
    for height in range(1, 15):
        for batch in (1, 3):
            x = integers([batch, conv.channels, height, 5, 3][: conv.rank + 2])
            if height + sum((conv.pads((height,) * conv.rank) or ())[0]) >= conv.windows[0].extent:
                before, after = run_anywhere([path, done.out], {"x": x})
                assert np.array_equal(before[0], after[0]), x.shape
    found = convfc.verify(path, samples=2)
    assert found.proved, found.reason
    record = json.loads(onnx.load(done.out).metadata_props[0].value)
    assert record["layers"][0]["bands"] == 4


def test_what_is_in_bands_by_its_record_only_is_not_proved(tmp_path: Path) -> None:
    """The twin: what the emitter would write for another number of bands."""
    conv = BANDED["overlapping"]
    path = conv_file(tmp_path / "m.onnx", conv, (None, None), opset=13)
    out = convfc.convert(path, patch_memory=1).out
    model = onnx.load(out)
    (prop,) = model.metadata_props
    prop.value = prop.value.replace('"bands":4', '"bands":3')
    onnx.save(model, out)
    found = convfc.verify(path, samples=2)
    assert found.layers[0].structure is not None


def test_the_sizes_of_bands_follow(tmp_path: Path) -> None:
    """What is fed tells the size of all that is made, so what that takes is counted."""
    conv = BANDED["overlapping"]
    path = conv_file(tmp_path / "m.onnx", conv, (None, None), opset=13)
    out = convfc.convert(path, patch_memory=1).out
    model = ir.load(out)
    model.graph.inputs[0].shape = ir.Shape([2, 2, 7, 9])
    infer(model)
    shapes = [known_shape(value) for node in model.graph for value in node.outputs]
    assert all(shape is not None and None not in shape for shape in shapes)
    assert known_shape(model.graph.outputs[0]) == (2, 3, 7, 10)


@pytest.mark.parametrize("patches", thinned(["gather", "slice"]))
@pytest.mark.parametrize("auto_pad", ["NOTSET", "SAME_UPPER"])
def test_a_prescribed_output_of_sizes_that_change(
    tmp_path: Path, auto_pad: str, patches: str
) -> None:
    """From inputs that are almost too small for it to such that are far too large."""
    node = helper.make_node(
        "ConvTranspose",
        ["x", "W", "B"],
        ["y"],
        strides=[2, 3],
        dilations=[2, 1],
        group=2,
        auto_pad=auto_pad,
        output_shape=[7, 11],
    )
    weights = {"W": integers([4, 3, 3, 4], 1), "B": integers([6], 2)}
    path = save(tmp_path / "m.onnx", [node], {"x": ["n", 4, "h", "w"]}, ["y"], weights, opset=12)
    done = convfc.convert(path, patches=patches)
    assert done.complete
    assert "ConvTranspose" not in operators(done.out)
    onnx.checker.check_model(str(done.out), full_check=True)
    for height in range(2, 10):
        for batch in (1, 3):
            x = integers([batch, 4, height, 12 - height])
            before, after = run(path, x=x)[0], run(done.out, x=x)[0]
            assert after.shape == (batch, 6, 7, 11)
            assert np.array_equal(before, after), x.shape
    found = convfc.verify(path, samples=2)
    assert found.proved, found.reason
    inferred = onnx.shape_inference.infer_shapes(onnx.load(done.out)).graph.output[0]
    dims = inferred.type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims[1:]] == [6, 7, 11]


def test_a_crop_that_starts_elsewhere_is_found(tmp_path: Path) -> None:
    """The twin: a frame whose arithmetic is off by one."""
    node = helper.make_node("ConvTranspose", ["x", "W"], ["y"], strides=[2], output_shape=[9])
    weights = {"W": integers([2, 3, 4], 1)}
    path = save(tmp_path / "m.onnx", [node], {"x": ["n", 2, "w"]}, ["y"], weights, opset=13)
    out = convfc.convert(path).out
    model = onnx.load(out)
    (shifts,) = [weight for weight in model.graph.initializer if weight.name.endswith("/shifts")]
    shifts.CopyFrom(onnx.numpy_helper.from_array(np.array([2 + 4 - 9 - 2]), shifts.name))
    onnx.save(model, out)
    found = convfc.verify(path, out, samples=2, shapes={"x": (1, 2, 6)})
    assert found.verdict is convfc.Verdict.NOT_EQUIVALENT


def test_a_prescribed_output_before_slices_could_start_anywhere(tmp_path: Path) -> None:
    node = helper.make_node("ConvTranspose", ["x", "W"], ["y"], strides=[2], output_shape=[9])
    weights = {"W": integers([2, 3, 4], 1)}
    path = save(tmp_path / "m.onnx", [node], {"x": ["n", 2, "w"]}, ["y"], weights, opset=8)
    done = convfc.convert(path)
    assert done.complete
    assert any("from 8 to 10" in note for note in done.notes)
    for width in (4, 5, 9):
        x = integers([2, 2, width])
        assert np.array_equal(run(path, x=x)[0], run(done.out, x=x)[0])


def test_pads_that_are_wrong_for_some_sizes_only(tmp_path: Path) -> None:
    """Each row of the table that pads are taken from: one zero from before to after or back."""
    conv = convolution([5, 4], channels=2, filters=3, strides=[3, 3], padding="same")
    path = conv_file(tmp_path / "m.onnx", conv, (None, None))
    out = convfc.convert(path).out
    assert convfc.verify(path, out, samples=2).proved
    model = onnx.load(out)
    (table,) = [w for w in model.graph.initializer if w.name.endswith("pads_by_remainder")]
    rows = onnx.numpy_helper.to_array(table)
    for row in range(1, len(rows) - 1):
        wrong = rows.copy()
        wrong[row] += [1, -1] if wrong[row, 1] else [-1, 1]
        table.CopyFrom(onnx.numpy_helper.from_array(wrong, table.name))
        onnx.save(model, out)
        found = convfc.verify(path, out, samples=2)
        assert found.verdict is convfc.Verdict.NOT_EQUIVALENT, row
