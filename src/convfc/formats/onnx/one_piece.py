"""Writing a model with its weights in one file, one weight at a time.

What it writes is, byte by byte, what protobuf makes of the whole message, without that message
being in memory: once as such, and once more as the bytes of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
import onnx_ir as ir

from convfc.formats.onnx.carried_types import unpack
from convfc.formats.onnx.stored_weights import (
    EXTERNAL,
    GRAPH,
    HERE,
    INITIALIZER,
    LARGE,
    LOCATION,
    RAW,
    whole_bytes,
)
from convfc.formats.onnx.wire import Field, fields, head

_Part: TypeAlias = "bytes | ir.TensorProtocol"
"""Some of the bytes of a file, or a weight that has them."""


class OnePiece:
    """A model as the bytes of one file.

    Args:
        model: what to write; it must not change before it is written.

    Attributes:
        size: how many bytes that makes.
    """

    def __init__(self, model: ir.Model) -> None:
        bones, weights = _skeleton(model)
        self._parts = list(_model(bones, weights))
        self.size = _size(self._parts)

    def write(self, path: Path) -> None:
        """Write the file.

        Raises:
            OSError: it cannot be written.
            FileError: a weight can no longer be read from where it was.
        """
        with path.open("wb") as file:
            for part in self._parts:
                file.write(part if isinstance(part, bytes) else _content(part))
            assert file.tell() == self.size  # noqa: S101 - weights have the sizes that they state


def _skeleton(model: ir.Model) -> tuple[bytes, list[ir.TensorProtocol]]:
    """A model without its large weights, and these; each has its number in the place of itself."""
    values = [v for v in model.graph.initializers.values() if _is_large(v.const_value)]
    weights = [value.const_value for value in values if value.const_value is not None]
    try:
        for number, (value, tensor) in enumerate(zip(values, weights, strict=True)):
            value.const_value = ir.ExternalTensor(
                *(HERE, number, None, tensor.dtype),
                shape=ir.Shape(tensor.shape.numpy()),
                name=value.name or "",
                doc_string=tensor.doc_string,
                metadata_props=dict(tensor.metadata_props),
            )
        proto = ir.to_proto(model)
        unpack(proto)
        return proto.SerializeToString(), weights
    finally:
        for value, tensor in zip(values, weights, strict=True):
            value.const_value = tensor


def _is_large(tensor: ir.TensorProtocol | None) -> bool:
    """Whether a weight is worth a place of its own; what still is a message is written as it is."""
    plain = isinstance(tensor, ir.Tensor | ir.LazyTensor) and whole_bytes(tensor.dtype)
    return plain and tensor is not None and tensor.nbytes >= LARGE


def _content(tensor: ir.TensorProtocol) -> memoryview:
    """The bytes of a weight, the lowest of each number first."""
    array = tensor.numpy()
    array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
    return array.reshape(-1).view(np.uint8).data


def _size(parts: Sequence[_Part]) -> int:
    return sum(len(part) if isinstance(part, bytes) else part.nbytes for part in parts)


def _fields(data: bytes) -> Iterator[Field]:
    return fields(lambda start, end: data[start:end], 0, len(data))


def _model(bones: bytes, weights: Sequence[ir.TensorProtocol]) -> Iterator[_Part]:
    for part in _fields(bones):
        if part.holds(GRAPH):
            inner = list(_graph(bones[part.content : part.end], weights))
            yield head(GRAPH, _size(inner))
            yield from inner
        else:
            yield bones[part.start : part.end]


def _graph(bones: bytes, weights: Sequence[ir.TensorProtocol]) -> Iterator[_Part]:
    kept = 0
    for part in _fields(bones):
        content = bones[part.content : part.end]
        if part.holds(INITIALIZER) and HERE.encode() in content:
            inner = list(_weight(content, weights))
            yield bones[kept : part.start] + head(INITIALIZER, _size(inner))
            yield from inner
            kept = part.end
    yield bones[kept:]


def _weight(bones: bytes, weights: Sequence[ir.TensorProtocol]) -> Iterator[_Part]:
    """A weight with its bytes where protobuf puts them: fields go by their numbers."""
    told = {entry.key: entry.value for entry in onnx.TensorProto.FromString(bones).external_data}
    weight = weights[int(told["offset"])]
    parts = [part for part in _fields(bones) if part.number not in (EXTERNAL, LOCATION)]
    before = b"".join(bones[part.start : part.end] for part in parts if part.number < RAW)
    yield before + head(RAW, weight.nbytes)
    yield weight
    yield b"".join(bones[part.start : part.end] for part in parts if part.number > RAW)
