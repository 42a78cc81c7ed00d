"""Whether a file holds as many numbers of a tensor as its dims say, however they are stored.

onnx's own readers trust what they are told: too few numbers end in a traceback somewhere else, and
of too many nobody would hear.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import Message
from onnx import TensorProto, helper

from convfc.arguments import MOST_AXES
from convfc.errors import FileError
from convfc.refusals import Code
from convfc.text.visible import visible

_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
"""Where numbers may stand one by one, instead of as the bytes of `raw_data`."""

_COMPLEX = (TensorProto.COMPLEX64, TensorProto.COMPLEX128)


def check_weights(path: Path, proto: onnx.ModelProto) -> None:
    """Refuse a model with a tensor that holds another number of elements than its dims say.

    Every tensor of the file counts: initializers and attributes, in subgraphs and functions too.

    Raises:
        FileError: it names the file, the first such tensor and what it has.
    """
    for name, tensor in tensors_of(proto):
        wrong = unfit(tensor)
        if wrong is not None:
            raise FileError(
                f"{path}: an invalid ONNX graph: {visible(name)} {wrong}", code=Code.INVALID_GRAPH
            )


def unfit(tensor: onnx.TensorProto) -> str | None:
    """Why what a tensor holds does not fit its dims, in words; ``None`` if it does.

    Of numbers in another file, their length is compared, if it is told. Two elements of 4 bits
    share a byte, four of 2 bits; the bytes of an odd number of them are rounded up.
    """
    dims = list(tensor.dims)
    if len(dims) > MOST_AXES:
        return f"has {len(dims)} axes, more than the {MOST_AXES} that numpy knows"
    if any(dim < 0 for dim in dims):
        return f"has the impossible shape {dims}"
    text = tensor.data_type == TensorProto.STRING
    try:
        field = helper.tensor_dtype_to_field(tensor.data_type)
        size = length_of(tensor)
    except (KeyError, ValueError, TypeError):
        return f"has no known element type, but {tensor.data_type}"
    one_by_one = {name: len(getattr(tensor, name)) for name in _FIELDS}
    used = [name for name, length in one_by_one.items() if length]
    raw = tensor.HasField("raw_data")
    apart = tensor.data_location == TensorProto.EXTERNAL
    if len(used) + raw + apart > 1 or (text and (raw or apart)) or set(used) - {field}:
        return f"has its numbers where they do not belong: an element type as its own needs {field}"
    if apart:
        told = {entry.key: entry.value for entry in tensor.external_data}
        places = [told[key] for key in ("offset", "length") if key in told]
        # Runtimes know more keys: onnxruntime's "prepacked_0" is where it has other numbers.
        odd = told.keys() - {"location", "offset", "length", "checksum"}
        odd |= {"twice"} if len(told) < len(tensor.external_data) else set()
        if odd or "location" not in told or not all(re.fullmatch("[0-9]{1,19}", p) for p in places):
            return f"has its numbers in another file, but not well described: {str(told)[:200]}"
        return _unlike(int(told.get("length", size)), size, "bytes")
    if raw:
        return _unlike(len(tensor.raw_data), size, "bytes")
    count = math.prod(dims)
    packed = not text and ir.DataType(tensor.data_type).bitwidth < 8
    entries = size if packed else count * (1 + (tensor.data_type in _COMPLEX))
    return _unlike(one_by_one[field], entries, f"entries in {field}")


def length_of(tensor: onnx.TensorProto) -> int:
    """How many bytes the numbers of a tensor take, by type and dims; text has no such length."""
    kind = ir.DataType(tensor.data_type)
    bits: int = 0 if kind is ir.DataType.STRING else kind.bitwidth
    count: int = math.prod(tensor.dims)
    return -(-count * bits // 8)


def _unlike(stored: int, needed: int, what: str) -> str | None:
    return None if stored == needed else f"has {stored:,} {what}, its shape needs {needed:,}"


_HOLDERS = {
    message.DESCRIPTOR.name
    for message in (
        onnx.ModelProto,
        onnx.GraphProto,
        onnx.FunctionProto,
        onnx.NodeProto,
        onnx.AttributeProto,
        onnx.SparseTensorProto,
    )
}
"""Messages in which tensors may be, at some depth; of the others a file has many."""


def tensors_of(message: Message, name: str = "weight") -> Iterator[tuple[str, onnx.TensorProto]]:
    """Every tensor in a message, and what to call it."""
    for field, value in message.ListFields():
        kind = None if field.message_type is None else field.message_type.name
        if kind != TensorProto.DESCRIPTOR.name and kind not in _HOLDERS:
            continue
        for inner in value if field.is_repeated else [value]:
            if isinstance(inner, onnx.TensorProto):
                yield (f"weight '{inner.name}'" if inner.name else name), inner
            else:
                yield from tensors_of(inner, _called(inner, name))


def _called(message: Message, name: str) -> str:
    """What to call a tensor without a name: by the node that it belongs to."""
    if not isinstance(message, onnx.NodeProto):
        return name
    return f"the tensor of {message.op_type} '{message.name or next(iter(message.output), '')}'"
