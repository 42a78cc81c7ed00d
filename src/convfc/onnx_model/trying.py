"""The child of `rehearsal`: a process that onnx or onnxruntime may abort."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from convfc.onnx_model.preparing import prepare
from convfc.onnx_model.rehearsal import LOADING, excuse
from convfc.onnx_model.running import Session


def main(path: str) -> None:
    """Prepare a model for a conversion, and load it.

    What is wrong with it without ending the process is said where that happens for good.
    """
    file = Path(path)
    with suppress(Exception):
        excuse(file)
        prepare(file)
        os.write(1, LOADING.encode())
        Session(file, path)
    os._exit(0)
