"""A `Slot`: one input of a model, filled with images, pixels or an array, in its own type."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convfc.core.arrays import numpy_type
from convfc.errors import DataError
from convfc.samples.pixels import AS_THEY_ARE, Pixels
from convfc.text.sizes import sizes_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from convfc.formats.protocols import Port
    from convfc.samples.files import Images

# Sizes for axes that a model leaves open. 64 pixels survive the five or six halvings that
# segmentation and text networks do, and the skip connections of those meet again.
OPEN_SIDE = 64
OPEN_DEPTH = 16
OPEN_CHANNELS = 3
OPEN_STEPS = 32
CHANNEL_COUNTS = (1, 3, 4)

_PIXELS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "uint8": lambda values: np.rint(np.clip(values, 0, 1) * 255),
    "int8": lambda values: np.rint(np.clip(values, 0, 1) * 255) - 128,
    "bool": lambda values: values >= 0.5,
}
"""How types that hold no fractions hold a pixel of 0..1."""


@dataclass(frozen=True)
class Slot:
    """One input of a model, as it is going to be fed.

    Attributes:
        port: the input.
        sizes: its sizes, those that the user set included; ``None`` is still open.
        axis: the batch axis; ``None``: the input is the same in every batch.
        follows: other axes that are as long as the batch.
    """

    port: Port
    sizes: tuple[int | None, ...]
    axis: int | None
    follows: frozenset[int] = frozenset()

    def shape(self, rows: int) -> tuple[int, ...]:
        """Return the shape of a feed of so many samples, open sizes set to sensible ones."""
        return tuple(
            rows if axis == self.axis or axis in self.follows else size or self.open_size(axis)
            for axis, size in enumerate(self.sizes)
        )

    @property
    def row_bytes(self) -> int:
        """What one sample takes in memory."""
        itemsize = 8 if self.port.dtype == "string" else numpy_type(self.port.dtype).itemsize
        return math.prod(self.shape(1)) * itemsize

    @property
    def is_open(self) -> bool:
        """Whether the model leaves a size open that is not the batch's."""
        batch = {self.axis, *self.follows}
        shape = enumerate(self.port.shape or (None,) * len(self.sizes))
        return any(size is None and axis not in batch for axis, size in shape)

    @property
    def is_image(self) -> bool:
        """Whether it takes images or volumes: batch, channels and at least two spatial axes."""
        return len(self.sizes) >= 4

    @property
    def channel_axis(self) -> int:
        """Axis of the channels of an image: as the model says, else where 1, 3 or 4 stands."""
        last = len(self.sizes) - 1
        channels_last = self.port.channels_last
        if channels_last is None:
            first, final = (self.sizes[axis] in CHANNEL_COUNTS for axis in (1, last))
            channels_last = final and not first
        return last if channels_last else 1

    def open_size(self, axis: int) -> int:
        """Return a sensible size for an axis that the model leaves open."""
        if not self.is_image:
            return OPEN_STEPS
        if axis == self.channel_axis:
            return OPEN_CHANNELS
        spatial = [a for a in range(1, len(self.sizes)) if a != self.channel_axis]
        return OPEN_SIDE if axis in spatial[-2:] else OPEN_DEPTH

    @property
    def takes_pixels(self) -> bool:
        """Whether any pixel is a value of it: floats; what has 8 bits, unless it is a mere list.

        Wider integers are mostly indices, of which nobody knows how far they go.
        """
        return is_float(self.port) or (self.port.dtype in _PIXELS and len(self.sizes) >= 2)

    def repeat(self, array: NDArray[Any], rows: range) -> NDArray[Any]:
        """Return some samples of a given array, which starts again where it ends.

        Raises:
            DataError: the array has another shape than the input, or values that its type lacks.
        """
        if not array.ndim:
            return np.broadcast_to(cast(array, self.port), self.shape(len(rows)))
        self.check(array)
        for axis in () if self.axis is None else (self.axis, *self.follows):
            array = np.take(array, np.array(rows) % array.shape[axis], axis)
        return cast(array, self.port)

    def check(self, array: NDArray[Any]) -> None:
        """Raise a DataError if an array does not have the shape of the input."""
        fits = len(array.shape) == len(self.sizes) and all(
            axis == self.axis or axis in self.follows or size in (None, given)
            for axis, (size, given) in enumerate(zip(self.sizes, array.shape, strict=True))
        )
        if not fits or not array.size:
            sizes = (
                "any" if size is None or axis == self.axis else str(size)
                for axis, size in enumerate(self.sizes)
            )
            raise DataError(
                f"input {self.port.name!r} takes the shape ({', '.join(sizes)}), "
                f"but is given {array.shape}"
            )

    def fill(
        self, images: Images, rows: range, pixels: Pixels = AS_THEY_ARE
    ) -> tuple[NDArray[Any], str]:
        """Fill the input from images, the rank deciding how; see `make_feeds`.

        Args:
            images: the samples; they start again where they end.
            rows: which of them; all, where the input is the same for all.
            pixels: what is made of them where the input takes real numbers.

        Returns:
            The array, and how its values were made from the images.

        Raises:
            DataError: an input for images, and samples that are none; or `pixels` that are for
                other channels.
        """
        distinct = len(images)
        if self.axis is not None and len(rows) > distinct and not self.follows:
            once, said = self.fill(images, rows[:distinct], pixels)
            return np.take(once, np.arange(len(rows)) % distinct, self.axis), said
        shape = self.shape(len(rows))
        if not shape:
            mean = images[rows[0] % len(images)].mean()
            return cast(np.asarray(mean), self.port), f"the mean value {mean:.3g} of the first"
        used = [images[row % len(images)] for row in (rows if self.axis == 0 else range(shape[0]))]
        if self.axis != 1 and all(image.shape == shape[1:] for image in used):
            array, said = np.stack(used), "as they are"
        elif self.is_image:
            array, said = self._spread(used, shape)
        else:
            array, said = self._stream(images, rows, shape), "their values one after another"
        if is_float(self.port):
            axis = self.channel_axis if self.is_image else None
            array, said = pixels.fed(array, axis, self.port.name), f"{said}{pixels.said}"
        return cast(_PIXELS.get(self.port.dtype, np.asarray)(array), self.port), said

    def _stream(self, images: Images, rows: range, shape: tuple[int, ...]) -> NDArray[Any]:
        """Each sample from the values of its own image on."""
        if self.axis is None:
            return _stream(images, 0, shape)
        one = shape[: self.axis] + shape[self.axis + 1 :]
        return np.stack([_stream(images, row, one) for row in rows], self.axis)

    def _spread(
        self, images: Sequence[NDArray[Any]], shape: tuple[int, ...]
    ) -> tuple[NDArray[Any], str]:
        """Images resized to the last two spatial axes, repeated over channels and depth."""
        channels = shape[self.channel_axis]
        *depth, height, width = (
            size for axis, size in enumerate(shape) if axis not in (0, self.channel_axis)
        )
        planes = [_planes(image, channels, self.port.name) for image in images]
        found = {sizes_text(plane.shape[1:]) for plane in planes}
        size = found.pop() if len(found) == 1 else "several sizes"
        target = sizes_text((height, width))
        resized = [_resize(plane, height, width) for plane in planes]
        thickest = max(len(plane) for plane in resized)
        stack = np.stack([np.broadcast_to(p, (thickest, height, width)) for p in resized])
        stack = stack.reshape(len(stack), thickest, *(1 for _ in depth), height, width)
        array = np.broadcast_to(np.moveaxis(stack, 1, self.channel_axis), shape)
        said = size if size == target else f"{size} -> {target}"
        return array, f"{said} on {channels} channel{'s'[: channels > 1]}"


def is_float(port: Port) -> bool:
    """Whether an input takes floating point numbers of any width."""
    return port.dtype.startswith(("float", "bfloat"))


def cast(array: NDArray[Any], port: Port) -> NDArray[Any]:
    """Return the array in the input's type; floats may lose digits, all else must survive.

    Raises:
        DataError: a value that the type cannot hold.
    """
    if port.dtype == "string":
        return array.astype(np.str_).astype(object)
    dtype = numpy_type(port.dtype)
    # Fields, texts and integers of more than 64 bits are no numbers of any type here.
    with suppress(OverflowError, TypeError, ValueError):
        result = array.astype(dtype, copy=False)
        if is_float(port) and array.dtype.kind == "f":
            return result
        # The sign shows what wraps there and back again: -1 as uint64.
        back = result.astype(array.dtype, copy=False)
        if np.array_equal(back, array) and np.array_equal(result < 0, array < 0):
            return result
    raise DataError(
        f"input {port.name!r} takes {port.dtype}, which cannot hold the {array.dtype} values "
        "that it is given"
    )


def _planes(image: NDArray[Any], channels: int, name: str) -> NDArray[Any]:
    """An image as (C, H, W): its own channels if they are as many as asked for, else one grey."""
    if image.ndim == 2:
        image = image[None]
    elif image.ndim == 3 and image.shape[-1] in (*CHANNEL_COUNTS, channels):
        image = np.moveaxis(image, -1, 0)
    elif image.ndim != 3 or image.shape[0] not in (*CHANNEL_COUNTS, channels):
        raise DataError(f"input {name!r} takes images, but a sample has the shape {image.shape}")
    if len(image) == 4 and channels == 3:
        return image[:3]
    return image if len(image) == channels else image.mean(0, keepdims=True)


def _resize(planes: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    if planes.shape[1:] == (height, width):
        return planes
    from PIL import Image

    return np.stack(
        [
            np.asarray(
                Image.fromarray(np.ascontiguousarray(plane, np.float32)).resize(
                    (width, height), Image.Resampling.BILINEAR
                )
            )
            for plane in planes
        ]
    )


def _stream(images: Images, first: int, shape: Sequence[int]) -> NDArray[Any]:
    """The values of the images, from one of them on, one after another until the shape is full."""
    count = math.prod(shape)
    values = images[first % len(images)].ravel()
    if values.size > count:
        # From the middle: the margins of a digit are empty; or, as a zero is there, around its ink.
        spare = values.size - count
        middle = values[spare // 2 :]
        ink = min(max(int(values.argmax()) - count // 2, 0), spare)
        values = middle if middle[:count].any() else values[ink:]
    parts, size = [values], values.size
    for following in range(first + 1, first + len(images)):
        if size >= count:
            break
        parts.append(images[following % len(images)].ravel())
        size += parts[-1].size
    return np.resize(np.concatenate(parts), shape)
