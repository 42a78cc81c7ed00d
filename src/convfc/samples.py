"""Makes feeds for a model's inputs: MNIST or the user's samples, in the shapes it takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convfc.datafiles import LABEL_KEYS, Samples, load_samples
from convfc.errors import DataError
from convfc.filling import Slot, by, is_float

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from convfc.model import Port

__all__ = ["Feeds", "Samples", "load_samples", "make_feeds"]

# Where the model takes any batch: big enough to be quick, small enough for any machine.
BATCH_ROWS = 32
BATCH_BYTES = 64 * 2**20


@dataclass(frozen=True)
class _Array:
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
        return f"{slot.port.name} ({slot.port.dtype}): {self.origin}, {by(shape)}"


@dataclass
class _Images:
    """Images that an input is filled from, and what became known of the values meanwhile."""

    samples: Samples
    how: dict[str, None] = field(default_factory=dict)
    low: float = np.inf
    high: float = -np.inf

    def count(self, slot: Slot) -> int:
        """Return how many samples it holds; 1 if it goes with any number."""
        return 1 if slot.axis is None else len(self.samples.images)

    def take(self, slot: Slot, rows: range) -> NDArray[Any]:
        """Return the input's array for some samples."""
        array, how = slot.fill(self.samples.images, rows)
        self.how[how] = None
        self.low = min(self.low, float(array.min()))
        self.high = max(self.high, float(array.max()))
        return array

    def said(self, slot: Slot, rows: int) -> str:
        """Return a line about it."""
        used = min(rows, len(self.samples.images))
        line = f"{slot.port.name}: {used} {self.samples.source}, {' or '.join(self.how)}"
        shape = slot.shape(rows)
        return f"{line}, {by(shape)}, values {self.low:.3g}..{self.high:.3g}" if shape else line


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
        inputs: Mapping[str, tuple[Slot, _Array | _Images]],
        rows: int,
        batch: int | None,
        row_bytes: int,
        labels: NDArray[Any] | None,
    ) -> None:
        self._inputs = inputs
        self.rows = rows
        self.batch = batch
        self.labels = labels
        fed = sum(slot.row_bytes for slot, _ in inputs.values() if slot.axis is not None)
        self._row_bytes = max(row_bytes, fed, 1)
        self._fixed: dict[str, NDArray[Any]] = {}

    @property
    def axes(self) -> dict[str, int | None]:
        """The batch axis of each input; ``None``: the input is the same in every batch."""
        return {name: slot.axis for name, (slot, _) in self._inputs.items()}

    @property
    def rows_per_batch(self) -> int:
        """The number of samples in a batch; the last may have fewer if ``batch`` is ``None``."""
        return self.batch or min(BATCH_ROWS, max(BATCH_BYTES // self._row_bytes, 1))

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


def make_feeds(
    ports: Sequence[Port],
    *,
    data: str | Path = "mnist",
    samples: int = 100,
    shapes: Mapping[str, Sequence[int]] | None = None,
    inputs: Mapping[str, str | Path | float | NDArray[Any]] | None = None,
    row_bytes: int = 0,
) -> Feeds:
    """Make something to run a model on.

    Float inputs are filled from the images of ``data``: with rank 4 and more they are resized and
    spread over channels (and depth), below that their pixels follow one after another; a scalar
    is their mean. Integer and boolean inputs are zeros. An .npz whose arrays have the names of the
    inputs feeds them as they are.

    The batch is axis 0 of the main input (an image, else a float input of unknown batch or of the
    highest rank). An input whose axis 0 is fixed otherwise, such as a state, is fed the same block
    with every batch.

    Args:
        ports: the inputs of the model.
        data: what `load_samples` takes.
        samples: how many samples at most; rounded down to whole batches, but at least one, if the
            model's batch size is fixed.
        shapes: by input name, every size of an input, the batch first, where the model leaves
            sizes open. Otherwise: 64 for height and width, 16 for depth, 3 channels, 32 elsewhere.
        inputs: by input name, what to feed instead: an array, a number or boolean (or a text that
            reads as one) that fills the input, or a file: .npy, .npz with one array, IDX, image.
            Inputs of text take a text.
        row_bytes: the most that the model needs for a sample at once, so that a batch fits into
            memory; if the inputs take more, that counts.

    Raises:
        DataError: data that cannot be read or does not fit; an unknown name; an input of unknown
            rank without a shape; an input of text without a value.
    """
    shapes, inputs = shapes or {}, inputs or {}
    if samples < 1:
        raise DataError(f"{samples} samples: at least one is needed")
    for name in (*shapes, *inputs):
        if name not in [port.name for port in ports]:
            known = ", ".join(port.name for port in ports) or "none"
            raise DataError(f"the model has no input {name!r}; its inputs: {known}")

    slots = _slots(ports, shapes)
    batch = next((slot.sizes[0] for slot in slots if slot.axis == 0 and slot.sizes[0]), None)
    wanted = max(samples, batch or 1)

    contents = {
        slot.port.name: _given(slot, inputs[slot.port.name], wanted)
        for slot in slots
        if slot.port.name in inputs
    }
    labels = None
    if rest := [slot for slot in slots if slot.port.name not in inputs]:
        found, labels = _from_data(rest, data, wanted)
        contents |= found

    # One sample of an input goes with every sample of the others.
    counts = {contents[slot.port.name].count(slot) for slot in slots} - {1}
    rows = min(wanted, *counts) if counts else 1
    if batch:
        rows = max(rows // batch, 1) * batch
    if labels is not None:
        labels = labels[np.arange(rows) % len(labels)]
    filled = {slot.port.name: (slot, contents[slot.port.name]) for slot in slots}
    feeds = Feeds(filled, rows, batch, row_bytes, labels)
    next(feeds.batches())  # what does not fit should be told before anything runs
    return feeds


def _given(slot: Slot, value: str | Path | float | NDArray[Any], wanted: int) -> _Array | _Images:
    """What the caller feeds to one input."""
    if isinstance(value, str):
        value = _parsed(value, slot.port)
    if not isinstance(value, Path):
        array = np.asarray(value)
        origin = "as given" if array.ndim else f"{value} everywhere"
    else:
        samples = load_samples(value, wanted)
        if samples.images and not samples.arrays:
            return _Images(samples)
        if len(samples.arrays) != 1:
            raise DataError(
                f"{value}: holds {len(samples.arrays)} arrays; "
                f"input {slot.port.name!r} needs a file with one"
            )
        (array,) = samples.arrays.values()
        origin = f"from {value}"
    if array.ndim:
        slot.check(array)
    return _Array(array, origin)


def _parsed(text: str, port: Port) -> str | Path | float:
    """Read a text as a boolean or number; else it is a path, or text for an input that takes it."""
    if port.dtype == "string":
        return Path(text) if Path(text).is_file() else text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return float(text) if not text.lstrip("+-").isdecimal() else int(text)
    except ValueError:
        return Path(text)


def _from_data(
    slots: Sequence[Slot], data: str | Path, wanted: int
) -> tuple[dict[str, _Array | _Images], NDArray[Any] | None]:
    """What the data feed to inputs that the caller leaves to them, and the labels."""
    samples = load_samples(data, wanted)
    names = [slot.port.name for slot in slots]
    if all(name in samples.arrays for name in names):
        for slot in slots:
            slot.check(samples.arrays[slot.port.name])
        arrays = {name: _Array(samples.arrays[name], f"from {data}") for name in names}
        return dict(arrays), None if set(names) & set(LABEL_KEYS) else samples.labels

    contents: dict[str, _Array | _Images] = {}
    for name, port in ((slot.port.name, slot.port) for slot in slots):
        if port.dtype == "string":
            raise DataError(f"input {name!r} takes text: give it some with --input {name}=TEXT")
        if not is_float(port):
            contents[name] = _Array(np.zeros((), np.bool_), "zeros")
        elif samples.images:
            contents[name] = _Images(samples)
        else:
            raise DataError(
                f"{data}: needs an array x_test, x, images or data, or one for each input "
                f"({', '.join(names)}); it holds {', '.join(samples.arrays) or 'none'}"
            )
    follows = any(slot.axis == 0 and is_float(slot.port) for slot in slots)
    return contents, samples.labels if follows else None


def _slots(ports: Sequence[Port], shapes: Mapping[str, Sequence[int]]) -> list[Slot]:
    """The inputs with their sizes and batch axes."""
    sizes = {port.name: _sizes(port, shapes.get(port.name)) for port in ports}
    batched = [port for port in ports if sizes[port.name]]
    main = max(batched, key=lambda port: _claim(port, len(sizes[port.name])), default=None)
    batch = sizes[main.name][0] if main else None

    def axis(shape: tuple[int | None, ...]) -> int | None:
        if shape and shape[0] in (None, batch):
            return 0
        # The state of a recurrent network: (layers, batch, features).
        return 1 if len(shape) == 3 and shape[1] in (None, batch) else None

    return [Slot(port, sizes[port.name], axis(sizes[port.name])) for port in ports]


def _claim(port: Port, rank: int) -> tuple[bool, bool, bool, int]:
    """How much an input looks like the one whose axis 0 is the model's batch."""
    leaves_batch_open = port.shape is None or port.shape[0] is None
    return rank >= 4, is_float(port), leaves_batch_open, rank


def _sizes(port: Port, wanted: Sequence[int] | None) -> tuple[int | None, ...]:
    """The sizes of an input, those that the caller set included."""
    if wanted is None:
        if port.shape is None:
            raise DataError(
                f"input {port.name!r} has no known shape: give it one with --shape {port.name}=DIMS"
            )
        return port.shape
    known = port.shape if port.shape is not None else (None,) * len(wanted)
    fits = len(known) == len(wanted) and all(
        size > 0 and own in (None, size) for own, size in zip(known, wanted, strict=True)
    )
    if not fits:
        own = ", ".join("any" if size is None else str(size) for size in known)
        raise DataError(f"input {port.name!r} takes the shape ({own}), not {tuple(wanted)}")
    return tuple(wanted)


def _contiguous(array: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(array, order="C")
