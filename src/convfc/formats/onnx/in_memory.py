"""Models that a program holds, as files and back."""

from __future__ import annotations

from pathlib import Path

import onnx

from convfc.errors import UsageError
from convfc.formats.onnx.stored_weights import MOST
from convfc.refusals import Code


def put(model: onnx.ModelProto, folder: Path) -> Path:
    """Write a model, as it is, into a folder.

    Raises:
        OSError: it cannot be written.
        UsageError: it is too large for one file.
    """
    path = folder / "model.onnx"
    if model.ByteSize() > MOST:
        raise UsageError(
            "the model takes more than 2 GiB in memory",
            remedy="save it with external data and convert that file",
            code=Code.TOO_LARGE,
        )
    path.write_bytes(model.SerializeToString())
    return path


def taken(path: Path) -> onnx.ModelProto:
    """The model in a file, with all its weights."""
    return onnx.load(path)
