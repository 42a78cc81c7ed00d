"""The structure of a converted layer: what counts as the emitter's own, and what can be shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc import Same, Verdict, Window, convolution
from convfc.core.geometry import Convolution
from convfc.formats.onnx.ambiguity import ambiguities
from tests.onnx_edits import Edit, as_gemm, branch, node_of, of_any_shape, verified
from tests.onnx_models import attributes, conv_file, integers, kernel_shape, save
from tests.thinned import thinned

UNEQUAL = Convolution((Window(3, 2, 1, (1, 0)), Window(2, 1, 2, (0, 2))), 3, 4)
GROUPED = Convolution((Window(2), Window(3, 2, 1, (1, 0))), 4, 6, 2)
DEPTHWISE = Convolution((Window(3, 1, 1, Same.UPPER), Window(2, 1, 1, Same.UPPER)), 4, 4, 4)
TILES = Convolution((Window(2, 2), Window(3, 3)), 3, 4)
POINTWISE = Convolution((Window(1), Window(1)), 4, 6)


def untouched(model: onnx.ModelProto) -> None:
    """Leave it as it is."""


@pytest.mark.parametrize("conv", thinned([UNEQUAL, GROUPED, DEPTHWISE, TILES, POINTWISE]))
@pytest.mark.parametrize("sizes", [(9, 10), (None, None)])
def test_what_was_just_written_is_the_emitters_own(
    tmp_path: Path, conv: Convolution, sizes: tuple[int | None, ...]
) -> None:
    result = verified(conv_file(tmp_path / "m.onnx", conv, sizes), untouched)
    assert result.verdict is Verdict.EQUIVALENT, result.reason
    assert [layer.structure for layer in result.layers] == [None]


def renamed(model: onnx.ModelProto) -> None:
    """Give every node and every value between them another name, and turn the order round."""
    ports = {port.name for port in (*model.graph.input, *model.graph.output)}
    for node in model.graph.node:
        node.name = f"other/{node.name}"
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = name if name in ports | {""} else f"other/{name}"
    for tensor in model.graph.initializer:
        tensor.name = f"other/{tensor.name}"
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def with_constant_nodes(model: onnx.ModelProto) -> None:
    """Constant nodes in the place of initializers."""
    made = [
        helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in model.graph.initializer
    ]
    nodes = [*made, *model.graph.node]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)


def with_defaults(model: onnx.ModelProto) -> None:
    """Every attribute that has a default, written down, as onnxruntime writes files."""
    written = 0
    for node in model.graph.node:
        schema = onnx.defs.get_schema(node.op_type, model.opset_import[0].version)
        there = {attribute.name for attribute in node.attribute}
        for name in schema.attributes.keys() - there:
            if schema.attributes[name].default_value.name:
                node.attribute.append(schema.attributes[name].default_value)
                written += 1
    assert written


@pytest.mark.parametrize("edit", thinned([renamed, with_constant_nodes, with_defaults]))
@pytest.mark.parametrize("conv", [UNEQUAL, GROUPED, DEPTHWISE])
def test_names_order_and_the_form_of_constants_do_not_count(
    tmp_path: Path, conv: Convolution, edit: Edit
) -> None:
    result = verified(conv_file(tmp_path / "m.onnx", conv, (9, 10)), edit)
    assert result.verdict is Verdict.EQUIVALENT, result.reason
    assert result.layers[0].structure is None


def test_another_structure_that_is_a_polynomial_is_shown(tmp_path: Path) -> None:
    path = conv_file(tmp_path / "m.onnx", UNEQUAL, (9, 10))
    result = verified(path, as_gemm)
    assert result.verdict is Verdict.EQUIVALENT, result.reason
    assert "is a Gemm, where convfc puts a" in str(result.layers[0].structure)


def test_but_not_for_sizes_that_nobody_tried(tmp_path: Path) -> None:
    path = conv_file(tmp_path / "m.onnx", UNEQUAL, (None, None))
    model = onnx.load(convfc.convert(path).out)
    ends = next(t for t in model.graph.initializer if t.name.endswith("/ends"))

    def shorter(mutant: onnx.ModelProto) -> None:
        """Ends beyond every size that is tried, where there was no end."""
        for tensor in mutant.graph.initializer:
            if tensor.name == ends.name:
                array = numpy_helper.to_array(tensor).copy()
                array[array > 2**40] = 66
                array[array < 0] = 66
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    result = verified(path, shorter)
    assert result.verdict is not Verdict.EQUIVALENT


def appended(*nodes: onnx.NodeProto, **constants: object) -> Edit:
    """Nodes behind the layer, which read what it made as 'raw' and make its output 'y'."""

    def edit(model: onnx.ModelProto) -> None:
        last = model.graph.node[-1]
        last.output[0] = "raw"
        last.name, name = "before", last.name
        model.graph.node.extend(nodes)
        model.graph.node[-1].name = name
        model.graph.initializer.extend(
            numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()
        )

    return edit


ADD = helper.make_node("Add", ["raw", "more"], ["y"])
BACKDOORS = {
    "a branch that doubles what is large": appended(
        branch(
            helper.make_node("Mul", ["raw", "zero"], ["o0"]),
            helper.make_node("Greater", ["raw", "far"], ["big"]),
            helper.make_node("Where", ["big", "raw", "o0"], ["o"]),
        ),
        ADD,
        yes=np.bool_(True),
        zero=np.float32(0),
        far=np.float32(1e5),
    ),
    "random numbers": appended(
        helper.make_node("RandomNormal", [], ["r"], scale=1e38, shape=[1, 1, 1, 1]),
        helper.make_node("ConstantOfShape", ["ones"], ["zero"]),
        helper.make_node("MatMul", ["r", "zero"], ["more"]),
        ADD,
        ones=np.array([1, 1], np.int64),
    ),
    "NaN where numbers are large": appended(
        helper.make_node("MatMul", ["raw", "huge"], ["h"]),
        helper.make_node("MatMul", ["h", "zero"], ["more"]),
        ADD,
        huge=np.full((6, 6), 1e30, np.float32),
        zero=np.zeros((6, 6), np.float32),
    ),
    "a clip that is out of reach": appended(
        helper.make_node("Clip", ["raw", "", "far"], ["y"]), far=np.float32(1e30)
    ),
    "a cast to less and back": appended(
        helper.make_node("Cast", ["raw"], ["half"], to=TensorProto.BFLOAT16),
        helper.make_node("Cast", ["half"], ["y"], to=TensorProto.FLOAT),
    ),
    "an end of the batch that nobody reaches": appended(
        helper.make_node("Slice", ["raw", "none", "end", "none"], ["y"]),
        none=np.array([0], np.int64),
        end=np.array([1000], np.int64),
    ),
    "what cancels": appended(
        helper.make_node("Sub", ["raw", "raw"], ["more"]),
        ADD,
    ),
    "itself, added": appended(helper.make_node("Add", ["raw", "raw"], ["y"])),
}


@pytest.mark.parametrize("name", thinned(BACKDOORS))
def test_nothing_hides_in_a_layer(tmp_path: Path, name: str) -> None:
    path = conv_file(tmp_path / "m.onnx", convolution([3, 3], channels=3, filters=4), (8, 8))
    result = verified(path, BACKDOORS[name])
    assert result.verdict is not Verdict.EQUIVALENT
    assert result.layers[0].structure is not None


def test_a_batch_that_is_fixed_may_be_in_the_constants(tmp_path: Path) -> None:
    weights = {"W": integers(kernel_shape(UNEQUAL), 1)}
    node = helper.make_node("Conv", ["x", "W"], ["y"], name="conv", **attributes(UNEQUAL))
    for batch, verdict in ((2, Verdict.EQUIVALENT), ("n", Verdict.COULD_NOT_CHECK)):
        path = save(tmp_path / f"{batch}.onnx", [node], {"x": [batch, 3, 9, 10]}, ["y"], weights)

        def baked(model: onnx.ModelProto) -> None:
            for tensor in model.graph.initializer:
                array = numpy_helper.to_array(tensor)
                if "/shape" in tensor.name and len(array) > 2 and array[0] == -1:
                    fixed = np.array([2, *array[1:]])
                    tensor.CopyFrom(numpy_helper.from_array(fixed, tensor.name))

        result = verified(path, baked, patches="gather")
        assert result.verdict is verdict, result.reason


def ambiguous() -> dict[str, Edit]:
    def weight_twice(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(model.graph.initializer[0])

    def attribute_twice(model: onnx.ModelProto) -> None:
        attribute = node_of(model, "Transpose").attribute
        attribute.append(attribute[0])

    def two_kinds(model: onnx.ModelProto) -> None:
        node_of(model, "Transpose").attribute[0].f = 1.0

    def value_twice(model: onnx.ModelProto) -> None:
        model.graph.node.append(model.graph.node[0])

    def version_twice(model: onnx.ModelProto) -> None:
        model.opset_import.append(helper.make_opsetid("ai.onnx", 9))

    def numbers_twice(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.float_data.extend([1.0])

    def truth_of_256(model: onnx.ModelProto) -> None:
        kind = TensorProto.BOOL
        model.graph.initializer.add(name="t", data_type=kind, dims=[1], int32_data=[256])

    def hidden(model: onnx.ModelProto) -> None:
        nothing = helper.make_node("Constant", [], ["x"], value_float=0.0)
        graph = helper.make_graph([nothing], "g", [], [of_any_shape("x")])
        node = helper.make_node("If", ["c"], ["z"], then_branch=graph, else_branch=graph)
        model.graph.node.append(node)

    edits = (weight_twice, attribute_twice, two_kinds, value_twice, version_twice, numbers_twice)
    return {edit.__name__: edit for edit in (*edits, truth_of_256, hidden)}


@pytest.mark.parametrize("name", ambiguous())
def test_what_may_be_read_in_two_ways_is_found(tmp_path: Path, name: str) -> None:
    path = conv_file(tmp_path / "m.onnx", UNEQUAL, (9, 10))
    model = onnx.load(convfc.convert(path).out)
    assert list(ambiguities(model)) == []
    ambiguous()[name](model)
    assert list(ambiguities(model))


def test_an_unsorted_original_is_proved_like_any_other(tmp_path: Path) -> None:
    path = conv_file(tmp_path / "m.onnx", UNEQUAL, (9, 10))
    model = onnx.load(path)
    model.graph.node[0].output[0] = "c"
    model.graph.node.insert(0, helper.make_node("Relu", ["c"], ["y"]))
    onnx.save(model, path)
    result = verified(path, untouched)
    assert result.verdict is Verdict.EQUIVALENT, result.reason


def test_a_circle_is_refused(tmp_path: Path) -> None:
    path = conv_file(tmp_path / "m.onnx", UNEQUAL, (9, 10))
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Add", ["x", "b"], ["a"]))
    model.graph.node.append(helper.make_node("Relu", ["a"], ["b"]))
    onnx.save(model, path)
    with pytest.raises(convfc.FileError, match="an invalid ONNX graph"):
        convfc.convert(path)


def test_attributes_of_a_caller_are_not_shown(tmp_path: Path) -> None:
    def referring(model: onnx.ModelProto) -> None:
        attribute = node_of(model, "Transpose").attribute[0]
        attribute.CopyFrom(
            onnx.AttributeProto(name="perm", ref_attr_name="perm", type=onnx.AttributeProto.INTS)
        )

    path = conv_file(tmp_path / "m.onnx", UNEQUAL, (9, 10))
    try:
        assert verified(path, referring).verdict is not Verdict.EQUIVALENT
    except convfc.ConvfcError as error:
        assert "onnxruntime" in str(error) or "invalid" in str(error)  # noqa: PT017 - either will do


def test_an_input_and_a_kernel_of_different_types_are_left(tmp_path: Path) -> None:
    path = conv_file(tmp_path / "m.onnx", UNEQUAL, (9, 10))
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32
    onnx.save(model, path)
    try:
        (layer,) = convfc.shapes(path)
    except convfc.FileError:
        return  # the checker may see it first
    assert layer.reason == "its input and its kernel have different types"


@pytest.mark.parametrize("form", ["value", "value_string", "value_strings"])
def test_a_text_that_ends_in_a_nul_is_another_one(form: str, tmp_path: Path) -> None:
    def constant(last: bytes) -> onnx.NodeProto:
        texts = [b"ab", last]
        tensor = onnx.TensorProto(data_type=TensorProto.STRING, dims=[2], string_data=texts)
        given: dict[str, Any] = {"value": tensor, "value_string": last, "value_strings": texts}
        return helper.make_node("Constant", [], ["t"], **{form: given[form]})

    def longer(model: onnx.ModelProto) -> None:
        node_of(model, "Constant").CopyFrom(constant(b"a\0"))

    path = conv_file(tmp_path / "m.onnx", UNEQUAL, (9, 10))
    model = onnx.load(path)
    model.graph.node.extend([constant(b"a"), helper.make_node("Identity", ["t"], ["s"])])
    model.graph.output.append(helper.make_tensor_value_info("s", TensorProto.STRING, None))
    onnx.save(model, path)
    found = verified(path, longer)
    assert "b'a' became b'a\\x00'" in (found.reason or "")
