"""Small ONNX models as onnxruntime's optimizer writes them."""

from __future__ import annotations

import onnx

from tests.campaign.onnx_building import Weights, model, node
from tests.campaign.onnx_graphs import quantized

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
    return quantized(w, (6, 5, 2), domain=_DOMAIN, channels_last=1)
