"""One convolution of a model as the fully connected layer that it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from convfc.core.arrangement import put_back
from convfc.core.arrays import Array
from convfc.core.geometry import AnyConvolution, Sizes, product
from convfc.core.numpy_ops import filter_matrices
from convfc.core.sparse import SparseMatrix, sparse_matrix
from convfc.core.spectrum import MOST_STEPS, Norm, Spectrum, norm_of, spectrum_of
from convfc.core.transposed import TransposedWindow
from convfc.core.whole import Whole
from convfc.errors import GeometryError, UnsupportedModelError
from convfc.formats.weights import Numbers, Weights
from convfc.refusals import Code
from convfc.system.capacity import excess

MOST_ENTRIES = 2**28
"""Entries of a sparse matrix, where nobody says."""


@dataclass(frozen=True, eq=False, repr=False)
class Matrix:
    """One convolution of a model: y = P F + b for each position, y = x M + b' for a whole sample.

    Attributes:
        name: of the layer; of a separable one, with "/depthwise" or "/pointwise" behind it.
        layer: of the layer.
        kind: the format's own word for it.
        convolution: its geometry.
        sizes: spatial input sizes, ``None`` where unknown.
        channels_first: the order of a sample in M: (channels, sizes..), else (sizes.., channels).
        F: (K, columns), see `axes`. With groups it is one block per group beside the others, each
            of K rows; see `blocks`. That of a transposed convolution has columns for each phase.
        b: (filters,), or ``None``.
        dtype: numpy's name of the type that the file has them in.
        fixed: why other numbers cannot be written into the file; ``None``: they can.
    """

    name: str
    layer: str
    kind: str
    convolution: AnyConvolution
    sizes: Sizes
    channels_first: bool
    F: Array
    b: Array | None
    dtype: str = "float32"
    fixed: str | None = None

    def __repr__(self) -> str:
        rows, columns = self.F.shape
        bias = "" if self.b is None else ", with a bias"
        return f"<Matrix {self.name!r}: {self.kind}, F {rows}x{columns}{bias}>"

    @classmethod
    def of(cls, weights: Weights) -> Matrix:
        """Read the numbers of a convolution."""
        kernel, bias = weights.read()
        conv = weights.convolution
        named = weights.name, weights.layer, weights.kind
        return cls(
            *named,
            conv,
            weights.sizes,
            weights.channels_first,
            filter_matrix_of(kernel, conv),
            bias,
            weights.dtype,
            weights.fixed,
        )

    @property
    def axes(self) -> dict[str, tuple[tuple[str, int], ...]]:
        """What the rows and the columns of F are, the last one fastest.

        >>> from convfc.core.builders import convolution
        >>> import numpy as np
        >>> conv = convolution([3], channels=4, filters=6, groups=2)
        >>> matrix = Matrix("conv", "conv", "Conv", conv, (8,), False, np.ones((6, 6)), None)
        >>> matrix.axes["rows"], matrix.axes["columns"]
        ((('tap 1', 3), ('channel', 2)), (('group', 2), ('filter', 3)))
        """
        conv = self.convolution
        taps = [
            len(window.tap_of_phase) // window.stride
            for window in conv.windows
            if isinstance(window, TransposedWindow)
        ]
        rows = [(f"tap {axis}", n) for axis, n in enumerate(taps or conv.kernel, 1)]
        phases = [(f"phase {axis}", n) for axis, n in enumerate(conv.phases, 1)] if taps else []
        groups = [("group", conv.groups)] if conv.groups > 1 else []
        return {
            "rows": (*rows, ("channel", conv.channels // conv.groups)),
            "columns": (*groups, *phases, ("filter", conv.filters // conv.groups)),
        }

    @cached_property
    def blocks(self) -> Array:
        """F by groups: (groups, K, columns of each), the diagonal of the matrix of all channels."""
        return filter_matrices(self.F, self.convolution.groups)

    @property
    def kernel(self) -> Array:
        """The kernel, of `AnyConvolution.kernel_shape`.

        Raises:
            GeometryError: F has a number where a transposed convolution has no tap.
        """
        conv = self.convolution
        found = put_back(self.F, conv.kernel_shape, lambda k: filter_matrix_of(k, conv))
        if found is None:
            raise GeometryError("F is not zero in phases where the kernel has no tap")
        return found

    @cached_property
    def unmeasured(self) -> str | None:
        """Why there is no `spectrum`, in words; ``None``: there is one."""
        _, rows, columns = self.blocks.shape
        products = _SVD * self.F.size * min(rows, columns)
        too_much = excess(_COPIES * self.F.size * _DOUBLE, products)
        finite = too_much is not None or np.isfinite(self.F.astype(np.float64)).all()
        return too_much if finite else "a number in it is not finite"

    @cached_property
    def spectrum(self) -> Spectrum | None:
        """The singular values of F and what they say; see `unmeasured`."""
        return None if self.unmeasured is not None else spectrum_of(self.blocks)

    @cached_property
    def unbounded(self) -> str | None:
        """Why there is no `norm`, in words; ``None``: there is one."""
        conv, known = self.convolution, None not in self.sizes
        outputs = conv.output(self.sizes)
        if self.unmeasured is not None:
            return self.unmeasured
        if not known or None in outputs:
            return "sizes are open"
        if conv.taps > _MOST_TAPS:
            return f"it has more than {_MOST_TAPS:,} taps"
        numbers = (product(self.sizes) or 0) * conv.channels + (
            product(outputs) or 0
        ) * conv.filters
        steps = 2 * MOST_STEPS * (conv.multiply_adds(self.sizes) or 0)
        return excess(_COPIES * numbers * _DOUBLE, steps)

    @cached_property
    def norm(self) -> Norm | None:
        """The spectral norm of M, the layer's Lipschitz constant in the 2-norm; see `unbounded`."""
        found = self.spectrum
        if found is None or self.unbounded is not None:
            return None
        return norm_of(self.convolution, self.sizes, self.kernel, found.largest)

    def whole(self, most: int = MOST_ENTRIES) -> SparseMatrix:
        """M: the layer on a whole sample, flattened in the model's own order of axes.

        Args:
            most: how many entries it may have.

        Raises:
            UnsupportedModelError: a size is unknown, or it has more entries.
        """
        whole = self.require_whole(most)
        return sparse_matrix(whole, self.kernel, channels_first=self.channels_first)

    def require_whole(self, most: int = MOST_ENTRIES) -> Whole:
        """See that `whole` can be had, without making it.

        Raises:
            UnsupportedModelError: a size is unknown, or it has more entries.
        """
        where = f"layer '{self.name}': its matrix on a whole sample"
        if None in self.sizes or None in self.convolution.output(self.sizes):
            raise UnsupportedModelError(
                f"{where} needs every size, and some are open",
                remedy=Code.OPEN_SIZE.remedy,
                layer=self.layer,
                code=Code.OPEN_SIZE,
            )
        whole = Whole(self.convolution, self.sizes)
        rows, columns = whole.shape
        count = rows * columns if whole.weights is None else whole.weights
        if count > most:
            raise UnsupportedModelError(
                f"{where}, {rows:,} x {columns:,}, has {count:,} entries that are weights, and "
                f"{most:,} is the limit",
                remedy="give --entries more",
                layer=self.layer,
                code=Code.TOO_LARGE,
            )
        too_much = excess(count * _ENTRY)
        if too_much is not None:
            raise UnsupportedModelError(
                f"{where}: {too_much}", layer=self.layer, code=Code.TOO_LARGE
            )
        return whole

    def numbers(self) -> Numbers:
        """Kernel and bias as a file takes them."""
        return self.kernel, self.b


_ENTRY = 24
"""Bytes of an entry of a sparse matrix while that is made."""
_DOUBLE, _COPIES = 8, 6
"""Bytes of a number while singular values are found, and how many of each there are."""
_SVD = 4
"""Multiply-adds of a decomposition, for each number and column."""
_MOST_TAPS = 2**16


def filter_matrix_of(kernel: Array, conv: AnyConvolution) -> Array:
    """F: the kernel of the ordinary convolution that it is, with a row for each tap and channel."""
    inner = conv.inner_kernel(kernel)
    return inner.reshape(math.prod(inner.shape[:-1]), inner.shape[-1])
