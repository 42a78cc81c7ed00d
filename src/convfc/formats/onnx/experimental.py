"""Operators that ONNX tried in its first years and took back, in terms of those that stayed.

onnxruntime runs them up to opset 9 only, and the official converter of versions knows none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import helper, numpy_helper

from convfc.formats.onnx.operators import DOMAINS
from convfc.formats.onnx.protos import fresh_names, settings


def without_experimental(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A model of before opset 10 with standard operators in the places of experimental ones."""
    fresh = fresh_names(proto)
    newer = onnx.ModelProto()
    newer.CopyFrom(proto)
    del newer.graph.node[:]
    for node in proto.graph.node:
        expand = _EXPANSIONS.get(node.op_type) if node.domain in DOMAINS else None
        newer.graph.node.extend([node] if expand is None else expand(node, fresh))
    return newer


def _scaled(
    node: onnx.NodeProto, fresh: Callable[[str], str], scale: float, bias: ArrayLike
) -> Iterator[onnx.NodeProto]:
    """Multiply by a number and add another, or one per channel."""
    (x,), (y,) = node.input, node.output
    names = [fresh(f"{y}/{what}") for what in ("scale", "scaled", "bias")]
    for name, number in ((names[0], scale), (names[2], bias)):
        tensor = numpy_helper.from_array(np.asarray(number, np.float32), name)
        yield helper.make_node("Constant", [], [name], value=tensor)
    yield helper.make_node("Mul", [x, names[0]], [names[1]])
    yield helper.make_node("Add", [names[1], names[2]], [y], name=node.name)


def _image_scaler(node: onnx.NodeProto, fresh: Callable[[str], str]) -> Iterator[onnx.NodeProto]:
    given = settings(node)
    bias = np.reshape(given.get("bias", 0.0), (-1, 1, 1))
    return _scaled(node, fresh, given.get("scale", 1.0), bias)


def _affine(node: onnx.NodeProto, fresh: Callable[[str], str]) -> Iterator[onnx.NodeProto]:
    given = settings(node)
    return _scaled(node, fresh, given.get("alpha", 1.0), given.get("beta", 0.0))


def _crop(node: onnx.NodeProto, _fresh: Callable[[str], str]) -> Iterator[onnx.NodeProto]:
    given = settings(node)
    left, top, right, bottom = given["border"]
    if "scale" in given:
        height, width = given["scale"]
        ends = [top + height, left + width]
    else:
        ends = [-bottom or 2**31 - 1, -right or 2**31 - 1]
    kept = helper.make_node("Slice", node.input, node.output, name=node.name)
    for name, numbers in (("starts", [top, left]), ("ends", ends), ("axes", [2, 3])):
        kept.attribute.append(helper.make_attribute(name, numbers))
    yield kept


_EXPANSIONS = {"ImageScaler": _image_scaler, "Affine": _affine, "Crop": _crop}
