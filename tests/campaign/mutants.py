"""Spoiled conversions: a model, a patch method, a family, all by chance. What formats share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from random import Random
from typing import Any, Generic, TypeVar

import convfc
from tests.campaign.cases import Mutant
from tests.campaign.judging import Judgement, judge
from tests.campaign.records import forged

Outputs = dict[str, Any]


@dataclass
class Subject(ABC):
    """A model, its true conversion, and what both compute.

    Attributes:
        name: of the model, the method and the memory.
        original: the file.
        converted: the other one.
    """

    name: str
    original: Path
    converted: Path

    @abstractmethod
    def outputs(self, path: Path) -> Iterator[Outputs | None]:
        """What a file computes of everything that it is fed; ``None`` where it does not run."""

    @cached_property
    def expected(self) -> tuple[list[Outputs | None], list[Outputs | None]]:
        """What the original and the true conversion compute."""
        return list(self.outputs(self.original)), list(self.outputs(self.converted))

    def judge(self, path: Path) -> tuple[Judgement, str]:
        """Run another file, and compare."""
        return judge(*self.expected, self.outputs(path))


S = TypeVar("S", bound=Subject)
C = TypeVar("C")
Maker = Callable[[S, C, Random], str | None]
"""Spoils what is in a converted file; in words, or ``None`` if there is nothing to spoil."""


DENSE = "dense"
"""Stands for the dense form where methods of building patches are listed."""


def asked(method: str, memory: int | None = None) -> dict[str, Any]:
    """What `convfc.convert` is given for a method."""
    return {"form": DENSE} if method == DENSE else {"patches": method, "patch_memory": memory}


class Mutants(ABC, Generic[S, C]):
    """Makes mutants; what they are made of is kept. `C` is what is in a file, to be changed.

    Args:
        folder: where files may be written.

    Attributes:
        subject: what mutants are made of.
        methods: of building patches, or `DENSE`.
        memories: bytes that patches may take: few of them make blocks.
    """

    subject: type[S]
    methods: Sequence[str] = ("auto", "gather", "rows", "slice", "taps", "shift")
    memories: Sequence[int | None]

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._subjects: dict[Path, S] = {}
        self._makers = dict(self.makers())

    @abstractmethod
    def makers(self) -> Mapping[str, tuple[Maker[S, C], int]]:
        """The families, and how often each is taken."""

    @abstractmethod
    def model(self, random: Random) -> Path:
        """One of the models, as a file in the folder."""

    @abstractmethod
    def read(self, path: Path) -> C:
        """What is in a file."""

    @abstractmethod
    def write(self, content: C, path: Path) -> None:
        """Make a file of it."""

    @abstractmethod
    def replace(self, content: C, made: C) -> None:
        """Make `content` what `made` is."""

    @abstractmethod
    def record_of(self, content: C) -> str:
        """What convfc wrote into it."""

    @abstractmethod
    def set_record(self, content: C, record: str) -> None:
        """The same with another record, also where there is none."""

    @abstractmethod
    def change(self, content: C, random: Random) -> str | None:
        """Change anything in it but numbers."""

    @abstractmethod
    def renumber(self, content: C, random: Random) -> str | None:
        """Change numbers in it."""

    @property
    def kinds(self) -> list[str]:
        """The families."""
        return list(self._makers)

    def make(self, random: Random, only: str | None = None) -> Mutant:
        """Make one, of a certain family or of any, and write it."""
        while True:
            subject = self._any(random)
            weights = [weight for _, weight in self._makers.values()]
            kind = only or random.choices(self.kinds, weights)[0]
            content, true = self.read(subject.converted), self.read(subject.converted)
            what = self._makers[kind][0](subject, content, random)
            if what is not None and content != true:
                break
        path = self._folder / f"mutant{subject.converted.suffix}"
        self.write(content, path)
        return Mutant(
            kind, f"{subject.name}: {what}", subject.original, path, partial(subject.judge, path)
        )

    def record(self, subject: S, content: C, random: Random) -> str | None:
        """A forged record."""
        other = self._any(random) if random.random() < 0.3 else self._relative(subject, random)
        others = self.record_of(self.read(other.converted))
        record, what = forged(self.record_of(content), others, random)
        self.set_record(content, record)
        return what

    def another(self, subject: S, content: C, random: Random) -> str | None:
        """What convfc makes of another original, said to come from this one."""
        changed = self.read(subject.original)
        what = self.renumber(changed, random) if random.random() < 0.3 else None
        what = what or self.change(changed, random)
        suffix = subject.original.suffix
        source, out = self._folder / f"changed{suffix}", self._folder / f"changed_fc{suffix}"
        self.write(changed, source)
        try:
            method = random.choice(self.methods)
            if not convfc.convert(source, out, **asked(method), force=True).written:
                return None
            made = self.read(out)
        except Exception:  # not this campaign's subject
            return None
        record = random.choice([self.record_of(made), self.record_of(content)])
        self._take(content, made, record)
        return f"conversion of a model with {what}"

    def method(self, subject: S, content: C, random: Random) -> str | None:
        """Another conversion, said to be this one."""
        other = self._relative(subject, random)
        self._take(content, self.read(other.converted), self.record_of(content))
        return f"conversion by {other.name}"

    def unconverted(self, subject: S, content: C, random: Random) -> str | None:
        """The original or another, said to be converted."""
        made = self.read(subject.original)
        what = self.change(made, random) if random.random() < 0.8 else "the original itself"
        self._take(content, made, self.record_of(content))
        return f"not converted: {what}"

    def _take(self, content: C, made: C, record: str) -> None:
        self.replace(content, made)
        self.set_record(content, record)

    def _any(self, random: Random) -> S:
        return self._converted(self.model(random), random)

    def _relative(self, subject: S, random: Random) -> S:
        """Another conversion of the same model."""
        return self._converted(subject.original, random)

    def _converted(self, original: Path, random: Random) -> S:
        method, memory = random.choice(self.methods), random.choice(self.memories)
        out = original.with_stem(f"{original.stem}_{method}_{memory}")
        if out not in self._subjects:
            convert = partial(convfc.convert, original, out, force=True)
            if not convert(**asked(method, memory)).written:
                convert(**asked(DENSE if method == DENSE else "auto", memory), partial=True)
            words = f"{original.name} {method} {memory or ''}".strip()
            self._subjects[out] = self.subject(words, original, out)
        return self._subjects[out]
