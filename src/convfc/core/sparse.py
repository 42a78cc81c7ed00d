"""The matrix of a convolution on a whole sample with only the weights in it: compressed rows.

Of each input it has the outputs that see it, in order, and the weights: what scipy calls CSR. Its
arrays are what an .npz file of scipy has, which takes no scipy to write.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convfc.core.arrays import Array
from convfc.core.geometry import known_sizes
from convfc.core.whole import Whole


@dataclass(frozen=True)
class SparseMatrix:
    """A matrix as compressed rows.

    `scipy.sparse.csr_matrix((m.data, m.indices, m.indptr), m.shape)` is the same in scipy.

    Attributes:
        data: the weights, row after row.
        indices: the column of each.
        indptr: where each row starts in them, and the end of the last one.
        shape: rows and columns.
    """

    data: Array
    indices: NDArray[np.integer]
    indptr: NDArray[np.integer]
    shape: tuple[int, int]

    def dense(self) -> Array:
        """The same with all zeros."""
        found = np.zeros(self.shape, self.data.dtype)
        rows = np.repeat(np.arange(self.shape[0]), np.diff(self.indptr))
        found[rows, self.indices] = self.data
        return found

    def arrays(self) -> dict[str, Array]:
        """What an .npz file has of it, as `scipy.sparse.save_npz` writes it."""
        return {
            "format": np.array(b"csr"),
            "shape": np.array(self.shape),
            "data": self.data,
            "indices": self.indices,
            "indptr": self.indptr,
        }


def sparse_matrix(whole: Whole, kernel: Array, *, channels_first: bool) -> SparseMatrix:
    """What `Whole.matrix` makes of a kernel, without the zeros around the weights.

    Args:
        whole: the convolution on its sizes.
        kernel: of `AnyConvolution.kernel_shape`; its own zeros stay.
        channels_first: as for `Whole.matrix`.

    >>> from convfc.core.builders import convolution
    >>> whole = Whole(convolution([2], channels=1, filters=1, padding=[(1, 0)]), (3,))
    >>> found = sparse_matrix(whole, np.array([5, 7]).reshape(2, 1, 1), channels_first=True)
    >>> found.data.tolist(), found.indices.tolist(), found.indptr.tolist()
    ([7, 5, 7, 5, 7], [0, 1, 1, 2, 2], [0, 2, 4, 5])
    """
    conv = whole.convolution
    pixel, position, tap = _meetings(whole)
    pixels, positions = (math.prod(known_sizes(of)) for of in (whole.sizes, whole.output))
    each, depth = conv.filters // conv.groups, conv.channels // conv.groups
    counts = np.bincount(pixel, minlength=pixels)
    within = np.arange(len(pixel)) - np.repeat(np.cumsum(counts) - counts, counts)
    lengths = np.tile(counts, conv.channels) if channels_first else counts.repeat(conv.channels)
    starts = np.concatenate([[0], np.cumsum(lengths * each)])
    places = np.int32 if max(starts[-1], *whole.shape) < np.iinfo(np.int32).max else np.int64
    data = np.empty(starts[-1], kernel.dtype)
    indices = np.empty(starts[-1], places)
    taps = kernel.reshape(conv.taps, depth, conv.groups, each)
    number = np.arange(each)
    for channel in range(conv.channels):
        group, inner = divmod(channel, depth)
        filters = group * each + number
        if channels_first:
            to = starts[channel * pixels + pixel][:, None] + within[:, None]
            to = to + counts[pixel][:, None] * number
            indices[to] = filters * positions + position[:, None]
        else:
            to = (starts[pixel * conv.channels + channel] + within * each)[:, None] + number
            indices[to] = position[:, None] * conv.filters + filters
        data[to] = taps[tap, inner, group]
    return SparseMatrix(data, indices, starts.astype(places), whole.shape)


_Indices = NDArray[np.int64]


def _meetings(whole: Whole) -> tuple[_Indices, _Indices, _Indices]:
    """Pixels, positions and taps that meet, each as one number over all axes, by pixel first."""
    pixel = position = tap = np.zeros(1, np.int64)
    for axis, window in enumerate(whole.convolution.windows):
        pairs = [whole.pairs(axis, tap) for tap in range(window.kernel)]
        seen, made = (
            np.concatenate([np.array(p[side], np.int64) for p in pairs]) for side in (0, 1)
        )
        through = np.repeat(np.arange(window.kernel), [len(p[0]) for p in pairs])
        size, output = known_sizes(whole.sizes)[axis], known_sizes(whole.output)[axis]
        pixel = (pixel[:, None] * size + seen).reshape(-1)
        position = (position[:, None] * output + made).reshape(-1)
        tap = (tap[:, None] * window.kernel + through).reshape(-1)
    order = np.lexsort((position, pixel))
    return pixel[order], position[order], tap[order]
