"""`Feeds`: every input of a model and what fills it, cut into batches as these are asked for."""

from __future__ import annotations

import math
import re
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from convfc.errors import DataError
from convfc.refusals import Code
from convfc.samples.files import Images, Samples
from convfc.samples.pixels import AS_THEY_ARE, Pixels
from convfc.samples.slots import Slot
from convfc.system.capacity import excess
from convfc.text.sizes import sizes_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

# Where the model takes any batch: big enough to be quick, small enough for any machine.
BATCH_ROWS = 32
BATCH_BYTES = 64 * 2**20

_ASIDE = 7
"""Pixels between what two inputs are fed where there is one image for both."""
ZEROS = "zeros"
_MAKING = 24
"""Bytes for each number that is fed, while it is made: copies in double and in its own type."""


@dataclass(frozen=True)
class Given:
    """An array for an input, or a scalar that fills it."""

    array: NDArray[Any]
    origin: str

    def count(self, slot: Slot) -> int:
        """Return how many samples it holds; 1 if it goes with any number."""
        return 1 if slot.axis is None or not self.array.ndim else self.array.shape[slot.axis]

    def take(self, slot: Slot, rows: range) -> NDArray[Any]:
        """Return the input's array for some samples."""
        return slot.repeat(self.array, rows)

    def said(self, slot: Slot, rows: int) -> str:
        """Return a line about it."""
        shape = list(self.array.shape or slot.shape(rows))
        if slot.axis is not None:
            shape[slot.axis] = rows
        return (
            f"{slot.port.name} ({slot.port.dtype}): {self.origin}, {sizes_text(shape) or 'scalar'}"
        )


@dataclass
class FromImages:
    """Images that an input is filled from, and what became known of the values meanwhile.

    Attributes:
        samples: where the images come from.
        start: which of them is in the first sample: each input has its own.
        pixels: what is made of them.
    """

    samples: Samples
    start: int = 0
    pixels: Pixels = AS_THEY_ARE
    how: dict[str, None] = field(default_factory=dict)
    low: float = np.inf
    high: float = -np.inf

    @property
    def numbers(self) -> int:
        """How many numbers an image has: the first."""
        return self.samples.images[0].size

    def count(self, slot: Slot) -> int:
        """Return how many samples it holds; 1 if it goes with any number."""
        return 1 if slot.axis is None else len(self.samples.images)

    def take(self, slot: Slot, rows: range) -> NDArray[Any]:
        """Return the input's array for some samples."""
        array, how = slot.fill(_shifted(self.samples.images, self.start), rows, self.pixels)
        self.how[how] = None
        self.low = min(self.low, float(array.min()))
        self.high = max(self.high, float(array.max()))
        return array

    def said(self, slot: Slot, rows: int) -> str:
        """Return a line about it."""
        used = min(rows, len(self.samples.images))
        first = f" from number {self.start} on" if self.start else ""
        how = " or ".join(_of_several_sizes(self.how))
        source = self.samples.source
        if used == 1:
            source = re.sub(r"\b(image|sample)s\b", r"\1", source, count=1)
        line = f"{slot.port.name}: {used} {source}{first}, {how}"
        shape = slot.shape(rows)
        return (
            f"{line}, {sizes_text(shape)}, values {self.low:.3g}..{self.high:.3g}"
            if shape
            else line
        )


def _of_several_sizes(ways: Iterable[str]) -> Iterator[str]:
    """What was made of images, those that differ in the first word alone as one: their sizes.

    >>> [*_of_several_sizes(["8x9 -> 4x4 on 1 channel", "9x9 -> 4x4 on 1 channel", "as they are"])]
    ['several sizes -> 4x4 on 1 channel', 'as they are']
    """
    firsts: dict[str, list[str]] = {}
    for way in ways:
        first, _, rest = way.partition(" ")
        firsts.setdefault(rest, []).append(first)
    for rest, words in firsts.items():
        yield f"{words[0] if len(words) == 1 else 'several sizes'} {rest}"


class Feeds:
    """What to run a model on; samples are read and shaped when their batch is asked for.

    Attributes:
        rows: the number of samples.
        batch: the batch size that the model insists on; ``None`` if it takes any.
        labels: (rows,) integers, the classes of the samples, if they are known.

    Args:
        inputs: every input and what fills it, by its name.
        rows: see above.
        batch: see above.
        row_bytes: the most that the model needs for a sample at once; if the inputs take more,
            that counts.
        labels: see above.
    """

    def __init__(
        self,
        inputs: Mapping[str, tuple[Slot, Given | FromImages]],
        rows: int,
        batch: int | None,
        row_bytes: int,
        labels: NDArray[Any] | None = None,
    ) -> None:
        self._inputs = inputs
        self.rows = rows
        self.batch = batch
        self.labels = labels
        fed = sum(slot.row_bytes for slot, _ in inputs.values() if slot.axis is not None)
        self._row_bytes = max(row_bytes, fed, 1)
        self._fixed: dict[str, NDArray[Any]] = {}
        self._most = BATCH_ROWS

    def limited(self, rows: int) -> Feeds:
        """The first samples only: no more than that, in whole batches, but at least one batch."""
        fewer = copy(self)
        fewer.rows = min(max(rows // (self.batch or 1), 1) * (self.batch or 1), self.rows)
        fewer.labels = None if self.labels is None else self.labels[: fewer.rows]
        fewer._fixed = {}
        return fewer

    def singly(self) -> Feeds:
        """The same samples, each in a batch of its own unless the model insists on others."""
        single = copy(self)
        single._most = 1
        return single

    @property
    def remedies(self) -> str:
        """The options that feed a model what it may want instead; empty if all is fixed."""
        options = [
            f"--shape {slot.port.name}=DIMS"
            for slot, content in self._inputs.values()
            if isinstance(content, FromImages) and slot.is_open
        ]
        options += [
            f"--input {name}=VALUE"
            for name, (_, content) in self._inputs.items()
            if isinstance(content, Given) and content.origin == ZEROS
        ]
        return " ".join(options)

    @property
    def row_numbers(self) -> int:
        """How many numbers a sample has, all inputs together."""
        return sum(math.prod(slot.shape(1)) for slot, _ in self._inputs.values())

    @property
    def axes(self) -> dict[str, int | None]:
        """The batch axis of each input; ``None``: the input is the same in every batch."""
        return {name: slot.axis for name, (slot, _) in self._inputs.items()}

    @property
    def rows_per_batch(self) -> int:
        """The number of samples in a batch; the last may have fewer if ``batch`` is ``None``."""
        return self.batch or min(self._most, max(BATCH_BYTES // self._row_bytes, 1))

    def check(self) -> None:
        """See that a batch fits into memory, before it is made.

        Raises:
            DataError: it does not.
        """
        rows = self.rows_per_batch
        counts = {}
        for own, (slot, content) in self._inputs.items():
            shape = slot.shape(self.rows if slot.axis is None else rows)
            images = content.numbers * shape[0] if shape and isinstance(content, FromImages) else 0
            counts[own] = math.prod(shape) + images
        why = excess(sum(counts.values()) * _MAKING)
        if why is not None:
            largest = max(counts, key=lambda own: counts[own])
            fed = sizes_text(self._inputs[largest][0].shape(rows))
            remedy = f"; other sizes may do: {self.remedies}" if self.remedies else ""
            raise DataError(f"input {largest!r} would be fed {fed}, and {why}{remedy}")

    @property
    def said(self) -> tuple[str, ...]:
        """One line for each input that says what it is fed, values as seen so far."""
        return tuple(content.said(slot, self.rows) for slot, content in self._inputs.values())

    def batches(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Cut the samples, in order, into feeds of a size that the model and the memory take.

        Raises:
            DataError: samples that cannot be read, or do not fit.
        """
        for start in range(0, self.rows, self.rows_per_batch):
            yield self.take(range(start, min(start + self.rows_per_batch, self.rows)))

    def few(self, count: int) -> tuple[dict[str, NDArray[Any]], int]:
        """The first samples as one feed, and how many there are in it.

        Args:
            count: how many at most, unless the model insists on more.
        """
        rows = self.batch or min(count, self.rows_per_batch, self.rows)
        return self.take(range(rows)), rows

    def batch_of(self, sample: int) -> tuple[dict[str, NDArray[Any]], int]:
        """The smallest feed that a sample is in, and its place there.

        Args:
            sample: its number, from 0.

        Raises:
            DataError: there is no such sample; or it cannot be read, or does not fit.
        """
        if self.rows <= sample:
            raise DataError(
                f"sample {sample}: there are only {self.rows}, the first is 0", code=Code.SAMPLES
            )
        rows = self.batch or 1
        first = sample - sample % rows
        return self.take(range(first, first + rows)), sample - first

    def take(self, rows: range) -> dict[str, NDArray[Any]]:
        """One feed of some samples."""
        return {
            name: self._same(name) if slot.axis is None else _contiguous(content.take(slot, rows))
            for name, (slot, content) in self._inputs.items()
        }

    def _same(self, name: str) -> NDArray[Any]:
        """What an input is fed in every batch."""
        if name not in self._fixed:
            slot, content = self._inputs[name]
            self._fixed[name] = _contiguous(content.take(slot, range(self.rows)))
        return self._fixed[name]


def _shifted(images: Images, start: int) -> Images:
    """The images from another one on; what would come again is moved a little to the side."""

    def read(number: int) -> NDArray[Any]:
        rounds, place = divmod(number + start, len(images))
        return np.roll(images[place], rounds * _ASIDE)

    return Images(range(len(images)), read) if start else images


def _contiguous(array: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(array, order="C")
