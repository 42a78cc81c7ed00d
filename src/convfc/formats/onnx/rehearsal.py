"""A file with Slices that may meet a size below zero: there onnx and onnxruntime abort the process.

Which sizes they find, only they know. So a child does first what this process is about to do; see
`convfc.system.rehearsal`. Most models have no such Slice, and pay nothing.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path

from convfc.errors import FileError
from convfc.formats.shapes import Shapes
from convfc.refusals import Code
from convfc.system import capacity, rehearsal
from convfc.system.atomic import stamp
from convfc.text.sizes import shapes_text

LOADING = "loading"
"""What the child says before onnxruntime loads the file."""

_CRASHES = [
    getattr(signal, name)
    for name in ("SIGABRT", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS")
    if hasattr(signal, name)
]
"""Others come from without, as from a system that has no memory left."""

_passed: set[tuple[object, ...]] = set()
"""Files that this process need not rehearse (again), with the shapes that inputs are fixed to."""


def rehearse(path: Path, shapes: Shapes | None = None) -> None:
    """Refuse a file from which shape inference or onnxruntime does not come back.

    Args:
        path: the file.
        shapes: what inputs are fixed to, by name.

    Raises:
        FileError: it is one.
        OSError: it cannot be read.
    """
    fixed = [json.dumps(shapes)] if shapes else []
    state = stamp(path.stat()), *fixed
    if state in _passed:
        return
    code, said = rehearsal.rehearse(
        "convfc.formats.onnx.rehearsal_child", path, *fixed, memory=capacity.memory()
    )
    if code is not None and -code in _CRASHES:
        who = "onnxruntime" if said == LOADING else "onnx's shape inference"
        what, remedy = "damaged", "get a fresh copy of it"
        if shapes:
            what, remedy = f"cannot be had for {shapes_text(shapes)}", "give other sizes"
        raise FileError(
            f"{path}: {what}: {who} does not come back from it, as where a Slice reads what a "
            "window makes that is larger than its input",
            remedy=remedy,
            code=Code.CRASHES,
        )
    _passed.add(state)


def excuse(path: Path, *fixed: str) -> None:
    """Let a file be read in this process without a rehearsal: this one is it.

    Args:
        path: the file.
        fixed: the shapes that inputs are fixed to, if any are, as JSON.

    Raises:
        OSError: it cannot be read.
    """
    _passed.add((stamp(path.stat()), *fixed))
