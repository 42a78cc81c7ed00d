"""Spoiled conversions of ONNX models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from random import Random

import onnx

from tests.campaign import fields
from tests.campaign.mutants import DENSE, Maker, Mutants, Outputs, Subject
from tests.campaign.onnx_constants import numbers
from tests.campaign.onnx_families import FAMILIES
from tests.campaign.onnx_running import Feed, Known, known_values, probes, run
from tests.campaign.onnx_seeds import SEEDS, seed


class OnnxSubject(Subject):
    """See `Subject`."""

    @cached_property
    def values(self) -> dict[str, Known]:
        """What is known of the true conversion's values."""
        return known_values(onnx.load(self.converted))

    @cached_property
    def feeds(self) -> list[Feed]:
        """What both are fed."""
        return probes(onnx.load(self.original))

    def outputs(self, path: Path) -> Iterator[Outputs | None]:
        return run(path, self.feeds)


class OnnxMutants(Mutants[OnnxSubject, onnx.ModelProto]):
    """See `Mutants`."""

    subject = OnnxSubject
    methods = (*Mutants.methods, "reshape", DENSE, DENSE)
    memories = (None, None, 600)

    def makers(self) -> Mapping[str, tuple[Maker[OnnxSubject, onnx.ModelProto], int]]:
        return {
            "fields": (self._fields, 40),
            "two fields": (self._two_fields, 10),
            "records": (self.record, 6),
            "record and number": (self._record_and_number, 3),
            "another's conversion": (self.another, 8),
            "another method": (self.method, 3),
            "not converted": (self.unconverted, 2),
            **{
                name: (partial(_by_family, family), weight)
                for name, (family, weight) in FAMILIES.items()
            },
        }

    def model(self, random: Random) -> Path:
        path = self._folder / f"{random.choice(sorted(SEEDS))}.onnx"
        if not path.exists():
            onnx.save(seed(path.stem), path)
        return path

    def read(self, path: Path) -> onnx.ModelProto:
        return onnx.load(path)

    def write(self, content: onnx.ModelProto, path: Path) -> None:
        path.write_bytes(content.SerializeToString())

    def replace(self, content: onnx.ModelProto, made: onnx.ModelProto) -> None:
        content.CopyFrom(made)

    def record_of(self, content: onnx.ModelProto) -> str:
        return str(next(entry.value for entry in content.metadata_props if entry.key == "convfc"))

    def set_record(self, content: onnx.ModelProto, record: str) -> None:
        entries = (entry for entry in content.metadata_props if entry.key == "convfc")
        entry = next(entries, None) or content.metadata_props.add(key="convfc")
        entry.value = record

    def change(self, content: onnx.ModelProto, random: Random) -> str | None:
        return fields.mutate(content, random)

    def renumber(self, content: onnx.ModelProto, random: Random) -> str | None:
        return numbers(content, {}, random)

    def _fields(self, _: OnnxSubject, model: onnx.ModelProto, random: Random) -> str | None:
        return fields.mutate(model, random)

    def _two_fields(self, _: OnnxSubject, model: onnx.ModelProto, random: Random) -> str | None:
        return f"{fields.mutate(model, random)}; {fields.mutate(model, random)}"

    def _record_and_number(
        self, subject: OnnxSubject, model: onnx.ModelProto, random: Random
    ) -> str | None:
        first = self.record(subject, model, random)
        second = numbers(model, subject.values, random)
        return f"{first}; {second}"


def _by_family(
    family: Callable[[onnx.ModelProto, dict[str, Known], Random], str | None],
    subject: OnnxSubject,
    model: onnx.ModelProto,
    random: Random,
) -> str | None:
    return family(model, subject.values, random)
