"""Small ONNX models to spoil: every kind of graph, type and constant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.campaign.onnx_building import FLOAT, Weights, inner, model, node


def branches(w: Weights) -> onnx.ModelProto:
    """A convolution in each branch of an If, whose kernel is outside."""

    def branch(name: str, activation: str) -> onnx.GraphProto:
        conv = node("Conv", ["x", "W", "B"], [f"{name}_c"], name=f"{name}_conv")
        end = node(activation, [f"{name}_c"], [f"{name}_o"], name=f"{name}_act")
        return inner(name, [conv, end], outputs={f"{name}_o": FLOAT})

    return model(
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
    body = inner(
        "body",
        [
            node("Conv", ["v", "W"], ["c"], name="conv", pads=[1, 1, 1, 1]),
            node("Tanh", ["c"], ["next"], name="tanh"),
            node("Identity", ["go"], ["still"], name="go on"),
        ],
        {"i": TensorProto.INT64, "go": TensorProto.BOOL, "v": FLOAT},
        {"still": TensorProto.BOOL, "next": FLOAT},
    )
    return model(
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
            name=attribute,
            ref_attr_name=attribute,
            type=onnx.AttributeProto.AttributeType.Value(kind),
        )
    made = helper.make_function(
        "own", "block", ["a", "k"], ["o"], body, [helper.make_opsetid("", 17)], ["axis"]
    )
    made.attribute_proto.append(helper.make_attribute("alpha", 0.3))
    return model(
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


def quantized(w: Weights, sizes: Sequence[int] = (2, 6, 5), **settings: Any) -> onnx.ModelProto:
    """QLinearConv between a quantizer and its inverse.

    Args:
        w: the weights.
        sizes: of the input, the batch apart.
        settings: of the convolution, beside its pads.
    """
    return model(
        [
            node("QuantizeLinear", ["x", "xs", "xz"], ["q"], name="quantize"),
            node(
                "QLinearConv",
                ["q", "xs", "xz", "W", "ws", "wz", "ys", "yz", "B"],
                ["c"],
                name="conv",
                pads=[1, 0, 0, 1],
                **settings,
            ),
            node("DequantizeLinear", ["c", "ys", "yz"], ["y"], name="dequantize"),
        ],
        {"x": ["n", *sizes]},
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
    return model(
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


def overridable(w: Weights) -> onnx.ModelProto:
    """A kernel and a constant that a caller may replace."""
    return model(
        [
            node("Conv", ["x", "W"], ["c"], name="conv"),
            node("Add", ["c", "k"], ["y"], name="add"),
        ],
        {"x": ["n", 2, 5, 6], "W": [2, 2, 3, 3], "k": []},
        ["y"],
        {"W": w.real(2, 2, 3, 3), "k": np.float32(3)},
    )


def old(w: Weights) -> onnx.ModelProto:
    """As files were before initializers were constants."""
    return model(
        [
            node(
                "Conv", ["x", "W", "B"], ["c"], name="conv", strides=[2, 2], auto_pad="SAME_LOWER"
            ),
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
    return model(
        [
            node("Mul", ["W", "two"], ["WW"], name="mul"),
            node("Conv", ["x", "WW"], ["c"], name="conv"),
            node("Conv", ["c", "k"], ["y"], name="fed"),
        ],
        {"x": ["n", 2, 7, 6], "k": [2, 2, 3, 2]},
        ["y"],
        {"W": w.real(2, 2, 3, 3), "two": np.float32(2)},
    )


def half(w: Weights) -> onnx.ModelProto:
    """Computes in float16."""
    return model(
        [
            node("Cast", ["x"], ["h"], name="narrow", to=TensorProto.FLOAT16),
            node("Conv", ["h", "W"], ["c"], name="conv", pads=[1, 1, 1, 1]),
            node("Cast", ["c"], ["y"], name="widen", to=FLOAT),
        ],
        {"x": ["n", 2, 6, 5]},
        ["y"],
        {"W": w.real(2, 2, 3, 3).astype(np.float16)},
    )
