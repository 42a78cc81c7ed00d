"""Small ONNX models to convert and to spoil: every operator, kind of graph and type, once each."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
node = helper.make_node
FLOAT = TensorProto.FLOAT


class Weights:
    """Random numbers that are the same in every process.

    Args:
        name: of the model.
    """

    def __init__(self, name: str) -> None:
        self._random = np.random.default_rng(zlib.crc32(name.encode()))

    def real(self, *shape: int) -> Array:
        """Normally distributed."""
        return self._random.normal(size=shape).astype(np.float32)

    def positive(self, *shape: int) -> Array:
        """Their magnitudes, and not too small."""
        return abs(self.real(*shape)) + np.float32(0.1)

    def whole(self, dtype: str, *shape: int) -> Array:
        """Of the whole range of a type of 8 bits."""
        limits = np.iinfo(dtype)
        return self._random.integers(limits.min, limits.max + 1, shape).astype(dtype)


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Sequence[str],
    weights: Mapping[str, Array],
    opset: int = 17,
    ir_version: int = 8,
    **more: Any,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, FLOAT, dims) for name, dims in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    domains = [helper.make_opsetid("", opset)]
    domains += [helper.make_opsetid(f.domain, 1) for f in more.get("functions", ())]
    return helper.make_model(graph, opset_imports=domains, ir_version=ir_version, **more)


def _inner(
    name: str,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, int] = {},
    outputs: Mapping[str, int] = {},
) -> onnx.GraphProto:
    """A subgraph, whose values have the given types; what is no real number is a single one."""

    def ports(types: Mapping[str, int]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, kind, None if kind == FLOAT else [])
            for name, kind in types.items()
        ]

    return helper.make_graph(nodes, name, ports(inputs), ports(outputs))


def chain(w: Weights) -> onnx.ModelProto:
    """Two convolutions with other operators before, between and behind them."""
    return _model(
        [
            node("Relu", ["x"], ["r"], name="first"),
            node("Conv", ["r", "W", "B"], ["c"], name="conv", pads=[1, 0, 1, 2], strides=[2, 1]),
            node("Add", ["c", "shift"], ["a"], name="add"),
            node("Clip", ["a", "low", "high"], ["l"], name="clip"),
            node("Conv", ["l", "V"], ["v"], name="point"),
            node("BatchNormalization", ["v", *"sbmu"], ["n1"], name="norm", epsilon=0.01),
            node("Softmax", ["n1"], ["y"], name="scores", axis=2),
        ],
        {"x": ["n", 3, 7, 8]},
        ["y"],
        {
            "W": w.real(4, 3, 3, 2),
            "B": w.real(4),
            "shift": w.real(4, 1, 1),
            "low": np.float32(-7),
            "high": np.float32(8),
            "V": w.real(2, 4, 1, 1),
            **{name: w.positive(2) for name in "sbmu"},
        },
    )


def bare(w: Weights) -> onnx.ModelProto:
    """One convolution alone, so that everything that it is fed reaches the output."""
    return _model(
        [node("Conv", ["x", "W", "B"], ["y"], name="conv", pads=[0, 1, 1, 0])],
        {"x": ["n", 2, 6, 5]},
        ["y"],
        {"W": w.real(3, 2, 3, 2), "B": w.real(3)},
    )


def open_sizes(w: Weights) -> onnx.ModelProto:
    """Height and width are unknown."""
    return _model(
        [
            node("Conv", ["x", "W", "B"], ["c"], name="conv", pads=[1, 1, 1, 1]),
            node("LeakyRelu", ["c"], ["l"], name="act", alpha=0.2),
            node("Conv", ["l", "V"], ["y"], name="strided", strides=[2, 3], group=2),
        ],
        {"x": ["n", 3, "h", "w"]},
        ["y"],
        {"W": w.real(4, 3, 3, 3), "B": w.real(4), "V": w.real(4, 2, 2, 3)},
    )


def open_transposed(w: Weights) -> onnx.ModelProto:
    """A transposed convolution of unknown sizes."""
    return _model(
        [
            node("ConvTranspose", ["x", "W"], ["c"], name="up", strides=[2, 1], pads=[1, 0, 0, 1]),
            node("Tanh", ["c"], ["y"], name="act"),
        ],
        {"x": ["n", 2, "h", "w"]},
        ["y"],
        {"W": w.real(2, 3, 3, 2)},
    )


def branches(w: Weights) -> onnx.ModelProto:
    """A convolution in each branch of an If, whose kernel is outside."""

    def branch(name: str, activation: str) -> onnx.GraphProto:
        conv = node("Conv", ["x", "W", "B"], [f"{name}_c"], name=f"{name}_conv")
        end = node(activation, [f"{name}_c"], [f"{name}_o"], name=f"{name}_act")
        return _inner(name, [conv, end], outputs={f"{name}_o": FLOAT})

    return _model(
        [
            node("ReduceSum", ["x"], ["s"], name="sum", keepdims=0),
            node("Greater", ["s", "zero"], ["positive"], name="greater"),
            node(
                "If",
                ["positive"],
                ["y"],
                name="if",
                then_branch=branch("yes", "Relu"),
                else_branch=branch("no", "Abs"),
            ),
        ],
        {"x": ["n", 3, 6, 5]},
        ["y"],
        {"W": w.real(2, 3, 3, 2), "B": w.real(2), "zero": np.float32(0)},
    )


def loop(w: Weights) -> onnx.ModelProto:
    """A convolution that is computed three times over."""
    body = _inner(
        "body",
        [
            node("Conv", ["v", "W"], ["c"], name="conv", pads=[1, 1, 1, 1]),
            node("Tanh", ["c"], ["next"], name="tanh"),
            node("Identity", ["go"], ["still"], name="go on"),
        ],
        {"i": TensorProto.INT64, "go": TensorProto.BOOL, "v": FLOAT},
        {"still": TensorProto.BOOL, "next": FLOAT},
    )
    return _model(
        [node("Loop", ["trips", "true", "x"], ["y"], name="loop", body=body)],
        {"x": ["n", 2, 5, 6]},
        ["y"],
        {"W": w.real(2, 2, 3, 3), "trips": np.int64(3), "true": np.bool_(True)},
    )


def function(w: Weights) -> onnx.ModelProto:
    """A function of two attributes, one of them with a default, called twice."""
    body = [
        node("Conv", ["a", "k"], ["c"], name="conv"),
        node("LeakyRelu", ["c"], ["l"], name="leaky"),
        node("Softmax", ["l"], ["o"], name="soft"),
    ]
    for place, (attribute, kind) in enumerate((("alpha", "FLOAT"), ("axis", "INT")), 1):
        body[place].attribute.add(
            name=attribute, ref_attr_name=attribute, type=onnx.AttributeProto.AttributeType.Value(kind)
        )
    made = helper.make_function(
        "own", "block", ["a", "k"], ["o"], body, [helper.make_opsetid("", 17)], ["axis"]
    )
    made.attribute_proto.append(helper.make_attribute("alpha", 0.3))
    return _model(
        [
            node("block", ["x", "W"], ["h"], domain="own", name="one", axis=1),
            node("block", ["h", "V"], ["y"], domain="own", name="two", axis=2, alpha=0.1),
        ],
        {"x": ["n", 3, 6, 7]},
        ["y"],
        {"W": w.real(3, 3, 3, 2), "V": w.real(3, 3, 3, 2)},
        ir_version=9,
        functions=[made],
    )


def quantized(w: Weights) -> onnx.ModelProto:
    """QLinearConv between a quantizer and its inverse."""
    return _model(
        [
            node("QuantizeLinear", ["x", "xs", "xz"], ["q"], name="quantize"),
            node(
                "QLinearConv",
                ["q", "xs", "xz", "W", "ws", "wz", "ys", "yz", "B"],
                ["c"],
                name="conv",
                pads=[1, 0, 0, 1],
            ),
            node("DequantizeLinear", ["c", "ys", "yz"], ["y"], name="dequantize"),
        ],
        {"x": ["n", 2, 6, 5]},
        ["y"],
        {
            "W": w.whole("uint8", 3, 2, 3, 3),
            "xs": np.float32(0.02),
            "xz": np.uint8(3),
            "ws": np.float32(0.01),
            "wz": np.uint8(120),
            "ys": np.float32(0.5),
            "yz": np.uint8(100),
            "B": w.whole("int8", 3).astype(np.int32),
        },
    )


def integers(w: Weights) -> onnx.ModelProto:
    """ConvInteger, its input cast from numbers."""
    return _model(
        [
            node("Clip", ["x", "low", "high"], ["l"], name="clip"),
            node("Cast", ["l"], ["q"], name="cast", to=TensorProto.UINT8),
            node("ConvInteger", ["q", "W", "xz", "wz"], ["c"], name="conv", pads=[1, 1, 0, 1]),
            node("Cast", ["c"], ["y"], name="back", to=FLOAT),
        ],
        {"x": ["n", 2, 5, 6]},
        ["y"],
        {
            "W": w.whole("uint8", 3, 2, 3, 2),
            "xz": np.uint8(5),
            "wz": np.uint8(7),
            "low": np.float32(0),
            "high": np.float32(255),
        },
    )


def transposed(w: Weights) -> onnx.ModelProto:
    """A transposed convolution with everything that shapes its output."""
    return _model(
        [
            node(
                "ConvTranspose",
                ["x", "W", "B"],
                ["c"],
                name="up",
                strides=[2, 3],
                pads=[1, 0, 0, 1],
                output_padding=[1, 0],
            ),
            node("Sigmoid", ["c"], ["y"], name="act"),
        ],
        {"x": ["n", 3, 4, 3]},
        ["y"],
        {"W": w.real(3, 2, 3, 4), "B": w.real(2)},
    )


def groups(w: Weights) -> onnx.ModelProto:
    """A grouped convolution, then one filter per channel."""
    return _model(
        [
            node("Conv", ["x", "W", "B"], ["c"], name="conv", group=2, auto_pad="SAME_UPPER"),
            node("Conv", ["c", "D", "E"], ["d"], name="depth", group=6, strides=[2, 1]),
            node("Relu", ["d"], ["y"], name="act"),
        ],
        {"x": ["n", 4, 7, 6]},
        ["y"],
        {"W": w.real(6, 2, 3, 2), "B": w.real(6), "D": w.real(6, 1, 3, 3), "E": w.real(6)},
    )


def fork(w: Weights) -> onnx.ModelProto:
    """Two inputs through one kernel, and a third convolution of the same shape."""
    return _model(
        [
            node("Conv", ["a", "W"], ["c"], name="left"),
            node("Conv", ["b", "W"], ["d"], name="right"),
            node("Conv", ["a", "V", "B"], ["e"], name="wide", dilations=[2, 1], pads=[1, 0, 1, 0]),
            node("Sub", ["c", "d"], ["s"], name="sub"),
            node("Mul", ["s", "e"], ["y"], name="mul"),
            node("GlobalAveragePool", ["s"], ["z"], name="pool"),
        ],
        {"a": ["n", 2, 6, 5], "b": ["n", 2, 6, 5]},
        ["y", "z"],
        {"W": w.real(2, 2, 3, 2), "V": w.real(2, 2, 3, 2), "B": w.real(2)},
    )


def overridable(w: Weights) -> onnx.ModelProto:
    """A kernel and a constant that a caller may replace."""
    model = _model(
        [
            node("Conv", ["x", "W"], ["c"], name="conv"),
            node("Add", ["c", "k"], ["y"], name="add"),
        ],
        {"x": ["n", 2, 5, 6], "W": [2, 2, 3, 3], "k": []},
        ["y"],
        {"W": w.real(2, 2, 3, 3), "k": np.float32(3)},
    )
    return model


def old(w: Weights) -> onnx.ModelProto:
    """As files were before initializers were constants."""
    return _model(
        [
            node("Conv", ["x", "W", "B"], ["c"], name="conv", strides=[2, 2], auto_pad="SAME_LOWER"),
            node("Relu", ["c"], ["y"], name="act"),
        ],
        {"x": ["n", 2, 7, 6], "W": [3, 2, 3, 3], "B": [3]},
        ["y"],
        {"W": w.real(3, 2, 3, 3), "B": w.real(3)},
        opset=8,
        ir_version=3,
    )


def computed(w: Weights) -> onnx.ModelProto:
    """A kernel that is computed, and one that is fed."""
    return _model(
        [
            node("Mul", ["W", "two"], ["WW"], name="mul"),
            node("Conv", ["x", "WW"], ["c"], name="conv"),
            node("Conv", ["c", "k"], ["y"], name="fed"),
        ],
        {"x": ["n", 2, 7, 6], "k": [2, 2, 3, 2]},
        ["y"],
        {"W": w.real(2, 2, 3, 3), "two": np.float32(2)},
    )


def line(w: Weights) -> onnx.ModelProto:
    """One axis, opset 11, between layers that fix the size."""
    return _model(
        [
            node("Conv", ["x", "W", "B"], ["c"], name="conv", pads=[2, 0], dilations=[2]),
            node("MaxPool", ["c"], ["p"], name="pool", kernel_shape=[2], strides=[2]),
            node("Flatten", ["p"], ["f"], name="flat"),
            node("Gemm", ["f", "M", "b"], ["y"], name="dense"),
        ],
        {"x": ["n", 2, 14]},
        ["y"],
        {"W": w.real(3, 2, 3), "B": w.real(3), "M": w.real(18, 4), "b": w.real(4)},
        opset=11,
        ir_version=7,
    )


def volume(w: Weights) -> onnx.ModelProto:
    """Three axes, the newest operators."""
    return _model(
        [
            node("Conv", ["x", "W", "B"], ["c"], name="conv", strides=[1, 2, 1]),
            node("Relu", ["c"], ["y"], name="act"),
        ],
        {"x": ["n", 2, 4, 5, 3]},
        ["y"],
        {"W": w.real(3, 2, 2, 3, 2), "B": w.real(3)},
        opset=21,
        ir_version=10,
    )


def half(w: Weights) -> onnx.ModelProto:
    """Computes in float16."""
    return _model(
        [
            node("Cast", ["x"], ["h"], name="narrow", to=TensorProto.FLOAT16),
            node("Conv", ["h", "W"], ["c"], name="conv", pads=[1, 1, 1, 1]),
            node("Cast", ["c"], ["y"], name="widen", to=FLOAT),
        ],
        {"x": ["n", 2, 6, 5]},
        ["y"],
        {"W": w.real(2, 2, 3, 3).astype(np.float16)},
    )


def tiles(w: Weights) -> onnx.ModelProto:
    """Windows that tile the image, as in a vision transformer."""
    return _model(
        [
            node("Conv", ["x", "W", "B"], ["c"], name="embed", strides=[2, 3]),
            node("Reshape", ["c", "shape"], ["r"], name="flat"),
            node("Transpose", ["r"], ["y"], name="tokens", perm=[0, 2, 1]),
        ],
        {"x": ["n", 3, 6, 6]},
        ["y"],
        {"W": w.real(4, 3, 2, 3), "B": w.real(4), "shape": np.array([0, 4, -1])},
    )


SEEDS: Mapping[str, Callable[[Weights], onnx.ModelProto]] = {
    made.__name__: made
    for made in (
        *(chain, bare, open_sizes, open_transposed, branches, loop, function, quantized, integers),
        *(transposed, groups, fork, overridable, old, computed, line, volume, half, tiles),
    )
}
"""By name."""


def seed(name: str) -> onnx.ModelProto:
    """One of the models, the same in every process."""
    return SEEDS[name](Weights(name))
