"""The program around its commands: streams, signals, errors, the exit code."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NoReturn

from convfc.errors import ConvfcError, FileError, UsageError
from convfc.refusals import Code
from convfc.system import process, signals, streams
from convfc.text.jsontext import json_text
from convfc.text.visible import visible, visible_lines

YES, NO, COULD_NOT = 0, 1, 2

READER_GONE = 128 + 13
"""What a shell gives for a program that SIGPIPE ended: quiet, and neither yes nor no."""


class CommandLineError(UsageError):
    """A command line that is none.

    Attributes:
        shown: what a person gets to see of it, instead of the message alone.
    """

    def __init__(self, message: str, shown: str) -> None:
        super().__init__(message)
        self.shown = shown


def run(command: Callable[[], int]) -> NoReturn:
    """Run a command that prints, and end with its exit code.

    What it prints is written when it has ended well; of an error, one or two lines go to stderr
    (and with --json, a document to stdout).

    Args:
        command: gives the exit code.

    Raises:
        SystemExit: always.
    """
    streams.occupy()
    process.claim()
    try:
        with signals.raised():
            code = _deliver(*_outcome(command))
    except signals.Stopped as stopped:
        streams.say(f"convfc: {visible(stopped.said)}")
        raise SystemExit(stopped.code) from None
    raise SystemExit(code)


def _outcome(command: Callable[[], int]) -> tuple[int, str]:
    """The exit code and what goes to stdout."""
    results = streams.Results(sys.stdout)
    try:
        with contextlib.redirect_stdout(results):
            code = command()
    except Exception as error:
        return COULD_NOT, _refused(error)
    return code, results.getvalue()


def _refused(error: Exception) -> str:
    """Say what went wrong; give what goes to stdout."""
    options = sys.argv[1:]
    kind, code, message, shown = _words(error)
    if "--debug" in options:
        shown = "".join(traceback.format_exception(error)).rstrip()
    streams.say(visible_lines(shown))
    if _asks_for("json", options):
        return json_text(_document(error, kind, code, message))
    if _asks_for("github", options):
        from convfc.cli.github import annotation

        return f"{annotation('error', message, title='convfc')}\n"
    return ""


def _asks_for(layout: str, options: Sequence[str]) -> bool:
    """Whether a command line asks for a layout, be it one that nobody understands."""
    ways = {f"--format={layout}", f"--format {layout}", *(["--json"] if layout == "json" else [])}
    return not ways.isdisjoint([*options, *map(" ".join, pairwise(options))])


def _document(error: Exception, kind: str, code: Code | None, message: str) -> dict[str, Any]:
    """An error for programs; see docs/schema/error-1.json."""
    known = error if isinstance(error, ConvfcError) else None
    told = {
        "kind": kind,
        "code": code,
        "message": message,
        "remedy": None if known is None else known.remedy,
        "path": None if known is None or known.path is None else str(known.path),
        "layer": None if known is None else known.layer,
    }
    return {"schema": "error-1", "error": told}


def line(error: ConvfcError) -> str:
    """What is shown of an error: its message and its code."""
    return f"convfc: {error} [{error.code}]"


def _words(error: Exception) -> tuple[str, Code | None, str, str]:
    """The kind of an error, its code, its message, and what is shown of it."""
    if isinstance(error, CommandLineError):
        return UsageError.__name__, error.code, str(error), error.shown
    if isinstance(error, OSError) and error.filename is not None:
        error = FileError(f"{error.filename}: {error.strerror}", code=Code.NO_FILE)
    elif isinstance(error, MemoryError):
        error = FileError(f"not enough memory {error}".strip(), code=Code.TOO_LARGE)
    kind = type(error).__name__
    if isinstance(error, ConvfcError):
        return kind, error.code, str(error), line(error)
    words = visible(" ".join(str(error).split())[:300])
    return kind, None, words, f"convfc: unforeseen {kind}: {words}\n(--debug shows where)"


def _deliver(code: int, text: str) -> int:
    """Write the results; what cannot be delivered is no yes and no no."""
    try:
        streams.deliver(text)
    except BrokenPipeError:
        return READER_GONE
    except OSError as error:
        streams.say(f"convfc: standard output: cannot be written: {error.strerror or error}")
        return COULD_NOT
    return code
