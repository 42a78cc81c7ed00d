"""Operators that ONNX tried in its first years and took back, in terms of those that stayed.

onnxruntime runs them up to opset 9 only, and they have no steps to a later one (`opset_steps`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import helper, numpy_helper

from convfc.formats.onnx.operators import DOMAINS
from convfc.formats.onnx.protos import fresh_names, settings

Expand = Callable[[onnx.NodeProto, Callable[[str], str]], Iterator[onnx.NodeProto]]


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


def _chain(
    node: onnx.NodeProto, fresh: Callable[[str], str], *links: tuple[str, str, ArrayLike | None]
) -> Iterator[onnx.NodeProto]:
    """One operator after another: what it is, what its operand is called, and that operand."""
    (x,), (y,) = node.input, node.output
    for number, (kind, name, operand) in enumerate(links, start=1):
        inputs = [x]
        if operand is not None:
            inputs.append(fresh(f"{y}/{name}"))
            tensor = numpy_helper.from_array(np.asarray(operand, np.float32), inputs[-1])
            yield helper.make_node("Constant", [], inputs[1:], value=tensor)
        last = number == len(links)
        x = y if last else fresh(f"{y}/{kind.lower()}")
        yield helper.make_node(kind, inputs, [x], name=node.name if last else "")


def _image_scaler(node: onnx.NodeProto, fresh: Callable[[str], str]) -> Iterator[onnx.NodeProto]:
    given = settings(node)
    bias = np.reshape(given.get("bias", 0.0), (-1, 1, 1))
    scale = given.get("scale", 1.0)
    return _chain(node, fresh, ("Mul", "scale", scale), ("Add", "bias", bias))


def _affine(node: onnx.NodeProto, fresh: Callable[[str], str]) -> Iterator[onnx.NodeProto]:
    given = settings(node)
    alpha, beta = given.get("alpha", 1.0), given.get("beta", 0.0)
    return _chain(node, fresh, ("Mul", "scale", alpha), ("Add", "bias", beta))


def _scale(node: onnx.NodeProto, fresh: Callable[[str], str]) -> Iterator[onnx.NodeProto]:
    return _chain(node, fresh, ("Mul", "scale", settings(node).get("scale", 1.0)))


def _scaled(kind: str) -> Expand:
    """An operator with a factor before it and another behind it."""

    def expand(node: onnx.NodeProto, fresh: Callable[[str], str]) -> Iterator[onnx.NodeProto]:
        given = settings(node)
        beta, alpha = ("Mul", "beta", given["beta"]), ("Mul", "alpha", given["alpha"])
        return _chain(node, fresh, beta, (kind, "", None), alpha)

    return expand


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


_EXPANSIONS: dict[str, Expand] = {
    "Affine": _affine,
    "Crop": _crop,
    "ImageScaler": _image_scaler,
    "ParametricSoftplus": _scaled("Softplus"),
    "Scale": _scale,
    "ScaledTanh": _scaled("Tanh"),
}
