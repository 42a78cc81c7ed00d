"""Convolutions in model-local functions: converted in there, or where the functions are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import convfc
from tests.onnx_models import KERNEL, Array, X, conv_node, integers, model, run, same, value
from tests.thinned import thinned

INTS, INT = onnx.AttributeProto.INTS, onnx.AttributeProto.INT


def function(name: str, nodes: list[onnx.NodeProto], inputs: list[str], **more: Any) -> Any:
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("here", 1)]
    return helper.make_function("here", name, inputs, ["y"], nodes, imports, **more)


def test_functions_whose_kernel_their_callers_give(tmp_path: Path) -> None:
    inner = function("Inner", [conv_node()], ["x", "W"])
    doubled = helper.make_node("Add", ["W", "W"], ["V"])
    call = helper.make_node("Inner", ["x", "V"], ["y"], domain="here")
    outer = function("Outer", [doubled, call], ["x", "W"])
    nodes = [
        helper.make_node("Outer", ["x", "W"], ["a"], domain="here"),
        helper.make_node("Outer", ["x", "U"], ["b"], domain="here"),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(KERNEL, "W"),
        numpy_helper.from_array(integers(KERNEL.shape, 7), "U"),
    ]
    graph = helper.make_graph(nodes, "net", [value("x", ["n", 4, "h", 6])], [value("y")], weights)
    path = model(tmp_path / "m.onnx", graph, functions=[inner, outer])
    same(path, {"x": X})
    (layer,) = convfc.shapes(path)
    assert layer.site.sizes == (None, 6), "what all callers agree on"


def refers(node: onnx.NodeProto, **references: str) -> onnx.NodeProto:
    """A node with attributes that a caller gives, by the caller's names for them."""
    for name, theirs in references.items():
        kind = INT if name == "group" else INTS
        node.attribute.append(onnx.AttributeProto(name=name, type=kind, ref_attr_name=theirs))
    return node


def call(name: str, inputs: Sequence[str], *outputs: str, **more: Any) -> onnx.NodeProto:
    return helper.make_node(name, inputs, outputs, domain="here", **more)


def bare_conv() -> onnx.NodeProto:
    node = conv_node()
    del node.attribute[:]
    return node


WEIGHTS = {"W": KERNEL, "wide": integers([6, 4, 1, 5], 5), "yes": np.array(True)}


def network(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    functions: Sequence[onnx.FunctionProto],
    *,
    dims: Sequence[int | str] = ("n", 4, 5, 6),
    opset: int = 21,
    weights: dict[str, Array] = WEIGHTS,
) -> Path:
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "net", [value("x", dims)], [value("y")], tensors)
    return model(path, graph, opset=opset, functions=functions)


def proved(path: Path, feed: dict[str, Array], count: int) -> convfc.Conversion:
    """Convert with nothing left, compare bit for bit, and let verify prove each layer."""
    out = same(path, feed)
    found = convfc.verify(path, out, samples=2)
    assert found.equivalent, found.reason
    assert len(found.layers) == count
    return convfc.convert(path)


def test_attributes_that_the_caller_gives(tmp_path: Path) -> None:
    """At two depths, with defaults, by callers that disagree, in a branch, where names collide."""
    inner = refers(bare_conv(), strides="steps", group="blocks", pads="pads")
    inner.output[0], inner.name = "t", "conv"
    rectified = helper.make_node("Relu", ["t"], ["y"])
    made = function("Strided", [inner, rectified], ["x", "W"], attributes=["steps", "pads"])
    made.attribute_proto.append(helper.make_attribute("blocks", 2))
    within = refers(call("Strided", ["x", "W"], "y"), steps="steps", pads="pads")
    outer = function("Outer", [within], ["x", "W"], attributes=["steps"])
    outer.attribute_proto.append(helper.make_attribute("pads", [1, 0, 0, 1]))
    untouched = function("Twice", [helper.make_node("Add", ["x", "x"], ["y"])], ["x"])
    then = helper.make_graph([call("Outer", ["x", "W"], "b", steps=[2, 3])], "a", [], [value("b")])
    other = helper.make_graph([helper.make_node("Neg", ["t"], ["t_2"])], "b", [], [value("t_2")])
    nodes = [
        call("Outer", ["x", "W"], "t", steps=[1, 2]),
        helper.make_node("If", ["yes"], ["c"], name="if", then_branch=then, else_branch=other),
        helper.make_node("ReduceSum", ["c"], ["e"], keepdims=0),
        call("Strided", ["x", "wide"], "f", steps=[1, 1], pads=[0, 0, 0, 0], blocks=1),
        helper.make_node("ReduceMax", ["f"], ["g"], keepdims=0),
        call("Twice", ["t"], "h"),
        helper.make_node("Sum", ["e", "g", "h"], ["y"]),
    ]
    path = network(tmp_path / "m.onnx", nodes, [made, outer, untouched])
    done = proved(path, {"x": X}, 3)
    assert any("2 of 3 functions" in note for note in done.notes)
    after = onnx.load(done.out)
    assert list(after.functions) == [untouched]
    weights = {weight.name for weight in after.graph.initializer}
    assert not weights & {info.name for info in after.graph.value_info}, "as it was before"
    assert {layer.site.sizes for layer in done.layers} == {(5, 6)}


def test_a_converted_file_of_a_function_with_another_number(tmp_path: Path) -> None:
    """The twin: what was opened up is compared as strictly as anything."""
    made = function("F", [refers(bare_conv(), strides="s", group="g")], ["x", "W"])
    made.attribute.extend("sg")
    path = network(tmp_path / "m.onnx", [call("F", ["x", "W"], "y", s=[1, 2], g=2)], [made])
    out = convfc.convert(path).out
    assert convfc.verify(path, out, samples=2).equivalent
    wrong = convfc.convert(
        network(tmp_path / "w.onnx", [call("F", ["x", "W"], "y", s=[2, 1], g=2)], [made])
    )
    found = convfc.verify(path, wrong.out, samples=2)
    assert found.verdict is convfc.Verdict.NOT_EQUIVALENT


def test_callers_that_disagree_about_the_kernel(tmp_path: Path) -> None:
    """Only the function with the convolution is opened up, not the one around it."""
    inner = function("Inner", [bare_conv()], ["x", "W"])
    outer = [helper.make_node("Neg", ["x"], ["m"]), call("Inner", ["m", "V"], "y")]
    around = function("Around", outer, ["x", "V"])
    nodes = [
        call("Around", ["x", "wide"], "a"),
        call("Around", ["a", "deep"], "b"),
        call("Inner", ["b", "tall"], "y"),
    ]
    weights = {**WEIGHTS, "tall": integers([3, 6, 2, 1], 6), "deep": integers([6, 6, 1, 5], 4)}
    weights = {name: np.sign(array) for name, array in weights.items() if name != "yes"}
    path = network(
        tmp_path / "m.onnx", nodes, [inner, around], dims=("n", 4, "h", 11), weights=weights
    )
    done = proved(path, {"x": integers([2, 4, 5, 11])}, 3)
    assert onnx.load(done.out).functions == []


def test_one_depth_is_enough(tmp_path: Path) -> None:
    inner = function("Inner", [bare_conv()], ["x", "W"])
    pair = [helper.make_node("Neg", ["x"], ["m"]), call("Inner", ["m", "V"], "y")]
    around = function("Around", pair, ["x", "V"])
    nodes = [call("Around", ["x", "wide"], "a"), call("Inner", ["a", "tall"], "y")]
    weights = {**WEIGHTS, "tall": integers([3, 6, 2, 1], 6)}
    path = network(tmp_path / "m.onnx", nodes, [inner, around], weights=weights)
    done = proved(path, {"x": X}, 2)
    assert [f.name for f in onnx.load(done.out).functions] == ["Around"]
    assert "Around/" in done.layers[1].site.name


def test_odd_functions(tmp_path: Path) -> None:
    """An output that is an input, one that nobody wants, an input left out, another opset."""
    node = refers(bare_conv(), strides="s")
    node.output[0] = "c"
    imports = [helper.make_opsetid("", 18)]
    odd = helper.make_function(
        "here", "Odd", ["x", "W", "none"], ["c", "x", "n"], [node], imports, ["s"]
    )
    odd.node.append(helper.make_node("Neg", ["c"], ["n"]))
    nodes = [
        call("Odd", ["x", "wide"], "a", "b", "", s=[1, 1]),
        call("Odd", ["b", "wide", ""], "c", "", "d", s=[1, 1]),
        helper.make_node("Sum", ["a", "a", "c", "d"], ["y"]),
    ]
    path = network(tmp_path / "m.onnx", nodes, [odd])
    done = convfc.convert(path)
    assert done.complete
    # No runtime takes such calls, and the checker no such function: here is what they mean.
    plain = helper.make_node("Conv", ["x", "wide"], ["c"])
    total = helper.make_node("Sum", ["c"] * 2, ["y"])
    expected = run(network(tmp_path / "p.onnx", [plain, total], []), x=X)
    assert np.array_equal(run(done.out, x=X)[0], expected[0])


def test_a_function_that_is_not_helped_stays(tmp_path: Path) -> None:
    """The kernel is an input of any shape, for its callers too."""
    made = function("F", [bare_conv()], ["x", "W"])
    dims = [None] * 4
    graph = helper.make_graph(
        [call("F", ["x", "V"], "y")], "net", [value("x"), value("V", dims)], [value("y")]
    )
    path = model(tmp_path / "m.onnx", graph, functions=[made])
    done = convfc.convert(path, partial=True)
    assert "unknown before run time" in str(done.layers[0].reason)
    assert done.notes == ()
    assert onnx.load(done.out).functions == onnx.load(path).functions


def test_a_function_that_nobody_calls(tmp_path: Path) -> None:
    made = function("F", [bare_conv()], ["x", "W"])
    plain = conv_node()
    done = proved(network(tmp_path / "m.onnx", [plain], [made]), {"x": X}, 1)
    assert onnx.load(done.out).functions == []


@pytest.mark.parametrize("external", thinned([False, True]))
@pytest.mark.parametrize("inside", [False, True])
def test_pads_that_need_a_newer_opset(tmp_path: Path, external: bool, inside: bool) -> None:
    """They are computed while the model runs, which opset 9 cannot."""
    node = helper.make_node("Conv", ["x", "W"], ["y"], strides=[2, 3], auto_pad="SAME_UPPER")
    imports = [helper.make_opsetid("", 9)]
    made = helper.make_function("here", "F", ["x", "W"], ["y"], [node], imports)
    graph = helper.make_graph(
        [call("F", ["x", "wide"], "c") if inside else node],
        "net",
        [value("x", ["n", 4, "h", "w"])],
        [value("c") if inside else value("y")],
        [numpy_helper.from_array(WEIGHTS["wide"], "wide" if inside else "W")],
    )
    path = model(tmp_path / "m.onnx", graph, opset=9, functions=[made] if inside else [])
    if external:
        onnx.save(onnx.load(path), path, save_as_external_data=True, size_threshold=0)
    done = proved(path, {"x": X}, 1)
    for size in ([1, 4, 7, 5], [2, 4, 4, 9]):
        x = integers(size)
        assert np.array_equal(run(path, x=x)[0], run(done.out, x=x)[0])
    assert any("from 9 to 11" in note for note in done.notes)
    weights = onnx.load(done.out, load_external_data=False).graph.initializer
    assert any(weight.external_data for weight in weights) == external


def test_a_quantized_convolution_that_gets_all_its_numbers_from_the_caller(tmp_path: Path) -> None:
    """Nothing in the function tells whether zero points are for all filters or for each."""
    names = ["x", "xs", "xz", "W", "ws", "wz", "ys", "yz", "B"]
    node = helper.make_node("QLinearConv", names, ["y"], group=2)
    draw = np.random.default_rng(4)
    given: dict[str, Array] = {
        "xs": np.array(0.1, np.float32),
        "xz": np.array(7, np.uint8),
        "W": draw.integers(0, 200, [6, 2, 2, 3]).astype(np.uint8),
        "ws": np.array(0.02, np.float32),
        "wz": np.array(90, np.uint8),
        "ys": np.array(2, np.float32),
        "yz": np.array(100, np.uint8),
        "B": np.arange(6, dtype=np.int32),
    }
    graph = helper.make_graph(
        [call("F", names, "y")],
        "net",
        [value("x", ["n", 4, 5, 6], onnx.TensorProto.UINT8)],
        [value("y", kind=onnx.TensorProto.UINT8)],
        [numpy_helper.from_array(array, name) for name, array in given.items()],
    )
    path = model(tmp_path / "m.onnx", graph, functions=[function("F", [node], names)])
    x = draw.integers(0, 256, [2, 4, 5, 6]).astype(np.uint8)
    out = same(path, {"x": x})
    found = convfc.verify(path, out, samples=1)
    assert found.proved, found.reason
    wrong = onnx.load(out)
    (product,) = [n for n in wrong.functions[0].node if n.op_type == "MatMulInteger"]
    del product.input[3]
    onnx.save(wrong, out)
    assert convfc.verify(path, out, samples=1).verdict is convfc.Verdict.NOT_EQUIVALENT
