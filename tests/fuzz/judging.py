"""What may never be: one rule each, and what is seen of a case by which they are judged."""

from __future__ import annotations

import json
import re
import signal
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from convfc.text.visible import visible
from tests.fuzz.cases import Case, Fault, Run

MEMORY = 2 << 30
"""Bytes that a command may take beyond its files and what it begins with."""

MESSAGE_LINES = 3

GATED = "not a model that convfc can work on: "
"""How a refusal begins that stands for an exception nobody thought of."""

SAID = re.compile(rb"could not check|COULD NOT CHECK", re.IGNORECASE)
"""How a verification says by itself, on stdout, that it ends with 2."""

Files = Mapping[str, str]
"""What is in a folder: what each file holds, by its path in there."""


@dataclass
class Seen:
    """Everything about a case that was run.

    Attributes:
        case: what was run.
        run: how it ended.
        folder: where; what the command wrote is still there.
        before: the files in it.
        after: the same, afterwards.
        elsewhere: what is new outside: in the folder of temporary files, and at home.
        problem: what is wrong with a file that it wrote; ``None`` if it is whole.
    """

    case: Case
    run: Run
    folder: Path
    before: Files
    after: Files
    elsewhere: list[str] = field(default_factory=list)
    problem: Callable[[Path], str | None] = lambda _: None

    @property
    def written(self) -> list[str]:
        """Names of files that are new or another."""
        return [name for name, held in self.after.items() if self.before.get(name) != held]

    @property
    def as_json(self) -> bool:
        """Whether one JSON document was asked for."""
        return "--json" in self.case.arguments

    @property
    def message(self) -> str:
        """What stderr says."""
        return self.run.err.decode(self.case.encoding, errors="replace").strip()

    @property
    def said(self) -> str:
        """The last word: an error, or the last line of the results."""
        lines = self.run.out.decode(self.case.encoding, errors="replace").strip().splitlines()
        return pattern((self.message.splitlines() or lines[-1:] or [""])[0])


def traceback(seen: Seen) -> Iterator[str]:
    """No traceback."""
    if b"Traceback (most recent call last)" in seen.run.err + seen.run.out:
        yield seen.message.splitlines()[-1]


def unforeseen(seen: Seen) -> Iterator[str]:
    """No error that nobody thought of."""
    if re.search(rb"convfc: unforeseen|\"unforeseen ", seen.run.err + seen.run.out):
        yield seen.message.splitlines()[0]


def hang(seen: Seen) -> Iterator[str]:
    """No hang, and no flood of output."""
    if seen.run.stopped in ("hang", "flood"):
        yield f"{seen.run.stopped} after {seen.run.cpu:.1f} s of work"


def memory(seen: Seen) -> Iterator[str]:
    """Not much more memory than the files have bytes."""
    held = sum(file.stat().st_size for file in seen.folder.rglob("*") if file.is_file())
    if seen.run.stopped == "memory" or seen.run.growth > MEMORY + held:
        yield f"{seen.run.growth / 2**20:,.0f} MiB more"


def crash(seen: Seen) -> Iterator[str]:
    """No death by a signal that nobody sent."""
    if seen.run.signal is not None and not seen.run.stopped:
        yield f"signal {signal.Signals(seen.run.signal).name}"


def stray(seen: Seen) -> Iterator[str]:
    """No file that nobody asked for, in the folder, among temporary files or at home."""
    yield from seen.elsewhere
    for name in seen.after.keys() - seen.before.keys():
        if not any(name == out or name.startswith(f"{out}.") for out in seen.case.outputs):
            yield f"new: {name}"


def inputs(seen: Seen) -> Iterator[str]:
    """No file changed that was only to be read."""
    for name, held in seen.before.items():
        if name not in seen.case.outputs and seen.after.get(name) != held:
            yield f"{name} is {'another' if name in seen.after else 'gone'}"


def partial(seen: Seen) -> Iterator[str]:
    """What was written is whole; what was not is as it was."""
    for name in seen.written:
        if name in seen.case.outputs and (problem := seen.problem(seen.folder / name)):
            yield f"{name}: {problem}"
    gone = [name for name in seen.case.outputs & seen.before.keys() if name not in seen.after]
    yield from (f"{name} is gone" for name in gone)


def controls(seen: Seen) -> Iterator[str]:
    """No characters that steer a terminal, and none that are none."""
    for stream, said in (("stdout", seen.run.out), ("stderr", seen.run.err)):
        try:
            text = said.decode(seen.case.encoding)
        except UnicodeDecodeError as error:
            yield f"{stream}: {error.reason}"
            continue
        lines = text.split("\n")
        bad = next((line for line in lines if visible(line) != line), None)
        if bad is not None:
            yield f"{stream} of {seen.case.command}: {ascii(bad)[1:200]}"


def document(seen: Seen) -> Iterator[str]:
    """One JSON document where it was asked for, errors included."""
    if seen.as_json and seen.run.code is not None:
        try:
            json.loads(seen.run.out, parse_constant=_no_number)
        except ValueError as error:
            yield f"exit {seen.run.code}: {error}"


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def code(seen: Seen) -> Iterator[str]:
    """An exit code that fits what was said and written."""
    run = seen.run
    if run.code is None:
        return
    models = [name for name in seen.written if name in seen.case.outputs]
    if run.code not in (0, 1, 2):
        yield f"exit {run.code}"
    elif run.code < 2 and not run.out.strip():
        yield f"exit {run.code} without a result"
    elif run.code == 1 and seen.case.command not in ("convert", "revert", "verify"):
        yield f"exit 1 of {seen.case.command}"
    elif run.code == 2 and not run.err.strip() and not SAID.search(run.out):
        yield "exit 2 without a reason"
    if seen.case.command in ("convert", "revert"):
        whole = run.code == 0 or (run.code == 1 and "--partial" in seen.case.arguments)
        if models and not whole:
            yield f"exit {run.code}, but {models[0]} was written"
        dry = "--dry-run" in seen.case.arguments
        if run.code == 0 and not dry and not seen.case.outputs & seen.after.keys():
            yield "exit 0, but nothing was written"
        if dry and models:
            yield f"a dry run, but {models[0]} was written"


def message(seen: Seen) -> Iterator[str]:
    """An error says in a line or two what it is about; where there is none, nothing is said."""
    lines = seen.message.splitlines()
    if not lines or seen.run.code is None or b"Traceback" in seen.run.err:
        return
    if seen.run.code < 2:
        yield f"exit {seen.run.code}, but stderr says: {lines[0][:200]}"
    elif lines[0].startswith("Usage: "):
        return
    elif len(lines) > MESSAGE_LINES:
        yield f"{len(lines)} lines: {lines[0][:100]}"
    elif b"unforeseen" not in seen.run.err and not _says_what(seen):
        yield f"names no file: {lines[0][:200]}"


def _says_what(seen: Seen) -> bool:
    """Whether an error names a file that there is, or a word of the command line."""
    words = ["mnist", ".", *(Path(word).name for word in seen.case.arguments[1:])]
    words += [part.lstrip("-") for word in seen.case.arguments[1:] for part in word.split("=")]
    quoted = any(f"'{word}'" in seen.message for word in words)
    said = _core(seen.message)
    named = (*seen.before, *seen.case.outputs, *words)
    shown = [form for name in named for form in _forms(name)]
    long = [_core(name) for name in shown if len(_core(name)) > 2]
    first = any(seen.message.startswith(f"convfc: {Path(word)}:") for word in words)
    numbers = not seen.before
    return numbers or quoted or first or any(name in said for name in long)


def _forms(name: str) -> tuple[str, str, str]:
    """How a name may be shown."""
    return name, visible(name), name.encode("ascii", "backslashreplace").decode()


def _core(text: str) -> str:
    """The beginning of a name as far as it is the same however it is written."""
    return re.sub(r"[^\w.-]", "", text, flags=re.ASCII)


def report(path: Path) -> str | None:
    """What is wrong with a JUnit report."""
    try:
        ElementTree.parse(path)  # noqa: S314 - convfc wrote it
    except ElementTree.ParseError as error:
        return f"no XML: {error}"
    return None


RULES: Mapping[str, Callable[[Seen], Iterator[str]]] = {
    rule.__name__: rule
    for rule in (
        *(traceback, unforeseen, hang, memory, crash, stray, inputs, partial, controls),
        *(document, code, message),
    )
}
"""By name; each says how it is broken."""


def faults(seen: Seen) -> list[Fault]:
    """Every rule that is broken; a command that was stopped need not speak properly."""
    found: list[Fault] = []
    for name, rule in RULES.items():
        if seen.run.code is None and name in _OF_THE_LIVING:
            continue
        alike = _ALIKE.get(name, 140)
        found += [Fault(name, said, pattern(said)[:alike]) for said in islice(rule(seen), 1)]
    return found


_OF_THE_LIVING = ("stray", "partial", "document", "code", "message")
_ALIKE = {"controls": 45, "document": 6, "stray": 20}
"""How many letters of what was said tell one fault from another, where that is not all of it."""


def pattern(text: str) -> str:
    """A text without what differs from case to case."""
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "'..'", text)
    text = re.sub(r"\S*/\S+", "/..", text)
    text = re.sub(r"\S+\.(onnx|keras|h5|ONNX)\b", "FILE", text)
    return re.sub(r"\d+", "0", text)[:140]


def deepest(stack: str) -> str:
    """The last place in convfc on a stack, as Python or its fault handler writes it."""
    threads = re.split(r"\n\n(?=Thread |Current thread )", stack)
    stack = next((thread for thread in threads if "in command_line" in thread), stack)
    frames: list[Any] = re.findall(r'File "(\S+)", line (\d+),? in (\w+)', stack)
    if "most recent call first" in stack:
        frames.reverse()
    own = [f"{path.split('/convfc/')[-1]}:{line} {name}" for path, line, name in frames
           if "/src/convfc/" in path and name != "main"]  # fmt: skip
    other = [f"{path.split('site-packages/')[-1]}:{line}" for path, line, _ in frames]
    return f"{own[-1] if own else 'outside'} < {other[-1] if other else '?'}"
