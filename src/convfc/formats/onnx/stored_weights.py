"""Weights that stay in the file that they are read from.

A message of protobuf is parsed as a whole, and its weights are copied once or twice on the way.
But the format knows weights that lie in another file; so a file is read as if those in it did:
as its *skeleton*, in which each large weight is replaced by where in the file its bytes are.
Nothing else is touched, and where anything is unusual the file is parsed as it is: what it says is
never ours to interpret.
"""

from __future__ import annotations

import io
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from convfc.errors import FileError
from convfc.formats.onnx.tensor_sizes import tensors_of
from convfc.formats.onnx.wire import BYTES, VARINT, Read, UnusualError, field, fields
from convfc.refusals import Code
from convfc.system.atomic import stamp

LARGE = 2**16
"""Bytes from which on a weight is worth a place of its own."""

MOST = 2**31 - 1
"""Bytes of a message that protobuf reads."""

HERE = f"convfc-{secrets.token_hex(16)}"
"""How the location of weights that are in the file itself begins: no file can know it."""

GRAPH, INITIALIZER = 7, 5
"""Where in a model its graph is, and in that its weights."""

_DIMS, TYPE, _NAME, RAW, _DOC, EXTERNAL, LOCATION, _METADATA = 1, 2, 8, 9, 12, 13, 14, 16
_EXPECTED = {
    **{_DIMS: (VARINT, BYTES), _METADATA: (BYTES,)},
    **{TYPE: (VARINT,), _NAME: (BYTES,), RAW: (BYTES,), _DOC: (BYTES,), LOCATION: (VARINT,)},
}
"""The fields of a weight that has its numbers as bytes; each but the first two is there once."""


def whole_bytes(dtype: ir.DataType) -> bool:
    """Whether every number of a type has bytes of its own."""
    plain = dtype not in (ir.DataType.UNDEFINED, ir.DataType.STRING)
    return plain and dtype.bitwidth % 8 == 0


_WHOLE = {int(dtype) for dtype in ir.DataType if whole_bytes(dtype)}


def read_skeleton(path: Path) -> onnx.ModelProto:
    """Parse a file without its large weights, and without those in other files.

    Raises:
        OSError: it cannot be read.
        DecodeError: it is no message of the kind.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode) and LARGE < status.st_size <= MOST:
            here = _entry("location", _location(status))
            try:
                bones = b"".join(_model(partial(_between, file), status.st_size, here))
            except UnusualError:
                bones = None
            if bones is not None:
                model = onnx.ModelProto()
                model.ParseFromString(bones)
                if all(map(is_inside, (t for _, t in tensors_of(model) if t.external_data))):
                    return model
    return onnx.load(path, format="protobuf", load_external_data=False)


def _between(file: io.BufferedReader, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def _model(read: Read, size: int, here: bytes) -> Iterator[bytes]:
    for part in fields(read, 0, size):
        if part.holds(GRAPH):
            yield field(GRAPH, b"".join(_graph(read, part.content, part.end, here)))
        else:
            yield read(part.start, part.end)


def _graph(read: Read, start: int, end: int, here: bytes) -> Iterator[bytes]:
    for part in fields(read, start, end):
        if part.holds(INITIALIZER) and part.end - part.content >= LARGE:
            tensor = _tensor(read, part.content, part.end)
            if tensor is not None:
                yield read(start, part.start)
                yield field(INITIALIZER, tensor + here)
                start = part.end
    yield read(start, end)


def _tensor(read: Read, start: int, end: int) -> bytes | None:
    """A weight with the place of its bytes instead of these; ``None`` if it is not a plain one."""
    kept, seen = [], set()
    span: tuple[int, int] | None = None
    for part in fields(read, start, end):
        number = part.number
        if part.kind not in _EXPECTED.get(number, ()):
            return None
        if number in seen and number not in (_DIMS, _METADATA):
            return None
        seen.add(number)
        content = b"" if number == RAW else read(part.start, part.end)
        if number == RAW:
            span = part.content, part.end - part.content
        elif number == TYPE and content[1] not in _WHOLE:
            return None
        elif number == LOCATION:
            if content[1]:
                return None
        else:
            kept.append(content)
    if span is None or TYPE not in seen or span[1] < LARGE:
        return None
    return b"".join((*kept, *_told(*span)))


def _told(offset: int, length: int) -> Iterator[bytes]:
    """The fields of a weight that say where its bytes are."""
    for key, value in (("offset", offset), ("length", length)):
        yield _entry(key, str(value))
    yield bytes((LOCATION << 3, onnx.TensorProto.EXTERNAL))


def _entry(key: str, value: str) -> bytes:
    return field(EXTERNAL, field(1, key.encode()) + field(2, value.encode()))


def _location(status: os.stat_result) -> str:
    """Of weights in a file as it is now."""
    return ":".join(map(str, (HERE, *stamp(status))))


def is_inside(tensor: onnx.TensorProto) -> bool:
    """Whether the numbers of a tensor that was read are in the model file itself."""
    return any(entry.value.startswith(HERE) for entry in tensor.external_data)


@dataclass(frozen=True)
class _Store:
    """A file of which weights are read when they are needed, and the location that they had."""

    path: Path
    location: str

    def read(self, start: int, length: int) -> bytes:
        """So many bytes from a place on.

        Raises:
            FileError: the file is no longer the same.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                found = file.read(length)
                if len(found) == length and _location(os.fstat(file.fileno())) == self.location:
                    return found
        except OSError as error:
            raise FileError(
                f"{self.path}: cannot be read any more: {error.strerror}", code=Code.NO_FILE
            ) from error
        raise FileError(f"{self.path}: the file was changed while it was read", code=Code.CHANGED)


def fetched(model: ir.Model, path: Path) -> None:
    """Let the weights of a model that was read from a skeleton be read when they are needed.

    Args:
        model: changed in place.
        path: the file.
    """
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor) and str(tensor.location).startswith(HERE):
            value.const_value = _fetched(tensor, _Store(path.resolve(), str(tensor.location)))


def _fetched(tensor: ir.ExternalTensor, store: _Store) -> ir.LazyTensor:
    dtype, shape = tensor.dtype, tensor.shape
    start, length = tensor.offset or 0, tensor.length or 0

    def fetch() -> ir.TensorProtocol:
        numbers = np.frombuffer(store.read(start, length), dtype.numpy().newbyteorder("<"))
        return ir.Tensor(numbers.reshape(shape.numpy()), dtype=dtype)

    return ir.LazyTensor(
        fetch,
        dtype=dtype,
        shape=shape,
        name=tensor.name,
        doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props),
    )


def runnable(model: onnx.ModelProto, path: Path) -> tuple[bytes, Path]:
    """A model that was read from a skeleton, for onnxruntime; and the folder of its other files.

    Args:
        model: changed in place.
        path: the file.
    """
    real = path.resolve()
    own = [tensor for tensor in model.graph.initializer if is_inside(tensor)]
    for tensor in own:
        next(e for e in tensor.external_data if e.key == "location").value = real.name
    return model.SerializeToString(), real.parent if own else path.parent
