"""The linear part of a convolution on a whole sample, there and back, without its matrix.

M, the matrix of `core.whole`, has a block of weights for each tap and each two places that meet
through it. Going by taps, x M is a patch matrix times the weights, and x M^T the same product,
transposed, added up where the patches came from. A transposed convolution is an ordinary one that
goes the other way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convfc.core.arrays import Array
from convfc.core.geometry import known_sizes
from convfc.core.transposed import TransposedConvolution
from convfc.core.whole import Whole

Doubles = NDArray[np.float64]

_AT_ONCE = 2**22
"""Numbers of the patch matrix that are there at a time."""


class LinearMap:
    """x M and y M^T in double precision, for x and y with channels last.

    Args:
        whole: the convolution on its sizes.
        kernel: of `AnyConvolution.kernel_shape`.

    Attributes:
        inputs: shape of x: (sizes.., channels).
        outputs: shape of y: (outputs.., filters).

    >>> from convfc.core.builders import convolution
    >>> whole = Whole(convolution([2], channels=1, filters=1), (3,))
    >>> map = LinearMap(whole, np.array([5, 7]).reshape(2, 1, 1))
    >>> map.forward(np.array([[1.0], [0], [0]])).ravel().tolist()
    [5.0, 0.0]
    >>> map.backward(np.array([[0.0], [1]])).ravel().tolist()
    [0.0, 5.0, 7.0]
    """

    def __init__(self, whole: Whole, kernel: Array) -> None:
        conv = whole.convolution
        groups, channels, filters = conv.groups, conv.channels, conv.filters
        self.inputs = (*known_sizes(whole.sizes), channels)
        self.outputs = (*known_sizes(whole.output), filters)
        self._swapped = isinstance(conv, TransposedConvolution)
        blocks = kernel.astype(np.float64).reshape(
            -1, channels // groups, groups, filters // groups
        )
        # (groups, taps, depth of what is gathered, depth of what is made)
        self._weights = blocks.transpose((2, 0, 3, 1) if self._swapped else (2, 0, 1, 3))
        self._groups = groups
        meetings = (_meetings(whole, taps) for taps in np.ndindex(*conv.kernel))
        self._places = [pair[::-1] if self._swapped else pair for pair in meetings]

    def forward(self, x: Doubles) -> Doubles:
        """What a sample makes: x M."""
        return (
            self._scattered(x, self.outputs) if self._swapped else self._gathered(x, self.outputs)
        )

    def backward(self, y: Doubles) -> Doubles:
        """What M^T makes of an output: y M^T."""
        way = self._gathered if self._swapped else self._scattered
        return way(y, self.inputs)

    def _gathered(self, x: Doubles, shape: Sequence[int]) -> Doubles:
        """Patches of x times the weights."""
        seen = self._in_groups(x)
        made: Array = np.zeros((self._groups, *shape[:-1], shape[-1] // self._groups))
        rows = made.reshape(self._groups, -1, made.shape[-1])
        for taps in self._blocks(made.shape[1:-1]):
            patches: Array = np.zeros((*made.shape[:-1], len(taps), seen.shape[-1]))
            for number, tap in enumerate(taps):
                there, here = self._places[tap]
                patches[(*here, number)] = seen[there]
            weights = self._weights[:, taps.start : taps.stop]
            columns = weights.reshape(self._groups, -1, weights.shape[-1])
            rows += patches.reshape(self._groups, -1, columns.shape[1]) @ columns
        return _whole_again(made)

    def _scattered(self, y: Doubles, shape: Sequence[int]) -> Doubles:
        """The way back of `_gathered`: products are added up where the patches come from."""
        given = self._in_groups(y)
        rows = given.reshape(self._groups, -1, given.shape[-1])
        made: Array = np.zeros((self._groups, *shape[:-1], shape[-1] // self._groups))
        for taps in self._blocks(given.shape[1:-1]):
            weights = self._weights[:, taps.start : taps.stop]
            columns = weights.reshape(self._groups, -1, weights.shape[-1])
            products = rows @ columns.swapaxes(1, 2)
            patches: Array = products.reshape(*given.shape[:-1], len(taps), made.shape[-1])
            for number, tap in enumerate(taps):
                there, here = self._places[tap]
                made[there] += patches[(*here, number)]
        return _whole_again(made)

    def _in_groups(self, x: Doubles) -> Array:
        """(places.., channels) to (groups, places.., channels of each)."""
        split = x.reshape(*x.shape[:-1], self._groups, x.shape[-1] // self._groups)
        return np.ascontiguousarray(np.moveaxis(split, -2, 0))

    def _blocks(self, positions: Sequence[int]) -> Iterator[range]:
        """Taps of which the patches are there at a time."""
        width = math.prod(positions) * self._groups * self._weights.shape[2]
        step = max(_AT_ONCE // width, 1)
        for first in range(0, len(self._places), step):
            yield range(first, min(first + step, len(self._places)))


_Index: TypeAlias = "tuple[Any, ...]"


def _meetings(whole: Whole, taps: Sequence[int]) -> tuple[_Index, _Index]:
    """The inputs and the outputs that meet through a tap, in all groups and over all axes."""
    pairs = [whole.pairs(axis, tap) for axis, tap in enumerate(taps)]
    seen, made = ((slice(None), *(_cut(pair[side]) for pair in pairs)) for side in (0, 1))
    return seen, made


def _cut(places: range) -> slice:
    return slice(places.start, places.stop, places.step) if places else slice(0, 0)


def _whole_again(x: Doubles) -> Doubles:
    """(groups, places.., channels of each) to (places.., channels)."""
    return np.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], -1)
