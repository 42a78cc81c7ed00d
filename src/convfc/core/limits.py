"""What is too much: of a convolution for any file or runtime, of patches for one block."""

from __future__ import annotations

import itertools
import math

from convfc.core.geometry import AnyConvolution, Sizes
from convfc.refusals import Code, Refusal

_MOST_REMAINDERS = 2**16
"""Rows of a table of pads: 1 MB in the file."""
_MOST_PHASES = 2**14
"""Filters that a transposed convolution may take for each of its own."""
_LARGEST_GROWN, _MOST_GROWTH = 2**24, 8
"""Numbers of a filter matrix that has a column per phase: more only if the kernel has many."""
_LARGEST_TENSOR = 2**63 - 1
"""Bytes."""
_LARGEST_BLOCK = 2**28
"""Numbers of patches that are made at once at most, where nobody says; see `default_memory`."""


def excess_of(convolution: AnyConvolution, sizes: Sizes, itemsize: int) -> Refusal | None:
    """Which of its tensors no file or runtime holds, whatever the method; ``None``: none.

    Args:
        convolution: the geometry.
        sizes: spatial input sizes, ``None`` where unknown.
        itemsize: bytes of a number, times the samples if it is known how many there are.

    Raises:
        GeometryError: the window does not fit the sizes.

    >>> from convfc.core.builders import convolution
    >>> excess_of(convolution([3], channels=1, filters=1), (2**62,), itemsize=4).reason
    'it has tensors of more bytes than 64 bits can count'
    """
    framed, known = convolution.framed(sizes)
    inner = framed.inner(known)
    phases = math.prod(convolution.phases)
    grown = inner.weights > max(_LARGEST_GROWN, _MOST_GROWTH * convolution.weights)
    if grown or phases > _MOST_PHASES:
        return Refusal(
            f"its strides make {phases:,} filters of each, and its filter matrix would hold "
            f"{inner.weights:,} numbers",
            Code.LAYER_TOO_LARGE,
        )
    axes = list(zip(inner.windows, known, strict=True))
    rows = sum(w.stride for w, size in axes if w.pads(size) is None)
    if rows > _MOST_REMAINDERS:
        why = f"its padding, of an unknown size, would need a table of {rows:,} rows"
        return Refusal(why, Code.OPEN_SIZE)
    pads = inner.pads(known) or ()
    padded = [size + sum(pad) for size, pad in zip(known, pads, strict=False) if size is not None]
    made = [size for size in convolution.output(sizes) if size is not None]
    rows = math.prod(size for size in inner.output(known) if size is not None)
    numbers = max(
        math.prod(padded) * inner.channels,
        math.prod(made) * convolution.filters,
        rows * inner.filters,
        min(rows * inner.taps * inner.channels, _LARGEST_BLOCK),
        *(inner.weights, sum(map(abs, itertools.chain(*pads)))),
        *(window.extent + window.stride for window in convolution.windows),
    )
    if numbers * itemsize > _LARGEST_TENSOR:
        why = "it has tensors of more bytes than 64 bits can count"
        return Refusal(why, Code.LAYER_TOO_LARGE)
    return None


_BLOCK = 2**22
"""Bytes of patches that are made at once: 4 MiB, which stay in a cache until they are used."""
_MOST_AT_ONCE = 2**28
"""The same for what would be cut into too many pieces."""
_MANY_BLOCKS = 64


def default_memory(patch_bytes: int) -> int:
    """Bytes that patches may take at once, where nobody says.

    4 MiB, so that the product finds them in a cache; but twice that is not worth a cut. What would
    make more than 64 blocks, each some nodes in the graph, may take more, up to 256 MiB.

    >>> [default_memory(2**20 * mebibytes) // 2**20 for mebibytes in (1, 8, 9, 1024)]
    [8, 8, 4, 16]
    """
    if patch_bytes <= 2 * _BLOCK:
        return 2 * _BLOCK
    return min(max(_BLOCK, patch_bytes // _MANY_BLOCKS), _MOST_AT_ONCE)
