"""Signals that end the program: an exception, so that what is half done is tidied up."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SAID = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "the terminal is gone"}
"""The signals that are meant, and what is said of them."""

PATIENCE = 5.0
"""Seconds that a library may go on before a signal ends the program without tidying up."""

_SEEN = 0
"""Stands, beside the numbers of signals, for the moment in which the exception is raised."""


class Stopped(SystemExit):
    """Raised in the main thread by a signal. Its code is what a shell gives for that signal.

    Attributes:
        said: one line for a person.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.said = SAID[signal.Signals(number).name]


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Within the block, the first such signal raises `Stopped`; a second one ends all at once.

    Python looks at signals between two steps of its own. If a library does not come back from its
    work, the program ends after a few seconds, or with the second signal. Signals that somebody
    ignores (`nohup`) or handles stay as they are, and after the block all of them do.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    plain = (signal.SIG_DFL, signal.default_int_handler)
    numbers = [getattr(signal, name) for name in SAID if hasattr(signal, name)]
    before = {n: handler for n in numbers if (handler := signal.getsignal(n)) in plain}
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def stop(number: int, _: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        os.write(writer, bytes([_SEEN]))
        raise Stopped(number)

    threading.Thread(target=_watch, args=(reader, set(before)), daemon=True).start()
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        for each in before:
            signal.signal(each, stop)
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(writer)


def _watch(reader: int, numbers: set[int]) -> None:
    """End the process if its main thread does not get to see a signal."""
    with open(reader, "rb", buffering=0) as heard:
        number = 0
        while number not in numbers:
            byte = heard.read(1)
            if not byte:
                return
            number = byte[0]
        if select.select([heard], [], [], PATIENCE)[0] and heard.read(1) in (b"", bytes([_SEEN])):
            return
        with contextlib.suppress(OSError):
            os.write(2, f"convfc: {SAID[signal.Signals(number).name]}\n".encode())
    os._exit(128 + number)
