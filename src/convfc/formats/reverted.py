"""The way back from converted layers to convolutions: what every format says of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import numpy as np

from convfc.core.arrays import Array
from convfc.core.lowering import Lowering
from convfc.formats.protocols import Site
from convfc.formats.reading import Reading
from convfc.refusals import Refusal


class Change(StrEnum):
    """What is no longer as it was when a layer was converted."""

    NOTHING = "nothing"
    NUMBERS = "numbers"
    FORM = "form"


@dataclass(frozen=True)
class WayBack:
    """One converted layer, and the convolution that it becomes again.

    Attributes:
        site: the convolution.
        lowering: how it was converted; ``None`` where that cannot be.
        change: what has changed in that, where there is a way back.
        refusal: why there is none, or ``None``.
    """

    site: Site
    lowering: Lowering | None
    change: Change = Change.NOTHING
    refusal: Refusal | None = None

    @property
    def reason(self) -> str | None:
        """Why there is no way back, in words; else ``None``."""
        return None if self.refusal is None else self.refusal.reason


class Rebuilt(Protocol):
    """A layer that comes back with something around its convolution, on both sides."""

    @property
    def site(self) -> Site:
        """The convolution."""

    @property
    def what(self) -> str:
        """How it is built otherwise than convfc builds it, in words."""

    @property
    def unshown(self) -> str | None:
        """Why draws cannot tell anything, or ``None``."""

    @property
    def chance(self) -> float | None:
        """How likely two functions that differ agree on a draw; ``None`` where nobody knows."""

    def draw(self, random: np.random.Generator, batch: int) -> tuple[Array, Array]:
        """What comes back and what the file has on random integers, with such for weights.

        Raises:
            UnsupportedModelError: one of them cannot be run.
        """


class Reverting(Protocol):
    """A converted file on its way back. Opening it reads it; only `save` writes."""

    @property
    def files(self) -> Sequence[Path]:
        """The file, and those beside it that hold weights of it."""

    @property
    def reading(self) -> Reading:
        """How what comes back is read, so that it takes rows where the file does."""

    @property
    def layers(self) -> Sequence[WayBack]:
        """Every converted layer, in the order of the record."""

    @property
    def rebuilt(self) -> Sequence[Rebuilt]:
        """Those of the layers that come back with something around their convolutions."""

    def save(self, path: Path, names: Collection[str], record: str) -> Sequence[str]:
        """Write a copy in which the named layers are convolutions.

        May be called once: it changes the model in memory.

        Args:
            path: where to write; files that the model needs beside it are written there too.
            names: of layers that have a way back.
            record: stored in the file.

        Returns:
            Remarks, a sentence each.

        Raises:
            OSError: the file cannot be written.
        """
