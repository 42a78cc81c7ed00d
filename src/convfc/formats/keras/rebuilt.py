"""A layer whose product was split in two, drawn beside the two convolutions that it becomes.

They are drawn without activations, which hide what is negative, or large: that both have the same
in the same place was found before (`factored`, `matching`). What is left is a polynomial.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import activations

from convfc.core.arrays import Array, exact_up_to
from convfc.formats.drawn import MOST, TOO_LONG, chance_of
from convfc.formats.keras.calls import Calls
from convfc.formats.keras.matching import Match
from convfc.formats.keras.quiet import overheard
from convfc.formats.keras.recovering import numbers_of
from convfc.formats.protocols import Site


class KerasRebuilt:
    """See `convfc.formats.reverted.Rebuilt` for the members.

    Args:
        match: the layer; its numbers can be had.
    """

    what = "its product is split"

    def __init__(self, match: Match) -> None:
        self.site: Site = match.site
        self._match = match

    @property
    def chance(self) -> float | None:
        """See `Rebuilt.chance`: of a product of what is fed with all kernels in a row."""
        return chance_of([2 * MOST + 1] * (1 + len(self._kernels)))

    @property
    def unshown(self) -> str | None:
        """See `Rebuilt.unshown`."""
        terms = [math.prod(kernel.shape[:-1]) * MOST + 1 for kernel in self._kernels]
        largest = math.prod(terms) * MOST
        return None if largest < exact_up_to(self.site.dtype) else TOO_LONG

    @property
    def _kernels(self) -> list[Any]:
        weights = [weight for part in self._match.parts for weight in part.layer.weights]
        return [weight for weight in weights if len(weight.shape) > 1]

    def draw(self, random: np.random.Generator, batch: int) -> tuple[Array, Array]:
        """See `Rebuilt.draw`; the weights are as before, then."""
        made, layer = self._match.made, self._match.layer
        stored = [np.asarray(weight) for weight in made.weights]

        def whole(shape: tuple[int, ...]) -> Array:
            return random.integers(-MOST, MOST + 1, shape).astype(self.site.dtype)

        shape = tuple(size or _OPEN for size in made.inputs[0].shape[1:])
        x = keras.ops.convert_to_tensor(whole((made.inputs[0].shape[0] or batch, *shape)))
        try:
            for weight in made.weights:
                weight.assign(whole(tuple(weight.shape)))
            numbers = numbers_of(self._match)
            assert not isinstance(numbers, str)  # noqa: S101 - each is laid out once
            for _, weight, array in numbers:
                weight.assign(array)
            with overheard(), _linear(layer), _linear(made):
                return np.asarray(Calls(layer)(x)), np.asarray(Calls(made)(x))
        finally:
            for weight, array in zip(made.weights, stored, strict=True):
                weight.assign(array)


_OPEN = 12
"""What stands for a size that is open."""


@contextmanager
def _linear(model: Any) -> Iterator[None]:
    """The layers of a model and of those in it, without their activations meanwhile."""
    found = [layer for layer in _layers(model) if hasattr(layer, "activation")]
    before = [layer.activation for layer in found]
    try:
        for layer in found:
            layer.activation = activations.linear
        yield
    finally:
        for layer, activation in zip(found, before, strict=True):
            layer.activation = activation


def _layers(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
