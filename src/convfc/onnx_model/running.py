"""onnxruntime, imported when it is needed: a conversion does without it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime

from convfc.errors import UnsupportedModelError


def session(path: Path) -> onnxruntime.InferenceSession:
    """A model, ready to run on the CPU.

    Raises:
        UnsupportedModelError: onnxruntime refuses it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UnsupportedModelError(
            f"{path}: onnxruntime cannot load it: {one_line(error)}"
        ) from error


def one_line(error: Exception) -> str:
    """What an error says, without line breaks and not too long."""
    return " ".join(str(error).split())[:300]
