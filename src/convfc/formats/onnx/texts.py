"""Whether all names and texts of an ONNX file are texts: other bytes reach everybody as such."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import Message

from convfc.errors import FileError
from convfc.refusals import Code


def check_texts(path: Path, proto: onnx.ModelProto) -> None:
    """Refuse a model with a name or another text that is no UTF-8.

    Raises:
        FileError: it names the file, the first such field and what it begins with.
    """
    for where, text in _undecoded(proto):
        raise FileError(
            f"{path}: an invalid ONNX graph: the {where} is no UTF-8 text: {text[:40]!r}",
            remedy="export the model again",
            code=Code.INVALID_GRAPH,
        )


def _undecoded(message: Message) -> Iterator[tuple[str, bytes]]:
    """Every text in a message that protobuf could not decode, and in which field it is."""
    for field, value in message.ListFields():
        many = value if field.is_repeated else (value,)
        if field.type == field.TYPE_STRING:
            where = f"{field.name} of a {message.DESCRIPTOR.name}"
            yield from ((where, text) for text in many if isinstance(text, bytes))
        elif field.type == field.TYPE_MESSAGE:
            for inner in many:
                yield from _undecoded(inner)
