"""HDF5's library meets a file in another process first: on a damaged one it may never come back.

It follows what it reads, and trusts it: it goes round in heaps that lead back to themselves, frees
what it never had, takes any memory that a length asks for. There is no end of such places, and no
way to end it from within a process. So a child reads all that this process and Keras will.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from multiprocessing.spawn import get_executable
from pathlib import Path

from convfc.errors import FileError
from convfc.keras_model.bounds import limit

_SECONDS, _PACE = 10, 2**22
"""Of a processor: what any file may take (a model takes a twentieth), and bytes in one more."""

_ROOM = 2**28
"""Bytes of memory for Python and the library themselves."""

_BUSY = 20
"""Times as long it may take by the clock: for systems that count no seconds of a processor."""

_FAULT = 3
"""The exit code of a child that came back and says why the file cannot be read."""

_UNSET = {"MALLOC_PERTURB_": "165"}
"""Has glibc fill memory that nobody has set with something else than zeros.

In a process as new as the child it would be zeros, which break nothing; in an older one it is not.
"""

_CHILD = """
import json, sys
found = json.loads(sys.argv[1])
sys.path[:] = found["path"]
from convfc.keras_model.walking import main
main(*sys.argv[2:4], *found["limits"])
"""


def rehearse(path: Path, file_format: str) -> None:
    """Refuse a file from which HDF5's library does not come back.

    Where no child can be started, as the program is none that runs Python, or may start no other,
    there is none: a whole file is read all the same.

    Args:
        path: the file.
        file_format: see `record.read_through`, which the child does.

    Raises:
        FileError: it crashes on it, or goes on and on, or takes far more memory than the file has.
    """
    # What embeds Python can say by `multiprocessing.set_executable` what else to run.
    python = os.fsdecode(get_executable() or "")
    if not python or getattr(sys, "frozen", False):
        return
    size = path.stat().st_size
    seconds = _SECONDS + size // _PACE
    # Twice: the texts of an attribute are in memory as HDF5's and as Python's.
    limits = (seconds, _ROOM + 2 * limit(size), _FAULT)
    places = [str(Path(place).absolute()) for place in sys.path if isinstance(place, str)]
    found = json.dumps({"path": places, "limits": limits})
    try:
        with subprocess.Popen(  # noqa: S603 - this Python, with a list of arguments
            [python, "-I", "-B", "-c", _CHILD, found, path, file_format],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_UNSET},
            start_new_session=True,  # a signal is for this process, which ends the child
        ) as child:
            try:
                said, _ = child.communicate(timeout=_BUSY * seconds)
            finally:
                child.kill()
                child.wait()
    except subprocess.TimeoutExpired as error:
        raise _broken(path) from error
    except OSError:
        return
    if child.returncode < 0:
        raise _broken(path)
    if child.returncode == _FAULT:
        why = said.decode(errors="replace").strip()
        raise FileError(f"{path}: damaged or cut short ({why}); get a fresh copy of it")


def _broken(path: Path) -> FileError:
    return FileError(
        f"{path}: damaged: the HDF5 library does not come back from reading it; "
        "get a fresh copy of it"
    )
