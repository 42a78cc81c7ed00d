"""ONNX files that say one thing and compute another: none of them is called equivalent."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc import Verdict, Window
from convfc.core.geometry import Convolution
from convfc.formats.onnx.negative_sizes import at_risk
from convfc.system import rehearsal
from tests.onnx_edits import verified
from tests.onnx_models import conv_file, integers, kernel_shape, run, save
from tests.thinned import thinned

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
        if tensor.name.endswith("index_map_part"):
            index = numpy_helper.to_array(tensor).copy()
            index[0] += 1  # in the first row of positions, which sees black in all samples
            tensor.CopyFrom(numpy_helper.from_array(index, tensor.name))
    onnx.save(model, out)
    assert convfc.verify(path, out, quick=True).verdict is Verdict.NOT_EQUIVALENT


DAMAGES: list[Mapping[str, Any]] = [
    *({"block": block} for block in ([10**9], [1, 1], [1])),
    {"patches": "none"},
    {"name": "another"},
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


def bare(**changed: Any) -> onnx.ModelProto:
    """A model of one convolution; see `save` for what can be given."""
    given: dict[str, Any] = {
        "nodes": [helper.make_node("Conv", ["x", "W"], ["y"], name="conv")],
        "x": ["n", 2, 6, 6],
        "W": integers([2, 2, 3, 3], 1),
        "y": [None, None, None, None],
        "more": [],
        **changed,
    }
    graph = helper.make_graph(
        given["nodes"],
        "net",
        [helper.make_tensor_value_info("x", FLOAT, given["x"])],
        [helper.make_tensor_value_info("y", FLOAT, given["y"])],
        [numpy_helper.from_array(given["W"], "W"), *given["more"]],
    )
    imports = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def edited(edit: Callable[[onnx.ModelProto], object], **changed: Any) -> onnx.ModelProto:
    model = bare(**changed)
    edit(model)
    return model


def apart(location: str, offset: str = "0", length: str = "144") -> onnx.ModelProto:
    """A model whose kernel is in another file, or so it says."""

    def edit(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value

    return edited(edit)


def set_attribute(**fields: Any) -> onnx.ModelProto:
    """A model whose Conv has an attribute with such a value."""
    node = helper.make_node("Conv", ["x", "W"], ["y"], name="conv", **fields)
    return bare(nodes=[node])


def weight(**fields: Any) -> onnx.ModelProto:
    """A model whose kernel has such fields."""

    def edit(model: onnx.ModelProto) -> None:
        for name, value in fields.items():
            field = getattr(model.graph.initializer[0], name)
            if isinstance(value, list):
                field[:] = value
            else:
                setattr(model.graph.initializer[0], name, value)

    return edited(edit)


def constant_without_type() -> onnx.ModelProto:
    attribute = onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR)
    attribute.t.dims.append(2)
    node = helper.make_node("Constant", [], ["k"])
    node.attribute.append(attribute)
    return edited(lambda model: model.graph.node.insert(0, node))


def calling_itself() -> onnx.ModelProto:
    body = [helper.make_node("F", ["a"], ["b"], domain="here")]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("here", 1)]
    function = helper.make_function("here", "F", ["a"], ["b"], body, imports)
    nodes = [conv_node("x", "c"), helper.make_node("F", ["c"], ["y"], domain="here")]

    def edit(model: onnx.ModelProto) -> None:
        model.functions.append(function)
        model.opset_import.add(domain="here", version=1)

    return edited(edit, nodes=nodes)


def nested(depth: int) -> bytes:
    """A model of branches in branches, deeper than protobuf writes them."""

    def field(number: int, content: bytes) -> bytes:
        head, length = [number << 3 | 2], len(content)
        while length > 127:
            head.append(length & 127 | 128)
            length >>= 7
        return bytes([*head, length]) + content

    graph = conv_node("x", "y").SerializeToString()
    for _ in range(depth):
        node = field(4, b"If") + field(5, field(1, b"then_branch") + field(6, graph))
        graph = field(1, node)
    return field(7, graph)


def behind(maker: onnx.NodeProto, *more: onnx.TensorProto) -> onnx.ModelProto:
    """A Slice of what a node makes, `c`."""
    nodes = [maker, helper.make_node("Slice", ["c", "one", "five", "two"], ["y"])]
    axes = {"one": 1, "five": 5, "two": 2}
    numbers = [numpy_helper.from_array(np.array([n]), name) for name, n in axes.items()]
    return bare(nodes=nodes, more=[*numbers, *more])


def save_as(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def alternating(times: int) -> onnx.ModelProto:
    """Windows and Slices in turns; only the last window is larger than what it slides over."""
    nodes = []
    for place in range(times):
        given = f"s{place - 1}" if place else "x"
        taps = [5 if place == times - 1 else 1, 1]
        nodes += [
            helper.make_node("AveragePool", [given], [f"p{place}"], kernel_shape=taps),
            helper.make_node("Slice", [f"p{place}", "zero", "two", "two"], [f"s{place}"]),
        ]
    nodes[-1].output[0] = "y"
    numbers = {"zero": 0, "two": 2}
    return bare(
        nodes=nodes,
        more=[numpy_helper.from_array(np.array([n]), name) for name, n in numbers.items()],
    )


def in_a_branch() -> onnx.ModelProto:
    """Of the size that a Pad in branches makes, onnx tells nothing, and onnxruntime does."""
    branches = {
        branch: helper.make_graph(
            [helper.make_node("Pad", ["x", "pads"], [branch])],
            branch,
            [],
            [helper.make_empty_tensor_value_info(branch)],
        )
        for branch in ("then_branch", "else_branch")
    }
    model = behind(helper.make_node("If", ["which"], ["c"], **branches), PADS)
    model.graph.input.append(helper.make_tensor_value_info("which", TensorProto.BOOL, []))
    return model


def fused() -> onnx.ModelProto:
    """An operator that only onnxruntime knows, with an activation that nobody does."""
    settings: dict[str, Any] = {"dilations": [9, 1], "activation": "Elu"}
    node = helper.make_node("FusedConv", ["x", "W"], ["c"], domain="com.microsoft", **settings)
    model = behind(node)
    model.opset_import.add(domain="com.microsoft", version=1)
    return model


def computed_pads() -> onnx.ModelProto:
    """Pads that onnxruntime computes when it makes the graph a faster one."""
    model = behind(helper.make_node("Pad", ["x", "sums"], ["c"]))
    rows = np.array([[0, 0, -5, 0, 0, 0, -5, 0]])
    model.graph.initializer.extend(
        [numpy_helper.from_array(rows, "rows"), numpy_helper.from_array(np.array([0]), "zero")]
    )
    node = helper.make_node("ReduceSum", ["rows", "zero"], ["sums"], keepdims=0)
    model.graph.node.insert(0, node)
    return model


def sequence() -> onnx.ModelProto:
    """A Slice of what is in a sequence of tensors with a size of -5."""
    at = helper.make_node("SequenceAt", ["q", "one"], ["c"])
    model = behind(at)
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, [1, 2, -5, 6]))
    model.graph.input.append(helper.make_value_info("q", kind))
    return model


def optional() -> onnx.ModelProto:
    """The same of an optional value, of which a node says what it may be."""
    model = behind(helper.make_node("OptionalGetElement", ["q"], ["c"]))
    kind = helper.make_tensor_type_proto(FLOAT, [1, 2, -5, 6])
    model.graph.node.insert(0, helper.make_node("Optional", [], ["q"], name="empty", type=kind))
    return model


def untyped(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model that the checker refuses, but onnxruntime may not: an output has no type."""
    model.graph.output[0].ClearField("type")
    return model


PADS = numpy_helper.from_array(np.array([0, 0, -5, 0, 0, 0, -5, 0]), "pads")
MINUS = numpy_helper.from_array(np.array(-5), "minus")
_NOT_BACK = "damaged: onnx's shape inference does not come back from it"
BOMBS: dict[str, tuple[Callable[[], onnx.ModelProto | bytes], str | None]] = {
    "location with NUL": (lambda: apart("a\0b"), "external data"),
    "location of 5000 letters": (lambda: apart("x" * 5000), "external data"),
    "no location": (lambda: apart(""), "external data"),
    "location is the folder": (lambda: apart("."), "external data"),
    "location is the model": (lambda: apart("m.onnx"), "in the model itself"),
    "location with ESC": (lambda: apart("\x1b[31mred"), r"external data file '\\x1b\[31mred'"),
    "offset below zero": (lambda: apart("w", "-64"), "not well described"),
    "offset of letters": (lambda: apart("w", "abc"), "not well described"),
    "offset of 2^63": (lambda: apart("w", str(2**63)), "cut short"),
    "offset of 5000 digits": (lambda: apart("w", "9" * 5000), "not well described"),
    "another length": (lambda: apart("w", "0", "140"), "needs 144"),
    "weight of no type": (lambda: weight(data_type=0), "no known element type"),
    "weight of type 999": (lambda: weight(data_type=999), "no known element type"),
    "weight of type text": (lambda: weight(data_type=TensorProto.STRING), "do not belong"),
    "weight of complex": (lambda: weight(data_type=TensorProto.COMPLEX64), "bytes"),
    "weight of 2^62": (lambda: weight(dims=[2**62, 2, 3, 3]), "bytes"),
    "weight below zero": (lambda: weight(dims=[-2, -2, 3, 3]), "impossible shape"),
    "weight of 40 axes": (lambda: weight(dims=[2, 2, 3, 3, *[1] * 36]), "40 axes"),
    "weight with too few bytes": (lambda: weight(raw_data=b"1234"), "bytes"),
    "constant of no type": (constant_without_type, "no known element type"),
    "pads of real numbers": (lambda: set_attribute(pads=[1.0, 1.0, 1.0, 1.0]), "m.onnx"),
    "kernel_shape of text": (lambda: set_attribute(kernel_shape="33"), "m.onnx"),
    "group of several": (lambda: set_attribute(group=[1, 2]), "m.onnx"),
    "strides of zero": (lambda: set_attribute(strides=[0, 0]), None),
    "auto_pad that is none": (lambda: set_attribute(auto_pad="NONE"), None),
    "auto_pad that is no text": (
        lambda: set_attribute(auto_pad=b"\xff\xfe"),
        "'auto_pad' that is no",
    ),
    "a layer that reads nothing": (
        lambda: bare(nodes=[helper.make_node("Conv", [], ["y"], name="conv")]),
        "invalid ONNX graph",
    ),
    "a layer that makes nothing": (
        lambda: edited(lambda m: m.graph.node.add(op_type="Conv", input=["x", "W"])),
        "invalid ONNX graph",
    ),
    "a node without operator": (lambda: edited(lambda m: m.graph.node.add()), "no operator"),
    "two nodes make one value": (
        lambda: bare(nodes=[conv_node("x", "y"), conv_node("x", "y")]),
        "invalid ONNX graph",
    ),
    "a circle": (
        lambda: bare(
            nodes=[helper.make_node("Relu", ["b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
        ),
        "m.onnx",
    ),
    "an output that nobody makes": (
        lambda: edited(lambda m: m.graph.output.add(name="nobody")),
        "m.onnx",
    ),
    "a function that calls itself": (calling_itself, "m.onnx"),
    "branches in branches": (lambda: nested(10_000), "not an ONNX file"),
    "no graph": (lambda: onnx.ModelProto(ir_version=8), "not an ONNX model"),
    "opset 0": (lambda: edited(lambda m: setattr(m.opset_import[0], "version", 0)), "m.onnx"),
    "opset -1": (lambda: edited(lambda m: setattr(m.opset_import[0], "version", -1)), "m.onnx"),
    "opset 9999": (lambda: edited(lambda m: setattr(m.opset_import[0], "version", 9999)), None),
    "IR version 0": (lambda: edited(lambda m: setattr(m, "ir_version", 0)), None),
    "IR version 9999": (lambda: edited(lambda m: setattr(m, "ir_version", 9999)), "m.onnx"),
    "a name that is no UTF-8": (
        lambda: bare().SerializeToString().replace(b"conv", b"co\xcb\xff"),
        r"name of a NodeProto is no UTF-8 text: b'co\\xcb",
    ),
    "a producer that is no UTF-8": (
        lambda: (
            edited(lambda m: setattr(m, "producer_name", "prod"))
            .SerializeToString()
            .replace(b"prod", b"p\xcb\xffd")
        ),
        "producer_name of a ModelProto",
    ),
    "an input of no type": (
        lambda: edited(lambda m: m.graph.input[0].ClearField("type")),
        "m.onnx",
    ),
    "a window that is larger, and a Slice": (
        lambda: behind(helper.make_node("Conv", ["x", "W"], ["c"], dilations=[5, 1])),
        _NOT_BACK,
    ),
    "pads that cut all away, and a Slice": (
        lambda: behind(helper.make_node("Pad", ["x", "pads"], ["c"]), PADS),
        _NOT_BACK,
    ),
    "a Slice and a window that is larger, four times": (lambda: alternating(4), _NOT_BACK),
    "pads that cut all away in a branch, and a Slice": (in_a_branch, "onnxruntime does not come"),
    "a fused window that is larger, and a Slice": (fused, "onnxruntime does not come back"),
    "pads that are computed, and a Slice": (computed_pads, "onnxruntime does not come back"),
    "pads that cut all away, a Slice and no type": (
        lambda: untyped(behind(helper.make_node("Pad", ["x", "pads"], ["c"]), PADS)),
        _NOT_BACK,
    ),
    "a frame that is longer, and a Slice": (
        lambda: behind(helper.make_node("DFT", ["x", "minus"], ["c"], axis=2), MINUS),
        _NOT_BACK,
    ),
    "a sequence of sizes of -5": (sequence, "'q' has an impossible shape"),
    "an optional value of size -5": (optional, "'empty' has an impossible shape"),
    "an input of -5": (lambda: bare(x=["n", 2, -5, 6]), None),
    "an input of -5, and a Slice": (
        lambda: edited(
            lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", -5),
            **{"nodes": list(behind(conv_node("x", "c")).graph.node)},
            more=list(behind(conv_node("x", "c")).graph.initializer)[1:],
        ),
        None,
    ),
}
"""A file, and what is said of it; ``None``: it may be converted."""


SLICED = [name for name in BOMBS if name.endswith("and a Slice")]
"""Each takes a child that runs onnxruntime."""


@pytest.mark.parametrize(
    "name", [*(name for name in BOMBS if name not in SLICED), *thinned(SLICED)]
)
def test_a_damaged_file_is_refused_in_words(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    make, words = BOMBS[name]
    made = make()
    path = tmp_path / "m.onnx"
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    (tmp_path / "w").write_bytes(bytes(200))
    if words is None:
        convfc.convert(path, partial=True, check=False)
        return
    with pytest.raises((convfc.FileError, convfc.UnsupportedModelError), match=words) as caught:
        convfc.convert(path, check=False)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert "damaged, or not a model" not in said, "it came as far as the gate"
    assert "\x1b" not in said
    assert len(said) < 500 + len(str(path))
    assert len(said.splitlines()) == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.onnx", "w"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the library may go on")
def test_without_a_rehearsal_the_process_would_end(tmp_path: Path) -> None:
    """The twin of the test above."""
    path = save_as(tmp_path / "m.onnx", alternating(4))
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from convfc.formats.onnx import rehearsal, preparing\n"
        "rehearsal.excuse(Path(sys.argv[1]))\n"
        "preparing.prepare(Path(sys.argv[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True)
    assert done.returncode == -signal.SIGABRT, done.stderr.decode()


ENDS = {
    (-signal.SIGABRT, ""): "m.onnx: damaged: onnx's shape inference does not come back .* fresh",
    (-signal.SIGSEGV, "loading"): "m.onnx: damaged: onnxruntime does not come back .* fresh copy",
    (-signal.SIGKILL, "loading"): None,
    (0, "loading"): None,
    (1, ""): None,
}
"""How a child may end, and what is said; ``None``: nothing."""


@pytest.mark.parametrize("end", ENDS)
def test_how_a_rehearsal_may_end(
    tmp_path: Path, end: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "rehearse", lambda *_, **__: end)
    path = save_as(tmp_path / "m.onnx", behind(conv_node("x", "c")))
    words = ENDS[end]
    with pytest.raises(convfc.FileError, match=words) if words else nullcontext():
        convfc.shapes(path)


def test_a_file_is_rehearsed_once_and_again_if_it_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def rehearse(_: str, path: Path, **__: int) -> tuple[int, str]:
        seen.append(path)
        return 0, ""

    monkeypatch.setattr(rehearsal, "rehearse", rehearse)
    path = save_as(tmp_path / "m.onnx", behind(conv_node("x", "c")))
    out = convfc.convert(path).out
    assert seen == [path]
    assert convfc.verify(path, out, samples=1).equivalent
    assert seen == [path], "of what was written, the only window that may be too large is gone"
    save_as(path, behind(helper.make_node("AveragePool", ["x"], ["c"], kernel_shape=[1, 1])))
    assert not convfc.shapes(path)
    assert seen == [path, path]


def test_a_model_without_such_a_slice_is_not_rehearsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "rehearse", None)
    path = save_as(tmp_path / "m.onnx", behind(helper.make_node("Relu", ["x"], ["c"])))
    assert not convfc.shapes(path)


MORE_PADS = numpy_helper.from_array(np.array([0, 0, 5, 0, 0, 0, 0, 0]), "pads")
RISKS: dict[str, tuple[onnx.NodeProto, bool]] = {
    "window": (conv_node("x", "c"), True),
    "activation": (helper.make_node("Relu", ["x"], ["c"]), False),
    "pads that add": (helper.make_node("Pad", ["x", "pads"], ["c"]), False),
    "pads that nobody knows": (helper.make_node("Pad", ["x", "x"], ["c"]), True),
    "sizes that are asked for": (helper.make_node("Expand", ["x", "pads"], ["c"]), True),
    "operator of others": (helper.make_node("Own", ["x"], ["c"], domain="own"), True),
    "operator that onnx knows no more": (helper.make_node("Crop", ["x"], ["c"]), True),
}


@pytest.mark.parametrize("name", RISKS)
def test_which_slices_are_at_risk(name: str) -> None:
    node, risk = RISKS[name]
    proto = behind(node, MORE_PADS)
    assert at_risk(ir.serde.deserialize_model(proto)) is risk
    # Its shape is one of one number, whatever the numbers say.
    proto.graph.node.insert(1, helper.make_node("Shape", ["c"], ["s"]))
    proto.graph.node[2].input[0] = "s"
    assert not at_risk(ir.serde.deserialize_model(proto))


@pytest.mark.parametrize("bodies", ["branch", "function"])
def test_a_slice_in_a_body_is_at_risk(bodies: str) -> None:
    nodes = list(behind(helper.make_node("Relu", ["x"], ["c"])).graph.node)
    if bodies == "branch":
        branch = helper.make_graph(nodes, "b", [], [helper.make_empty_tensor_value_info("y")])
        how = {"then_branch": branch, "else_branch": branch}
        model = bare(nodes=[helper.make_node("If", ["x"], ["y"], **how)])
    else:
        imports = [helper.make_opsetid("", 17)]
        given = ["x", "one", "five", "two"]
        model = bare(nodes=[helper.make_node("F", ["x"], ["y"], domain="own")])
        model.functions.append(helper.make_function("own", "F", given, ["y"], nodes, imports))
    assert at_risk(ir.serde.deserialize_model(model))


@pytest.mark.parametrize(
    ("at", "number", "risk"),
    [
        (1, -(2**31), True),
        (4, 2**31, True),
        (1, 2**31 - 1, False),
        (2, 2**63 - 1, False),
    ],
)
def test_a_slice_that_reaches_beyond_32_bits_is_at_risk(at: int, number: int, risk: bool) -> None:
    inputs = ["x", "one", "five", "two", "one"]
    inputs[at] = "far"
    nodes = [helper.make_node("Slice", inputs, ["y"])]
    numbers = {"one": 1, "five": 5, "two": 2, "far": number}
    more = [numpy_helper.from_array(np.array([n]), name) for name, n in numbers.items()]
    assert at_risk(ir.serde.deserialize_model(bare(nodes=nodes, more=more))) is risk


def test_a_size_of_minus_one_is_an_unknown_one(tmp_path: Path) -> None:
    """Old exporters write it."""
    path = tmp_path / "m.onnx"
    path.write_bytes(bare(x=[-1, 2, -1, 6]).SerializeToString())
    (layer,) = convfc.shapes(path)
    assert layer.site.sizes == (None, 6)
    assert convfc.verify(path, convfc.convert(path).out, samples=2).equivalent


def test_a_layer_that_is_fed_text(tmp_path: Path) -> None:
    """The checker does not look at types, and text has no size in bytes."""
    node = helper.make_node("QLinearConv", ["x", "s", "z", "W", "s", "z", "s", "z"], ["y"])
    more = [
        numpy_helper.from_array(np.array(1, np.float32), "s"),
        numpy_helper.from_array(np.array(0, np.uint8), "z"),
    ]
    model = bare(nodes=[node], W=np.ones([2, 2, 3, 3], np.uint8), more=more)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    (layer,) = convfc.shapes(path)
    assert layer.reason == "its input is text"
    with pytest.raises(convfc.DataError, match=r"m\.onnx: input 'x' takes text"):
        convfc.verify(path, path)


LITTLE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
import convfc
print(len(convfc.shapes(sys.argv[1])))
"""


def test_an_axis_of_billions_is_not_counted_one_by_one(tmp_path: Path) -> None:
    """onnx follows a vector of as many numbers as an axis is long: 34 GB of them."""
    path = conv_file(tmp_path / "m.onnx", convfc.convolution([3], channels=1, filters=1), (None,))
    made = convfc.convert(path, patches="gather", check=False).out
    model = onnx.load(made)
    assert "ConstantOfShape" in {node.op_type for node in model.graph.node}
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 2**32
    onnx.save(model, made)
    command = [sys.executable, "-m", "benchmarks.launch", sys.executable, "-c", LITTLE, str(made)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found, *_, figures = done.stdout.splitlines()
    assert found == "0"
    assert float(figures.split()[2]) < 1000  # MB at its peak
