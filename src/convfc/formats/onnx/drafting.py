"""What a file has, and would have: its operators, and its size before it is written."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx_ir as ir

from convfc.formats.onnx.external import embed_attributes, external_tensors
from convfc.formats.onnx.one_piece import OnePiece
from convfc.formats.onnx.protos import graphs_of, read_proto
from convfc.formats.onnx.sites import places
from convfc.formats.onnx.writer import Form, relist, undescribe


def operators_of(path: Path) -> Counter[str]:
    """How many operators of each kind a file has, whatever was made of it since."""
    proto = read_proto(path)
    graphs = [graph for body in (proto.graph, *proto.functions) for graph in graphs_of(body)]
    return Counter(node.op_type for body in (*graphs, *proto.functions) for node in body.node)


def operators_in(model: ir.Model) -> Counter[str]:
    """The same of a model in memory."""
    return Counter(place.node.op_type for place in places(model))


def size_of(model: ir.Model, form: Form) -> int:
    """Bytes that a model takes on disk, as `writer.write` would write it.

    Args:
        model: changed to the form of its file.
        form: of the original's file.
    """
    relist(model, form)
    undescribe(model, form)
    embed_attributes(model)
    return OnePiece(model).size + sum(tensor.nbytes for tensor in external_tensors(model))
