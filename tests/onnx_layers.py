"""ONNX layers by chance."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from convfc.core.geometry import Convolution, Same, Sizes, Window
from tests.onnx_models import Array

KINDS = ["Conv", "Conv", "ConvTranspose", "ConvTranspose", "ConvInteger", "QLinearConv"]

METHODS = ["auto", "auto", "gather", "rows", "slice", "taps", "shift"]

OPSETS = [11, 13, 17, 21]

TYPES = {"uint8": TensorProto.UINT8, "int8": TensorProto.INT8, "float32": TensorProto.FLOAT}


@dataclass(frozen=True)
class Layer:
    """One node, its constants, and inputs of several sizes for one and the same file."""

    model: onnx.ModelProto
    inputs: list[Array]
    patches: str


def random_layer(random: Random) -> Layer:
    kind = random.choice(KINDS)
    rank, groups = random.randint(1, 3), random.choice([1, 1, 2, 3])
    channels, filters = groups * random.randint(1, 3), groups * random.randint(1, 2)
    taps = [random.randint(1, 4) for _ in range(rank)]
    auto_pad = random.choice(["NOTSET"] * 3 + ["SAME_UPPER", "SAME_LOWER", "VALID"])
    dilations = [random.randint(1, 2) for _ in taps]
    if auto_pad.startswith("SAME") and kind != "ConvTranspose" and random.random() < 0.8:
        dilations = [1] * rank  # onnxruntime has no SAME with dilation
    tile = random.random() < 0.2
    strides = [tap if tile else random.randint(1, 3) for tap in taps]
    attributes: dict[str, Any] = {"group": groups, "dilations": dilations, "strides": strides}
    if auto_pad != "NOTSET":
        attributes["auto_pad"] = auto_pad
    elif random.random() < 0.8:
        attributes["pads"] = [random.randint(0, 2) for _ in range(2 * rank)]
    extents = [d * (k - 1) + 1 for d, k in zip(dilations, taps, strict=True)]
    sizes = [random.randint(extent, extent + 5) for extent in extents]
    unknown = [random.random() < 0.4 for _ in sizes]
    if kind == "ConvTranspose":
        if random.random() < 0.3:
            added = [random.randrange(max(s, d)) for s, d in zip(strides, dilations, strict=True)]
            attributes["output_padding"] = added
        if random.random() < 0.2:
            pairs = zip(sizes, strides, extents, strict=True)
            full = [(size - 1) * stride + extent for size, stride, extent in pairs]
            attributes["output_shape"] = [random.randint(max(1, n - 3), n + 1) for n in full]
            attributes.pop("pads", None)
    shape = [filters, channels // groups, *taps]
    if kind == "ConvTranspose":
        shape = [channels, filters // groups, *taps]
    draw = np.random.default_rng(random.getrandbits(32))
    names, constants, dtype = parameters(kind, shape, filters, random, draw)
    node = helper.make_node(kind, names, ["y"], name="layer", **attributes)
    open_dims = [f"s{axis}" for axis in range(rank)]
    dims = [o if no else size for o, size, no in zip(open_dims, sizes, unknown, strict=True)]
    out_type = TensorProto.INT32 if kind == "ConvInteger" else TYPES[dtype]
    graph = helper.make_graph(
        [node],
        "net",
        [helper.make_tensor_value_info("x", TYPES[dtype], ["n", channels, *dims])],
        [helper.make_tensor_value_info("y", out_type, [None] * (rank + 2))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = helper.make_opsetid("", random.choice(OPSETS))
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    low, high = (0, 256) if dtype == "uint8" else (-128, 128) if dtype == "int8" else (-31, 32)
    grown = [size + (4 if no else 0) for size, no in zip(sizes, unknown, strict=True)]
    inputs = [
        draw.integers(low, high, [batch, channels, *spatial]).astype(dtype)
        for batch, spatial in ((1, sizes), (3, grown))
    ]
    return Layer(model, inputs, random.choice([*METHODS, "reshape" if tile else "auto"]))


def parameters(
    kind: str, shape: list[int], filters: int, random: Random, draw: np.random.Generator
) -> tuple[list[str], dict[str, Array], str]:
    """Names of a node's inputs, the constants among them, and the type of its x."""
    if not kind.endswith(("Integer", "LinearConv")):
        constants = {"W": draw.integers(-31, 32, shape).astype(np.float32)}
        if random.random() < 0.5:
            constants["B"] = draw.integers(-31, 32, filters).astype(np.float32)
        return ["x", *constants], constants, "float32"
    x_type, w_type = random.choice([("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")])
    low, high = (0, 256) if w_type == "uint8" else (-128, 128)
    # onnxruntime: one zero point for all filters of a ConvInteger, and of int8 ones, zero.
    per_filter = kind == "QLinearConv" and random.random() < 0.5
    count = [filters] if per_filter else []
    w_zero = np.full(count, random.randint(0, 200) if w_type == "uint8" else 0, w_type)
    x_zero = np.array(random.randint(*((0, 255) if x_type == "uint8" else (-128, 127))), x_type)
    kernel = draw.integers(low, high, shape).astype(w_type)
    if kind == "ConvInteger":
        given = {"W": kernel}
        if random.random() < 0.7:
            given["xz"] = x_zero
            if random.random() < 0.7:
                given["wz"] = w_zero
        return ["x", *given], given, x_type
    scales = draw.uniform(0.001, 0.02, count).astype(np.float32)
    constants = {
        "xs": np.array(draw.uniform(0.01, 0.1), np.float32),
        "xz": x_zero,
        "W": kernel,
        "ws": scales,
        "wz": w_zero,
        "ys": np.array(draw.uniform(0.01, 1), np.float32),
        "yz": np.array(random.randint(*((0, 255) if x_type == "uint8" else (-128, 127))), x_type),
    }
    if random.random() < 0.6:
        constants["B"] = draw.integers(-20000, 20000, filters).astype(np.int32)
    return ["x", *constants], constants, x_type


@st.composite
def layers(draw: st.DrawFn) -> tuple[Convolution, Sizes]:
    """A convolution that onnxruntime can run itself, with known and unknown sizes."""
    rank = draw(st.integers(1, 3))
    same = draw(st.sampled_from([None, None, Same.UPPER, Same.LOWER]))
    windows = []
    for _ in range(rank):
        kernel = draw(st.integers(1, 4))
        stride = draw(st.sampled_from([1, 2, 3, kernel]))
        # onnxruntime has no SAME with dilation.
        dilation = 1 if same else draw(st.integers(1, 2))
        pads = same or (draw(st.integers(0, 2)), draw(st.integers(0, 2)))
        windows.append(Window(kernel, stride, dilation, pads))
    groups = draw(st.integers(1, 3))
    depth, block = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    conv = Convolution(tuple(windows), groups * depth, groups * block, groups)
    sizes = [draw(st.integers(w.extent, w.extent + 6)) for w in windows]
    unknown = draw(st.lists(st.booleans(), min_size=rank, max_size=rank))
    return conv, tuple(None if no else size for size, no in zip(sizes, unknown, strict=True))
