"""A child process that meets a file first: some libraries break on a damaged one, and with them us.

There is no end of the places where C code trusts what it reads, and no way to end that from within
a process. So a child does with the file what this process is about to do, and how it ends is known.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from multiprocessing.spawn import get_executable
from pathlib import Path

_BUSY = 20
"""Times as long it may take by the clock: for systems that count no seconds of a processor."""

_SET = {"MALLOC_PERTURB_": "165", "ORT_DISABLE_TELEMETRY": "1"}
"""The first has glibc fill memory that nobody has set with something else than zeros.

In a process as new as the child it would be zeros, which break nothing; in an older one it is not.
"""

_CHILD = """
import importlib, json, sys
found = json.loads(sys.argv[1])
sys.path[:] = found["path"]
main = importlib.import_module(found["module"]).main
from convfc.system.rehearsal import bound
bound(*found["limits"])
main(*sys.argv[2:])
"""


def rehearse(
    module: str, *arguments: str | Path, seconds: int | None = None, memory: int | None = None
) -> tuple[int | None, str]:
    """Run the function `main` of a module in a child process.

    Where no child can be started, as the program is none that runs Python, or may start no other,
    there is none: a whole file is read all the same.

    Args:
        module: its full name.
        arguments: of its `main`.
        seconds: that a processor may take; ``None``: any.
        memory: bytes that it may take beyond Python and what the module imports; ``None``: any.

    Returns:
        Its exit code, below zero if a signal ended it; ``None`` if it did not come back in time.
        And what it said on stdout.
    """
    # What embeds Python can say by `multiprocessing.set_executable` what else to run.
    python = os.fsdecode(get_executable() or "")
    if not python or getattr(sys, "frozen", False):
        return 0, ""
    places = [str(Path(place).absolute()) for place in sys.path if isinstance(place, str)]
    found = json.dumps({"path": places, "module": module, "limits": (seconds, memory)})
    try:
        with subprocess.Popen(  # noqa: S603 - this Python, with a list of arguments
            [python, "-I", "-B", "-c", _CHILD, found, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_SET},
            start_new_session=True,  # a signal is for this process, which ends the child
        ) as child:
            try:
                patience = None if seconds is None else _BUSY * seconds
                said, _ = child.communicate(timeout=patience)
            finally:
                child.kill()
                child.wait()
    except subprocess.TimeoutExpired:
        return None, ""
    except OSError:
        return 0, ""
    return child.returncode, said.decode(errors="replace").strip()


def bound(seconds: int | None, memory: int | None) -> None:
    """Bound this process, which is the child, if the system can; see `rehearse`."""
    if sys.platform == "win32":
        return
    import resource

    bounds = {resource.RLIMIT_CORE: 0}
    if seconds is not None:
        bounds[resource.RLIMIT_CPU] = seconds
    if memory is not None:
        with suppress(OSError):  # Linux says what a process takes by now
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
            bounds[resource.RLIMIT_AS] = pages * resource.getpagesize() + memory
    for kind, most in bounds.items():
        soft, hard = resource.getrlimit(kind)
        known = [value for value in (soft, hard) if value != resource.RLIM_INFINITY]
        resource.setrlimit(kind, (min(most, *known) if known else most, hard))
