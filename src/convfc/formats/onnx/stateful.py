"""Causal convolutions that carry a state along: the function that defines them, in their place.

ONNX defines CausalConvWithState by a function that has a Conv in it; onnxruntime runs that, too.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx
import onnx_ir as ir
from onnx import defs

from convfc.formats.onnx.operators import DOMAINS
from convfc.formats.onnx.protos import fresh_names
from convfc.formats.onnx.replacing import replaced
from convfc.formats.onnx.sites import Place


def is_stateful(node: ir.Node) -> bool:
    """Whether a node is a causal convolution with a state."""
    return node.domain in DOMAINS and node.op_type == "CausalConvWithState"


def expanded(proto: onnx.ModelProto, inferred: ir.Model) -> tuple[onnx.ModelProto, int]:
    """A copy of a model with what defines stateful convolutions in their places.

    Those remain as they are of whose inputs a type or a rank is unknown.

    Args:
        proto: the model.
        inferred: it with its shapes.

    Returns:
        The copy, and how many are expanded now.
    """
    newer = onnx.ModelProto()
    newer.CopyFrom(proto)
    fresh = fresh_names(newer)
    count = replaced(newer, inferred, _definition, lambda node, body: _body(node, body, fresh))
    return newer, count


def _definition(place: Place) -> onnx.FunctionProto | None:
    node = place.node
    given = [value for value in node.inputs if value is not None]
    if not is_stateful(node) or not isinstance(place.body, ir.Graph):
        return None
    if any(value.type is None or value.shape is None for value in given):
        return None
    types = [
        (onnx.TypeProto() if value is None else ir.to_proto(value).type).SerializeToString()
        for value in node.inputs
    ]
    schema = defs.get_schema(node.op_type, place.opset)
    try:
        told = ir.to_proto(node).SerializeToString()
        made = schema.get_context_dependent_function(told, types)  # type: ignore[attr-defined] # of no stub
    except Exception:  # onnx's many kinds, for settings that it does not know
        return None
    body = onnx.FunctionProto.FromString(made)
    # It has the values of the node's settings in it by now.
    open_ends = any(entry.ref_attr_name for inner in body.node for entry in inner.attribute)
    return None if open_ends or not body.node else body


def _body(
    node: onnx.NodeProto, body: onnx.FunctionProto, fresh: Callable[[str], str]
) -> list[onnx.NodeProto]:
    first = next(filter(None, node.output))
    names = {"": "", **dict(zip(body.input, node.input, strict=False))}
    outputs = zip(body.output, node.output, strict=False)
    names |= {formal: actual for formal, actual in outputs if actual}
    parts = []
    for inner in body.node:
        part = onnx.NodeProto()
        part.CopyFrom(inner)
        part.input[:] = [names[name] for name in inner.input]
        for name in inner.output:
            if name not in names:
                names[name] = fresh(f"{first}/{name}")
        part.output[:] = [names[name] for name in inner.output]
        if part.op_type == "Conv":
            part.name = node.name
        parts.append(part)
    return parts
