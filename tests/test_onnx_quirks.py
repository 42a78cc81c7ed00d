"""Odd but real: what exporters and people write into files, one kind each.

Each is run in onnxruntime before and after, and verified; what is not taken is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import convfc
from tests.onnx_models import integers, same
from tests.thinned import thinned

Array = NDArray[Any]
SHAPE = [1, 3, 8, 9]
W, V = integers([4, 3, 3, 3], 1), integers([2, 4, 1, 1], 2)
CHANNELS = np.abs(integers([4, 1, 1, 1], 3)) + 1


def _conv(x: str, w: str, y: str, name: str | None = "conv", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node("Conv", [x, w], [y], name=name, **attributes)


def _constants(name: str, value: Array) -> onnx.GraphProto:
    node = helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
    info = helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape)
    return helper.make_graph([node], name, [], [info])


def _written(
    path: Path, nodes: list[onnx.NodeProto], weights: dict[str, Array], *outputs: str
) -> Path:
    inputs = [n for n in dict.fromkeys(i for node in nodes for i in node.input) if n]
    made = {name for node in nodes for name in node.output}
    (x,) = [name for name in inputs if name not in made | weights.keys()]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * 4) for n in outputs or ["y"]],
        [numpy_helper.from_array(weight, name) for name, weight in weights.items()],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


SHAPE_OF_W = np.array(W.shape)

KINDS: dict[str, tuple[list[onnx.NodeProto], dict[str, Array], list[str]]] = {
    "names of dynamo": (
        [
            _conv("x::0", "p_conv::weight", "val_3::out", "node_Conv::1"),
            helper.make_node("Relu", ["val_3::out"], ["y"], name="node_Relu::2"),
        ],
        {"p_conv::weight": W},
        [],
    ),
    "names of people": (
        [
            _conv("x", "große Kernel 1:0", "/a b/输出", "Faltung é/1"),
            _conv("/a b/输出", "V", "y", ""),
        ],
        {"große Kernel 1:0": W, "V": V},
        [],
    ),
    "no names at all": (
        [_conv("x", "W", "a", None), _conv("a", "V", "y", None)],
        {"W": W, "V": V},
        [],
    ),
    "our names": (
        [
            _conv("x", "W", "c"),
            helper.make_node("Relu", ["c"], ["conv/filter_matrix"]),
            helper.make_node("Neg", ["conv/filter_matrix"], ["y"]),
        ],
        {"W": W},
        ["y", "conv/filter_matrix"],
    ),
    "a value called like its node": (
        [_conv("x", "W", "conv"), helper.make_node("Relu", ["conv"], ["y"], name="y")],
        {"W": W},
        [],
    ),
    "a chain of identities": (
        [
            helper.make_node("Identity", ["W"], ["W1"]),
            helper.make_node("Identity", ["W1"], ["W2"]),
            _conv("x", "W2", "y"),
        ],
        {"W": W},
        [],
    ),
    "constants in an If": (
        [
            helper.make_node(
                "If", ["truth"], ["k"],
                then_branch=_constants("p", W), else_branch=_constants("q", -W),
            ),
            _conv("x", "k", "y"),
        ],
        {"truth": np.array(True)},
        [],
    ),
    "transposed": (
        [helper.make_node("Transpose", ["W"], ["k"], perm=[3, 2, 0, 1]), _conv("x", "k", "y")],
        {"W": W.transpose(2, 3, 1, 0).copy()},
        [],
    ),
    "reshaped numbers": (
        [helper.make_node("Reshape", ["W", "s"], ["k"]), _conv("x", "k", "y")],
        {"W": W.ravel(), "s": SHAPE_OF_W},
        [],
    ),
    "a list of numbers": (
        [
            helper.make_node("Constant", [], ["W"], value_floats=W.ravel().tolist()),
            helper.make_node("Reshape", ["W", "s"], ["k"]),
            _conv("x", "k", "y"),
        ],
        {"s": SHAPE_OF_W},
        [],
    ),
    "one number": (
        [
            helper.make_node(
                "ConstantOfShape", ["s"], ["k"], value=numpy_helper.from_array(W[:1, 0, 0, 0])
            ),
            _conv("x", "k", "y"),
        ],
        {"s": SHAPE_OF_W},
        [],
    ),
    "half as long": (
        [helper.make_node("Cast", ["W"], ["k"], to=TensorProto.FLOAT), _conv("x", "k", "y")],
        {"W": W.astype(np.float16)},
        [],
    ),
    "quantized": (
        [
            helper.make_node("DequantizeLinear", ["W", "s", "z"], ["k"], axis=0),
            _conv("x", "k", "y"),
        ],
        {"W": W.astype(np.int8), "s": CHANNELS.ravel(), "z": np.zeros(4, np.int8)},
        [],
    ),
    "scaled": (
        [helper.make_node("Mul", ["W", "s"], ["k"]), _conv("x", "k", "y")],
        {"W": W, "s": CHANNELS},
        [],
    ),
    "joined": (
        [helper.make_node("Concat", ["A", "B"], ["k"], axis=0), _conv("x", "k", "y")],
        {"A": W[:1], "B": W[1:]},
        [],
    ),
    "some of many": (
        [helper.make_node("Gather", ["W", "i"], ["k"]), _conv("x", "k", "y")],
        {"W": W, "i": np.array([2, 0, 3])},
        [],
    ),
    "shared": (
        [
            _conv("x", "W", "a", "c1"),
            _conv("x", "W", "b", "c2", strides=[1, 1]),
            helper.make_node("Add", ["a", "b"], ["y"]),
        ],
        {"W": W},
        [],
    ),
    "a bias behind it": (
        [_conv("x", "W", "a"), helper.make_node("Add", ["a", "b"], ["y"])],
        {"W": W, "b": CHANNELS.reshape(1, 4, 1, 1)},
        [],
    ),
    "no bias, by an empty name": (
        [helper.make_node("Conv", ["x", "W", ""], ["y"])],
        {"W": W},
        [],
    ),
    "its output and its kernel are outputs": (
        [_conv("x", "W", "c"), helper.make_node("Relu", ["c"], ["y"])],
        {"W": W},
        ["y", "c", "W"],
    ),
    "its input is an output": ([_conv("x", "W", "y")], {"W": W}, ["y", "x"]),
    "what nobody reads": (
        [_conv("x", "W", "y"), helper.make_node("Relu", ["x"], ["dead"])],
        {"W": W, "unused": V},
        [],
    ),
    "caught by a branch": (
        [
            _conv("x", "W", "c"),
            helper.make_node(
                "If", ["truth"], ["y"],
                then_branch=helper.make_graph(
                    [helper.make_node("Relu", ["c"], ["p"])], "then", [],
                    [helper.make_tensor_value_info("p", TensorProto.FLOAT, None)],
                ),
                else_branch=helper.make_graph(
                    [_conv("c", "V", "q", "within")], "else", [],
                    [helper.make_tensor_value_info("q", TensorProto.FLOAT, None)],
                ),
            ),
        ],
        {"W": W, "V": V, "truth": np.array(False)},
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", thinned(KINDS))
def test_each_kind_is_converted_and_proved(tmp_path: Path, kind: str) -> None:
    nodes, weights, outputs = KINDS[kind]
    path = _written(tmp_path / "m.onnx", nodes, weights, *outputs)
    feed = {onnx.load(path).graph.input[0].name: integers(SHAPE, 5)}
    out = same(path, feed)
    assert convfc.verify(path, out, samples=2).verdict is convfc.Verdict.EQUIVALENT
    twin = onnx.load(out)
    real = [t for t in twin.graph.initializer if t.data_type == TensorProto.FLOAT and t.dims]
    for tensor in real:
        array = numpy_helper.to_array(tensor) * 2 + 1
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(twin, out)
    other = convfc.verify(path, out, samples=2)
    assert other.verdict is (convfc.Verdict.NOT_EQUIVALENT if real else convfc.Verdict.EQUIVALENT)


def test_output_padding_makes_nothing_longer_by_a_rule(tmp_path: Path) -> None:
    up = helper.make_node(
        "ConvTranspose", ["x", "T"], ["a"],
        strides=[2, 3], output_padding=[1, 2], auto_pad="SAME_UPPER",
    )  # fmt: skip
    turned = integers((SHAPE[1], W.shape[1], 3, 2), 4)
    path = _written(tmp_path / "m.onnx", [up, _conv("a", "W", "y")], {"T": turned, "W": W})
    out = same(path, {"x": integers(SHAPE, 5)})
    assert convfc.verify(path, out, samples=2).verdict is convfc.Verdict.EQUIVALENT


def _sparse() -> onnx.SparseTensorProto:
    flat = W.ravel()
    places = np.flatnonzero(flat > 20)
    return helper.make_sparse_tensor(
        numpy_helper.from_array(flat[places], "W"),
        numpy_helper.from_array(places, "places"),
        W.shape,
    )


def _sparse_weight(proto: onnx.ModelProto) -> None:
    del proto.graph.initializer[:]
    proto.graph.sparse_initializer.append(_sparse())


def _sparse_constant(proto: onnx.ModelProto) -> None:
    del proto.graph.initializer[:]
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["W"], sparse_value=_sparse()))


def _training(proto: onnx.ModelProto) -> None:
    proto.training_info.add()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_sparse_weight, "it has sparse initializers, which would be lost"),
        (_sparse_constant, "'W' is a sparse constant, which would be lost"),
        (_training, "it carries training information, which would be lost"),
    ],
)
def test_what_would_be_lost_is_refused(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None], why: str
) -> None:
    path = _written(tmp_path / "m.onnx", [_conv("x", "W", "y")], {"W": W})
    proto = onnx.load(path)
    change(proto)
    onnx.save(proto, path)
    with pytest.raises(convfc.UnsupportedModelError, match=why) as refused:
        convfc.convert(path)
    assert refused.value.code is convfc.Code.NOT_KEPT


def test_weights_in_a_folder_of_their_own(tmp_path: Path) -> None:
    path = _written(tmp_path / "m.onnx", [_conv("x", "W", "y")], {"W": W})
    (tmp_path / "weights" / "deep").mkdir(parents=True)
    proto = onnx.load(path)
    onnx.save(proto, path, save_as_external_data=True, location="weights/deep/w.bin",
              size_threshold=0)  # fmt: skip
    assert not onnx.load(path, load_external_data=False).graph.initializer[0].raw_data
    assert convfc.verify(path, same(path, {"x": integers(SHAPE, 5)})).equivalent
