"""A convolution as one matrix: all inputs of a sample in a row, times M, are all its outputs.

An input meets an output through a tap, or does not: along each axis `_meeting` says which do, for
ordinary windows and for transposed ones, which are the same with inputs and outputs exchanged. M
has the weight of the tap where the two meet and zero elsewhere; that includes whatever belongs to
different groups. Pads are no inputs, so they have no rows.

It is the patches form with one patch, the whole input: a tile of all positions. A tile of fewer, t
along an axis, is the same of t positions: what they see is an input of (t - 1) * stride + extent.

Sources: Ma & Lu, "An Equivalence of Fully Connected Layer and Convolutional Layer" (2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from convfc.core.geometry import AnyConvolution, AnyWindow, Convolution, Sizes, Window, known_sizes
from convfc.core.transposed import TransposedWindow
from convfc.errors import GeometryError

if TYPE_CHECKING:  # as in `convfc.core.geometry`
    import numpy as np
    from numpy.typing import NDArray

_MOST_COUNTED = 2**16
"""Taps along an axis whose meetings are counted one by one."""


class Form(StrEnum):
    """What a convolution becomes."""

    PATCHES = "patches"
    """A product with the filter matrix for each position: y = P F + b."""
    DENSE = "dense"
    """One product for all positions: y = x M + b'."""


class MaxPool(StrEnum):
    """What becomes of MaxPool in the dense form."""

    KEEP = "keep"
    """It stays as it is: it is not affine."""
    RELU = "relu"
    """Affine steps and ReLU, where what is pooled is not negative."""


@dataclass(frozen=True)
class Whole:
    """A convolution on an input of known sizes, as the fully connected layer that it is.

    Attributes:
        convolution: of any kind.
        sizes: spatial input sizes.

    Raises:
        GeometryError: a size is unknown, or the window does not fit.
    """

    convolution: AnyConvolution
    sizes: Sizes

    def __post_init__(self) -> None:
        if None in self.sizes or None in self.output:
            raise GeometryError("one matrix needs every size")

    @cached_property
    def output(self) -> Sizes:
        """Spatial output sizes."""
        return self.convolution.output(self.sizes)

    @cached_property
    def inner(self) -> Convolution:
        """The ordinary convolution that it is: its window is the whole input, at one position.

        It has the filters of each output position beside each other; M, with channels last, is its
        filter matrix.
        """
        windows = tuple(Window(size, stride=size) for size in known_sizes(self.sizes))
        filters = self.convolution.filters * math.prod(known_sizes(self.output))
        return Convolution(windows, self.convolution.channels, filters)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of M."""
        return self.inner.patch_length, self.inner.filters

    def bytes(self, itemsize: int) -> int:
        """What M takes, of numbers of `itemsize` bytes."""
        return math.prod(self.shape) * itemsize

    @property
    def share(self) -> float | None:
        """How much of M is no zero, from 0 to 1; ``None``: too many to count."""
        return None if self.weights is None else self.weights / math.prod(self.shape)

    @cached_property
    def weights(self) -> int | None:
        """How many entries are weights; all others are zero. ``None``: too many to count.

        >>> from convfc.core.builders import convolution
        >>> Whole(convolution([3], channels=1, filters=1, padding="same"), (4,)).weights
        10
        """
        total = self.convolution.channels // self.convolution.groups * self.convolution.filters
        for axis, window in enumerate(self.convolution.windows):
            if window.kernel > _MOST_COUNTED:
                return None
            total *= sum(len(self._meeting(axis, tap)) for tap in range(window.kernel))
        return total

    def matrix(
        self, kernel: NDArray[Any], zero: NDArray[Any] | None = None, *, channels_first: bool
    ) -> NDArray[Any]:
        """M of a kernel: its numbers bit for bit, and zeros.

        Args:
            kernel: of `AnyConvolution.kernel_shape`, channels last.
            zero: what stands for zero: one number, or one for each filter; 0 if ``None``.
            channels_first: whether rows are (channels, sizes..) and columns (filters, outputs..);
                else (sizes.., channels) and (outputs.., filters).

        >>> import numpy as np
        >>> from convfc.core.builders import convolution
        >>> whole = Whole(convolution([2], channels=1, filters=1, padding=[(1, 0)]), (3,))
        >>> whole.matrix(np.array([5, 7]).reshape(2, 1, 1), channels_first=True)
        array([[7, 5, 0],
               [0, 7, 5],
               [0, 0, 7]])
        """
        import numpy as np

        conv = self.convolution
        groups = conv.groups
        pixels, positions = math.prod(known_sizes(self.sizes)), math.prod(known_sizes(self.output))
        rows, columns = [groups, conv.channels // groups], [groups, conv.filters // groups]
        if channels_first:
            split = [*rows, pixels, *columns, positions]
        else:
            split = [pixels, *rows, positions, *columns]
        whole = np.zeros(split, kernel.dtype)  # the system gives memory when it is written to
        if zero is not None and np.any(zero):
            each = np.broadcast_to(zero, conv.filters).reshape(*columns, 1)
            whole[...] = each if channels_first else np.moveaxis(each, -1, 0)
        group = np.arange(groups)[:, None]
        for taps in np.ndindex(*conv.kernel):
            pixel, position = self._met(taps)
            weights = kernel[taps].reshape(rows[1], groups, columns[1]).swapaxes(0, 1)[:, None]
            if channels_first:
                whole[group, :, pixel, group, :, position] = weights
            else:
                whole[pixel, group, :, position, group, :] = weights
        return whole.reshape(self.shape)

    def rows(
        self, chosen: NDArray[np.int64], kernel: NDArray[Any], *, channels_first: bool
    ) -> NDArray[Any]:
        """Some rows of `matrix`, without the others.

        Args:
            chosen: which.
            kernel: as for `matrix`.
            channels_first: likewise.

        >>> import numpy as np
        >>> from convfc.core.builders import convolution
        >>> whole = Whole(convolution([2], channels=1, filters=1, padding=[(1, 0)]), (3,))
        >>> kernel = np.array([5, 7]).reshape(2, 1, 1)
        >>> whole.rows(np.array([2, 0]), kernel, channels_first=True)
        array([[0, 0, 7],
               [7, 5, 0]])
        """
        import numpy as np

        conv, pixels = self.convolution, math.prod(known_sizes(self.sizes))
        inner, outer = conv.channels // conv.groups, conv.filters // conv.groups
        if channels_first:
            channel, pixel = np.divmod(chosen, pixels)
        else:
            pixel, channel = np.divmod(chosen, conv.channels)
        group, own = np.divmod(channel, inner)
        made = math.prod(known_sizes(self.output))
        found = np.zeros((len(chosen), made, conv.groups, outer), kernel.dtype)
        for taps in np.ndindex(*conv.kernel):
            seen, position = self._met(taps)
            there = np.full(pixels, -1)
            there[seen] = position  # through one tap a pixel meets one position at most
            at = there[pixel]
            kept = np.flatnonzero(at >= 0)
            weights = kernel[taps].reshape(inner, conv.groups, outer)
            found[kept, at[kept], group[kept]] = weights[own[kept], group[kept]]
        found = found.reshape(len(chosen), made, conv.filters)
        return (found.swapaxes(1, 2) if channels_first else found).reshape(len(chosen), -1)

    def applied(
        self, rows: NDArray[Any], kernel: NDArray[Any], *, channels_first: bool
    ) -> NDArray[Any]:
        """What the convolution makes of many inputs, without M and without a bias.

        Sums are made one tap and one channel after another, so that no machine gets others.

        Args:
            rows: one input in each, in the order of the rows of `matrix`.
            kernel: of `AnyConvolution.kernel_shape`, channels last.
            channels_first: as for `matrix`.

        Returns:
            One output in each row, in the order of the columns of `matrix`.

        >>> import numpy as np
        >>> from convfc.core.builders import convolution
        >>> whole = Whole(convolution([2], channels=1, filters=1), (3,))
        >>> whole.applied(np.eye(3), np.array([5, 7]).reshape(2, 1, 1), channels_first=True)
        array([[5., 0.],
               [7., 5.],
               [0., 7.]])
        """
        import numpy as np

        conv, count = self.convolution, len(rows)
        inner, outer = conv.channels // conv.groups, conv.filters // conv.groups
        sizes, made = math.prod(known_sizes(self.sizes)), math.prod(known_sizes(self.output))
        if channels_first:
            rows = rows.reshape(count, conv.channels, sizes).swapaxes(1, 2)
        seen = rows.reshape(count, sizes, conv.groups, inner)
        found = np.zeros((count, made, conv.groups, outer), rows.dtype)
        # Zeros add nothing, unless what they are multiplied with is infinite, or no number.
        every = not np.isfinite(kernel).all()
        counts = np.asarray(seen.any(axis=(0, 2, 3))) | every
        for taps in np.ndindex(*conv.kernel):
            pixel, position = self._met(taps)
            kept = counts[pixel]
            pixel, position = pixel[kept], position[kept]
            weights = kernel[taps].reshape(inner, conv.groups, outer)
            for channel, each in enumerate(weights):
                found[:, position] += seen[..., channel, None][:, pixel] * each
        found = found.reshape(count, made, conv.filters)
        return (found.swapaxes(1, 2) if channels_first else found).reshape(count, -1)

    def taps(self, axis: int) -> NDArray[np.int32]:
        """Through which tap each input meets each output along an axis.

        Returns:
            (size, output) indices of taps; the number of taps where the two do not meet.

        >>> from convfc.core.builders import convolution
        >>> whole = Whole(convolution([2], channels=1, filters=1, strides=[2]), (4,))
        >>> whole.taps(0).tolist()
        [[0, 2], [1, 2], [2, 0], [2, 1]]
        """
        import numpy as np

        window, size, output = self._axis(axis)
        found = np.full((size, output), window.kernel, np.int32)
        for tap in range(window.kernel):
            found[self._pairs(axis, tap)] = tap
        return found

    def pairs(self, axis: int, tap: int) -> tuple[range, range]:
        """Inputs and outputs that meet through a tap along an axis, in pairs.

        >>> from convfc.core.builders import convolution
        >>> Whole(convolution([3], channels=1, filters=1, strides=[2]), (7,)).pairs(0, 1)
        (range(1, 7, 2), range(0, 3))
        """
        window, size, _ = self._axis(axis)
        here = self._meeting(axis, tap)
        first = here.start * window.stride + _shift(window, size, tap)
        there = range(first, first + len(here) * window.stride, window.stride)
        return (here, there) if _is_transposed(window) else (there, here)

    def bias(self, bias: NDArray[Any], *, channels_first: bool) -> NDArray[Any]:
        """The bias of M's columns, from one of shape (filters,).

        Args:
            bias: of the convolution.
            channels_first: as for `matrix`.
        """
        import numpy as np

        positions = math.prod(known_sizes(self.output))
        return bias.repeat(positions) if channels_first else np.tile(bias, positions)

    def _met(self, taps: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pixels and positions that meet through a tap of all axes, in pairs."""
        import numpy as np

        pixel = position = np.zeros(1, np.int64)
        for axis, tap in enumerate(taps):
            seen, made = self._pairs(axis, tap)
            pixel = (pixel[:, None] * known_sizes(self.sizes)[axis] + seen).reshape(-1)
            position = (position[:, None] * known_sizes(self.output)[axis] + made).reshape(-1)
        return pixel, position

    def _meeting(self, axis: int, tap: int) -> range:
        """The outputs that see an input through a tap; of a transposed window the inputs seen."""
        window, size, output = self._axis(axis)
        across, along = (size, output) if _is_transposed(window) else (output, size)
        shift = _shift(window, size, tap)
        last = (along - 1 - shift) // window.stride
        return range(max(-(shift // window.stride), 0), min(last + 1, across))

    def _pairs(self, axis: int, tap: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What `pairs` says, as indices."""
        import numpy as np

        seen, made = self.pairs(axis, tap)
        return np.array(seen, np.int64), np.array(made, np.int64)

    def _axis(self, axis: int) -> tuple[AnyWindow, int, int]:
        window = self.convolution.windows[axis]
        return window, known_sizes(self.sizes)[axis], known_sizes(self.output)[axis]


def _is_transposed(window: AnyWindow) -> bool:
    return isinstance(window, TransposedWindow)


def _shift(window: AnyWindow, size: int, tap: int) -> int:
    """How far the tap of the first position is from the first place on the other side."""
    pads = window.pads(size)
    assert pads is not None, "all sizes are known"  # noqa: S101 - for the type checker
    return tap * window.dilation - pads[0]
