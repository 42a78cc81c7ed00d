"""Spoiled conversions of Keras models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from random import Random

from convfc.formats.keras.quiet import overheard
from tests.campaign.keras_families import FAMILIES, settings, weights
from tests.campaign.keras_files import Feed, Parts, load, probes, run
from tests.campaign.keras_seeds import ONLY_ZIP, SEEDS, seed
from tests.campaign.mutants import Maker, Mutants, Outputs, Subject


class KerasSubject(Subject):
    """See `Subject`."""

    @cached_property
    def feeds(self) -> tuple[list[Feed], list[str]]:
        """What both are fed, and the names of the inputs."""
        model = load(self.original)
        return probes(model), [tensor.name for tensor in model.inputs]

    def outputs(self, path: Path) -> Iterator[Outputs | None]:
        return run(path, *self.feeds)


class KerasMutants(Mutants[KerasSubject, Parts]):
    """See `Mutants`."""

    subject = KerasSubject
    memories = (None, None, 800)

    def makers(self) -> Mapping[str, tuple[Maker[KerasSubject, Parts], int]]:
        return {
            "records": (self._record, 6),
            "another's conversion": (self.another, 6),
            "another method": (self.method, 3),
            "not converted": (self.unconverted, 2),
            **{
                name: (partial(_by_family, family), weight)
                for name, (family, weight) in FAMILIES.items()
            },
        }

    def model(self, random: Random) -> Path:
        """In either file format."""
        name = random.choice(sorted(SEEDS))
        suffix = ".keras" if name in ONLY_ZIP else random.choice([".keras", ".h5"])
        path = self._folder / f"{name}{suffix}"
        if not path.exists():
            with overheard():
                seed(name).save(path)
        return path

    def read(self, path: Path) -> Parts:
        return Parts.read(path)

    def write(self, content: Parts, path: Path) -> None:
        path.unlink(missing_ok=True)
        content.write(path)

    def replace(self, content: Parts, made: Parts) -> None:
        vars(content).update(vars(made))

    def record_of(self, content: Parts) -> str:
        return content.record

    def set_record(self, content: Parts, record: str) -> None:
        content.record = record

    def change(self, content: Parts, random: Random) -> str | None:
        return settings(content, random)

    def renumber(self, content: Parts, random: Random) -> str | None:
        return weights(content, random)

    def _record(self, subject: KerasSubject, parts: Parts, random: Random) -> str | None:
        what = self.record(subject, parts, random)
        return f"{what}; {weights(parts, random)}" if random.random() < 0.3 else what


def _by_family(
    family: Callable[[Parts, Random], str | None], _: KerasSubject, parts: Parts, random: Random
) -> str | None:
    return family(parts, random)
