"""What reaches the terminal: tables and lines, and a sign of life while something works."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from convfc.system.streams import Results
from convfc.text.visible import visible

if TYPE_CHECKING:  # who asks for help need not wait for rich
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from convfc.verification.verify import Verification

Part: TypeAlias = "str | Text | Table"
"""A line as it is, or what is laid out already."""


def console() -> Console:
    """Lays out results for stdout, and keeps what is printed on it."""
    from rich.console import Console

    # A pipe or a log has no width of its own, whether it is coloured or not.
    width = None if sys.stdout.isatty() else 1000
    return Console(file=Results(sys.stdout), highlight=False, width=width)


def rendered(parts: Iterable[Part]) -> str:
    """Tables and lines as text. A line is neither cut nor marked up nor can it steer a terminal.

    What is in several legends is in the first.
    """
    from rich.text import Text

    from convfc.text.words import Words

    out = console()
    told: set[str] = set()
    for part in parts:
        if isinstance(part, str):
            out.print(Text(visible(part)), soft_wrap=True)
            continue
        if isinstance(part, Words):
            part.legend = [line for line in part.legend if line not in told]
            told.update(part.legend)
        out.print(part)
    assert isinstance(out.file, Results)  # noqa: S101 - `console` made it
    return out.file.getvalue()


def show(text: str) -> None:
    """Print results; see `program.run` for when they are written."""
    sys.stdout.write(text)


def verification_parts(verification: Verification) -> Iterator[Part]:
    """A verification's tables, what was fed, and the verdict as the last line."""
    from convfc.cli import verification_tables

    if verification.layers:
        yield verification_tables.proof_table(verification)
    if verification.outputs:
        yield verification_tables.differences_table(verification)
    yield from verification_tables.footnotes(verification)
    if verification.parting is not None:
        yield verification_tables.parting_table(verification, verification.parting)
    yield from verification.fed
    yield from verification_tables.notes(verification)
    if verification.parting is not None:
        yield from (f"differs: {one}" for one in verification.differences)
        yield verification_tables.parting_line(verification.parting)
    yield verification_tables.verification_summary(verification)


@contextlib.contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """Show a line on the terminal while something takes long; nothing in a pipe.

    A terminal that is gone is no reason to stop.

    Yields:
        A function that takes a few words about what is being done.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.text import Text

    status = Console(stderr=True).status(Text(f"{visible(what)} .."))

    def say(words: str) -> None:
        with contextlib.suppress(OSError):
            status.update(Text(visible(f"{what}: {words} ..")))

    with contextlib.suppress(OSError):
        status.start()
    try:
        yield say
    finally:
        with contextlib.suppress(OSError):
            status.stop()
