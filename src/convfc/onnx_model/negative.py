"""Sizes below zero: onnx and onnxruntime abort, with the whole process, where a Slice meets one.

A file may state them, and old exporters write -1 for a size that they do not know. Others follow:
from a window that is larger than what it slides over, from pads that cut away more than there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import onnx
import onnx_ir as ir

from convfc.onnx_model.operators import DOMAINS
from convfc.onnx_model.sites import subgraphs

_MAKERS = {
    *("AffineGrid", "AveragePool", "CenterCropPad", "Col2Im", "Conv", "ConvInteger"),
    *("ConvTranspose", "DFT", "DeformConv", "LpPool", "MaxPool", "MaxUnpool", "Multinomial"),
    *("Pad", "QLinearConv", "Resize", "RoiAlign", "STFT", "Split", "TopK", "Upsample"),
}
"""Operators of which shape inference may find a size below zero; of the others it refuses it."""

_MOST_ROUNDS = 3
"""Each takes as long as the inference itself. Makers and Slices that alternate more often than so
are not looked through: nets do, whose windows fit; a file made to end a process can.
"""
_HIDDEN = "convfc.hidden"
"""A domain that nobody knows, so that nothing is inferred."""


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


def refuse_negative(model: ir.Model, infer: Callable[[ir.Model], object]) -> None:
    """Infer a model's shapes such that no Slice is met before its input is seen to be sane.

    A Slice behind a maker of such sizes is hidden; what is found without it shows whether it may
    be met in the next round, when only those are hidden that stand behind it and another maker.

    Args:
        model: remains as it is.
        infer: what is to be called for the rest of the graph.

    Raises:
        ValueError: there is a size below zero; it names the value.
    """
    levels = _levels(model)
    for hidden in range(1, min(_MOST_ROUNDS, max(levels.values(), default=0)) + 1):
        trial = model.clone()
        for body in _bodies(trial):
            body.opset_imports[_HIDDEN] = 1
        pairs = zip(_nodes(model), _nodes(trial), strict=True)
        for node, twin in pairs:
            if levels.get(node, 0) >= hidden:
                twin.domain = _HIDDEN
        infer(trial)
        for node in _nodes(trial):
            for value in node.outputs:
                sizes = () if value.shape is None else value.shape
                if any(isinstance(size, int) and size < 0 for size in sizes):
                    raise ValueError(
                        f"'{value.name}' has the impossible shape {list(sizes)}: "
                        f"does '{node.name or node.op_type}' fit its input?"
                    )


def _levels(model: ir.Model) -> Mapping[ir.Node, int]:
    """Of every Slice behind a maker: how often both alternate up to it, at most."""
    # Twice the number of alternations, and one more if there is a maker since the last Slice.
    states: dict[ir.Value, int] = {}
    levels: dict[ir.Node, int] = {}

    def walk(body: ir.Graph | ir.Function, given: int) -> int:
        states.update((value, given) for value in body.inputs)
        most = given
        for node in body:
            state = max((states.get(value, 0) for value in node.inputs if value), default=0)
            inner = [graph for a in node.attributes.values() for graph in subgraphs(a)]
            if node.op_type == "Slice" and node.domain in DOMAINS:
                state += state % 2
                levels[node] = state // 2
            elif node.op_type in _MAKERS or inner or node.op_identifier() in model.functions:
                state |= 1
            state = max([state, *(walk(graph, state) for graph in inner)])
            states.update((value, state) for value in node.outputs)
            most = max(most, state)
        return most

    for body in _bodies(model):
        walk(body, 0 if body is model.graph else 1)
    return {node: level for node, level in levels.items() if level}


def _bodies(model: ir.Model) -> list[ir.Graph | ir.Function]:
    return [model.graph, *model.functions.values()]


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    return (node for body in _bodies(model) for node in body.all_nodes())
