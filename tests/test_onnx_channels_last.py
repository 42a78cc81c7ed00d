"""What works in any layout moves between converted layers, and the proof knows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

import convfc
from convfc import Verdict
from convfc.formats.onnx import model as onnx_model
from convfc.samples.files import packed_mnist
from tests.onnx_models import Array, integers, run, save
from tests.thinned import thinned

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
    """A node by the name of what it makes, with something before it."""
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
    new = convfc.convert(path, check=False).out
    with monkeypatch.context() as patch:
        patch.setattr(onnx_model, "keep_channels_last", lambda *_: None)
        old = convfc.convert(path, path.with_suffix(".old.onnx"), check=False).out
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
    result = convfc.verify(path, new, samples=2)
    assert result.verdict is Verdict.EQUIVALENT, result
    assert all(layer.structure is None for layer in result.layers)
    return old, new


@pytest.mark.parametrize("size", thinned([9, "open"]))
@pytest.mark.parametrize("between", thinned(BETWEEN))
def test_nothing_is_transposed_between_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, between: str, size: int | str
) -> None:
    _, new = agrees(net(tmp_path / "m.onnx", BETWEEN[between], size=size), monkeypatch)
    left = {"BatchNormalization": 2 * (size == "open"), "a sum with what a pool makes": 2}
    assert counted(new)[1] == 2 + left.get(between, 0)


def test_an_input_between_layers_is_transposed_once(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x W b", "y0"),
        node("Mul", "y0 mask", "m"),
        node("Add", "m mask", "z"),
        node("Conv", "z V", "y"),
    ]
    inputs: dict[str, list[int | str | None]] = {"x": ["n", CHANNELS, 9, 9]}
    path = save(
        tmp_path / "m.onnx", nodes, inputs | {"mask": ["n", CHANNELS, 7, 7]}, ["y"], WEIGHTS
    )
    new = convfc.convert(path).out
    assert counted(new)[1] == 3
    result = convfc.verify(path, new, samples=2)
    assert result.verdict is Verdict.EQUIVALENT, result


def test_what_is_read_in_its_own_layout_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an output or by a pool; and what would need more Transposes is not moved."""
    pool = node("MaxPool", "y0", "p", kernel_shape=[3, 3])
    between = [node("Relu", "y0", "z"), node("Sigmoid", "y0", "s"), node("Neg", "p", "q")]
    path = net(tmp_path / "m.onnx", [*between, pool], "y0", "s", "q")
    _, new = agrees(path, monkeypatch)
    made = {node.name: node for node in onnx.load(new).graph.node}
    assert made["n_z"].output == ["z/channels_last"]
    assert made["n_s"].input == ["y0"]
    assert counted(new)[1] == 3


def chance_net(path: Path, seed: int) -> Path:
    """Convolutions, pools and what is elementwise, each reading anything before; some outputs."""
    random = np.random.default_rng(seed)
    names, nodes = ["x"], []
    for number in range(14):
        op = random.choice(["Conv", "Conv", "Relu", "Add", "Mul", "Concat", "MaxPool", "Sigmoid"])
        first, second = (str(random.choice(names[-5:])) for _ in range(2))
        made = f"v{number}"
        if op == "Conv":
            nodes.append(node(op, f"{first} W b", made, pads=[1] * 4))
        elif op == "MaxPool":
            nodes.append(node(op, first, made, kernel_shape=[3, 3], pads=[1] * 4))
        elif op == "Concat":
            nodes.append(node(op, f"{first} {second}", f"{made}c", axis=2))
            nodes.append(node("Slice", f"{made}c first nine axis", made))
        else:
            nodes.append(node(op, f"{first} {second}" if op in ("Add", "Mul") else first, made))
        names.append(made)
    read = {name for node in nodes for name in node.input}
    outputs = [name for name in names[1:] if name not in read or random.random() < 0.1]
    limits = {"first": [0], "nine": [9], "axis": [2]}
    weights = {"W": WEIGHTS["W"] / 99, "b": WEIGHTS["b"] / 99}
    weights |= {name: np.array(numbers, np.int64) for name, numbers in limits.items()}
    return save(path, nodes, {"x": ["n", CHANNELS, 9, 9]}, outputs, weights)


@pytest.mark.parametrize(
    "seed", thinned([*range(6), *(pytest.param(n, marks=pytest.mark.slow) for n in range(6, 60))])
)
def test_nets_by_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    agrees(chance_net(tmp_path / "m.onnx", seed), monkeypatch)


class _Digits(CalibrationDataReader):  # type: ignore[misc] # it has no types
    def __init__(self) -> None:
        images = (packed_mnist()["x_train"][:60, None] / 255).astype(np.float32)
        self._feeds = iter([{"image": images}])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._feeds, None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", thinned([QuantFormat.QOperator, QuantFormat.QDQ]))
def test_a_static_quantizer_keeps_the_accuracy(tmp_path: Path, form: QuantFormat) -> None:
    """It drops a Relu behind a Transpose or Reshape of what is quantized, not behind a product."""
    source = Path(__file__).parents[1] / "sample_models" / "mnist_cnn.onnx"
    floating = convfc.convert(source, tmp_path / "m.onnx").out
    small = tmp_path / "small.onnx"
    quantize_static(
        *(str(floating), str(small), _Digits()),
        quant_format=form,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    mnist = packed_mnist()
    images, labels = (mnist["x_test"][:500, None] / 255).astype(np.float32), mnist["y_test"][:500]
    before, after = (
        float(np.mean(run(path, image=images)[0].argmax(axis=1) == labels))
        for path in (floating, small)
    )
    assert after >= before - 0.005


Edit = Callable[[onnx.ModelProto], None]


def swapped(reader: str) -> Edit:
    """A node that was moved has its operands in another order."""

    def edit(model: onnx.ModelProto) -> None:
        (node,) = (node for node in model.graph.node if node.name == reader)
        node.input[:] = node.input[::-1]

    return edit


def renamed(a: str, b: str) -> Edit:
    """Two values with each other's names: the file computes what it did."""

    def edit(model: onnx.ModelProto) -> None:
        other = {a: b, b: a}
        for node in model.graph.node:
            node.input[:] = [other.get(name, name) for name in node.input]
            node.output[:] = [other.get(name, name) for name in node.output]

    return edit


def constant(reader: str, array: Array) -> Edit:
    """Another constant for a node that was moved."""

    def edit(model: onnx.ModelProto) -> None:
        (node,) = (node for node in model.graph.node if node.name == reader)
        place = next(i for i, name in enumerate(node.input) if name in constants_of(model))
        node.input[place] = "forged"
        model.graph.initializer.append(numpy_helper.from_array(array, "forged"))

    return edit


def constants_of(model: onnx.ModelProto) -> set[str]:
    return {tensor.name for tensor in model.graph.initializer}


def setting(reader: str, **attributes: Any) -> Edit:
    """Another attribute for a node that was moved."""

    def edit(model: onnx.ModelProto) -> None:
        (node,) = (node for node in model.graph.node if node.name == reader)
        del node.attribute[:]
        node.attribute.extend(helper.make_attribute(*pair) for pair in attributes.items())

    return edit


def operator(reader: str, op: str, **attributes: Any) -> Edit:
    """Another operator in the place of one that was moved."""

    def edit(model: onnx.ModelProto) -> None:
        (node,) = (node for node in model.graph.node if node.name == reader)
        node.op_type = op
        setting(reader, **attributes)(model)

    return edit


EACH = np.array([1, 2, 3, 4], np.float32)
WIDTH = np.array([[1], [2], [3], [4]], np.float32)
"""For each channel of what has four of them, last; and for each of four columns."""
SUM = [
    node("Relu", "y0", "r"),
    node("Conv", "r V", "y1", pads=[1] * 4),
    node("Mul", "y1 scale", "m"),
    node("Sub", "m y0", "s"),
    node("Mul", "s scale", "t"),
    node("Concat", "t r", "z", axis=2),
]
"""Differences of two layers; their channels are as many as their columns."""
FORGERIES: dict[str, Edit] = {
    "operands swapped": swapped("n_s"),
    "names changed": renamed("m/channels_last", "y0/channels_last"),
    "columns for channels": constant("n_t", WIDTH),
    "columns for channels in rows": constant("n_m", WIDTH),
    "other channels": constant("n_t", EACH[::-1].copy()),
    "other channels in rows": constant("n_m", EACH[::-1].copy()),
    "all axes reversed": constant("n_t", EACH.reshape(4, 1, 1)),
    "the axis of the original": setting("n_z", axis=3),
    "another operator": operator("n_s", "Add"),
    "softmax": operator("n_r", "Softmax", axis=-1),
    "along an axis": operator("n_r", "LpNormalization", axis=1),
}


def square(path: Path) -> Path:
    nodes = [node("Conv", "x W b", "y0"), *SUM, node("Conv", "z V", "y")]
    weights = {**WEIGHTS, "scale": EACH.reshape(4, 1, 1)}
    return save(path, nodes, {"x": ["n", CHANNELS, 6, 6]}, ["y"], weights)


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    path = square(tmp_path_factory.mktemp("genuine") / "m.onnx")
    out = convfc.convert(path).out
    assert convfc.verify(path, out, samples=2).verdict is Verdict.EQUIVALENT
    return path, out


@pytest.mark.parametrize("forgery", thinned(FORGERIES))
def test_a_forged_file_is_not_equivalent(
    genuine: tuple[Path, Path], tmp_path: Path, forgery: str
) -> None:
    path, out = genuine
    model = onnx.load(out)
    FORGERIES[forgery](model)
    assert model != onnx.load(out)
    onnx.save(model, tmp_path / "forged.onnx")
    found = convfc.verify(path, tmp_path / "forged.onnx", samples=2)
    assert found.verdict is not Verdict.EQUIVALENT


LAID_OUT: dict[str, dict[str, Any]] = {
    "Softmax": {"axis": 1},
    "LogSoftmax": {"axis": -1},
    "Hardmax": {"axis": 2},
    "LpNormalization": {"axis": 1},
    "LRN": {"size": 3},
    "MaxPool": {"kernel_shape": [1, 1]},
    "GlobalMaxPool": {},
    "Transpose": {"perm": [0, 1, 3, 2]},
    "Flatten": {"axis": 1},
}
"""Operators with a layout of their own."""


@pytest.mark.parametrize("op", thinned(LAID_OUT))
def test_what_has_a_layout_is_never_taken_for_moved(tmp_path: Path, op: str) -> None:
    """By whatever name: here it reads channels last what the original has channels first."""
    nodes = [node("Conv", "x W b", "y0"), node(op, "y0", "z", **LAID_OUT[op])]
    path = save(tmp_path / "m.onnx", nodes, {"x": ["n", CHANNELS, 6, 6]}, ["z"], WEIGHTS)
    out = convfc.convert(path).out
    model = onnx.load(out)
    first = next(node for node in model.graph.node if node.name == "n_y0")
    second = next(node for node in model.graph.node if node.name == "n_z")
    given = first.input[0]
    model.graph.node.remove(first)
    for maker in model.graph.node:
        maker.output[:] = ["y0/channels_last" if name == given else name for name in maker.output]
    second.input[0], second.output[0] = "y0/channels_last", "z/channels_last"
    back = helper.make_node("Transpose", ["z/channels_last"], ["z"], perm=[0, 3, 1, 2])
    model.graph.node.append(back)
    onnx.save(model, out)
    try:
        verdict = convfc.verify(path, out, samples=2).verdict
    except convfc.ConvfcError:
        verdict = Verdict.COULD_NOT_CHECK  # no runtime loads it
    assert verdict is not Verdict.EQUIVALENT


def test_a_layer_that_transposes_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before opset 10 pooling makes the steps of slices, with channels first."""
    last = helper.make_node("Conv", ["z", "P"], ["y"], strides=[2, 2])
    nodes = [node("Conv", "x W b", "y0"), node("Abs", "y0", "a"), node("Sum", "y0 a", "z"), last]
    weights = {**WEIGHTS, "P": integers([CHANNELS, CHANNELS, 1, 1], 9)}
    weights = {name: array for name, array in weights.items() if name in ("W", "b", "P")}
    path = tmp_path / "m.onnx"
    save(path, nodes, {"x": ["n", CHANNELS, 9, 9]}, ["y"], weights, opset=8, ir_version=4)
    agrees(path, monkeypatch)


def test_nodes_that_are_called_like_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = net(tmp_path / "m.onnx", BETWEEN["SiLU"])
    model = onnx.load(path)
    for each in model.graph.node:
        each.name = each.output[0]
    onnx.save(model, path)
    agrees(path, monkeypatch)


def test_what_nobody_reads_stays(tmp_path: Path) -> None:
    """Dead nodes of an original: nothing would tell where they belong if they were moved."""
    between = [node("LeakyRelu", "y0", "dead"), node("Relu", "y0", "z")]
    path = net(tmp_path / "net.onnx", between)
    out = convfc.convert(path).out
    assert convfc.verify(path, out, samples=2).reason is None


def test_nodes_stand_behind_what_they_read(tmp_path: Path) -> None:
    """Exporters write a Constant just before the node that reads it, and that node moves."""
    number = numpy_helper.from_array(np.array(0.5, np.float32))
    between = [node("Constant", "", "half", value=number), node("Add", "y0 half", "z")]
    path = net(tmp_path / "net.onnx", between)
    out = convfc.convert(path).out
    onnx.checker.check_model(str(out))
    assert convfc.verify(path, out, samples=2).reason is None


@pytest.mark.parametrize(
    ("own", "read", "size"), [("y0/rows_again", "z", 9), ("y0/channels_last_again", "y0", "open")]
)
def test_a_kernel_that_is_called_like_a_moved_value(
    tmp_path: Path, own: str, read: str, size: int | str
) -> None:
    """The converted file has it no more, and the original must not be mixed up with what is new."""
    path = net(tmp_path / "net.onnx", [node("Relu", "y0", "z")], size=size)
    model = onnx.load(path)
    next(tensor for tensor in model.graph.initializer if tensor.name == "V").name = own
    model.graph.node[-1].input[:] = [read, own]
    onnx.save(model, path)
    out = convfc.convert(path).out
    assert convfc.verify(path, out, samples=2).reason is None


def test_many_sums_in_a_row(tmp_path: Path) -> None:
    """With each of them, there are twice as many ways back to the layer; nobody walks them all."""
    between = [
        each
        for k in range(40)
        for each in (node("Relu", f"y{k}", f"r{k}"), node("Add", f"y{k} r{k}", f"y{k + 1}"))
    ]
    between[-1].output[0] = "z"
    path = net(tmp_path / "net.onnx", between)
    out = convfc.convert(path).out
    assert {"r0/rows", "r39/rows"} <= {x for n in onnx.load(out).graph.node for x in n.output}
    assert convfc.verify(path, out, samples=2).verdict is Verdict.EQUIVALENT
