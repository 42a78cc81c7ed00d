"""Singular values: all of a filter matrix, and the largest of a convolution on a whole sample.

The first are numpy's. The second is found by Lanczos' method on M and its transpose (Golub and
Kahan, 1965): power iteration that keeps what it has seen, so that some dozen steps do. What it
gives is never more than the norm, but for rounding, and there is a singular value within `error`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from convfc.core.arrays import Array
from convfc.core.geometry import AnyConvolution, Sizes
from convfc.core.linear_map import Doubles, LinearMap
from convfc.core.whole import Whole

TOLERANCE = 1e-4
"""`Norm.error` over `Norm.value` at which the search ends."""
MOST_STEPS = 300
_EVERY = 5
"""Steps between two looks at how near it is."""


@dataclass(frozen=True)
class Spectrum:
    """What the singular values of a filter matrix say.

    Attributes:
        values: all of them, those of every block of channels together, the largest first.
        shape: rows and columns of the matrix, with all blocks in it.
        frobenius: root of the sum of all squares.
        zeros: the share of the numbers in the blocks that are zero.
        epsilon: of the numbers' type: what is as much smaller than the largest counts for zero.
    """

    values: Doubles
    shape: tuple[int, int]
    frobenius: float
    zeros: float
    epsilon: float

    @property
    def largest(self) -> float:
        """The spectral norm of the filter matrix."""
        return float(self.values[0])

    @property
    def smallest(self) -> float:
        """The last singular value."""
        return float(self.values[-1])

    @cached_property
    def rank(self) -> int:
        """How many do not count for zero, as `numpy.linalg.matrix_rank` has it."""
        return int((self.values > self.largest * max(self.shape) * self.epsilon).sum())

    @property
    def condition(self) -> float:
        """The largest over the smallest."""
        return self.largest / self.smallest if self.smallest else math.inf

    @property
    def stable_rank(self) -> float:
        """The sum of all squares over the largest: at most the rank, and no threshold in it."""
        return (self.frobenius / self.largest) ** 2 if self.largest else 0.0


def spectrum_of(blocks: Array) -> Spectrum:
    """The singular values of a block-diagonal matrix.

    Args:
        blocks: (groups, rows, columns) of finite numbers, what `filter_matrices` gives.

    >>> found = spectrum_of(np.array([[[3.0, 0.0], [0.0, 0.0]], [[0.0, 4.0], [0.0, 0.0]]]))
    >>> found.values.tolist(), found.rank, found.shape, found.zeros, found.stable_rank
    ([4.0, 3.0, 0.0, 0.0], 2, (4, 4), 0.75, 1.5625)
    """
    groups, rows, columns = blocks.shape
    wide = blocks.astype(np.float64)
    values = np.sort(np.linalg.svd(wide, compute_uv=False).reshape(-1))[::-1]
    real = blocks.dtype if blocks.dtype in (np.float32, np.float64) else np.dtype(np.float32)
    return Spectrum(
        values,
        (groups * rows, groups * columns),
        float(np.linalg.norm(wide)),
        1 - int(np.count_nonzero(wide)) / wide.size,
        float(np.finfo(real).eps),
    )


@dataclass(frozen=True)
class Norm:
    """The spectral norm of a linear map, its Lipschitz constant in the 2-norm.

    Attributes:
        value: of it.
        error: how far from `value` a singular value is at most; 0 where it was not searched for.
        steps: through the map and back.
    """

    value: float
    error: float = 0.0
    steps: int = 0


def norm_of(
    convolution: AnyConvolution, sizes: Sizes, kernel: Array, largest: float
) -> Norm | None:
    """The spectral norm of a convolution's linear part on a whole sample.

    Args:
        convolution: of any kind.
        sizes: spatial input sizes.
        kernel: of `AnyConvolution.kernel_shape`.
        largest: singular value of its filter matrix, which is the norm where patches share nothing.

    Returns:
        ``None`` if a size is unknown.

    >>> from convfc.core.builders import convolution
    >>> found = norm_of(convolution([2], channels=1, filters=1), (99,), np.ones((2, 1, 1)), 2**0.5)
    >>> 1.999 < found.value < 2
    True
    """
    if None in sizes or None in convolution.output(sizes):
        return None
    if _tiles(convolution, sizes) or not largest:
        return Norm(largest)
    wide = kernel.astype(np.float64)
    scale = float(np.abs(wide).max())  # squares of what is very large or small leave the range
    found = largest_singular(LinearMap(Whole(convolution, sizes), wide / scale))
    return Norm(found.value * scale, found.error * scale, found.steps)


def _tiles(convolution: AnyConvolution, sizes: Sizes) -> bool:
    """Whether each input is in one patch at most, and nothing of a patch is cut off."""
    inner = convolution.inner(sizes)
    apart = all(window.stride >= window.extent for window in inner.windows)
    unpadded = not any(map(any, inner.pads(sizes) or ()))
    return apart and unpadded and all(cut == slice(0, None, 1) for cut in convolution.cuts(sizes))


def largest_singular(linear: LinearMap, most: int = MOST_STEPS) -> Norm:
    """The largest singular value of a linear map.

    Args:
        linear: the map.
        most: steps after which to stop in any case.
    """
    v: Doubles = np.random.default_rng(0).standard_normal(linear.inputs)
    v /= np.linalg.norm(v)
    u: Doubles = np.zeros(linear.outputs)
    beta, alphas, betas = 0.0, [], list[float]()
    while True:
        u = linear.forward(v) - beta * u
        alphas.append(float(np.linalg.norm(u)))
        u /= alphas[-1] or 1.0
        v = linear.backward(u) - alphas[-1] * v
        beta, steps = float(np.linalg.norm(v)), len(alphas)
        ended = steps == most or beta <= _NOTHING * max(alphas)
        if ended or steps % _EVERY == 0:
            left, values, _ = np.linalg.svd(np.diag(alphas) + np.diag(betas, 1))
            found = Norm(float(values[0]), beta * abs(float(left[-1, 0])), steps)
            if ended or found.error <= TOLERANCE * found.value:
                return found
        betas.append(beta)
        v /= beta


_NOTHING = 1e-14
"""Relative: what is left when all that the map does to the first vector has been seen."""
