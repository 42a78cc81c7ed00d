"""What works in any layout moves between converted layers, and the proof knows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

import convfc
from convfc import Verdict
from convfc.formats.onnx import model as onnx_model
from tests.onnx_models import Array, integers, save

CHANNELS = 4

WEIGHTS: dict[str, Array] = {
    "W": integers([CHANNELS, CHANNELS, 3, 3], 1),
    "b": integers([CHANNELS], 2),
    "V": integers([CHANNELS, CHANNELS, 3, 3], 3),
    "each": integers([CHANNELS, 1, 1], 4),
    "whole": integers([1, CHANNELS, 1, 1], 5) + 0.5,
    "map": integers([1, CHANNELS, 1, 7], 6),
    "one": np.array(0.5, np.float32),
    "ones": np.full([1, 1, 1], 3, np.float32),
    "six": np.array(6, np.float32),
    "low": np.array(-2, np.float32),
    "mean": integers([CHANNELS], 7),
    "variance": abs(integers([CHANNELS], 8)) + 1,
    "pads": np.array([0, 0, 1, 0, 0, 0, 0, 2], np.int64),
    "zero": np.array(3, np.int8),
}
"""Of two convolutions, and of what stands between them."""

Node = onnx.NodeProto


def node(op: str, inputs: str, output: str, **attributes: Any) -> Node:
    return helper.make_node(op, inputs.split(), [output], name=f"n_{output}", **attributes)


BETWEEN: dict[str, list[Node]] = {
    "nothing": [node("Identity", "y0", "z")],
    "Relu": [node("Relu", "y0", "z")],
    "Clip": [node("Clip", "y0 low six", "z")],
    "a number for each channel": [node("Mul", "y0 each", "m"), node("Add", "whole m", "z")],
    "a number for each place": [node("Sub", "map y0", "z")],
    "one number": [node("Mul", "y0 one", "m"), node("Add", "m ones", "z")],
    "PRelu": [node("PRelu", "y0 each", "z")],
    "Where": [node("Greater", "y0 one", "g"), node("Where", "g y0 each", "z")],
    "Cast": [node("Cast", "y0", "d", to=11), node("Cast", "d", "z", to=1)],
    "SiLU": [node("Sigmoid", "y0", "s"), node("Mul", "y0 s", "z")],
    "HardSwish": [
        node("Add", "y0 one", "a"),
        node("Clip", "a low six", "c"),
        node("Mul", "y0 c", "m"),
        node("Div", "m six", "z"),
    ],
    "BatchNormalization": [node("BatchNormalization", "y0 b mean mean variance", "z")],
    "8 bits": [
        node("QuantizeLinear", "y0 one zero", "q"),
        node("DequantizeLinear", "q one zero", "z"),
    ],
    "Pad": [node("Pad", "y0 pads one", "z", mode="constant")],
    "Concat": [node("Abs", "y0", "a"), node("Concat", "a y0", "z", axis=-2)],
    "Sum": [node("Conv", "y0 V", "y1", pads=[1] * 4), node("Sum", "y0 y1 y0", "z")],
    "a sum with what a pool makes": [
        node("MaxPool", "y0", "p", kernel_shape=[3, 3]),
        node("Conv", "p V", "y1", pads=[1] * 4),
        node("Add", "y1 p", "s"),
        node("Relu", "s", "r"),
        node("Conv", "r V", "y2", pads=[1] * 4),
        node("Add", "y2 r", "z"),
    ],
}
"""What makes z of y0 without a Transpose."""


def net(path: Path, between: Sequence[Node], *outputs: str, size: int | str = 9) -> Path:
    """A convolution makes y0 of x; `between` makes z of it; another one makes y of that."""
    nodes = [node("Conv", "x W b", "y0"), *between, node("Conv", "z V", "y")]
    return save(path, nodes, {"x": ["n", CHANNELS, size, 9]}, ["y", *outputs], WEIGHTS)


def both_forms(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Converted, and before anything is moved."""
    new = convfc.convert(path).out
    with monkeypatch.context() as patch:
        patch.setattr(onnx_model, "keep_channels_last", lambda *_: None)
        old = convfc.convert(path, path.with_suffix(".old.onnx")).out
    return old, new


def counted(path: Path) -> tuple[int, int]:
    """Its nodes and its Transposes."""
    ops = [node.op_type for node in onnx.load(path).graph.node]
    return len(ops), ops.count("Transpose")


def everything(path: Path, x: Array) -> dict[str, Array]:
    """All that a model computes on its way, by name, each node for itself."""
    model = onnx.load(path)
    names = [name for node in model.graph.node for name in node.output]
    del model.graph.output[:]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return dict(zip(names, session.run(names, {"x": x}), strict=True))


def agrees(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Both forms: what has one name is the same to the bit, and the verdict is what it was."""
    old, new = both_forms(path, monkeypatch)
    x = np.random.default_rng(0).normal(size=(2, CHANNELS, 9, 9)).astype(np.float32)
    before, after = everything(old, x), everything(new, x)
    own = {name for node in onnx.load(path).graph.node for name in node.output}
    assert own & after.keys() <= before.keys()
    for name in own & after.keys():
        assert np.array_equal(before[name], after[name], equal_nan=True), name
    assert all(now <= then for now, then in zip(counted(new), counted(old), strict=True))
    onnx.checker.check_model(str(new), full_check=True)
    used = {name for node in onnx.load(new).graph.node for name in node.input}
    assert after.keys() - used <= {port.name for port in onnx.load(new).graph.output}
    for form in (old, new):
        result = convfc.verify(path, form, samples=2)
        assert result.verdict is Verdict.EQUIVALENT, result
        assert all(layer.structure is None for layer in result.layers)
    return old, new


@pytest.mark.parametrize("size", [9, "open"])
@pytest.mark.parametrize("between", BETWEEN)
def test_nothing_is_transposed_between_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, between: str, size: int | str
) -> None:
    _, new = agrees(net(tmp_path / "m.onnx", BETWEEN[between], size=size), monkeypatch)
    left = {"BatchNormalization": 2 * (size == "open"), "a sum with what a pool makes": 2}
    assert counted(new)[1] == 2 + left.get(between, 0)
