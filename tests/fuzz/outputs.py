"""Whether a file that convfc wrote is whole."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from tests.fuzz.judging import report


def problem(path: Path) -> str | None:
    """What is wrong with a converted file, a report or a page; ``None`` if it is whole."""
    head = path.read_bytes()[:8]
    if path.suffix == ".html":
        ended = path.read_bytes().rstrip().endswith(b"</html>")
        return None if ended else "the page has no end"
    if head.startswith(b"<"):
        return report(path)
    try:
        return _model(path, head)
    except Exception as error:  # whatever it is, the file is not whole
        return f"does not load: {type(error).__name__} {error}"


def _model(path: Path, head: bytes) -> str | None:
    if head.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return f"damaged: {archive.testzip()}"
            record = archive.read("convfc.json").decode()
    elif head.startswith(b"\x89HDF"):
        import h5py

        with h5py.File(path) as file:
            record = file.attrs["convfc"]
    else:
        import onnx

        model = onnx.load(path)
        record = next(entry.value for entry in model.metadata_props if entry.key == "convfc")
    return None if json.loads(record)["layers"] is not None else "its record has no layers"
