"""Keeps what keras and tensorflow say off the terminal."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


@contextmanager
def importing() -> Iterator[None]:
    """Run imports with file descriptor 2 leading nowhere; Python's own `sys.stderr` still works.

    Tensorflow's libraries greet on descriptor 2 while they are loaded, before any of their
    settings can be made.
    """
    stderr = sys.stderr
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with open(kept, "w", encoding="utf-8", closefd=False) as python_stderr:
            if stderr is sys.__stderr__:
                sys.stderr = python_stderr
            yield
    finally:
        sys.stderr = stderr
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class _Keep(logging.Handler):
    """Collects messages in a list."""

    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(record.getMessage())


@contextmanager
def overheard() -> Iterator[list[str]]:
    """Collects the warnings of keras and tensorflow instead of showing them.

    Yields:
        A list that fills while the block runs, complete when it ends.
    """
    said: list[str] = []
    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow")]
    kept = [(logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [_Keep(said)], False
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield said
    finally:
        for logger, (handlers, propagate) in zip(loggers, kept, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
        said += [str(warning.message) for warning in caught]
