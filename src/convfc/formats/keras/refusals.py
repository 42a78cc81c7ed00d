"""What a failure inside Keras, h5py or zipfile means to a person."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convfc.errors import ConvfcError, FileError, UnsupportedModelError
from convfc.refusals import Code
from convfc.text.visible import visible


@contextmanager
def refusing(path: Path, fault: str = "damaged or cut short") -> Iterator[None]:
    """Turns whatever a damaged file leads to, in code that takes it for whole, into a refusal.

    Args:
        path: the file.
        fault: what must be wrong with it if anything fails.

    Raises:
        FileError: it is missing or damaged, or too large for this machine.
    """
    try:
        yield
    except ConvfcError:
        raise
    except MemoryError as error:
        raise FileError(
            f"{path}: there is not enough memory to load it",
            remedy="load it on a larger machine",
            code=Code.TOO_LARGE,
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and not path.exists():
            raise FileError(f"{path}: no such file", code=Code.MISSING) from error
        raise FileError(
            f"{path}: {fault} ({brief(error)})", remedy="get a fresh copy of it", code=Code.DAMAGED
        ) from error


@contextmanager
def running(where: str = "") -> Iterator[None]:
    """Turns whatever Keras says against a layer, when it runs it, into a refusal.

    Args:
        where: what the message begins with.

    Raises:
        UnsupportedModelError: Keras cannot run it.
    """
    try:
        yield
    except Exception as error:
        raise UnsupportedModelError(
            f"{where}Keras cannot run it: {brief(error)}", code=Code.NOT_RUN
        ) from error


NO_CONFIG = "damaged: its configuration is none that Keras writes"


_NOISE = re.compile(
    r"\x1b\[[0-9;]*m|\{\{.{,500}?\}\} ?|Exception encountered when calling \S{,500}\.\n"
)
"""Colours, places in a graph, and the line that says only that there is another one."""

_PREAMBLES = re.compile(
    r"Exception encountered:|<stack traces unavailable>|Error encountered during deserialization:"
    r"|Example error message for object [^\n]{,500}>:\n"
    r"|in user code:(?:[^\n]*\n(?!    [\w.]{1,500}: )){0,500}?[^\n]*\n(?=    [\w.]{1,500}: )"
)
"""What Keras and tensorflow put before the cause; of a failure in a graph, where it was called.

The files say some of these texts, so what may come in the middle of one is bounded.
"""


def brief(error: BaseException) -> str:
    """The cause in an exception of Keras, tensorflow or h5py, on one line."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = str(error)
    if isinstance(error, KeyError) and error.args:
        key = str(error.args[0])
        text = key if " " in key else f"it lacks {text}"
    text = _NOISE.sub("", text)
    text = text[max((found.end() for found in _PREAMBLES.finditer(text)), default=0) :]
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    # What ends in a colon is said in the line below.
    line = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return visible(line if len(line) <= 300 else f"{line[:300]}...")


def write_error(error: BaseException) -> OSError:
    """What kept a file from being written, in the system's words.

    h5py wraps it in a paragraph, and in a RuntimeError or two if it comes up while it closes the
    file: only the paragraph has the number then.
    """
    cause: BaseException | None = error
    while cause is not None:
        told = re.search(r"errno = (\d+)", str(cause))
        number = getattr(cause, "errno", None) or (int(told[1]) if told else None)
        if number is not None:
            return OSError(number, os.strerror(number))
        cause = cause.__cause__ or cause.__context__
    return OSError(errno.EIO, os.strerror(errno.EIO))
