"""Makes the `Feeds` of a model: MNIST or the user's samples, in the shapes that it takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convfc.errors import DataError
from convfc.samples.batches import ZEROS, Feeds, FromImages, Given
from convfc.samples.fed_shapes import make_slots, tied
from convfc.samples.files import LABEL_KEYS, Samples, load_samples
from convfc.samples.pixels import AS_THEY_ARE, Pixels
from convfc.samples.slots import Slot, is_float

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from convfc.formats.protocols import Port

__all__ = ["Feeds", "Samples", "load_samples", "make_feeds"]


def make_feeds(
    ports: Sequence[Port],
    *,
    data: str | Path = "mnist",
    samples: int = 100,
    shapes: Mapping[str, Sequence[int]] | None = None,
    inputs: Mapping[str, str | Path | float | NDArray[Any]] | None = None,
    row_bytes: int = 0,
    pixels: Pixels = AS_THEY_ARE,
) -> Feeds:
    """Make something to run a model on.

    Inputs of floats, and of 8-bit integers and booleans with an axis behind the batch, are filled
    from the images of ``data``: with rank 4 and more they are resized and spread over channels
    (and depth), below that their pixels follow one after another; a scalar is the mean of one.
    The second input starts at the second image, and so on: what is computed from several inputs
    must show. Other integers and booleans, often indices or switches, are zeros. An .npz whose
    arrays have the names of the inputs feeds them as they are.

    The batch is axis 0 of the main input (an image, else a float input of unknown batch or of the
    highest rank). An input whose axis 0 is fixed otherwise, such as a state, is fed the same block
    with every batch. Open axes of one name have one size.

    Args:
        ports: the inputs of the model.
        data: what `load_samples` takes.
        samples: how many samples at most; rounded down to whole batches, but at least one, if the
            model's batch size is fixed.
        shapes: by input name, every size of an input, the batch first, where the model leaves
            sizes open. Otherwise: 64 for height and width, 16 for depth, 3 channels, 32 elsewhere;
            where a name says that several are equal, the largest of these.
        inputs: by input name, what to feed instead: an array, a number or boolean (or a text that
            reads as one) that fills the input, or a file: .npy, .npz with one array, IDX, image.
            Inputs of text take a text.
        row_bytes: the most that the model needs for a sample at once, so that a batch fits into
            memory; if the inputs take more, that counts.
        pixels: what is made of those of images, where inputs take real numbers. What is fed as it
            is, such as an array with the name of an input, stays so.

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

    slots = make_slots(ports, shapes)
    batch = next((slot.sizes[0] for slot in slots if slot.axis == 0 and slot.sizes[0]), None)
    wanted = max(samples, batch or 1)

    contents = {
        slot.port.name: _given(slot, inputs[slot.port.name], wanted, pixels)
        for slot in slots
        if slot.port.name in inputs
    }
    labels = None
    if rest := [slot for slot in slots if slot.port.name not in inputs]:
        found, labels = _from_data(rest, data, wanted, pixels)
        contents |= found

    fed = [s for s in slots if isinstance(contents[s.port.name], FromImages) and is_float(s.port)]
    if pixels.changes and not fed:
        raise DataError("--scale, --mean and --std: no input of real numbers is fed images")

    # One sample of an input goes with every sample of the others.
    counts = {contents[slot.port.name].count(slot) for slot in slots} - {1}
    rows = min(wanted, *counts) if counts else 1
    if batch:
        rows = max(rows // batch, 1) * batch
    arrays = {name: x.array.shape for name, x in contents.items() if isinstance(x, Given)}
    slots = tied(slots, {name: shape for name, shape in arrays.items() if shape})
    filled = {slot.port.name: (slot, contents[slot.port.name]) for slot in slots}
    feeds = Feeds(filled, rows, batch, row_bytes)
    feeds.check()
    if labels is not None:
        feeds.labels = labels[np.arange(rows) % len(labels)]
    next(feeds.batches())  # what does not fit should be told before anything runs
    return feeds


def _given(
    slot: Slot, value: str | Path | float | NDArray[Any], wanted: int, pixels: Pixels
) -> Given | FromImages:
    """What the caller feeds to one input."""
    if isinstance(value, str):
        value = _parsed(value, slot.port)
    if not isinstance(value, Path):
        array = np.asarray(value)
        origin = "as given" if array.ndim else f"{value} everywhere"
    else:
        samples = load_samples(value, wanted)
        if samples.images and not samples.arrays:
            return FromImages(samples, 0, pixels)
        if len(samples.arrays) != 1:
            raise DataError(
                f"{value}: holds {len(samples.arrays)} arrays; "
                f"input {slot.port.name!r} needs a file with one"
            )
        (array,) = samples.arrays.values()
        origin = f"from {value}"
    if array.ndim:
        slot.check(array)
    return Given(array, origin)


def _parsed(text: str, port: Port) -> str | Path | float:
    """Read a text as a boolean or number; else it is a path, or text for an input that takes it."""
    if port.dtype == "string":
        return Path(text) if os.path.isfile(text) else text  # noqa: PTH113 - of any length
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return float(text) if not text.lstrip("+-").isdecimal() else int(text)
    except ValueError:
        return Path(text)


def _from_data(
    slots: Sequence[Slot], data: str | Path, wanted: int, pixels: Pixels
) -> tuple[dict[str, Given | FromImages], NDArray[Any] | None]:
    """What the data feed to inputs that the caller leaves to them, and the labels."""
    # One more image for each input, so that no sample has the same one twice.
    samples = load_samples(data, wanted + len(slots) - 1)
    names = [slot.port.name for slot in slots]
    if all(name in samples.arrays for name in names):
        for slot in slots:
            slot.check(samples.arrays[slot.port.name])
        arrays = {name: Given(samples.arrays[name], f"from {data}") for name in names}
        return dict(arrays), None if set(names) & set(LABEL_KEYS) else samples.labels

    contents: dict[str, Given | FromImages] = {}
    filled = 0
    for slot, name in zip(slots, names, strict=True):
        if slot.port.dtype == "string":
            raise DataError(f"input {name!r} takes text: give it some with --input {name}=TEXT")
        if samples.images and slot.takes_pixels:
            contents[name] = FromImages(samples, filled, pixels)
            filled += 1
        elif not is_float(slot.port):
            contents[name] = Given(np.zeros((), np.bool_), ZEROS)
        else:
            raise DataError(
                f"{data}: needs an array x_test, x, images or data, or one for each input "
                f"({', '.join(names)}); it holds {', '.join(samples.arrays) or 'none'}"
            )
    follows = any(
        slot.axis == 0 and isinstance(contents[slot.port.name], FromImages) for slot in slots
    )
    return contents, samples.labels if follows else None
