"""Runs the command line in a fork of this process, under limits, and sees how it ends.

What takes long to import is imported once, before the fork. No thread may run by then: sessions of
onnxruntime and operations of TensorFlow belong into forks. (OpenBLAS ends its own when one forks.)
"""

from __future__ import annotations

import atexit
import faulthandler
import io
import os
import resource
import selectors
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn
from unittest.mock import patch

from tests.fuzz.cases import Run

PAGE = resource.getpagesize()
TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Limits:
    """What a run may take.

    Attributes:
        cpu: seconds of processor time: a machine that is busy with other things hangs nothing.
        idle: seconds without any work.
        memory: bytes more than it begins with, and more than its files.
        address: bytes of address space more than it begins with: guards the machine.
        output: bytes of its output.
        file: bytes of a file that it writes.
    """

    cpu: int = 20
    idle: float = 20.0
    memory: int = 2 << 30
    address: int = 24 << 30
    output: int = 32 << 20
    file: int = 1 << 30


LIMITS = Limits()


def command_line(arguments: tuple[str, ...]) -> None:
    """The program `convfc`, as its entry point starts it, on a small and hasty machine.

    A model that takes gigabytes or goes on for a minute is no fault on a large one.
    """
    from convfc.cli.main import main
    from convfc.formats.onnx import model
    from convfc.system import capacity

    sys.argv = ["convfc", *arguments]
    with (
        patch.object(capacity, "memory", lambda: 1 << 30),
        patch.object(model, "_LOOP_SECONDS", 5.0),
    ):
        main()


def run(
    call: Callable[[], None],
    folder: Path,
    temporary: Path,
    *,
    encoding: str = "utf-8",
    limits: Limits = LIMITS,
) -> Run:
    """Call something in a fork.

    Args:
        call: it ends with a SystemExit or by returning, as programs do.
        folder: where it is called.
        temporary: where it is to put temporary files.
        encoding: of its stdout and stderr.
        limits: what it may take.
    """
    out, err = os.pipe(), os.pipe()
    files = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    with tempfile.TemporaryFile() as stack:
        before = _resident(os.getpid())
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            pid = os.fork()  # Python 3.12 warns if there are threads, which tests may have
        if pid == 0:
            _child(call, folder, temporary, encoding, limits, (out[1], err[1]), stack)
        os.close(out[1])
        os.close(err[1])
        watched = _Watched(pid, before, limits, files)
        results, errors = watched.listen(out[0], err[0])
        code, used = watched.end()
        stack.seek(0)
        return Run(
            code if code >= 0 else None,
            -code if code < 0 else None,
            watched.stopped,
            results,
            errors,
            stack.read().decode(errors="replace"),
            used.ru_utime + used.ru_stime,
            max(used.ru_maxrss * 1024 - before, 0),
        )


class _Watched:
    """A fork at work."""

    def __init__(self, pid: int, before: int, limits: Limits, files: int) -> None:
        self.stopped = ""
        self._pid, self._before, self._limits, self._files = pid, before, limits, files
        self._start = self._busy = time.monotonic()
        self._cpu = 0.0

    def listen(self, *pipes: int) -> list[bytes]:
        """All that comes out of some pipes until they are closed; stops it where it must."""
        heard = {pipe: bytearray() for pipe in pipes}
        with selectors.DefaultSelector() as selector:
            for pipe in pipes:
                selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select(timeout=0.05):
                    block = os.read(key.fd, 1 << 16)
                    heard[key.fd] += block
                    if not block:
                        selector.unregister(key.fd)
                        os.close(key.fd)
                if not self.stopped:
                    self.stopped = self._excess(sum(map(len, heard.values())))
                    if self.stopped:
                        self._stop()
        return [bytes(text) for text in heard.values()]

    def _excess(self, output: int) -> str:
        with suppress(OSError, ValueError, IndexError):
            if _resident(self._pid) - self._before > self._limits.memory + self._files:
                return "memory"
            cpu = _cpu(self._pid)
            if cpu - self._cpu > self._limits.idle / 400:
                self._cpu, self._busy = cpu, time.monotonic()
            if cpu > self._limits.cpu or time.monotonic() - self._busy > self._limits.idle:
                return "hang"
        return "flood" if output > self._limits.output else ""

    def _stop(self) -> None:
        os.kill(self._pid, signal.SIGXCPU)  # it writes down where it is
        time.sleep(0.2)
        os.kill(self._pid, signal.SIGKILL)

    def end(self) -> tuple[int, resource.struct_rusage]:
        """Its exit code, or less than zero the signal; and what it used."""
        _, status, used = os.wait4(self._pid, 0)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, signal.SIGKILL)  # what it left running
        return os.waitstatus_to_exitcode(status), used


def _child(
    call: Callable[[], None],
    folder: Path,
    temporary: Path,
    encoding: str,
    limits: Limits,
    pipes: tuple[int, int],
    stack: IO[bytes],
) -> NoReturn:
    code = 1
    try:
        os.setsid()
        for number, pipe in enumerate(pipes, 1):
            os.dup2(pipe, number)
        _limit(limits)
        faulthandler.enable(stack)
        faulthandler.register(signal.SIGXCPU, stack)
        atexit._clear()  # those are for this process's end, not for its forks'
        os.chdir(folder)
        os.environ["TMPDIR"], tempfile.tempdir = str(temporary), None
        sys.stdout = sys.__stdout__ = _stream(1, encoding, "strict")  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = _stream(2, encoding, "backslashreplace")  # type: ignore[misc]
        code = _called(call)
    finally:
        os._exit(code)


def _called(call: Callable[[], None]) -> int:
    """What Python does with a program: its exit code."""
    code: object = 0
    try:
        call()
    except SystemExit as end:
        code = end.code
    except BaseException:  # that is what is looked for
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)  # noqa: T201 - as Python does
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return code if isinstance(code, int) else int(code is not None)


def _stream(number: int, encoding: str, errors: str) -> io.TextIOWrapper:
    return open(number, "w", encoding=encoding, errors=errors, closefd=False)


def _limit(limits: Limits) -> None:
    statm = Path("/proc/self/statm").read_text().split()
    address = int(statm[0]) * PAGE + limits.address
    for which, most in (
        (resource.RLIMIT_AS, address),
        (resource.RLIMIT_FSIZE, limits.file),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, limits.cpu + 10),  # if nobody watches any more
    ):
        resource.setrlimit(which, (most, most))


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK
