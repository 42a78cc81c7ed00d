"""What convfc does to a process that it is the program of, and a library must not do.

Environment, descriptors, the collector and the table of modules belong to the whole process. The
command line claims them; in another program's process they stay as they are.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

_SETTINGS = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "KERAS_BACKEND": "tensorflow",
    "ORT_DISABLE_TELEMETRY": "1",  # for modules of --import, too
}
"""Variables of the environment, where nobody has set them."""
_SELDOM = 1000
"""So many times are young objects looked through for circles that nobody reads any more, before
old ones are: graphs of files are large and mostly live to the end. It was a fifth of all time for
5,000 convolutions; weights are hardly ever in such circles."""

_claimed = False


def claim() -> None:
    """This process is the program `convfc`: it may be set up to its liking."""
    global _claimed
    _claimed = True
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    gc.set_threshold(*gc.get_threshold()[:2], _SELDOM)
    atexit.register(gc.freeze)  # nor on the way out


def is_ours() -> bool:
    """Whether this process is the program `convfc`, and no other that uses it."""
    return _claimed


@contextmanager
def importing() -> Iterator[None]:
    """Imports in this block say nothing and drag in nothing, if the process is ours."""
    with ExitStack() as stack:
        if _claimed:
            stack.enter_context(_muffled())
            stack.enter_context(_without("matplotlib"))
        yield


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """A variable of the environment for what reads it now and never again.

    Where it is set already, that counts.
    """
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)


@contextmanager
def _muffled() -> Iterator[None]:
    """File descriptor 2 leads nowhere; Python's own `sys.stderr` still works.

    Tensorflow's libraries greet on descriptor 2 while they are loaded, before any of their
    settings can be made.
    """
    stderr = sys.stderr
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with open(
            kept, "w", encoding="utf-8", errors="backslashreplace", closefd=False
        ) as python_stderr:
            if stderr is sys.__stderr__:
                sys.stderr = python_stderr
            yield
    finally:
        sys.stderr = stderr
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _without(package: str) -> Iterator[None]:
    """A package that others would like to have, and do without, cannot be imported.

    Keras imports matplotlib, in case somebody draws with it. That takes a second, and on a new
    machine several, for a list of all fonts which it writes into the home folder.
    """
    absent = package not in sys.modules
    if absent:
        no_module: Any = None  # what the import system takes for "there is none"
        sys.modules[package] = no_module
    try:
        yield
    finally:
        if absent:
            del sys.modules[package]
