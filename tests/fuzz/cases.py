"""What one case of the fuzzing is, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """Files in a folder, and a command about them.

    Attributes:
        name: from which it is made again: "onnx 17".
        mutators: what was done to the files, by the names of the mutators.
        what: the same in words.
        arguments: the command line, without the name of the program.
        outputs: names of the files that it may write or replace.
        encoding: of the terminal.
    """

    name: str
    mutators: tuple[str, ...]
    what: str
    arguments: tuple[str, ...]
    outputs: frozenset[str] = frozenset()
    encoding: str = "utf-8"

    @property
    def command(self) -> str:
        """The first word of the command line."""
        return self.arguments[0]


@dataclass(frozen=True)
class Run:
    """How a command ended.

    Attributes:
        code: its exit code; ``None`` if a signal ended it.
        signal: that signal; ``None`` if none did.
        stopped: why it was ended from outside: "hang", "memory" or "flood"; else "".
        out: what it wrote to stdout.
        err: what it wrote to stderr.
        stack: where it was when it crashed or was stopped.
        cpu: seconds of processor time.
        growth: bytes by which its memory grew beyond what it began with.
    """

    code: int | None
    signal: int | None = None
    stopped: str = ""
    out: bytes = b""
    err: bytes = b""
    stack: str = ""
    cpu: float = 0.0
    growth: int = 0

    @property
    def end(self) -> str:
        """In a word or two."""
        return self.stopped or (f"exit {self.code}" if self.signal is None else "signal")


@dataclass(frozen=True)
class Fault:
    """Something that may never be.

    Attributes:
        kind: the rule that it breaks.
        detail: in words.
        where: what it has in common with others of its kind; they are reported once.
    """

    kind: str
    detail: str
    where: str

    @property
    def sign(self) -> str:
        """Equal for two faults that are likely one."""
        return f"{self.kind}: {self.where}"


@dataclass(frozen=True)
class Outcome:
    """What came of one case.

    Attributes:
        case: its name.
        command: the first word of its command line; "" if it could not be made.
        mutators: see `Case`.
        what: see `Case`.
        arguments: see `Case`.
        end: see `Run`.
        said: its last words, without what differs from case to case.
        gate: where in the code an exception of no kind of convfc's own was raised, which was
            turned into a refusal; "" if there was none.
        faults: what was wrong.
        folder: where it is kept, if it is.
        seconds: what it took, its making and judging included.
    """

    case: str
    command: str
    mutators: tuple[str, ...]
    what: str
    arguments: tuple[str, ...]
    end: str
    said: str = ""
    gate: str = ""
    faults: tuple[Fault, ...] = ()
    folder: Path | None = None
    seconds: float = field(default=0.0, compare=False)
