"""HDF5's library meets a file in another process first: on a damaged one it may never come back.

It follows what it reads, and trusts it: it goes round in heaps that lead back to themselves, frees
what it never had, takes any memory that a length asks for. So a child reads all that this process
and Keras will; see `convfc.system.rehearsal`.
"""

from __future__ import annotations

from pathlib import Path

from convfc.errors import FileError
from convfc.formats.keras.bounds import limit
from convfc.refusals import Code
from convfc.system import rehearsal

FAULT = 3
"""The exit code of a child that came back and says why the file cannot be read."""

_SECONDS, _PACE = 10, 2**22
"""Of a processor: what any file may take (a model takes a twentieth), and bytes in one more."""

_ROOM = 2**28
"""Bytes of memory for Python and the library themselves."""


def rehearse(path: Path, file_format: str) -> None:
    """Refuse a file from which HDF5's library does not come back.

    Args:
        path: the file.
        file_format: see `archive.read_through`, which the child does.

    Raises:
        FileError: it crashes on it, or goes on and on, or takes far more memory than the file has.
    """
    size = path.stat().st_size
    code, said = rehearsal.rehearse(
        "convfc.formats.keras.rehearsal_child",
        path,
        file_format,
        seconds=_SECONDS + size // _PACE,
        # Twice: the texts of an attribute are in memory as HDF5's and as Python's.
        memory=_ROOM + 2 * limit(size),
    )
    if code is None or code < 0:
        raise FileError(
            f"{path}: damaged: the HDF5 library does not come back from reading it",
            remedy="get a fresh copy of it",
            code=Code.CRASHES,
        )
    if code == FAULT:
        raise FileError(
            f"{path}: damaged or cut short ({said})",
            remedy="get a fresh copy of it",
            code=Code.DAMAGED,
        )
