"""What an ONNX file says, field by field, whatever way its numbers are stored."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import Message
from onnx import numpy_helper

UNREAD = {"convfc", "convfc_frozen"}
"""Metadata of convfc itself."""


def fields(path: Path) -> dict[str, Any]:
    """All that a file says, but for convfc's records.

    Numbers are bits, attributes go by their names, and what is empty is as good as left out. The
    name that a tensor of a Constant has beside that of its value is lost whenever onnx_ir has read
    it.
    """
    model = onnx.load(path)
    found = _message(model)
    props = [entry for entry in model.metadata_props if entry.key not in UNREAD]
    return {**found, "metadata_props": _all(props)}


def _message(message: Message) -> Any:
    if isinstance(message, onnx.TensorProto):
        numbers = numpy_helper.to_array(message).tobytes()
        told = message.doc_string, _all(message.metadata_props)
        return message.name, message.data_type, tuple(message.dims), numbers, *told
    found = {}
    for field, value in message.ListFields():
        if field.is_repeated:
            found[field.name] = _all(value)
        else:
            found[field.name] = _message(value) if isinstance(value, Message) else value
    if isinstance(message, onnx.NodeProto):
        found["attribute"] = sorted(found.get("attribute", []), key=lambda each: str(each["name"]))
        if message.op_type == "Constant":
            for attribute in found["attribute"]:
                attribute["t"] = attribute.get("t", ("",))[1:]
    if isinstance(message, onnx.GraphProto | onnx.FunctionProto):
        found["value_info"] = sorted(found.get("value_info", []), key=lambda each: each["name"])
    return {name: value for name, value in found.items() if value not in ("", [], {})}


def _all(values: Iterable[Any]) -> list[Any]:
    return [_message(value) if isinstance(value, Message) else value for value in values]
