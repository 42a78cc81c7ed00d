"""What `convert` and `revert` share: how they are carried out, and what is said of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from convfc.cli import tables, terminal
from convfc.cli.program import COULD_NOT, NO, YES
from convfc.text.jsontext import json_text

if TYPE_CHECKING:  # as in `tables`
    from convfc.conversion import Conversion
    from convfc.refusals import Refusal
    from convfc.reversion import Reversion
    from convfc.text.words import Words

JobT = TypeVar("JobT", "Conversion", "Reversion")


def carry_out(
    what: str,
    job: Callable[..., AbstractContextManager[JobT]],
    document: Callable[[JobT], dict[str, Any]] | None,
    parts: Callable[[JobT], Iterable[terminal.Part]],
) -> None:
    """Do a job that ends in a file, say what was done, and leave with its exit code.

    Args:
        what: said meanwhile.
        job: takes `progress`; the file appears when what it gives ends.
        document: what is printed as JSON, where that was asked for.
        parts: what is printed otherwise.

    Raises:
        typer.Exit: always, with the exit code.
    """
    from convfc.verification.verdict import Verdict

    with terminal.working(what) as progress, job(progress=progress) as done:
        # What is said of it is there before the file is: if that fails, nothing appears.
        told = json_text(document(done)) if document else terminal.rendered(parts(done))
    terminal.show(told)
    seen = done.verification
    if seen is not None and seen.verdict is Verdict.COULD_NOT_CHECK:
        raise typer.Exit(COULD_NOT)
    raise typer.Exit(YES if done.complete else NO)


def conversion_parts(conversion: Conversion) -> Iterator[terminal.Part]:
    """A conversion's table, remarks, and what was done as the last line."""
    summary = summary_of(
        conversion,
        ("converted", "converts", "convolutions"),
        "no convolution in the model: the copy is the same network",
        dry=conversion.draft is not None,
    )
    refusals = (layer.refusal for layer in conversion.layers)
    last = (*tables.draft_lines(conversion), summary)
    return parts_of(conversion, partial(tables.conversion_table, conversion), refusals, *last)


def parts_of(
    job: Conversion | Reversion,
    table: Callable[[], Words],
    refusals: Iterable[Refusal | None],
    *last: str,
) -> Iterator[terminal.Part]:
    """A table, remarks, and what was done as the last line."""
    if job.layers:
        yield table()
    yield from tables.left_lines(refusals)
    yield from job.notes
    if job.verification is not None:
        yield from terminal.verification_parts(job.verification)
    if job.look is not None:
        yield tables.look_line(job.look)
    yield from last


def summary_of(
    job: Conversion | Reversion, words: tuple[str, str, str], none: str, *, dry: bool = False
) -> str:
    """One line that says what was done.

    Args:
        job: what was done.
        words: what became of the layers, what is done to them, and what they are called.
        none: what is said if there are none.
        dry: whether nothing was to be written.
    """
    done, does, things = words
    count = Counter(layer.fate.value for layer in job.layers)
    what = done if job.written else f"can be {done}"
    text = f"{count[done]} of {len(job.layers)} {things} {what}"
    if not job.layers:
        text = none
    if count["left"]:
        text += f", {count['left']} left"
    if count["skipped"]:
        text += f", {count['skipped']} not asked for"
    if job.written:
        return f"{text}; wrote {job.out}"
    if job.verification is not None:
        unknown = job.verification.verdict.value == "could not check"
        found = "could not be checked" if unknown else "is not equivalent"
        return f"{text}, but the result {found}; nothing written"
    hint = f" (--partial {does} the others)" if count[done] and count["left"] else ""
    why = ", as this is a dry run" if dry else ""
    return f"{text}; nothing written{why}{hint}"
