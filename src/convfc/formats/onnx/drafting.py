"""What a file has, and would have: its operators, and its size before it is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx_ir as ir

from convfc.formats.draft import Draft
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


def drafted(
    model: ir.Model,
    form: Form,
    files: Iterable[Path],
    before: Mapping[str, int],
    remarks: Iterable[str],
) -> Draft:
    """What `writer.write` would write of a converted model.

    Args:
        model: changed to the form of its file.
        form: of the original's file.
        files: of the original.
        before: its operators.
        remarks: what could not be kept.
    """
    relist(model, form)
    undescribe(model, form)
    embed_attributes(model)
    size = OnePiece(model).size + sum(tensor.nbytes for tensor in external_tensors(model))
    stored = sum(file.stat().st_size for file in files)
    after = Counter(place.node.op_type for place in places(model))
    return Draft(stored, size, before, after, tuple(remarks))
