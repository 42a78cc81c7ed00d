"""Sizes below zero: onnx and onnxruntime abort, with the whole process, where a Slice meets one.

A file may state them, and old exporters write -1 for a size that they do not know. Others follow:
from a window that is larger than what it slides over, from pads that cut away more than there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
import onnx_ir as ir

from convfc.formats.onnx.operators import DOMAINS
from convfc.formats.onnx.sites import subgraphs

_MAKERS = {
    *("AffineGrid", "AveragePool", "CausalConvWithState", "CenterCropPad", "Col2Im", "Conv"),
    *("ConvInteger", "ConvTranspose", "DFT", "DeformConv", "Expand", "LpPool", "MaxPool"),
    *("MaxUnpool", "Multinomial", "Pad", "QLinearConv", "Resize", "RoiAlign", "STFT", "Split"),
    *("TopK", "Upsample"),
}
"""Operators of which shape inference may find a size below zero; of the others it refuses it."""

_MEASURES = {"Shape", "Size", "NonZero"}
"""Operators of which the output has a sane shape whatever they read."""


def forget_negative(graphs: Iterable[onnx.GraphProto]) -> None:
    """Let sizes that are stated to be below zero be unknown ones, as onnxruntime does."""
    for graph in graphs:
        for info in (*graph.input, *graph.output, *graph.value_info):
            for dim in info.type.tensor_type.shape.dim:
                if dim.dim_value < 0:
                    dim.ClearField("dim_value")


def held_negative(bodies: Iterable[onnx.GraphProto | onnx.FunctionProto]) -> Iterator[str]:
    """Names of what holds tensors of stated sizes below zero: onnxruntime goes by those.

    Sequences and optional values are meant, and what nodes say of the types that they make.
    """
    for body in bodies:
        if isinstance(body, onnx.GraphProto):
            for info in (*body.input, *body.output, *body.value_info):
                if not info.type.HasField("tensor_type") and _has_negative(info.type):
                    yield info.name
        for node in body.node:
            if any(_has_negative(a.tp) for a in node.attribute if a.HasField("tp")):
                yield node.name or next(iter(node.output), "")


def _has_negative(kind: onnx.TypeProto) -> bool:
    of = kind.WhichOneof("value")
    if of in ("sequence_type", "optional_type"):
        return _has_negative(getattr(kind, of).elem_type)
    if of == "map_type":
        return _has_negative(kind.map_type.value_type)
    plain = of in ("tensor_type", "sparse_tensor_type")
    return plain and any(dim.dim_value < 0 for dim in getattr(kind, of).shape.dim)


def at_risk(model: ir.Model) -> bool:
    """Whether a Slice may meet a size below zero: behind a maker of such sizes, or in a body.

    Or whether it reaches further than 32 bits: following such a one, onnx gets lost, too.
    """
    inner = (node for graph in model.graphs() if graph is not model.graph for node in graph)
    called = (node for function in model.functions.values() for node in function.all_nodes())
    if any(map(_is_slice, (*inner, *called))):
        return True
    behind: set[ir.Value] = set()
    for node in model.graph:
        reads = any(value in behind for value in node.inputs)
        if _is_slice(node) and (reads or _is_far(node)):
            return True
        measures = node.domain in DOMAINS and node.op_type in _MEASURES
        if (reads and not measures) or _may_make(node):
            behind.update(node.outputs)
    return False


def _may_make(node: ir.Node) -> bool:
    """Whether a size below zero may come from a node that reads none.

    It may from one that nobody here knows, or that holds graphs: each runtime infers on its own.
    """
    if node.domain not in DOMAINS or not onnx.defs.has(node.op_type):
        return True
    if any(subgraphs(attribute) for attribute in node.attributes.values()):
        return True
    return node.op_type in _MAKERS and not (node.op_type == "Pad" and _only_adds(node))


def _is_slice(node: ir.Node) -> bool:
    return node.op_type == "Slice" and node.domain in DOMAINS


def _is_far(node: ir.Node) -> bool:
    """Whether a Slice starts, or steps, beyond 32 bits; to its end, 64 are usual."""
    given = [value for value in (*node.inputs[1:2], *node.inputs[4:5]) if value is not None]
    tensors = [tensor for value in given if (tensor := ir.convenience.get_const_tensor(value))]
    numbers = [int(n) for t in tensors if t.dtype.is_integer() for n in t.numpy().ravel()]
    return any(not -(2**31) < number < 2**31 for number in numbers)


def _only_adds(node: ir.Node) -> bool:
    """Whether it is known that a Pad cuts nothing away."""
    pads = node.attributes.get_ints("pads", node.attributes.get_ints("paddings", []))
    if len(node.inputs) > 1:
        given = node.inputs[1]
        tensor = None if given is None else ir.convenience.get_const_tensor(given)
        if tensor is None or tensor.dtype != ir.DataType.INT64:
            return False
        pads = tensor.numpy().ravel().tolist()
    return all(pad >= 0 for pad in pads)
