"""What a lowering means, in numpy: `Ops` on arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from convfc.core.arrays import Array
from convfc.core.bands import bands
from convfc.core.geometry import Convolution, Pads, Sizes, Window
from convfc.core.im2col import Ops


def filter_matrices(kernel: Array, groups: int = 1) -> Array:
    """The filter matrix of every block of channels.

    Args:
        kernel: (k1, .., kr, channels / groups, filters), channels last.
        groups: number of blocks G.

    Returns:
        (G, K, filters / G). For one block, F = [0] is the kernel's own bytes.

    >>> filter_matrices(np.array([[[1, 2]], [[3, 4]]]), groups=2).tolist()  # 2 taps of 2 filters
    [[[1], [3]], [[2], [4]]]
    """
    patch_length = int(np.prod(kernel.shape[:-1]))
    blocks = kernel.reshape(patch_length, groups, kernel.shape[-1] // groups)
    return np.ascontiguousarray(np.moveaxis(blocks, 1, 0))


class NumpyOps(Ops[Array]):
    """`Ops` on numpy arrays: what a lowering means.

    Args:
        kernel: of `Lowering.inner`: (k1, .., kr, channels / groups, filters); see `inner_kernel`.
        bias: of the same: (filters,), or ``None``; see `inner_bias`.
    """

    def __init__(self, kernel: Array, bias: Array | None = None) -> None:
        self.kernel = kernel
        self.bias = bias

    def pad(self, x: Array, pads: Sequence[Sequence[Pads]]) -> Array:
        """See `Ops.pad`."""
        axes = zip(x.shape[1:-1], pads, strict=True)
        return np.pad(x, [(0, 0), *(by[size % len(by)] for size, by in axes), (0, 0)])

    def slice(self, x: Array, slices: Sequence[slice]) -> Array:
        """See `Ops.slice`."""
        cuts = (slice(None), *slices)
        cut: Array = x[cuts]
        return cut

    def take(self, x: Array, index: NDArray[np.int64]) -> Array:
        """See `Ops.take`."""
        return np.take(x, index, axis=1)

    def concatenate(self, xs: Sequence[Array], axis: int) -> Array:
        """See `Ops.concatenate`."""
        return np.concatenate(xs, axis)

    def bands(self, x: Array, window: Window, count: int) -> Iterator[Array]:
        """See `Ops.bands`."""
        for seen in bands(window, window.output(x.shape[1]), count):
            yield x[:, seen]

    def reshape(self, x: Array, shape: Sequence[int | None]) -> Array:
        """See `Ops.reshape`."""
        sizes = [x.shape[i] if size is None else size for i, size in enumerate(shape, 1)]
        return x.reshape(x.shape[0], *sizes)

    def transpose(self, x: Array, order: Sequence[int]) -> Array:
        """See `Ops.transpose`."""
        return np.transpose(x, order)

    def product(self, patches: Array, convolution: Convolution, positions: Sizes) -> Array:  # noqa: ARG002 - patches tell
        """See `Ops.product`."""
        groups = convolution.groups
        lead = patches.shape[:-1]
        blocks = patches.reshape(*lead, convolution.taps, groups, -1)
        blocks = np.moveaxis(blocks, -2, 0).reshape(groups, -1, convolution.patch_length)
        products = blocks @ filter_matrices(self.kernel, groups)
        y: Array = np.moveaxis(products, 0, 1).reshape(*lead, convolution.filters)
        return y if self.bias is None else y + self.bias
