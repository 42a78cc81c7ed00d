"""Works in a thread of another program without a trace in that program.

Loggers, warnings and the state of libraries are shared by all that runs in a process. What convfc
must change there, it changes for its own thread and for the time of a call: other threads see no
difference, and nothing is left behind.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import wraps
from typing import Any

Context = Callable[[], AbstractContextManager[object]]


class Shared:
    """A context that threads are in at once: the first enters it, the last leaves it.

    Those that replace something and put it back would otherwise put back each other's.

    Args:
        make: makes the context.
    """

    def __init__(self, make: Context) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._inside = 0
        self._open = ExitStack()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be inside."""
        with self._lock:
            if not self._inside:
                self._open.enter_context(self._make())
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._open.close()


class _Said(threading.local):
    """Where messages of this thread go; ``None``: their usual way."""

    messages: list[str] | None = None


class _Matching:
    """In a filter of warnings, in the place of a pattern: any text, where a function says so."""

    def __init__(self, match: Callable[[str], bool]) -> None:
        self.match = match


class Library:
    """What a library says while convfc uses it, which is nobody else's business.

    Args:
        loggers: names of loggers; those below them are meant, too.
        warns: whether it says things by `warnings.warn`.
    """

    def __init__(self, *loggers: str, warns: bool = False) -> None:
        self._names = loggers
        self._said = _Said()
        self._contexts = [Shared(self._filtered), *([Shared(self._not_warned)] if warns else [])]

    @contextmanager
    def overheard(self) -> Iterator[list[str]]:
        """Collect its messages of this thread instead of showing them.

        Yields:
            A list that fills while the block runs.
        """
        said: list[str] = []
        outer = self._said.messages
        with ExitStack() as stack:
            for context in self._contexts:
                stack.enter_context(context.entered())
            self._said.messages = said
            try:
                yield said
            finally:
                self._said.messages = outer

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record goes its way: a filter is asked in the thread that logs."""
        return self._said.messages is None or not self._keep(record.getMessage())

    def _keep(self, message: str) -> bool:
        """Whether a message is one of those to be kept; it is."""
        if self._said.messages is None:
            return False
        self._said.messages.append(message)
        return True

    @contextmanager
    def _filtered(self) -> Iterator[None]:
        # The filters of a logger are not asked about what comes from the loggers below it.
        known = list(logging.root.manager.loggerDict)
        below = [name for name in known if name.startswith(tuple(f"{n}." for n in self._names))]
        loggers = [logging.getLogger(name) for name in (*self._names, *below)]
        for logger in loggers:
            logger.addFilter(self)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeFilter(self)

    @contextmanager
    def _not_warned(self) -> Iterator[None]:
        """Keep warnings.

        `warnings.catch_warnings` would take those of all threads, and two threads that are in it at
        once can leave the filters of one behind for ever. Neither the filters of others, which may
        make an error of a warning, nor the registers of what was said before are asked here.
        """
        theirs = warnings.warn

        @wraps(theirs)
        def warn(
            message: Any,  # noqa: ANN401 - a text or a Warning
            category: Any = None,  # noqa: ANN401 - a class of Warning
            stacklevel: int = 1,
            source: object = None,
            **more: Any,  # noqa: ANN401 - of later Pythons
        ) -> None:
            if not self._keep(str(message)):
                # One level more than they say: this function stands between.
                theirs(message, category, max(stacklevel, 1) + 1, source, **more)

        warnings.warn = warn
        # What is written in C warns without that function, but goes by the filters.
        ours: Any = ("ignore", _Matching(self._keep), Warning, None, 0)
        with_ours = warnings.filters = [ours, *warnings.filters]
        try:
            yield
        finally:
            if warnings.warn is warn:  # otherwise somebody else's stands upon it
                warnings.warn = theirs
            # New lists, as another thread may be going through this one.
            warnings.filters = [entry for entry in warnings.filters if entry is not ours]
            with_ours.remove(ours)  # somebody may have it put by, to make it the list again


class _Call(threading.local):
    """The public function that runs in this thread.

    Attributes:
        end: what is undone with it; ``None``: there is none.
        begun: what `until_the_end` has begun.
    """

    end: ExitStack | None = None
    begun: frozenset[Context] = frozenset()


_call = _Call()


@contextmanager
def undisturbed() -> Iterator[None]:
    """A public function leaves all as it was, and settings of its caller do not alter it."""
    if _call.end is not None:  # one of them uses another
        yield
        return
    import numpy as np

    try:
        # NaN and infinity are numbers of a model like others; what they come to is no news.
        with ExitStack() as _call.end, np.errstate(all="ignore"):
            yield
    finally:
        _call.end, _call.begun = None, frozenset()


def until_the_end(context: Context) -> None:
    """Enter a context, if this has not been done, that ends with the public function."""
    if _call.end is not None and context not in _call.begun:
        _call.begun |= {context}
        _call.end.enter_context(context())
