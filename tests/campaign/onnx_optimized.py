"""Small ONNX models as onnxruntime's optimizer writes them."""

from __future__ import annotations

import numpy as np
import onnx

from tests.campaign.onnx_building import Weights, model, node

_DOMAIN = "com.microsoft"


def fused(w: Weights) -> onnx.ModelProto:
    """Convolutions with activations, one with a sum."""
    return model(
        [
            node(
                "FusedConv",
                ["x", "W", "B"],
                ["a"],
                name="first",
                domain=_DOMAIN,
                pads=[1, 0, 1, 2],
                activation="Clip",
                activation_params=[-0.5, 1.5],
            ),
            node(
                "FusedConv",
                ["a", "V", "C", "a"],
                ["b"],
                name="second",
                domain=_DOMAIN,
                pads=[1, 1, 1, 1],
                activation="LeakyRelu",
                activation_params=[0.2],
            ),
            node("Softmax", ["b"], ["y"], name="soft", axis=1),
        ],
        {"x": ["n", 2, 6, "w"]},
        ["y"],
        {"W": w.real(3, 2, 3, 3), "B": w.real(3), "V": w.real(3, 3, 3, 3), "C": w.real(3)},
    )


def channels_last(w: Weights) -> onnx.ModelProto:
    """A quantized convolution with its channels last."""
    numbers = ["xs", "xz", "W", "ws", "wz", "ys", "yz", "B"]
    return model(
        [
            node("QuantizeLinear", ["x", "xs", "xz"], ["q"], name="quantize"),
            node(
                "QLinearConv",
                ["q", *numbers],
                ["c"],
                name="conv",
                domain=_DOMAIN,
                pads=[1, 0, 0, 1],
                channels_last=1,
            ),
            node("DequantizeLinear", ["c", "ys", "yz"], ["y"], name="dequantize"),
        ],
        {"x": ["n", 6, 5, 2]},
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
