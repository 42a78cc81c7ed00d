"""Pointwise layers among themselves stay channels first; beside others they do not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import convfc
from convfc.formats.inner import LayerOutput
from tests.onnx_models import Array, integers, run, save


def net(
    path: Path, *ops: str, kernel: int = 3, groups: int = 1, x: tuple[Any, ...] = ("n", 4, 5, 6)
) -> Path:
    """Pointwise, then `ops`, then a convolution with a kernel size of its own."""
    weights = {
        "W": integers([6, 4 // groups, 1, 1]),
        "b": integers([6]),
        "V": integers([3, 6, kernel, kernel], 1),
        "scale": integers([6, 1, 1], 2),
    }
    more = {"Mul": ["scale"], "MaxPool": []}
    attributes: dict[str, Any] = {
        "MaxPool": {"kernel_shape": [1, 2]},
        "Transpose": {"perm": [0, 1, 3, 2]},
    }
    nodes = [helper.make_node("Conv", ["x", "W", "b"], ["y0"], name="first", group=groups)]
    for number, op in enumerate(ops):
        inputs = [f"y{number}", *more.get(op, [])]
        nodes.append(helper.make_node(op, inputs, [f"y{number + 1}"], **attributes.get(op, {})))
    nodes.append(helper.make_node("Conv", [f"y{len(ops)}", "V"], ["y"], name="second"))
    return save(path, nodes, {"x": list(x)}, ["y"], weights)


def transposes(path: Path) -> dict[str, int]:
    """How many of them each converted layer has, by its name; in stock onnxruntime it is equal."""
    done = convfc.convert(path)
    assert done.complete
    x: Array = integers([2, 4, 5, 6], 3)
    np.testing.assert_allclose(run(done.out, x=x)[0], run(path, x=x)[0], rtol=1e-5, atol=1e-4)
    assert convfc.verify(path).equivalent
    made = [node for node in onnx.load(done.out).graph.node if node.op_type == "Transpose"]
    counted = Counter(node.name.split("/")[0] for node in made)
    return {name: counted[name] for name in ("first", "second")}


@pytest.mark.parametrize("groups", [1, 2])
def test_pointwise_layers_need_no_transpose(tmp_path: Path, groups: int) -> None:
    path = net(tmp_path / "m.onnx", "Relu", "Mul", kernel=1, groups=groups)
    assert transposes(path) == {"first": 0, "second": 0}


def test_one_size_that_is_not_known(tmp_path: Path) -> None:
    path = net(tmp_path / "m.onnx", kernel=1, x=("n", 4, None, 6))
    assert transposes(path) == {"first": 0, "second": 0}
    both = net(tmp_path / "both.onnx", kernel=1, x=("n", 4, None, None))
    assert transposes(both) == {"first": 1, "second": 1}


@pytest.mark.parametrize("ops", [[], ["Relu"], ["Mul", "Relu", "Sigmoid"]])
def test_beside_another_kind_of_layer_channels_are_last(tmp_path: Path, ops: list[str]) -> None:
    """So that what is between cancels."""
    assert transposes(net(tmp_path / "m.onnx", *ops)) == {"first": 1, "second": 1}


@pytest.mark.parametrize("op", ["MaxPool", "Softmax", "Transpose"])
def test_what_moves_pixels_or_mixes_channels_parts_layers(tmp_path: Path, op: str) -> None:
    counted = transposes(net(tmp_path / "m.onnx", op))
    assert counted == {"first": 0, "second": 2}


def test_groups_stay_whatever_is_around(tmp_path: Path) -> None:
    counted = transposes(net(tmp_path / "m.onnx", "Relu", groups=2))
    assert counted == {"first": 0, "second": 2}


def test_a_kernel_at_run_time(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "W"], ["y"])
    inputs: dict[str, list[Any]] = {"x": ["n", 3, 4, 5], "W": [2, 3, 1, 1]}
    path = save(tmp_path / "m.onnx", [node], inputs, ["y"], {})
    done = convfc.convert(path)
    feed = {"x": integers([2, 3, 4, 5]), "W": integers([2, 3, 1, 1], 1)}
    assert np.array_equal(run(path, **feed)[0], run(done.out, **feed)[0])
    assert convfc.verify(path).equivalent


@pytest.mark.parametrize("source", ["dequantized", "run time"])
def test_what_follows_a_kernel_that_is_computed(tmp_path: Path, source: str) -> None:
    """It moves into the rows, which are columns here, and is known there for what it is."""
    weights = {"q": integers([6, 4, 1, 1]).astype(np.int8), "V": integers([3, 6, 3, 3], 1)}
    weights |= {"s": np.array(0.5, np.float32), "z": np.array(3, np.int8), "b": integers([6])}
    first = ["x", "W", "b"] if source == "dequantized" else ["x", "w", "b"]
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["W"]),
        helper.make_node("Conv", first, ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["d"], kernel_shape=[2, 1]),
        helper.make_node("Conv", ["d", "V"], ["y"], name="second"),
    ]
    inputs: dict[str, list[Any]] = {"x": ["n", 4, 5, 6]}
    if source == "run time":
        del nodes[0], weights["q"], weights["s"], weights["z"]
        inputs["w"] = [6, 4, 1, 1]
    path = save(tmp_path / "m.onnx", nodes, inputs, ["y"], weights, opset=17)
    done = convfc.convert(path)
    assert "c/rows" in {name for node in onnx.load(done.out).graph.node for name in node.input}
    assert convfc.verify(path).equivalent


def test_what_joins_a_layer_that_stays_channels_first(tmp_path: Path) -> None:
    """Its output is turned there, so that the others need not be."""
    weights = {"A": integers([6, 4, 3, 3]), "B": integers([6, 2, 1, 1], 1)}
    weights |= {"C": integers([3, 6, 3, 3], 2)}
    convs = {"a": ("x", "A", 1), "b": ("x", "A", 1), "c": ("x", "B", 2), "y": ("r", "C", 1)}
    nodes = [
        helper.make_node("Conv", [x, w], [y], group=g, auto_pad="SAME_UPPER")
        for y, (x, w, g) in convs.items()
    ]
    nodes[3:3] = [helper.make_node("Sum", ["a", "b", "c"], ["s"])]
    nodes[4:4] = [helper.make_node("Relu", ["s"], ["r"])]
    path = save(tmp_path / "m.onnx", nodes, {"x": ["n", 4, 5, 6]}, ["y"], weights)
    onnx.save(onnx.shape_inference.infer_shapes(onnx.load(path)), path)
    out = convfc.convert(path).out
    assert any("c/channels_last" in node.output for node in onnx.load(out).graph.node)
    x = integers([2, 4, 5, 6], 3)
    assert np.array_equal(run(path, x=x)[0], run(out, x=x)[0])
    assert convfc.verify(path).equivalent


def test_which_value_holds_the_output_of_a_layer(tmp_path: Path) -> None:
    path = net(tmp_path / "m.onnx", "Relu")
    done = convfc.convert(path)
    outputs = {layer.site.name: layer.output for layer in done.layers}
    assert outputs == {
        "first": LayerOutput("y0/rows", "rows"),
        "second": LayerOutput("y", "own"),
    }
    assert done.to_dict()["layers"][0]["output"] == {"name": "y0/rows", "layout": "rows"}
    files = {"y0": path, "y0/rows": done.out}
    for name, file in files.items():
        onnx.utils.extract_model(str(file), str(tmp_path / f"{file.stem}_y0.onnx"), ["x"], [name])
    x = integers([2, 4, 5, 6], 3)
    own, rows = (run(tmp_path / f"{file.stem}_y0.onnx", x=x)[0] for file in files.values())
    assert np.array_equal(own.transpose(0, 2, 3, 1).reshape(-1, 6), rows)
    last = convfc.convert(net(tmp_path / "n.onnx"))
    assert last.layers[0].output == LayerOutput("y0/channels_last", "channels_last")
