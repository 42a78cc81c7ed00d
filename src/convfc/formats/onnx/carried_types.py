"""Types that onnx_ir has no words for, carried through: maps, opaque types, and what holds such.

Each is written down in the denotation of a type that onnx_ir does have, and read from there again.
"""

from __future__ import annotations

from base64 import b85decode, b85encode
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import onnx_ir as ir

from convfc.formats.onnx.protos import graphs_of

_MARK = "convfc carries "


@contextmanager
def carried(proto: onnx.ModelProto) -> Iterator[None]:
    """While the block runs, a message holds no type that onnx_ir cannot; then it is as before."""
    for kind in _types(proto):
        if _is_strange(kind) or kind.denotation.startswith(_MARK):
            text = b85encode(kind.SerializeToString(deterministic=True)).decode()
            kind.Clear()
            kind.sequence_type.elem_type.tensor_type.elem_type = onnx.TensorProto.UNDEFINED
            kind.denotation = _MARK + text
    try:
        yield
    finally:
        unpack(proto)


def unpack(proto: onnx.ModelProto) -> None:
    """Give values the types that `carried` wrote down."""
    for kind in _types(proto):
        if kind.denotation.startswith(_MARK):
            kind.CopyFrom(_unpacked(kind.denotation))


def named(kind: ir.TypeProtocol) -> str:
    """What a type is called, as in the documentation of operators."""
    text = kind.denotation or ""
    return _named(_unpacked(text) if text.startswith(_MARK) else ir.serde.serialize_type(kind))


def _types(proto: onnx.ModelProto) -> Iterator[onnx.TypeProto]:
    for body in (proto.graph, *proto.functions):
        for graph in graphs_of(body):
            for info in (*graph.input, *graph.output, *graph.value_info):
                if info.type.WhichOneof("value") is not None:
                    yield info.type


def _is_strange(kind: onnx.TypeProto) -> bool:
    of = kind.WhichOneof("value")
    if of in ("sequence_type", "optional_type"):
        return _is_strange(getattr(kind, of).elem_type)
    return of not in ("tensor_type", "sparse_tensor_type")


def _unpacked(text: str) -> onnx.TypeProto:
    kind = onnx.TypeProto()
    kind.ParseFromString(b85decode(text.removeprefix(_MARK)))
    return kind


def _named(kind: onnx.TypeProto) -> str:
    of = kind.WhichOneof("value")
    if of is None:
        return "unknown"
    inner = getattr(kind, of)
    word = {"sequence_type": "seq"}.get(of, of.removesuffix("_type"))
    if of == "map_type":
        return f"{word}({_element(inner.key_type)},{_named(inner.value_type)})"
    if of == "opaque_type":
        return f"{word}({inner.domain},{inner.name})"
    told = _named(inner.elem_type) if of in ("sequence_type", "optional_type") else None
    return f"{word}({_element(inner.elem_type) if told is None else told})"


def _element(number: int) -> str:
    kinds = onnx.TensorProto.DataType
    return kinds.Name(number).lower() if number in kinds.values() else str(number)
