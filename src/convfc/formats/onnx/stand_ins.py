"""Operators of well-known libraries, in terms of standard ones that have the same shapes.

Shape inference knows the standard ones only, and for these they stand in the copy it runs on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from convfc.formats.onnx.emitter import constant_value
from convfc.formats.onnx.operators import PACKED, identifier

_QONNX = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
_ONNXRUNTIME = "com.microsoft"


def put_stand_ins(model: ir.Model) -> None:
    """Let standard operators stand for known others of all graphs and functions."""
    bodies: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for body in bodies:
        for node in body.all_nodes():
            put = _STAND_INS.get(identifier(node))
            if put is not None and node.op_identifier() not in model.functions:
                put(node)


def _become(
    node: ir.Node, kind: str, inputs: Sequence[ir.Value | None], kept: Sequence[str] = ()
) -> None:
    if not inputs or None in inputs:
        return  # it is damaged, and remains unknown
    node.domain, node.op_type = "", kind
    node.resize_inputs(len(inputs))
    for index, value in enumerate(inputs):
        node.replace_input_with(index, value)
    for name in [name for name in node.attributes if name not in kept]:
        del node.attributes[name]


def _identity(node: ir.Node) -> None:
    _become(node, "Identity", node.inputs[:1])


def _standard(node: ir.Node) -> None:
    node.domain = ""


def _sum(node: ir.Node) -> None:
    """Of two tensors, each with its scale and zero point behind it."""
    _become(node, "Add", node.inputs[0:4:3])


def _concat(node: ir.Node) -> None:
    """Of tensors with scale and zero point behind each; those of the output are first."""
    _become(node, "Concat", node.inputs[2::3], ("axis",))


def _pool(kind: str) -> Callable[[ir.Node], None]:
    """A pooling whose scales and zero points are behind its input."""

    def put(node: ir.Node) -> None:
        if not node.attributes.get_int("channels_last", 0):
            kept = [name for name in node.attributes if name != "channels_last"]
            _become(node, kind, node.inputs[:1], kept)

    return put


def _product(node: ir.Node) -> None:
    """With packed weights: one with zeros in their place."""
    sizes = [node.attributes.get_int(name, 0) for name in "KN"]
    graph, name = node.graph, f"{node.outputs[0].name}/{node.op_type}"
    if isinstance(graph, ir.Graph) and min(sizes) > 0 and name not in graph.initializers:
        weight = constant_value(name, ir.Tensor(np.broadcast_to(np.float32(0), sizes)))
        graph.register_initializer(weight)
        _become(node, "MatMul", [node.inputs[0], weight])


def _untyped(node: ir.Node) -> None:
    """It makes what onnx_ir has no words for."""
    node.domain = f"{node.domain}.carried"


_STAND_INS: dict[tuple[str, str], Callable[[ir.Node], None]] = {
    **{
        (domain, kind): _identity
        for domain in _QONNX
        for kind in ("Quant", "IntQuant", "FloatQuant", "BipolarQuant", "Trunc")
    },
    **{("", kind): _identity for kind in ("Affine", "ImageScaler", "ScaledTanh")},
    ("", "ParametricSoftplus"): _identity,
    **{
        (_ONNXRUNTIME, kind): _identity
        for kind in ("BiasGelu", "FastGelu", "Gelu", "QuickGelu", "QLinearLeakyRelu")
    },
    (_ONNXRUNTIME, "QLinearSigmoid"): _identity,
    (_ONNXRUNTIME, "QuantizeLinear"): _standard,
    (_ONNXRUNTIME, "DequantizeLinear"): _standard,
    (_ONNXRUNTIME, "QLinearAdd"): _sum,
    (_ONNXRUNTIME, "QLinearMul"): _sum,
    (_ONNXRUNTIME, "QLinearConcat"): _concat,
    (_ONNXRUNTIME, "QLinearAveragePool"): _pool("AveragePool"),
    (_ONNXRUNTIME, "QLinearGlobalAveragePool"): _pool("GlobalAveragePool"),
    PACKED: _product,
    ("ai.onnx.ml", "ZipMap"): _untyped,
}
