"""The child of `rehearsal`: a process that onnx or onnxruntime may abort."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from convfc.formats.demand import Demand
from convfc.formats.onnx.preparing import prepare
from convfc.formats.onnx.rehearsal import LOADING, excuse
from convfc.formats.onnx.runtimes import Session
from convfc.formats.onnx.sites import steps_of
from convfc.formats.onnx.stored_weights import runnable


def main(path: str, *fixed: str) -> None:
    """Prepare a model for a conversion, and load it.

    What is wrong with it without ending the process is said where that happens for good. Of a model
    that is too much to be run, nothing is computed beforehand: that may be too much as well.
    """
    file = Path(path)
    with suppress(Exception):
        excuse(file)
        excuse(file, *fixed)
        prepared = prepare(file, *map(json.loads, fixed))
        steps = steps_of(prepared.inferred)
        os.write(1, LOADING.encode())
        once = Demand.of(steps, ()).excess() is not None
        if fixed and prepared.altered is not None:
            content, folder = runnable(prepared.altered, file)
            Session(content, path, folder, once=once)
        else:
            Session(file, path, once=once)
    os._exit(0)
