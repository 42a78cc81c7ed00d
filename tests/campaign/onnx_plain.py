"""Small ONNX models to spoil: layers of every geometry."""

from __future__ import annotations

import numpy as np
import onnx

from tests.campaign.onnx_building import Weights, model, node


def chain(w: Weights) -> onnx.ModelProto:
    """Two convolutions with other operators before, between and behind them."""
    return model(
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


def residual(w: Weights) -> onnx.ModelProto:
    """What the dense form makes a chain of: elementwise between layers, a sum, a Flatten."""
    return model(
        [
            node("Conv", ["x", "W", "B"], ["c"], name="conv", pads=[1, 1, 1, 1]),
            node("Mul", ["c", "each"], ["m"], name="scale"),
            node("Relu", ["m"], ["r"], name="act"),
            node("Conv", ["r", "V", "B"], ["d"], name="inner", pads=[0, 1, 0, 1]),
            node("Add", ["r", "d"], ["s"], name="sum"),
            node("PRelu", ["s", "slope"], ["p"], name="slopes"),
            node("Flatten", ["p"], ["f"], name="flat"),
            node("Gemm", ["f", "G"], ["y"], name="scores"),
        ],
        {"x": ["n", 2, 4, 3]},
        ["y"],
        {
            "W": w.real(3, 2, 3, 3),
            "B": w.real(3),
            "each": w.real(3, 1, 1),
            "V": w.real(3, 3, 1, 3),
            "slope": w.real(3, 1, 1),
            "G": w.real(36, 4),
        },
    )


def bare(w: Weights) -> onnx.ModelProto:
    """One convolution alone, so that everything that it is fed reaches the output."""
    return model(
        [node("Conv", ["x", "W", "B"], ["y"], name="conv", pads=[0, 1, 1, 0])],
        {"x": ["n", 2, 6, 5]},
        ["y"],
        {"W": w.real(3, 2, 3, 2), "B": w.real(3)},
    )


def open_sizes(w: Weights) -> onnx.ModelProto:
    """Height and width are unknown."""
    return model(
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
    return model(
        [
            node("ConvTranspose", ["x", "W"], ["c"], name="up", strides=[2, 1], pads=[1, 0, 0, 1]),
            node("Tanh", ["c"], ["y"], name="act"),
        ],
        {"x": ["n", 2, "h", "w"]},
        ["y"],
        {"W": w.real(2, 3, 3, 2)},
    )


def transposed(w: Weights) -> onnx.ModelProto:
    """A transposed convolution with everything that shapes its output."""
    return model(
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
    return model(
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
    return model(
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


def line(w: Weights) -> onnx.ModelProto:
    """One axis, opset 11, between layers that fix the size."""
    return model(
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
    return model(
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


def tiles(w: Weights) -> onnx.ModelProto:
    """Windows that tile the image, as in a vision transformer."""
    return model(
        [
            node("Conv", ["x", "W", "B"], ["c"], name="embed", strides=[2, 3]),
            node("Reshape", ["c", "shape"], ["r"], name="flat"),
            node("Transpose", ["r"], ["y"], name="tokens", perm=[0, 2, 1]),
        ],
        {"x": ["n", 3, 6, 6]},
        ["y"],
        {"W": w.real(4, 3, 2, 3), "B": w.real(4), "shape": np.array([0, 4, -1])},
    )
