"""ONNX files that say one thing and compute another: none of them is called equivalent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc import Verdict, Window
from convfc.geometry import Convolution
from tests.onnx_models import conv_file, integers, kernel_shape, run, save
from tests.test_onnx_structure import verified

CONV = Convolution((Window(3, 1, 1, (1, 0)), Window(2, 1, 1, (0, 1))), 2, 1)
KERNEL = integers(kernel_shape(CONV), 1)
FLOAT = TensorProto.FLOAT


def conv_node(x: str, y: str) -> onnx.NodeProto:
    return helper.make_node("Conv", [x, "W"], [y], name="conv", pads=[1, 0, 0, 1])


def stated(path: Path, name: str, dims: list[int | str | None]) -> Path:
    """Let a file say what shape one of its values has."""
    model = onnx.load(path)
    model.graph.value_info.append(helper.make_tensor_value_info(name, FLOAT, dims))
    onnx.save(model, path)
    return path


def sized(folder: Path) -> Path:
    """A model of open sizes that reads the height of what its convolution makes."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        conv_node("r", "c"),
        helper.make_node("Shape", ["c"], ["s"], start=2, end=3),
        helper.make_node("Cast", ["s"], ["height"], to=FLOAT),
        helper.make_node("Mul", ["c", "height"], ["y"]),
    ]
    return save(folder / "m.onnx", nodes, {"x": ["n", 2, "h", "w"]}, ["y"], {"W": KERNEL})


@pytest.mark.parametrize("name", ["c", "r"])
def test_a_size_that_only_the_converted_file_states(tmp_path: Path, name: str) -> None:
    """onnxruntime computes with it: it makes a constant of a Shape."""
    path = sized(tmp_path)
    out = convfc.convert(path).out
    right = convfc.verify(path, out, samples=2)
    assert right.verdict is Verdict.EQUIVALENT
    (fed,) = right.fed
    assert "2x2x64x64" in fed, "the size to be stated is no longer the one that is tried"
    stated(out, name, ["n", 2 if name == "r" else 1, 64, 64])
    result = convfc.verify(path, out, samples=2)
    assert result.verdict is not Verdict.EQUIVALENT
    assert f"the sizes of '{name}' are stated" in str(result.reason)


def test_a_size_that_follows_may_be_stated(tmp_path: Path) -> None:
    path = conv_file(tmp_path / "m.onnx", CONV, (9, 10))
    out = convfc.convert(path).out
    model = onnx.shape_inference.infer_shapes(onnx.load(out))
    assert model.graph.value_info
    onnx.save(model, out)
    assert convfc.verify(path, out, samples=2).verdict is Verdict.EQUIVALENT


def test_no_layer_is_made_for_sizes_that_the_original_merely_states(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), conv_node("r", "y")]
    path = save(tmp_path / "m.onnx", nodes, {"x": ["n", 2, "h", "w"]}, ["y"], {"W": KERNEL})
    out = convfc.convert(stated(path, "r", ["n", 2, 64, 64])).out
    x = integers([2, 2, 9, 128])
    (before,), (after,) = run(path, x=x), run(out, x=x)
    np.testing.assert_array_equal(before, after)
    assert "r" not in {
        info.name
        for info in onnx.load(out).graph.value_info
        if any(dim.dim_value == 64 for dim in info.type.tensor_type.shape.dim)
    }


def test_an_original_that_can_be_read_in_two_ways(tmp_path: Path) -> None:
    path = conv_file(tmp_path / "m.onnx", CONV, (9, 10))
    model = onnx.load(path)
    model.opset_import.append(model.opset_import[0])
    onnx.save(model, path)
    made = convfc.convert(path)
    assert any("ambiguous" in remark for remark in made.notes)
    result = convfc.verify(path, made.out, samples=2)
    assert result.verdict is Verdict.COULD_NOT_CHECK
    assert "'m.onnx' is ambiguous" in str(result.reason)


def test_a_function_that_no_runtime_calls(tmp_path: Path) -> None:
    """The operator of that name is run; opened up, the function would stand in its place."""
    body = helper.make_node("Neg", ["a"], ["b"])
    imports = [helper.make_opsetid("", 17)]
    function = helper.make_function("", "Relu", ["a"], ["b"], [body], imports)
    nodes = [conv_node("x", "c"), helper.make_node("Relu", ["c"], ["y"])]
    weights = {"W": KERNEL}
    path = save(
        tmp_path / "m.onnx", nodes, {"x": ["n", 2, 9, 9]}, ["y"], weights, functions=[function]
    )
    with pytest.raises(convfc.UnsupportedModelError, match="the name of a standard operator"):
        convfc.convert(path)


def insert(model: onnx.ModelProto, nodes: list[onnx.NodeProto], **numbers: list[int]) -> None:
    model.graph.node.extend(nodes)
    for name, values in numbers.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))


def product_with_a_vector(model: onnx.ModelProto) -> None:
    """A product with a vector makes one axis less, so that axis -2 is the batch."""
    (product,) = (node for node in model.graph.node if node.op_type == "MatMul")
    patches, matrix = product.input
    model.graph.node.remove(product)
    nodes = [
        helper.make_node("Reshape", [matrix, "flat"], ["v_column"]),
        helper.make_node("Reshape", [patches, "three"], ["v_patches"]),
        helper.make_node("MatMul", ["v_patches", "v_column"], ["v_rows"]),
        helper.make_node("Slice", ["v_rows", "none", "most", "axis"], ["v_some"]),
        helper.make_node("Unsqueeze", ["v_some", "last"], product.output),
    ]
    three = [-1, 9 * 10, KERNEL.size]
    insert(model, nodes, flat=[-1], three=three, none=[0], most=[1000], axis=[-2], last=[2])


def axis_twice(model: onnx.ModelProto) -> None:
    """An axis that is squeezed twice goes once."""
    for node in model.graph.node:
        node.input[:] = ["first_1000" if name == "x" else name for name in node.input]
    nodes = [
        helper.make_node("Unsqueeze", ["x", "fifth"], ["v_five"]),
        helper.make_node("Squeeze", ["v_five", "twice"], ["v_four"]),
        helper.make_node("Slice", ["v_four", "none", "most", "axis"], ["first_1000"]),
    ]
    insert(model, nodes, fifth=[4], twice=[4, 4], none=[0], most=[1000], axis=[-4])


@pytest.mark.parametrize("edit", [product_with_a_vector, axis_twice])
def test_a_layer_that_drops_samples_beyond_those_tried(
    tmp_path: Path, edit: Callable[[onnx.ModelProto], None]
) -> None:
    result = verified(
        conv_file(tmp_path / "m.onnx", CONV, (9, 10), bias=False), edit, patches="gather"
    )
    assert result.verdict is Verdict.COULD_NOT_CHECK, result.reason


def test_a_layer_whose_settings_the_caller_of_its_function_gives(tmp_path: Path) -> None:
    body = [
        helper.make_node("Constant", [], ["W"], value=numpy_helper.from_array(KERNEL)),
        conv_node("a", "b"),
    ]
    imports = [helper.make_opsetid("", 17)]
    function = helper.make_function("here", "F", ["a"], ["b"], body, imports, ["along"])
    call = helper.make_node("F", ["x"], ["y"], domain="here", along=1)
    shape: dict[str, list[int | str | None]] = {"x": ["n", 2, 9, 10]}
    path = save(tmp_path / "m.onnx", [call], shape, ["y"], {}, functions=[function])

    def refer(model: onnx.ModelProto) -> None:
        (gather,) = (node for node in model.functions[0].node if node.op_type == "Gather")
        gather.attribute[0].ClearField("i")
        gather.attribute[0].ref_attr_name = "along"

    result = verified(path, refer, patches="gather")
    assert result.verdict is Verdict.COULD_NOT_CHECK, result.reason


def test_a_quick_look_draws_where_nothing_else_tells(tmp_path: Path) -> None:
    path = conv_file(tmp_path / "m.onnx", CONV, (28, 28))
    out = convfc.convert(path, patches="gather").out
    model = onnx.load(out)
    for tensor in model.graph.initializer:
        if tensor.name.endswith("index_map"):
            index = numpy_helper.to_array(tensor).copy()
            index[40] += 1  # of two pixels that are black in all samples
            tensor.CopyFrom(numpy_helper.from_array(index, tensor.name))
    onnx.save(model, out)
    assert convfc.verify(path, out, quick=True).verdict is Verdict.NOT_EQUIVALENT


DAMAGES: list[Mapping[str, Any]] = [
    *({"block": block} for block in (5, None, "ab", [-1], [1.5], [10**9], [1, 1], {"a": 1})),
    {"patches": "none"},
    {"patches": ["gather"]},
    {"name": ["conv"]},
]


@pytest.mark.parametrize("damage", DAMAGES, ids=str)
def test_a_damaged_record_says_nothing_about_the_layer(
    tmp_path: Path, damage: Mapping[str, Any]
) -> None:
    path = conv_file(tmp_path / "m.onnx", CONV, (9, 10))
    out = convfc.convert(path).out
    model = onnx.load(out)
    (entry,) = (entry for entry in model.metadata_props if entry.key == "convfc")
    record = json.loads(entry.value)
    record["layers"][0].update(damage)
    entry.value = json.dumps(record)
    onnx.save(model, out)
    assert convfc.verify(path, out, samples=2).verdict is Verdict.EQUIVALENT


def test_a_record_too_deep_to_be_read(tmp_path: Path) -> None:
    path = conv_file(tmp_path / "m.onnx", CONV, (9, 10))
    out = convfc.convert(path).out
    model = onnx.load(out)
    model.metadata_props[0].value = "[" * 200_000
    onnx.save(model, out)
    with pytest.raises(convfc.FileError, match="record is damaged"):
        convfc.verify(path, out)


@pytest.mark.parametrize("key", ["prepacked_0", "location"])
def test_numbers_in_another_file_that_a_runtime_may_find_elsewhere(
    tmp_path: Path, key: str
) -> None:
    path = conv_file(tmp_path / "m.onnx", CONV, (9, 10))
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="m.data", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    entry = model.graph.initializer[0].external_data.add()
    entry.key, entry.value = key, "m.data"
    onnx.save(model, path)
    with pytest.raises(convfc.FileError, match="not well described"):
        convfc.convert(path)
