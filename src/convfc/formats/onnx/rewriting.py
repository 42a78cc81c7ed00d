"""Turning a convolution node into patches + MatMul, in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from convfc.core.arrays import to_first, to_last
from convfc.core.im2col import apply
from convfc.core.lowering import Lowering
from convfc.core.whole import Form
from convfc.formats.forms import DEFAULT, Forms
from convfc.formats.onnx.channels_first import staying
from convfc.formats.onnx.dense_ops import DenseOps, IntegerDenseOps
from convfc.formats.onnx.dynamic_crop import framed
from convfc.formats.onnx.emitter import Arrangement, Emitter, Names
from convfc.formats.onnx.graph_ops import IntegerOps, OnnxOps
from convfc.formats.onnx.operators import is_integer, operands
from convfc.formats.onnx.sites import Place


def rewrite(
    model: ir.Model,
    lowerings: Mapping[str, tuple[Place, Lowering]],
    channels_first: bool | None = None,
    forms: Forms = DEFAULT,
    names: Names | None = None,
    arranged: dict[ir.Value, Arrangement] | None = None,
) -> list[ir.Node]:
    """Lower the given nodes; nothing else in the model changes.

    Args:
        model: changed in place.
        lowerings: by site name, the node's place and its lowering.
        channels_first: whether layers that can have their channels first do; what is around each
            decides if ``None``.
        forms: how products are written.
        names: those of the model, which will have the new ones; gathered if ``None``.
        arranged: takes how constants that are new are made of those that were there.

    Returns:
        The Transposes that layers begin with, in the order of the sites.
    """
    names = Names(model) if names is None else names
    constants: dict[Any, ir.Value] = {}
    layers = {
        place.node: _ops(
            Emitter(place, names, constants, arranged, zeros=forms.zeros), lowering, forms
        )
        for place, lowering in lowerings.values()
    }
    first = staying(layers)
    if channels_first is not None:
        first = {node for node, ops in layers.items() if channels_first and ops.has_channels_first}
    heads = []
    for place, lowering in lowerings.values():
        node, ops = place.node, layers[place.node]
        heads += _rewrite_node(node, ops, lowering, node in first)
        for value in ops.given.values():
            drop_if_unused(value)
    for value in constants.values():
        drop_if_unused(value)
    return heads


def _ops(emit: Emitter, lowering: Lowering, forms: Forms) -> OnnxOps:
    node = emit.place.node
    kinds = (DenseOps, IntegerDenseOps) if lowering.form is Form.DENSE else (OnnxOps, IntegerOps)
    return kinds[is_integer(node)](emit, lowering, operands(node), forms)


def _rewrite_node(
    node: ir.Node, ops: OnnxOps, lowering: Lowering, channels_first: bool
) -> list[ir.Node]:
    """Put the chain before the node and make the node its end; the Transpose that it begins with.

    The node keeps its name, its output and its metadata: whoever refers to them still finds them.
    """
    heads = []
    x, rank = ops.given["x"], lowering.convolution.rank
    end: tuple[ir.Value, ...]
    node.attributes.clear()
    if isinstance(ops, DenseOps):
        node.op_type = "Reshape"
        end = ops.dense_product(x)
    elif channels_first:
        node.op_type, end = ops.channels_first_product(x)
    else:
        node.op_type = "Transpose"
        last = ops.transpose(x, to_last(rank + 2))
        heads += [head for head in (last.producer(),) if head is not None]
        end = (framed(ops.emit, last, lowering, lambda piece: apply(ops, piece, lowering)),)
        node.attributes.add(ir.AttrInt64s("perm", to_first(rank + 2)))
    node.resize_inputs(len(end))
    for index, value in enumerate(end):
        node.replace_input_with(index, value)
    return heads


def drop_if_unused(value: ir.Value) -> None:
    """Remove a constant that no node reads any more, unless callers see it."""
    if value.uses() or value.is_graph_input() or value.is_graph_output():
        return
    producer, graph = value.producer(), value.graph
    if producer is not None and producer.op_type == "Constant" and producer.graph is not None:
        producer.graph.remove(producer, safe=True)
    elif value.is_initializer() and graph is not None and value.name is not None:
        graph.initializers.pop(value.name)
