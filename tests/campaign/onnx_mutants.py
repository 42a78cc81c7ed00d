"""Spoiled conversions of ONNX models: a model, a patch method, a family, all by chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from random import Random

import onnx

import convfc
from tests.campaign import fields
from tests.campaign.cases import Mutant
from tests.campaign.judging import Judgement, judge
from tests.campaign.onnx_constants import numbers
from tests.campaign.onnx_families import FAMILIES
from tests.campaign.onnx_running import Feed, Known, Outputs, known_values, probes, run
from tests.campaign.onnx_seeds import SEEDS, seed
from tests.campaign.records import forged

METHODS = ("auto", "gather", "rows", "slice", "reshape")
MEMORIES = (None, None, 600)
"""Bytes that patches may take: few of them make blocks."""


@dataclass
class Subject:
    """A model, its true conversion, and what both compute.

    Attributes:
        name: of the model, the method and the memory.
        original: the file.
        converted: the other one.
    """

    name: str
    original: Path
    converted: Path

    @cached_property
    def source(self) -> onnx.ModelProto:
        """The original's content."""
        return onnx.load(self.original)

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The true conversion's content."""
        return onnx.load(self.converted)

    @cached_property
    def values(self) -> dict[str, Known]:
        """What is known of the true conversion's values."""
        return known_values(self.model)

    @cached_property
    def feeds(self) -> list[Feed]:
        """What both are fed."""
        return probes(self.source)

    @cached_property
    def expected(self) -> tuple[list[Outputs | None], list[Outputs | None]]:
        """What the original and the true conversion compute."""
        return list(run(self.original, self.feeds)), list(run(self.converted, self.feeds))

    def judge(self, path: Path) -> tuple[Judgement, str]:
        """Run another file, and compare."""
        return judge(*self.expected, run(path, self.feeds))


class OnnxMutants:
    """Makes mutants; what they are made of is kept.

    Args:
        folder: where files may be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._subjects: dict[tuple[str, str, int | None], Subject] = {}
        self._makers: dict[
            str, tuple[Callable[[Subject, onnx.ModelProto, Random], str | None], int]
        ]
        self._makers = {
            "fields": (self._fields, 40),
            "two fields": (self._two_fields, 10),
            "records": (self._record, 6),
            "record and number": (self._record_and_number, 3),
            "another's conversion": (self._cross, 8),
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
            weights = [weight for _, weight in self._makers.values()]
            kind = only or random.choices(self.kinds, weights)[0]
            model = onnx.ModelProto()
            model.CopyFrom(subject.model)
            what = self._makers[kind][0](subject, model, random)
            content = model.SerializeToString()
            if what is not None and content != subject.model.SerializeToString():
                break
        path = self._folder / "mutant.onnx"
        path.write_bytes(content)
        return Mutant(
            kind, f"{subject.name}: {what}", subject.original, path, partial(subject.judge, path)
        )

    def _subject(self, random: Random) -> Subject:
        key = random.choice(sorted(SEEDS)), random.choice(METHODS), random.choice(MEMORIES)
        if key not in self._subjects:
            self._subjects[key] = self._convert(*key)
        return self._subjects[key]

    def _convert(self, name: str, method: str, memory: int | None) -> Subject:
        original = self._folder / f"{name}.onnx"
        if not original.exists():
            onnx.save(seed(name), original)
        out = self._folder / f"{name}_{method}_{memory}.onnx"
        convert = partial(convfc.convert, original, out, patch_memory=memory, force=True)
        if not convert(patches=method).written:
            convert(patches="auto")
        return Subject(f"{name} {method} {memory or ''}".strip(), original, out)

    def _fields(self, _: Subject, model: onnx.ModelProto, random: Random) -> str | None:
        return fields.mutate(model, random)

    def _two_fields(self, _: Subject, model: onnx.ModelProto, random: Random) -> str | None:
        return f"{fields.mutate(model, random)}; {fields.mutate(model, random)}"

    def _record(self, subject: Subject, model: onnx.ModelProto, random: Random) -> str | None:
        entry = next(entry for entry in model.metadata_props if entry.key == "convfc")
        other = self._subject(random) if random.random() < 0.3 else self._relative(subject, random)
        entry.value, what = forged(entry.value, _record_of(other.model), random)
        return what

    def _record_and_number(
        self, subject: Subject, model: onnx.ModelProto, random: Random
    ) -> str | None:
        first = self._record(subject, model, random)
        second = numbers(model, subject.values, random)
        return f"{first}; {second}"

    def _relative(self, subject: Subject, random: Random) -> Subject:
        """Another conversion of the same model."""
        name = subject.name.split()[0]
        key = name, random.choice(METHODS), random.choice(MEMORIES)
        if key not in self._subjects:
            self._subjects[key] = self._convert(*key)
        return self._subjects[key]

    def _cross(self, subject: Subject, model: onnx.ModelProto, random: Random) -> str | None:
        """What convfc makes of another original, said to come from this one."""
        changed = onnx.ModelProto()
        changed.CopyFrom(subject.source)
        what = numbers(changed, {}, random) if random.random() < 0.3 else None
        what = what or fields.mutate(changed, random)
        source, out = self._folder / "changed.onnx", self._folder / "changed_fc.onnx"
        source.write_bytes(changed.SerializeToString())
        try:
            method = random.choice(METHODS)
            if not convfc.convert(source, out, patches=method, force=True).written:
                return None
            made = onnx.load(out)
        except Exception:  # not this campaign's subject
            return None
        record = random.choice([_record_of(made), _record_of(model)])
        model.CopyFrom(made)
        next(entry for entry in model.metadata_props if entry.key == "convfc").value = record
        return f"conversion of a model with {what}"

    def _method(self, subject: Subject, model: onnx.ModelProto, random: Random) -> str | None:
        """Another conversion, said to be this one."""
        record, other = _record_of(model), self._relative(subject, random)
        model.CopyFrom(other.model)
        next(entry for entry in model.metadata_props if entry.key == "convfc").value = record
        return f"conversion by {other.name}"

    def _unconverted(self, subject: Subject, model: onnx.ModelProto, random: Random) -> str | None:
        """The original or another, said to be converted."""
        record = _record_of(model)
        model.CopyFrom(subject.source)
        what = fields.mutate(model, random) if random.random() < 0.8 else "the original itself"
        model.metadata_props.add(key="convfc", value=record)
        return f"not converted: {what}"


def _by_family(
    family: Callable[[onnx.ModelProto, dict[str, Known], Random], str | None],
    subject: Subject,
    model: onnx.ModelProto,
    random: Random,
) -> str | None:
    return family(model, subject.values, random)


def _record_of(model: onnx.ModelProto) -> str:
    return str(next(entry.value for entry in model.metadata_props if entry.key == "convfc"))
