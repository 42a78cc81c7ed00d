"""Pooling, padding and upsampling as convolutions of each channel by itself.

Each rule makes a node of that kind a convolution, and says whether it could.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from convfc.formats.onnx.image_windows import counted, leaves_some, settings_of, windows_of
from convfc.formats.onnx.known_values import Attributes, Known
from convfc.formats.onnx.operators import DOMAINS


def _depthwise(
    known: Known,
    node: ir.Node,
    kernel: NDArray[Any],
    attributes: Attributes = MappingProxyType({}),
    *,
    op_type: str = "Conv",
    scale: NDArray[Any] | None = None,
) -> bool:
    """Make a node a convolution of each channel by itself with one and the same kernel."""
    x = node.inputs[0]
    image = known.image(x)
    if x is None or image is None:
        return False
    name = node.outputs[0].name
    arrays = {f"{name}/kernel": np.broadcast_to(kernel, (image[0], 1, *kernel.shape))}
    if scale is not None:
        arrays[f"{name}/scale"] = scale
    made = known.constants(arrays, x)
    if made is None:
        return False
    given = {**attributes, "group": image[0], "kernel_shape": list(kernel.shape)}
    if scale is None:
        return known.become(node, op_type, [x, *made], given)
    conv = known.before(node, op_type, [x, made[0]], given)
    return known.become(node, "Mul", [conv, made[1]])


def average(known: Known, node: ir.Node) -> bool:
    """AveragePool: the kernel is 1/n; or of ones, where not all windows see n inputs."""
    image, taps = known.image(node.inputs[0]), node.attributes.get_ints("kernel_shape", [])
    windows = None if image is None else windows_of(node, taps, image[1:])
    if image is None or windows is None:
        return False
    if node.attributes.get_int("ceil_mode", 0) != 0 and any(map(leaves_some, windows, image[1:])):
        return False
    counts = counted(windows, image[1:])
    if node.attributes.get_int("count_include_pad", 0) != 0:
        counts = np.full_like(counts, math.prod(taps))
    if counts.min() < 1:
        return False
    given = settings_of(windows)
    if counts.min() == counts.max():
        return _depthwise(known, node, np.full(taps, 1 / counts.max()), given)
    return _depthwise(known, node, np.ones(taps), given, scale=1 / counts[np.newaxis])


def global_average(known: Known, node: ir.Node) -> bool:
    """GlobalAveragePool, and ReduceMean of all spatial axes: one window, of the whole image."""
    image = known.image(node.inputs[0])
    if image is None:
        return False
    if node.op_type == "ReduceMean":
        axes = known.given(node, 1) if known.opset >= 18 else node.attributes.get_ints("axes")
        rank = len(image) + 1
        if axes is None or rank < 4 or {int(axis) % rank for axis in axes} != {*range(2, rank)}:
            return False
        if not node.attributes.get_int("keepdims", 1):
            apart = known.before(node, "ReduceMean", node.inputs[:1])
            known.become(node, "Flatten", [apart], {"axis": 1})
            node = apart.producer() or node
    return _depthwise(known, node, np.full(image[1:], 1 / math.prod(image[1:])))


def pad(known: Known, node: ir.Node) -> bool:
    """Pad with zeros: pads of the convolution behind it, or of one that copies; crops, too."""
    x, image = node.inputs[0], known.image(node.inputs[0])
    if image is None or node.attributes.get_string("mode", "constant") != "constant":
        return False
    if known.opset < 11:
        amounts, value = node.attributes.get_ints("pads", []), node.attributes.get_float("value", 0)
    else:
        given, filling, axes = (known.given(node, place) for place in (1, 2, 3))
        told = [value for value in node.inputs[2:] if value is not None]
        if given is None or (axes is None and len(node.inputs) > 3) or len(told) > 2:
            return False
        value = 0.0
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            value = math.nan if filling is None else float(filling.reshape(-1)[0])
        amounts = _on_all_axes([int(one) for one in given], axes, len(image) + 1)
    rank = len(image) - 1
    befores, afters = amounts[: len(amounts) // 2], amounts[len(amounts) // 2 :]
    if value != 0 or len(befores) != rank + 2 or any((*befores[:2], *afters[:2])):
        return False
    befores, afters = befores[2:], afters[2:]
    reader = known.only_reader(node.outputs[0])
    if reader is not None and reader.op_type == "Conv" and reader.domain in DOMAINS:
        rule = reader.attributes.get_string("auto_pad", "NOTSET")
        own = reader.attributes.get_ints("pads", [0] * 2 * rank)
        both = [a + b for a, b in zip((*befores, *afters), own, strict=True)]
        cuts = min(*befores, *afters) < 0  # what is cut away is not what pads put there again
        if rule in ("NOTSET", "VALID") and not cuts and min(both) >= 0 and len(own) == 2 * rank:
            reader.attributes.pop("auto_pad", None)
            reader.attributes.add(ir.AttrInt64s("pads", both))
            reader.replace_input_with(0, x)
            known.remove(node)
            return True
    kernel = np.zeros([1 + max(-a, 0) + max(-b, 0) for a, b in zip(befores, afters, strict=True)])
    kernel[tuple(max(-a, 0) for a in befores)] = 1
    return _depthwise(known, node, kernel, {"pads": [max(one, 0) for one in (*befores, *afters)]})


def _on_all_axes(amounts: Sequence[int], axes: NDArray[Any] | None, rank: int) -> list[int]:
    """Pads of some axes, as pads of all.

    >>> _on_all_axes([1, 2], np.array([-1]), 3)
    [0, 0, 1, 0, 0, 2]
    """
    if axes is None:
        return list(amounts)
    found, half = [0] * 2 * rank, len(amounts) // 2
    for number, axis in enumerate(int(one) % rank for one in axes):
        found[axis], found[rank + axis] = amounts[number], amounts[half + number]
    return found


def upsample(known: Known, node: ir.Node) -> bool:
    """Upsample and Resize, where each pixel becomes a block of equal ones."""
    before, after = known.image(node.inputs[0]), known.image(node.outputs[0])
    text = node.attributes.get_string
    if before is None or after is None or text("mode", "nearest") != "nearest":
        return False
    if node.op_type == "Resize" and known.opset >= 11:
        asymmetric = text("coordinate_transformation_mode", "half_pixel") == "asymmetric"
        half = text("coordinate_transformation_mode", "half_pixel") == "half_pixel"
        rounding = text("nearest_mode", "round_prefer_floor")
        if not (asymmetric and rounding == "floor") and not (half and rounding.startswith("round")):
            return False
        if {"axes", "keep_aspect_ratio_policy", "antialias"} & node.attributes.keys():
            return False
        sizes = known.given(node, 3)
        if sizes is not None and sizes[0] != known.samples(node.inputs[0]):
            return False
    else:
        sizes = None
    times = [b // a for a, b in zip(before, after, strict=True)]
    if sizes is None:
        place = {"Upsample": 1, "Resize": 1 if known.opset < 11 else 2}[node.op_type]
        scales = known.given(node, place)
        told = node.attributes.get_floats("scales", []) if scales is None else list(scales)
        if list(told) != [1, *times]:
            return False
    if [a * s for a, s in zip(before, times, strict=True)] != list(after) or times[0] != 1:
        return False
    return _depthwise(
        known, node, np.ones(times[1:]), {"strides": times[1:]}, op_type="ConvTranspose"
    )
