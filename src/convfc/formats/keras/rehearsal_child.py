"""The child of `rehearsal`: a process in which HDF5's library may break."""

from __future__ import annotations

import os
from pathlib import Path

from convfc.errors import ConvfcError
from convfc.formats.keras.archive import read_through
from convfc.formats.keras.refusals import brief
from convfc.formats.keras.rehearsal import FAULT


def main(path: str, file_format: str) -> None:
    """Read a file as `archive.read_through` does.

    What convfc refuses, it refuses again where it reads the file itself. What else is wrong with
    the file is said on stdout, and the exit code is `FAULT`.

    Args:
        path: the file.
        file_format: of it.
    """
    code = 0
    try:
        read_through(Path(path), file_format)
    except ConvfcError:
        pass  # the same words come from where the file is read for good
    except Exception as error:
        why = "it would take far more memory than it has bytes"
        os.write(1, (why if isinstance(error, MemoryError) else brief(error)).encode())
        code = FAULT
    # Whatever is still open is not worth another risk.
    os._exit(code)
