"""Converted files that other optimizers went through: what they do to Reshapes, names, constants.

The rewriting of onnxsim, onnxslim and onnxoptimizer is done by hand here.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import convfc
from convfc import Change, Verdict
from tests.onnx_models import integers, run, save
from tests.test_revert import changed, stored


def network(path: Path) -> Path:
    """Convolutions with nothing, an activation or a sum between them; the last is depthwise."""
    weights = {
        "W1": integers([8, 4, 3, 2], 1),
        "B1": integers([8], 2),
        "W2": integers([6, 8, 1, 1], 3),
        "W3": integers([6, 6, 2, 3], 4),
        "B3": integers([6], 5),
        "W4": integers([6, 1, 3, 2], 6),
        "B4": integers([6], 7),
    }
    first = {"strides": [2, 1], "pads": [1, 0, 0, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "W1", "B1"], ["a"], name="first", **first),  # type: ignore[arg-type]
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "W2"], ["c"], name="second"),
        helper.make_node("Conv", ["c", "W3", "B3"], ["d"], name="third", pads=[0, 1, 1, 1]),
        helper.make_node("Sigmoid", ["d"], ["e"], name="sigmoid"),
        helper.make_node("Add", ["e", "c"], ["f"], name="sum"),
        helper.make_node("Conv", ["f", "W4", "B4"], ["y"], name="fourth", group=6),
    ]
    return save(path, nodes, {"x": ["n", 4, 9, 6]}, ["y"], weights, opset=17)


def without(made: onnx.ModelProto, node: onnx.NodeProto) -> None:
    """Let the readers of a node read what it reads; they are in the graph."""
    for reader in made.graph.node:
        reader.input[:] = [node.input[0] if x == node.output[0] else x for x in reader.input]
    made.graph.node.remove(node)


def merge(made: onnx.ModelProto) -> None:
    """Of two Reshapes in a row, the first goes."""
    readers = {
        x: [n for n in made.graph.node if x in n.input] for n in made.graph.node for x in n.output
    }
    for node in [n for n in made.graph.node if n.op_type == "Reshape"]:
        after = readers[node.output[0]]
        if after and all(n.op_type == "Reshape" for n in after):
            without(made, node)


def drop_reshapes_of_rows(made: onnx.ModelProto, *, take_over: bool) -> None:
    """Those that make a matrix of a matrix: here, of what is called rows or a sum."""
    for node in [n for n in made.graph.node if n.op_type == "Reshape"]:
        x = node.input[0]
        if node.output[0] == "second/patch_matrix" and x.endswith(("/rows", "sum")):
            without(made, node)
            for other in made.graph.node if take_over else ():  # its name goes to what made it
                for names in (other.input, other.output):
                    names[:] = [node.output[0] if name == x else name for name in names]


def fold(made: onnx.ModelProto) -> None:
    """What is computed of constants becomes constants."""
    numbers = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    for node in list(made.graph.node):
        if not all(name in numbers for name in node.input):
            continue
        first, *rest = (numbers[name] for name in node.input)
        if node.op_type == "Split":
            results = np.split(first, np.cumsum(rest[0])[:-1], 0)
        else:
            results = [np.tile(first, rest[0]) if node.op_type == "Tile" else first + rest[0]]
        for name, array in zip(node.output, results, strict=True):
            numbers[name] = array
            made.graph.initializer.append(numpy_helper.from_array(array, name))
        made.graph.node.remove(node)


def make_gemms(made: onnx.ModelProto) -> None:
    """Of transposed weights, as some write them."""
    weights = {t.name: t for t in made.graph.initializer}
    nodes = made.graph.node
    for product, total in list(pairwise(nodes)):
        if (product.op_type, total.op_type) == ("MatMul", "Add") and product.output[
            0
        ] in total.input:
            total.op_type = "Gemm"
            total.attribute.append(helper.make_attribute("transB", 1))
            matrix = numpy_helper.to_array(weights[product.input[1]])
            name = f"{product.input[1]}_transposed"
            made.graph.initializer.append(numpy_helper.from_array(matrix.T.copy(), name))
            total.input[:] = [product.input[0], name, total.input[1]]
            nodes.remove(product)


@pytest.mark.parametrize("take_over", [False, True])
@pytest.mark.parametrize("gemms", [False, True])
def test_optimized_files_come_back(tmp_path: Path, take_over: bool, gemms: bool) -> None:
    path = network(tmp_path / "m.onnx")
    fc = convfc.convert(path).out
    nodes = len(onnx.load(fc).graph.node)

    def optimize(made: onnx.ModelProto) -> None:
        merge(made)
        drop_reshapes_of_rows(made, take_over=take_over)
        fold(made)
        if gemms:
            make_gemms(made)

    changed(fc, optimize)
    assert len(onnx.load(fc).graph.node) < nodes
    x = integers([2, 4, 9, 6])
    assert np.allclose(run(path, x=x)[0], run(fc, x=x)[0])
    back = convfc.revert(fc)
    assert [layer.way.reason for layer in back.layers] == [None] * 4
    assert {layer.way.change for layer in back.layers} == {Change.NOTHING}
    found, was = stored(back.out), stored(path)
    assert all(np.array_equal(found[name], array) for name, array in was.items())
    for other in (path, back.out):
        verified = convfc.verify(other, fc)
        assert verified.verdict is Verdict.EQUIVALENT, verified.reason


def test_a_weight_that_changed_after_it_was_cut_into_rows(tmp_path: Path) -> None:
    """Each number is there several times: all of them must agree, or it is no kernel."""
    path = network(tmp_path / "m.onnx")
    fc = convfc.convert(path, only="fourth", patches="taps").out
    changed(fc, fold)

    def nudge(made: onnx.ModelProto) -> None:
        tensor = next(t for t in made.graph.initializer if t.name.startswith("fourth/Split"))
        numbers = numpy_helper.to_array(tensor).copy()
        numbers.flat[0] += 1
        tensor.CopyFrom(numpy_helper.from_array(numbers, tensor.name))

    assert convfc.revert(fc).complete
    assert convfc.verify(path, fc).verdict is Verdict.EQUIVALENT
    changed(fc, nudge)
    (layer,) = convfc.revert(fc, force=True).layers
    assert "not laid out as that of a convolution" in str(layer.way.reason)
    assert convfc.verify(path, fc).verdict is Verdict.NOT_EQUIVALENT


def test_a_name_that_is_taken(tmp_path: Path) -> None:
    """What reads a layer's own form goes by the name that this has in the file of the emitter."""
    W = integers([3, 2, 2, 2])  # noqa: N806
    nodes = [
        helper.make_node("Conv", ["x", "W"], ["a"], name="layer"),
        helper.make_node("Tanh", ["a"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"x": ["n", 2, 5, 5]}, ["y"], {"W": W}, opset=17)
    fc = convfc.convert(path).out

    def change(made: onnx.ModelProto) -> None:
        *_, reshape, last = made.graph.node
        name = reshape.output[0]
        assert name == last.input[0] == "y/channels_last"
        reshape.output[0] = "before"
        factor = numpy_helper.from_array(np.eye(4, dtype=np.float32) * 2, "factor")
        made.graph.initializer.append(factor)
        made.graph.node.insert(
            len(made.graph.node) - 1, helper.make_node("MatMul", ["factor", "before"], [name])
        )

    changed(fc, change)
    back = convfc.revert(fc, partial=True)
    assert back.written
    x = integers([2, 2, 5, 5])
    assert np.allclose(run(fc, x=x)[0], run(back.out, x=x)[0])
