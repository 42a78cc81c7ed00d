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
LARGEST_INDEX_MAP = 2**22
"""Entries of an index map that one may ask for: 16 MB in the file, more than most nets weigh."""
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


_MOST_SHARED = 2**20
"""Bytes of a filter matrix that each band reads again, and of which runtimes keep copies."""
_BANDS, _BANDED = 4, 3 * 2**19
"""How many bands there are where a size is unknown, and from which bytes of patches on."""


def block_of(
    patch_bytes: int, outputs: Sizes, copies: int = 1, memory: int | None = None
) -> tuple[int, ...]:
    """Positions whose patches may exist at once, see `core.lowering.Lowering.block`.

    Args:
        patch_bytes: of all patches.
        outputs: sizes of the output.
        copies: how many there are of each patch, where nobody says how much memory they may take.
        memory: that they may take; see `default_memory`.

    >>> block_of(120, (6, 5), memory=20), block_of(120, (6, 5), memory=8)
    ((1,), (1, 2))
    """
    if memory is None:
        memory = default_memory(copies * patch_bytes) // copies
    block: list[int] = []
    for output in outputs:
        if patch_bytes <= memory or output is None:
            break
        patch_bytes //= output
        pieces = -(-output // max(memory // patch_bytes, 1))
        block.append(-(-output // pieces))  # all alike, not one small piece at the end
    return tuple(block)


def bands_of(patch_bytes: int, filter_bytes: int, memory: int | None) -> int:
    """In how many bands a layer is computed of which the first size is unknown.

    Args:
        patch_bytes: what is made at once, if unknown sizes are some size.
        filter_bytes: of the filter matrix.
        memory: that patches may take, if somebody says.

    >>> bands_of(2**23, 2**16, None), bands_of(2**23, 2**16, 2**24), bands_of(2**23, 2**23, None)
    (4, 1, 1)
    """
    much = patch_bytes > (_BANDED if memory is None else memory)
    return _BANDS if much and filter_bytes <= _MOST_SHARED else 1


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
