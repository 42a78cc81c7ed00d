"""What reaches the terminal: tables and lines, JSON, and a sign of life while something works."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # who asks for help need not wait for rich
    from rich.console import Console

    from convfc.verification import Verification


def console() -> Console:
    """Where results go: stdout."""
    from rich.console import Console

    found = Console(highlight=False)
    # A pipe or a log has no width of its own: cutting a table to 80 columns would lose figures.
    return found if found.is_terminal else Console(highlight=False, width=1000)


def print_lines(out: Console, lines: Sequence[str]) -> None:
    """Print texts as they are, without cutting or marking up."""
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)


def print_verification(out: Console, result: Verification) -> None:
    """Print a verification's tables, what was fed, and the verdict as the last line."""
    from convfc import verdicts

    if result.layers:
        out.print(verdicts.proof_table(result))
    if result.outputs:
        out.print(verdicts.differences_table(result))
    print_lines(out, [*verdicts.footnotes(result), *result.fed, *result.notes])
    print_lines(out, [verdicts.verification_summary(result)])


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document."""
    print(json.dumps(document, indent=2, allow_nan=False))  # noqa: T201 - this is the output


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """Show a line on the terminal while something takes long; nothing in a pipe.

    Yields:
        A function that takes a few words about what is being done.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{what} ..") as status:
        yield lambda words: status.update(f"{what}: {words} ..")
