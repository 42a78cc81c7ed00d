"""What the proof draws: which shapes of input, and integers whose sums no runtime rounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from convfc.core.arrays import DIGITS, Array
from convfc.formats.demand import products_of, too_much
from convfc.formats.protocols import LayerPair

_LARGEST_INTEGER = 31
_WORTH = 10**11
"""Multiply-adds of all draws of a layer: about five seconds on two cores."""
_PER_PATCH_BYTE = 6
"""Multiply-adds that take as long as to write a byte of patches and to read it again."""
_MOST_REMAINDERS = 64
"""Sizes tried where they are open: they check the emitter, and are no proof by themselves."""


def runnable_part(pair: LayerPair, activations: Array | None) -> Array | None:
    """As many samples of the activations as can be run; a batch of a fixed size is taken whole.

    Args:
        pair: the layer.
        activations: what the original feeds it; ``None`` if that cannot be seen.
    """
    if activations is None or pair.input_shape[0] is not None:
        return activations
    while len(activations) > 1 and too_much(pair, activations.shape):
        activations = activations[: len(activations) // 2]
    return activations


def sample_shape(pair: LayerPair, activations: Array | None) -> tuple[int, ...]:
    """One sample of the layer's own sizes; where they are unknown, those of the activations.

    Args:
        pair: the layer.
        activations: as for `runnable_part`.
    """
    smallest = pair.smallest_shape
    seen = smallest if activations is None else activations.shape
    sizes = zip(pair.input_shape[1:], seen[1:], smallest[1:], strict=True)
    return (pair.input_shape[0] or 1, *(size or found or least for size, found, least in sizes))


def remainder_shapes(pair: LayerPair, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """More shapes for an input of unknown sizes: pads and crops depend on what strides leave over.

    A wrong one shows on almost any numbers, so one draw of each will do.

    Args:
        pair: the layer.
        shape: its `sample_shape`.
    """
    if None not in pair.input_shape[1:] or pair.site.convolution is None:
        return []
    strides = [window.stride for window in pair.site.convolution.windows]
    sizes = list(zip(pair.input_shape, shape, pair.smallest_shape, strict=True))[1:]
    return [
        (1, *(found if size is not None else least + step for size, found, least in sizes))
        for step in range(min(max(*strides, 2), _MOST_REMAINDERS))
    ]


def distribution(
    pair: LayerPair, dtype: str
) -> tuple[float | None, Callable[[str], tuple[int, int]]]:
    """How likely a wrong layer passes one draw, if that can be told, and the integers of a type.

    Args:
        pair: the layer.
        dtype: that its sums are made in.
    """
    degree = len(pair.stages) + 1
    if dtype in DIGITS:
        largest = _largest_exact(pair.stages, dtype)
        return degree / (2 * largest + 1), lambda _: (-largest, largest)

    def whole(name: str) -> tuple[int, int]:
        limits = np.iinfo(name)
        # A bias as large as its type allows would hide the sums behind the limits of 8 bits.
        most = 255 * max(pair.stages)
        return max(int(limits.min), -most), min(int(limits.max), most)

    low, high = whole(dtype)
    wraps = math.prod(pair.stages) * (high - low) ** degree >= 2**31
    return None if pair.rounds_to_integers or wraps else degree / (high - low + 1), whole


def draws_worth_waiting_for(pair: LayerPair, draws: int) -> int:
    """How many draws of a layer that is built as convfc builds it are run, of those wanted.

    Its structure proves such a layer, and draws check the runtime: of a layer whose run takes
    seconds, those that fit into some five, one at least. What they tell is said with them.

    Args:
        pair: the layer.
        draws: how many would make a miss as unlikely as elsewhere.
    """
    conv, sizes = pair.site.convolution, pair.site.sizes
    if conv is None or None in sizes:
        return draws
    framed, known = conv.framed(sizes)
    inner = framed.inner(known)
    entries = (inner.positions(known) or 0) * inner.taps * conv.channels
    effort = products_of(pair.site) + _PER_PATCH_BYTE * entries * pair.site.itemsize
    return max(min(draws, _WORTH // max(effort, 1)), 1)


def _largest_exact(stages: Sequence[int], dtype: str) -> int:
    """The largest integer from which sums of products, bias included, are exact in any order."""
    sums = math.prod(terms + 1 for terms in stages)
    limit = 2 ** DIGITS[dtype]
    fits = (r for r in range(_LARGEST_INTEGER, 0, -1) if sums * r ** (len(stages) + 1) <= limit)
    return next(fits, 0)
