"""The streams of a process: results leave in one piece, messages never do harm.

Nothing heavy is imported here: this is what the program has from its first moment on.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import TextIO


def occupy() -> None:
    """See that the descriptors 0, 1 and 2 are taken, and that there is a `sys.stderr`.

    A program that is started with one of them closed (`2>&-`) would open its next file there, and
    what a library prints would end up in that file.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115 - a descriptor


class Results(io.StringIO):
    """Takes what is printed until all of it is there; like another stream to those who ask."""

    def __init__(self, like: TextIO | None) -> None:
        super().__init__()
        self._like = like

    def isatty(self) -> bool:
        """Whether the results go to a terminal."""
        return self._like is not None and self._like.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # of the stream, not of this text
        """What the characters become, some day."""
        return getattr(self._like, "encoding", None) or "utf-8"


def deliver(text: str) -> None:
    """Write the results to stdout, at once.

    In one piece, so that a reader that has seen enough of them (`| grep -q`) does not go before
    they are written. Of what its encoding lacks, our own signs become others as wide, and letters
    of names a `?`. Nothing is left for a later flush.

    Raises:
        BrokenPipeError: the reader is gone.
        OSError: stdout is closed, or full.
    """
    if not text:
        return
    stdout = sys.stdout
    if stdout is None:
        raise OSError(errno.EBADF, "it is closed")
    encoding = stdout.encoding or "utf-8"
    try:
        stdout.write(_encodable(text, encoding))
        stdout.flush()
    except BaseException:  # a signal as well: the reader may be stuck
        _silence(stdout)
        raise


_PLAIN: dict[int, int | str] = {
    **str.maketrans("×·‖→Δσ…⌊⌋≡≈█▓▒░▀†‡§", "x*|>Ds~[]=~##+.-+#$"),
    ord("²"): "^2",
    ord("∞"): "inf",
}


def _encodable(text: str, encoding: str) -> str:
    """A text in signs that an encoding has; columns stay where they are, but beside an infinity.

    >>> _encodable("⌊28 · 2⌋ × é", "ascii")
    '[28 * 2] x ?'
    """
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
    return text


def say(text: str) -> None:
    """Write a message to stderr, if it can be written: it changes no result and no exit code."""
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        _silence(sys.stderr)


def _silence(stream: TextIO) -> None:
    """Let what a stream still holds go nowhere: Python's own last flush would fail once more."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
