"""The child of `rehearsal`: a process in which HDF5's library may break."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from convfc.errors import ConvfcError
from convfc.keras_model.record import read_through
from convfc.keras_model.refusals import brief


def main(path: str, file_format: str, seconds: int, memory: int, fault: int) -> None:
    """Read a file as `record.read_through` does, under limits.

    What convfc refuses, it refuses again where it reads the file itself.

    Args:
        path: the file.
        file_format: of it.
        seconds: that a processor may take.
        memory: bytes that reading may take.
        fault: the exit code if something else is wrong with the file, which is said on stdout.
    """
    _limit(seconds, memory)
    code = 0
    try:
        read_through(Path(path), file_format)
    except ConvfcError:
        pass  # the same words come from where the file is read for good
    except Exception as error:
        why = "it would take far more memory than it has bytes"
        os.write(1, (why if isinstance(error, MemoryError) else brief(error)).encode())
        code = fault
    # Whatever is still open is not worth another risk.
    os._exit(code)


def _limit(seconds: int, memory: int) -> None:
    """Bound this process, if the system can."""
    if sys.platform == "win32":
        return
    import resource

    bounds = {resource.RLIMIT_CPU: seconds, resource.RLIMIT_CORE: 0}
    with suppress(OSError):  # Linux says what a process takes by now
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        bounds[resource.RLIMIT_AS] = pages * resource.getpagesize() + memory
    for kind, bound in bounds.items():
        soft, hard = resource.getrlimit(kind)
        known = [value for value in (soft, hard) if value != resource.RLIM_INFINITY]
        resource.setrlimit(kind, (min(bound, *known) if known else bound, hard))
