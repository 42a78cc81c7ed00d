"""What maps an image affinely: a convolution, a Dense, pooling, normalization, what moves numbers.

Of each it is known what it makes of a row in float64, and what Keras makes of an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from convfc.core.arrays import Array
from convfc.core.geometry import AnyConvolution, Convolution, Sizes, Window
from convfc.core.whole import Whole
from convfc.formats.keras.any_processor import compute_anywhere
from convfc.formats.keras.calls import Calls
from convfc.formats.keras.convolutions import own_kernel

Layer = Any
"""A `keras.Layer`; keras has no types."""
Shape = tuple[int, ...]
"""Sizes of a sample, in the model's own order of axes."""
Numbers = Mapping[str, Array]
"""What is multiplied and added, by name."""


@dataclass(frozen=True, eq=False)
class Product:
    """A convolution, or a Dense layer, which is one of a single tap.

    Attributes:
        name: of the layer.
        convolution: its geometry.
        before, after: sizes of a sample of input and output.
        channels_first: whether the channels are the first of these.
        kernel: as the layer has it.
        bias: likewise; ``None`` of none.
        stock: makes a layer of Keras, of some policy, that computes it, channels last; not built.
    """

    name: str
    convolution: AnyConvolution
    before: Shape
    after: Shape
    channels_first: bool
    kernel: Any
    bias: Any
    stock: Callable[[Any], Layer]
    stays = False

    @property
    def numbers(self) -> dict[str, Array]:
        """See `Numbers`."""
        found = {"kernel": np.asarray(self.kernel)}
        return found if self.bias is None else {**found, "bias": np.asarray(self.bias)}

    @property
    def terms(self) -> int:
        """How many products are summed for one number of the output."""
        return self.convolution.patch_length

    @property
    def whole(self) -> Whole:
        """It as one matrix."""
        sizes = self.before[1:] if self.channels_first else self.before[:-1]
        return Whole(self.convolution, sizes or (1,))

    def matrix(self, numbers: Numbers) -> Array:
        """The matrix alone."""
        kernel = own_kernel(numbers["kernel"], self.convolution)
        return self.whole.matrix(kernel, channels_first=self.channels_first)

    def rows(self, chosen: NDArray[np.int64], numbers: Numbers) -> Array:
        """Some rows of the matrix."""
        kernel = own_kernel(numbers["kernel"], self.convolution)
        return self.whole.rows(chosen, kernel, channels_first=self.channels_first)

    def applied(self, rows: Array, numbers: Numbers) -> Array:
        """What it makes of rows in float64, without the bias."""
        kernel = own_kernel(numbers["kernel"], self.convolution).astype(np.float64)
        return self.whole.applied(rows, kernel, channels_first=self.channels_first)

    def shift(self, numbers: Numbers) -> Array | None:
        """What it adds to a row."""
        if "bias" not in numbers:
            return None
        return self.whole.bias(numbers["bias"], channels_first=self.channels_first)

    def original(self, x: Array, numbers: Numbers, policy: Any) -> Array:
        """What Keras computes, of samples of its own shape, with such a policy."""
        layer = self.stock(policy)
        sizes = self.before
        if self.channels_first:
            x, sizes = np.moveaxis(x, 1, -1), (*sizes[1:], sizes[0])
        layer.build((None, *sizes))
        compute_anywhere(layer)
        for weight, value in zip(layer.weights, numbers.values(), strict=True):
            weight.assign(value.reshape(weight.shape))
        y: Array = np.asarray(keras.ops.convert_to_numpy(Calls(layer)(x)))
        return np.moveaxis(y, -1, 1) if self.channels_first else y


@dataclass(frozen=True, eq=False)
class Scale:
    """A product and a sum with numbers of their own for each channel, or each place.

    Attributes:
        name: of the layer.
        before: sizes of a sample, of input and output.
        numbers: "scale" and, if anything is added, "shift"; each as `before`, or 1 along an axis.
    """

    name: str
    before: Shape
    numbers: Numbers
    stays = False
    terms = 1

    @property
    def after(self) -> Shape:
        """Sizes of a sample of the output."""
        return self.before

    def along(self, axis: int) -> bool:
        """Whether its numbers are the same along all other axes of a sample."""
        ones = [{*one.shape[:axis], *one.shape[axis + 1 :]} for one in self.numbers.values()]
        return all(sizes <= {1} for sizes in ones)

    def applied(self, rows: Array, numbers: Numbers) -> Array:
        """See `Product.applied`."""
        return rows * self._spread(numbers["scale"])

    def shift(self, numbers: Numbers) -> Array | None:
        """See `Product.shift`."""
        return self._spread(numbers["shift"]) if "shift" in numbers else None

    def original(self, x: Array, numbers: Numbers, _: Any) -> Array:
        """See `Product.original`."""
        y: Array = x * numbers["scale"].astype(x.dtype)
        return y + numbers["shift"].astype(x.dtype) if "shift" in numbers else y

    def _spread(self, one: Array) -> Array:
        return np.broadcast_to(one.astype(np.float64), self.before).reshape(-1)


@dataclass(frozen=True, eq=False)
class Move:
    """Numbers that change places, of which some may be left out, repeated, or be zeros.

    Attributes:
        name: of the layer.
        before, after: sizes of a sample of input and output.
        index: for each place of the output, in a row, that of the input; -1 of a zero.
    """

    name: str
    before: Shape
    after: Shape
    index: NDArray[np.int64]
    terms = 0

    @property
    def numbers(self) -> Numbers:
        """None."""
        return {}

    @property
    def stays(self) -> bool:
        """Whether all is where it was, but for the axes."""
        return np.array_equal(self.index, np.arange(math.prod(self.before)))

    def applied(self, rows: Array, _: Numbers) -> Array:
        """See `Product.applied`."""
        found = rows[:, np.maximum(self.index, 0)]
        found[:, self.index < 0] = 0
        return found

    def shift(self, _: Numbers) -> Array | None:
        """See `Product.shift`."""
        return None

    def original(self, x: Array, numbers: Numbers, _: Any) -> Array:
        """See `Product.original`."""
        return self.applied(x.reshape(len(x), -1), numbers).reshape(len(x), *self.after)


Affine = Product | Scale | Move
"""One step of a run."""


def moved(layer: Layer, before: Shape) -> Move:
    """What a layer does that only moves numbers, seen from where they come out.

    Args:
        layer: of Keras, of a class that does no more than that.
        before: sizes of a sample of its input.
    """
    places = np.arange(1, math.prod(before) + 1, dtype=np.float64).reshape(1, *before)
    config = {**layer.get_config(), "dtype": "float64"}
    y = np.asarray(type(layer).from_config(config)(places))
    return Move(layer.name, before, y.shape[1:], y.reshape(-1).astype(np.int64) - 1)


def geometry_of(steps: Sequence[Affine]) -> tuple[AnyConvolution, Sizes, bool]:
    """What convolution a run of steps is, on which spatial sizes, and whether channels first.

    It has the window of its first product where what is around that only looks at one position
    and one channel, or at all channels. Else its window is the whole input, of which it makes
    one position.
    """
    first, *rest = [step for step in steps if not step.stays]
    if isinstance(first, Product) and len(first.before) > 1:
        filters, groups = first.convolution.filters, first.convolution.groups
        axis = 0 if first.channels_first else len(first.before) - 1
        for step in rest:
            if isinstance(step, Scale) and step.along(axis):
                continue
            if not isinstance(step, Product) or not _looks_at_one_position(step, first):
                break
            filters, groups = step.convolution.filters, 1
        else:
            kind = type(first.convolution)
            made: AnyConvolution = (
                kind(first.convolution.windows, first.convolution.channels, filters)
                if groups == 1
                else first.convolution
            )
            return made, first.whole.sizes, first.channels_first
    before, filters = steps[0].before, math.prod(steps[-1].after)
    sizes, channels = (before[:-1], before[-1]) if len(before) > 1 else (before, 1)
    windows = tuple(Window(size, stride=size) for size in sizes)
    return Convolution(windows, channels, filters), sizes, False


def fed_to(steps: Sequence[Affine]) -> Shape:
    """Sizes of a sample of what a run is fed, as its geometry has them.

    The model may have them otherwise: what only gives other axes is passed over there.
    """
    conv, sizes, first = geometry_of(steps)
    spatial = [size or 0 for size in sizes]
    return (conv.channels, *spatial) if first else (*spatial, conv.channels)


def _looks_at_one_position(step: Product, first: Product) -> bool:
    """Whether it is a convolution of all channels with a single tap, on the same axes."""
    conv, alike = step.convolution, step.channels_first == first.channels_first
    single = isinstance(conv, Convolution) and set(conv.windows) == {Window(1)}
    return single and alike and conv.groups == 1 and len(step.before) == len(first.before)
