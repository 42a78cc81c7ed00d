"""Spoiled conversions of Keras models: a model, a file format, a method, a family, by chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from random import Random

import convfc
from convfc.formats.keras.quiet import overheard
from tests.campaign.cases import Mutant
from tests.campaign.judging import Judgement, judge
from tests.campaign.keras_families import FAMILIES, settings, weights
from tests.campaign.keras_files import Feed, Outputs, Parts, load, probes, run
from tests.campaign.keras_seeds import ONLY_ZIP, SEEDS, seed
from tests.campaign.records import forged

METHODS = ("auto", "gather", "rows", "slice")
MEMORIES = (None, None, 800)


@dataclass
class Subject:
    """A model, its true conversion, and what both compute.

    Attributes:
        name: of the model, the format, the method and the memory.
        original: the file.
        converted: the other one.
    """

    name: str
    original: Path
    converted: Path

    @cached_property
    def source(self) -> Parts:
        """What is in the original."""
        return Parts.read(self.original)

    @cached_property
    def feeds(self) -> tuple[list[Feed], list[str]]:
        """What both are fed, and the names of the inputs."""
        model = load(self.original)
        return probes(model), [tensor.name for tensor in model.inputs]

    @cached_property
    def expected(self) -> tuple[list[Outputs | None], list[Outputs | None]]:
        """What the original and the true conversion compute."""
        return list(run(self.original, *self.feeds)), list(run(self.converted, *self.feeds))

    def judge(self, path: Path) -> tuple[Judgement, str]:
        """Run another file, and compare."""
        return judge(*self.expected, run(path, *self.feeds))


Key = tuple[str, str, str, int | None]


class KerasMutants:
    """Makes mutants; what they are made of is kept.

    Args:
        folder: where files may be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._subjects: dict[Key, Subject] = {}
        self._makers: dict[str, tuple[Callable[[Subject, Parts, Random], str | None], int]] = {
            "records": (self._record, 6),
            "another's conversion": (self._cross, 6),
            "another method": (self._method, 3),
            "not converted": (self._unconverted, 2),
        }
        for name, (family, weight) in FAMILIES.items():
            self._makers[name] = (partial(_by_family, family), weight)

    @property
    def kinds(self) -> list[str]:
        """The families."""
        return list(self._makers)

    def make(self, random: Random, only: str | None = None) -> Mutant:
        """Make one, of a certain family or of any, and write it."""
        while True:
            subject = self._subject(random)
            choices = [weight for _, weight in self._makers.values()]
            kind = only or random.choices(self.kinds, choices)[0]
            parts, true = Parts.read(subject.converted), Parts.read(subject.converted)
            what = self._makers[kind][0](subject, parts, random)
            if what is not None and parts != true:
                break
        path = self._folder / f"mutant{parts.suffix}"
        path.unlink(missing_ok=True)
        parts.write(path)
        return Mutant(
            kind, f"{subject.name}: {what}", subject.original, path, partial(subject.judge, path)
        )

    def _subject(self, random: Random) -> Subject:
        name = random.choice(sorted(SEEDS))
        suffix = ".keras" if name in ONLY_ZIP else random.choice([".keras", ".h5"])
        return self._converted((name, suffix, random.choice(METHODS), random.choice(MEMORIES)))

    def _relative(self, subject: Subject, random: Random) -> Subject:
        """Another conversion of the same model."""
        name, suffix = subject.original.stem, subject.original.suffix
        return self._converted((name, suffix, random.choice(METHODS), random.choice(MEMORIES)))

    def _converted(self, key: Key) -> Subject:
        if key not in self._subjects:
            name, suffix, method, memory = key
            original = self._folder / f"{name}{suffix}"
            if not original.exists():
                with overheard():
                    seed(name).save(original)
            out = self._folder / f"{name}_{method}_{memory}{suffix}"
            convert = partial(convfc.convert, original, out, patch_memory=memory, force=True)
            if not convert(patches=method).written:
                convert(patches="auto", partial=True)
            words = f"{name} {suffix} {method} {memory or ''}".strip()
            self._subjects[key] = Subject(words, original, out)
        return self._subjects[key]

    def _record(self, subject: Subject, parts: Parts, random: Random) -> str | None:
        other = self._subject(random) if random.random() < 0.3 else self._relative(subject, random)
        record = Parts.read(other.converted).record
        parts.record, what = forged(parts.record, record, random)
        if random.random() < 0.3:
            what = f"{what}; {weights(parts, random)}"
        return what

    def _cross(self, subject: Subject, parts: Parts, random: Random) -> str | None:
        """What convfc makes of another original, said to come from this one."""
        changed = Parts.read(subject.original)
        what = weights(changed, random) if random.random() < 0.3 else settings(changed, random)
        source = self._folder / f"changed{changed.suffix}"
        out = self._folder / f"changed_fc{changed.suffix}"
        source.unlink(missing_ok=True)
        changed.write(source)
        try:
            method = random.choice(METHODS)
            if not convfc.convert(source, out, patches=method, force=True).written:
                return None
        except Exception:  # not this campaign's subject
            return None
        made = Parts.read(out)
        made.record = random.choice([made.record, parts.record])
        _replace(parts, made)
        return f"conversion of a model with {what}"

    def _method(self, subject: Subject, parts: Parts, random: Random) -> str | None:
        """Another conversion, said to be this one."""
        other = self._relative(subject, random)
        made = Parts.read(other.converted)
        made.record = parts.record
        _replace(parts, made)
        return f"conversion by {other.name}"

    def _unconverted(self, subject: Subject, parts: Parts, random: Random) -> str | None:
        """The original or another, said to be converted."""
        made = Parts.read(subject.original)
        made.record = parts.record
        what = settings(made, random) if random.random() < 0.8 else "the original itself"
        _replace(parts, made)
        return f"not converted: {what}"


def _by_family(
    family: Callable[[Parts, Random], str | None], _: Subject, parts: Parts, random: Random
) -> str | None:
    return family(parts, random)


def _replace(parts: Parts, made: Parts) -> None:
    vars(parts).update(vars(made))
