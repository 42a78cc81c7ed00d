"""Whether a file that convfc wrote is whole."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np

from tests.fuzz.judging import report


def problem(path: Path) -> str | None:
    """What is wrong with a model, a report, a page or matrices; ``None`` if it is whole.

    A model has a record, but for one whose name ends with "_conv": it may be whole again.
    """
    head = path.read_bytes()[:8]
    if path.suffix == ".html":
        ended = path.read_bytes().rstrip().endswith(b"</html>")
        return None if ended else "the page has no end"
    if head.startswith(b"<"):
        return report(path)
    try:
        return _matrices(path) if path.suffix == ".npz" else _model(path, head)
    except Exception as error:  # whatever it is, the file is not whole
        return f"does not load: {type(error).__name__} {error}"


def _matrices(path: Path) -> str | None:
    with np.load(path, allow_pickle=False) as held:
        return None if all(held[name].size for name in held) else "a matrix is empty"


def _model(path: Path, head: bytes) -> str | None:
    record = _record(path, head)
    if record is None:
        return None if path.stem.endswith("_conv") else "it has no record"
    return None if json.loads(record)["layers"] is not None else "its record has no layers"


def _record(path: Path, head: bytes) -> str | None:
    if head.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise ValueError(f"damaged: {archive.testzip()}")
            named = "convfc.json" in archive.namelist()
            return archive.read("convfc.json").decode() if named else None
    if head.startswith(b"\x89HDF"):
        import h5py

        with h5py.File(path) as file:
            record = file.attrs.get("convfc")
            return None if record is None else str(record)
    import onnx

    entries = onnx.load(path).metadata_props
    return next((entry.value for entry in entries if entry.key == "convfc"), None)
