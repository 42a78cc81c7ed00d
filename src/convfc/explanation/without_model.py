"""An explanation of a geometry alone, on a sample or on numbers that are given."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from convfc import arguments
from convfc.core.arrays import Array
from convfc.core.geometry import Convolution
from convfc.errors import UsageError
from convfc.explanation.numbers import Explanation, explanation
from convfc.explanation.sources import require_small, sample_index, sample_said
from convfc.formats.protocols import Port
from convfc.samples.feeds import make_feeds
from convfc.system.surroundings import undisturbed


@undisturbed()
def explain_convolution(
    convolution: Convolution,
    sizes: Sequence[int],
    *,
    x: ArrayLike | None = None,
    kernel: ArrayLike | None = None,
    sample: int | None = None,
    digit: int | None = None,
    data: str | Path = "mnist",
    batch: int = 1,
) -> Explanation:
    """Explain a convolution without a model, on numbers that are given or on a sample.

    Args:
        convolution: the geometry.
        sizes: spatial input sizes.
        x: the image, (sizes.., channels), or (sizes..) if it has one channel; a sample if left out.
        kernel: its filters, of `kernel_shape`, or (k..) if there is one on one channel; cosine
            patterns if left out.
        sample: which sample of `data` to take, from 0; it is resized to `sizes`.
        digit: instead, the first sample with this label.
        data: what `load_samples` takes.
        batch: how many samples, from that one on; see `Explanation.batch`.

    Raises:
        UsageError: both a sample and a digit, or one of them beside `x`; arrays that do not fit.
        UnsupportedModelError: too many numbers.
        GeometryError: the window does not fit the sizes.
        DataError: the samples cannot be read or hold no such one.
    """
    arguments.sampling(data, sample, digit)
    batch = arguments.whole("batch", batch, 1)
    if not isinstance(convolution, Convolution):
        raise arguments.wrong("convolution", convolution, "a Convolution, as of convfc.convolution")
    sizes = arguments.wholes("sizes", sizes)
    convolution.output(sizes)
    require_small(convolution, sizes, batch, "the convolution")
    if kernel is None:
        filters, how = _cosines(convolution), "cosine patterns, as no model gives any"
    else:
        filters, how = _given("kernel", kernel, convolution.kernel_shape), "as given"
    if x is None:
        index = sample_index(data, sample, digit)
        port = Port("image", (None, *sizes, convolution.channels), "float32", channels_last=True)
        feeds = make_feeds([port], data=data, samples=index + batch)
        fed = [
            (feed["image"][place : place + 1], sample_said(feeds, number))
            for number in range(index, index + batch)
            for feed, place in [feeds.batch_of(number)]
        ]
    elif (sample, digit, batch) != (None, None, 1):
        raise UsageError("sample, digit and batch say what to take of data: give them or x")
    else:
        fed = [(_given("x", x, (*sizes, convolution.channels))[None], "the numbers given")]
    dtype = np.result_type(fed[0][0], filters)
    if dtype.kind == "i" and _sums(fed[0][0], filters) > _EXACT:
        dtype = np.dtype(np.float64)
    filters = filters.astype(dtype)
    first, *others = [
        explanation(
            "",
            convolution,
            image.astype(dtype),
            filters,
            None,
            f"{said}; the filters are {how}",
            dtype=dtype.name,
        )
        for image, said in fed
    ]
    return replace(first, others=tuple(others))


_EXACT = 2**53
"""Up to here, double precision holds every integer."""


def _given(name: str, values: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Numbers of a caller: integers, or real numbers in float32 or float64.

    Args:
        name: of the argument.
        values: what was given for it.
        shape: that it should have, or the same without its last axes of size 1.

    Raises:
        UsageError: no numbers, or another shape.
    """
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.array("")  # rows of different lengths
    rank = len(shape)
    while rank and shape[rank - 1] == 1 and rank > array.ndim:
        rank -= 1
    if array.dtype.kind not in "iuf" or array.shape != shape[:rank]:
        raise arguments.wrong(name, values, f"numbers of shape {shape}")
    if array.dtype.kind in "iu" and float(np.abs(array.astype(np.float64)).max(initial=0)) < _EXACT:
        return array.astype(np.int64).reshape(shape)
    wide = np.float64 if array.dtype.itemsize > 4 else np.float32
    return array.astype(wide).reshape(shape)


def _sums(x: Array, kernel: Array) -> float:
    """No sum of products is larger."""
    return float(np.abs(x).max(initial=0)) * float(np.abs(kernel).sum())


def _cosines(conv: Convolution) -> Array:
    """Filters of waves, from flat to ever more of them along either axis."""
    grids = np.meshgrid(*((np.arange(size) + 0.5) / size for size in conv.kernel), indexing="ij")
    patterns = [
        np.prod([np.cos(np.pi * n * grid) for n, grid in zip(wave, grids, strict=True)], axis=0)
        for wave in itertools.islice(_waves(conv.rank), conv.filters)
    ]
    kernel = np.stack(patterns, axis=-1)[..., None, :] / conv.patch_length
    return np.broadcast_to(kernel, conv.kernel_shape).astype(np.float32)


def _waves(rank: int) -> Iterator[tuple[int, ...]]:
    """How many half waves along each axis, the fewest first."""
    for count in itertools.count():
        yield from _shared(count, rank)


def _shared(count: int, rank: int) -> Iterator[tuple[int, ...]]:
    """All ways to share out so many over some axes."""
    if rank == 1:
        yield (count,)
        return
    for first in range(count + 1):
        yield from ((first, *rest) for rest in _shared(count - first, rank - 1))
