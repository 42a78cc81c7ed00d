"""Turning a convolution node into patches + MatMul, in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from convfc.applying import apply
from convfc.lowering import Lowering
from convfc.onnx_model.emitting import Emitter, Names
from convfc.onnx_model.framing import framed
from convfc.onnx_model.operators import is_integer, operands
from convfc.onnx_model.ops import IntegerOps, OnnxOps
from convfc.onnx_model.sites import Place


def rewrite(model: ir.Model, lowerings: Mapping[str, tuple[Place, Lowering]]) -> None:
    """Lower the given nodes; nothing else in the model changes.

    Args:
        model: changed in place.
        lowerings: by site name, the node's place and its lowering.
    """
    names = Names(model)
    constants: dict[Any, ir.Value] = {}
    for place, lowering in lowerings.values():
        given = operands(place.node)
        _rewrite_node(Emitter(place, names, constants), lowering, given)
        for value in given.values():
            _drop_if_unused(value)
    for value in constants.values():
        _drop_if_unused(value)


def _rewrite_node(emit: Emitter, lowering: Lowering, given: Mapping[str, ir.Value]) -> None:
    """Put the chain before the node and make the node its end.

    The node keeps its name, its output and its metadata: whoever refers to them still finds them.
    """
    node, rank = emit.place.node, lowering.convolution.rank
    ops = (IntegerOps if is_integer(node) else OnnxOps)(emit, lowering, given)
    node.attributes.clear()
    if ops.stays_channels_first:
        node.op_type = "Reshape"
        node.resize_inputs(2)
        for place, value in enumerate(ops.channels_first_product(given["x"])):
            node.replace_input_with(place, value)
        return
    channels_last = [0, *range(2, rank + 2), 1]
    channels_first = [0, rank + 1, *range(1, rank + 1)]
    x = emit.transpose(given["x"], channels_last)
    y = framed(emit, x, lowering, lambda piece: apply(ops, piece, lowering))
    node.op_type = "Transpose"
    node.attributes.add(ir.AttrInt64s("perm", channels_first))
    node.resize_inputs(1)
    node.replace_input_with(0, y)


def _drop_if_unused(value: ir.Value) -> None:
    """Remove a constant that no node reads any more, unless callers see it."""
    if value.uses() or value.is_graph_input() or value.is_graph_output():
        return
    producer, graph = value.producer(), value.graph
    if producer is not None and producer.op_type == "Constant" and producer.graph is not None:
        producer.graph.remove(producer, safe=True)
    elif value.is_initializer() and graph is not None and value.name is not None:
        graph.initializers.pop(value.name)
