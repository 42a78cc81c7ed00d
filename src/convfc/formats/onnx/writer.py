"""Writing an ONNX model in the form that its file had."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import onnx_ir as ir

from convfc.formats.onnx.carried_types import unpack
from convfc.formats.onnx.external import embed_attributes
from convfc.formats.onnx.one_piece import OnePiece
from convfc.formats.onnx.protos import graphs_of
from convfc.formats.onnx.stored_weights import MOST
from convfc.system.atomic import data_name

_INLINE_LIMIT = 2**31 - 2**24
"""A protobuf message ends at 2 GiB; the rest is room for the graph itself."""
_SMALL = 256
"""Bytes of a weight that stays in the file even if others lie apart."""


@dataclass(frozen=True)
class Form:
    """What a file says of its values that onnx_ir does not keep, or says again by itself.

    Attributes:
        described: names of the values that the file describes.
        listed: names of all its inputs, of weights too, in their order, if it is of before IR
            version 4; else ``None``.
    """

    described: frozenset[str]
    listed: tuple[str, ...] | None


def form_of(proto: onnx.ModelProto) -> Form:
    """The form of a message."""
    described = {info.name for graph in graphs_of(proto.graph) for info in graph.value_info}
    listed = tuple(value.name for value in proto.graph.input)
    return Form(frozenset(described), listed if proto.ir_version < 4 else None)


def write(model: ir.Model, path: Path, form: Form, record: str, *, apart: bool) -> None:
    """Write a model, in one piece if it fits.

    Args:
        model: changed to the form of its file; weights that lie apart are read from there.
        path: of the file.
        form: of the original's file.
        record: what the name of the data file depends on, beside the weights.
        apart: whether weights go into a data file in any case.
    """
    relist(model, form)
    undescribe(model, form)
    embed_attributes(model)
    whole = None if apart else OnePiece(model)
    if whole is not None and whole.size <= MOST:
        whole.write(path)
    else:
        data = data_name(path.name, _digest(model, record))
        ir.external_data.unload_from_model(model, path.parent, data, size_threshold_bytes=_SMALL)
        proto = ir.to_proto(model)
        unpack(proto)
        path.write_bytes(proto.SerializeToString())


def is_heavy(model: ir.Model) -> bool:
    """Whether its weights are more than one file can hold."""
    weights = (v.const_value for g in model.graphs() for v in g.initializers.values())
    return sum(weight.nbytes for weight in weights if weight is not None) > _INLINE_LIMIT


def relist(model: ir.Model, form: Form) -> None:
    """List weights as inputs again, those that are new behind all others."""
    if form.listed is None:
        return
    graph = model.graph
    values = {value.name: value for value in graph.inputs} | dict(graph.initializers)
    listed = [name for name in form.listed if name in values]
    listed += [name for name in graph.initializers if name not in listed]
    graph.inputs[:] = [values[name] for name in listed]


def undescribe(model: ir.Model, form: Form) -> None:
    """Take type and shape off weights that had no description in the file.

    They tell it themselves; onnx_ir would save a description of each, beside them.
    """
    for graph in model.graphs():
        for name, value in graph.initializers.items():
            port = value.is_graph_input() or value.is_graph_output()
            if name not in form.described and not port:
                value.type = value.shape = None


def _digest(model: ir.Model, record: str) -> str:
    """Of the record and all weights, in hexadecimal."""
    digest = hashlib.blake2b(record.encode())
    sink = SimpleNamespace(write=digest.update)
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor: Any = value.const_value
            if tensor is not None and tensor.dtype is not ir.DataType.STRING:
                tensor.tofile(sink)
    return digest.hexdigest()
