"""Window arithmetic: the one place where kernels, strides, dilations, pads and sizes meet.

Everything is per spatial axis (`Window`) and then over all of them (`Convolution`), for any number
of axes; `AnyWindow` and `AnyConvolution` are what transposed ones (`core.transposed`) share with
them. Sizes are positive integers; an unknown size is ``None``, and what depends on it is ``None``
too. Only integer arithmetic is used.

Sources: Ma & Lu, "An Equivalence of Fully Connected Layer and Convolutional Layer" (2017),
equations 5 to 8 and Algorithm 1; Dumoulin & Visin, "A guide to convolution arithmetic for deep
learning" (2016), for half and full padding; the ONNX operator Conv for SAME.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from convfc.errors import GeometryError

if TYPE_CHECKING:  # sizes are plain integers: who only asks for them need not wait for numpy
    import numpy as np
    from numpy.typing import NDArray

Pads = tuple[int, int]
"""Zeros added before and after one axis."""

_MOST_AXES = 30
"""Spatial axes: an array has 64 axes at most, and phases and groups need some of their own."""

Sizes = tuple[int | None, ...]
"""One size per spatial axis; ``None`` where it is not known before run time."""


class Same(Enum):
    """Padding that makes the output ceil(size / stride) long, whatever the kernel.

    The member says where the odd zero goes: after (UPPER, as TensorFlow does) or before (LOWER).
    """

    UPPER = "same"
    LOWER = "same_lower"

    def split(self, total: int) -> Pads:
        """Share `total` zeros out between both sides."""
        less, more = total // 2, total - total // 2
        return (less, more) if self is Same.UPPER else (more, less)


@dataclass(frozen=True)
class AnyWindow:
    """One spatial axis of a convolution of any kind.

    Attributes:
        kernel: number of taps.
        stride: step between neighbouring positions of the window.
        dilation: step between neighbouring taps.
        padding: zeros before and after the axis, or a rule that finds them from the size.

    Raises:
        GeometryError: kernel, stride or dilation below 1, or a negative pad.
    """

    kernel: int
    stride: int = 1
    dilation: int = 1
    padding: Pads | Same = (0, 0)

    def __post_init__(self) -> None:
        for name in ("kernel", "stride", "dilation"):
            if getattr(self, name) < 1:
                raise GeometryError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not isinstance(self.padding, Same) and min(self.padding) < 0:
            raise GeometryError(f"padding {self.padding} is negative")

    @property
    def extent(self) -> int:
        """Length from the first tap to the last: dilation * (kernel - 1) + 1."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def probe_size(self) -> int:
        """A small size that has room for a few positions."""
        return self.extent + 2 * self.stride

    def pads(self, size: int | None) -> Pads | None:
        """What `padding` amounts to; ``None`` if that depends on an unknown size."""
        raise NotImplementedError

    def output(self, size: int | None) -> int | None:
        """Length of the output of an axis of `size`, ``None`` if unknown; an error without one."""
        raise NotImplementedError


@dataclass(frozen=True)
class Window(AnyWindow):
    """One spatial axis of an ordinary convolution: a window that slides over the input."""

    def pads(self, size: int | None) -> Pads | None:
        """Zeros before and after an axis of `size`; ``None`` if they depend on an unknown size."""
        if not isinstance(self.padding, Same):
            return self.padding
        if self.stride == 1:
            total = self.extent - 1
        elif size is None:
            return None
        else:
            covered = (-(-size // self.stride) - 1) * self.stride + self.extent
            total = max(covered - size, 0)
        return self.padding.split(total)

    def pads_by_remainder(self, size: int | None) -> tuple[Pads, ...]:
        """Zeros before and after, by size % stride: one entry where they are the same for all.

        >>> Window(3, stride=2, padding=Same.UPPER).pads_by_remainder(None)  # even sizes, odd ones
        ((0, 1), (1, 1))
        """
        pads = self.pads(size)
        if pads is not None:
            return (pads,)
        sizes = (remainder or self.stride for remainder in range(self.stride))
        return tuple(pads for pads in map(self.pads, sizes) if pads is not None)

    def output(self, size: int | None) -> int | None:
        """Number of positions on an axis of `size` (equations 5 and 6 of Ma & Lu).

        >>> Window(3, stride=2).output(8)  # at 0, 2 and 4
        3

        Raises:
            GeometryError: the padded axis is shorter than the window.
        """
        pads = self.pads(size)
        if size is None or pads is None:
            return None
        padded = pads[0] + size + pads[1]
        if padded < self.extent:
            raise GeometryError(
                f"the window spans {self.extent} but the padded axis has only {padded}"
            )
        return (padded - self.extent) // self.stride + 1

    def span(self, start: int, stop: int) -> slice:
        """What positions from `start` to before `stop` see of the padded axis."""
        return slice(start * self.stride, (stop - 1) * self.stride + self.extent, 1)

    @property
    def strides_spanned(self) -> int:
        """How many strides the window reaches into: ceil(extent / stride)."""
        return -(-self.extent // self.stride)

    def tap(self, tap: int) -> slice:
        """Where one tap lands over all positions: a strided slice of the padded axis.

        The stop counts from the end, so that the slice holds for every size. Positions that the
        stride skips at the end fall off by themselves.

        >>> list(range(8))[Window(3, stride=2).tap(1)]
        [1, 3, 5]
        """
        start = tap * self.dilation
        tail = self.extent - 1 - start
        return slice(start, -tail or None, self.stride)


@dataclass(frozen=True)
class AnyConvolution:
    """A convolution of any kind over any number of spatial axes.

    Attributes:
        windows: one per spatial axis.
        channels: channels of the input.
        filters: channels of the output.
        groups: blocks of channels that do not see each other; `channels` for a depthwise one.

    Raises:
        GeometryError: no axis, channel or filter, or groups that divide them unevenly.
    """

    windows: tuple[AnyWindow, ...]
    channels: int
    filters: int
    groups: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= _MOST_AXES:
            raise GeometryError(f"{self.rank} spatial axes; a convolution has 1 to {_MOST_AXES}")
        if min(self.channels, self.filters, self.groups) < 1:
            raise GeometryError("channels, filters and groups must be at least 1")
        if self.channels % self.groups or self.filters % self.groups:
            raise GeometryError(
                f"{self.groups} groups do not divide {self.channels} channels "
                f"and {self.filters} filters evenly"
            )

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.windows)

    @property
    def kernel(self) -> tuple[int, ...]:
        """Taps per axis."""
        return tuple(window.kernel for window in self.windows)

    @property
    def taps(self) -> int:
        """Taps in all: the product of `kernel`."""
        return math.prod(self.kernel)

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """Shape of the kernel, channels last: (k1, .., kr, channels / groups, filters)."""
        return (*self.kernel, self.channels // self.groups, self.filters)

    @property
    def patch_length(self) -> int:
        """Numbers that meet one filter at one position: K = prod(kernel) * channels / groups."""
        return self.taps * self.channels // self.groups

    @property
    def weights(self) -> int:
        """Numbers in the kernel, the bias not counted."""
        return self.patch_length * self.filters

    def pads(self, sizes: Sizes) -> tuple[Pads, ...] | None:
        """`AnyWindow.pads` of every axis; ``None`` if one of them depends on an unknown size."""
        pads = [window.pads(size) for window, size in self._axes(sizes)]
        known = tuple(pad for pad in pads if pad is not None)
        return known if len(known) == len(pads) else None

    def output(self, sizes: Sizes) -> Sizes:
        """Output size of every axis.

        Raises:
            GeometryError: an axis has no output, or there are fewer or more sizes than axes.
        """
        return tuple(window.output(size) for window, size in self._axes(sizes))

    def multiply_adds(self, sizes: Sizes) -> int | None:
        """Multiplications with an addition for one sample; ``None`` if unknown."""
        positions = self.positions(sizes)
        return None if positions is None else positions * self.weights

    def positions(self, sizes: Sizes) -> int | None:
        """How often the whole kernel is applied to one sample; ``None`` if unknown."""
        raise NotImplementedError

    @property
    def phases(self) -> tuple[int, ...]:
        """Output positions per axis that `inner` computes at each of its own."""
        return (1,) * self.rank

    def inner(self, sizes: Sizes) -> Convolution:
        """The ordinary convolution that computes it.

        Its filters are, per group and phase, the group's own filters. What it computes is
        interleaved along each axis (`phases`), then cut (`cuts`).
        """
        raise NotImplementedError

    def framed(self, sizes: Sizes) -> tuple[AnyConvolution, Sizes]:
        """The same on pieces of known length, along axes whose crop depends on an unknown size.

        Mostly itself, and the sizes that are given; see `transposed.Frame`.
        """
        return self, sizes

    def inner_kernel(self, kernel: NDArray[Any]) -> NDArray[Any]:
        """The kernel of `inner`, from one of `kernel_shape`."""
        return kernel

    def inner_bias(self, bias: NDArray[Any]) -> NDArray[Any]:
        """The bias of `inner`, from one of shape (filters,): every phase has the same."""
        blocks = bias.reshape(self.groups, 1, -1).repeat(math.prod(self.phases), axis=1)
        return blocks.reshape(-1)

    def cuts(self, sizes: Sizes) -> tuple[slice, ...]:
        """The part of what `inner` computes, interleaved, that is the output: per axis."""
        return (slice(0, None, 1),) * len(sizes)

    def _axes(self, sizes: Sizes) -> list[tuple[AnyWindow, int | None]]:
        if len(sizes) != self.rank:
            raise GeometryError(f"{len(sizes)} sizes given for {self.rank} spatial axes")
        return list(zip(self.windows, sizes, strict=True))


@dataclass(frozen=True)
class Convolution(AnyConvolution):
    """An ordinary convolution: one window per spatial axis slides over the input."""

    windows: tuple[Window, ...]

    def positions(self, sizes: Sizes) -> int | None:
        """See `AnyConvolution.positions`: at each output position, a row of the patch matrix."""
        return product(self.output(sizes))

    def inner(self, sizes: Sizes) -> Convolution:  # noqa: ARG002 - others depend on them
        """See `AnyConvolution.inner`: itself."""
        return self

    @property
    def depthwise(self) -> bool:
        """Whether each channel has filters of its own, which see no other."""
        return self.groups == self.channels > 1

    @property
    def unpadded(self) -> Convolution:
        """The same on an input that has its pads already."""
        windows = [replace(window, padding=(0, 0)) for window in self.windows]
        return replace(self, windows=tuple(windows))

    def folded(self, axis: int, sizes: Sizes) -> tuple[Convolution, Sizes]:
        """What is left to do when the taps of one axis have become channels, in their order.

        Returns:
            The rest, with as many positions on that axis as this has, and its input sizes.
        """
        windows = list(self.windows)
        window, windows[axis] = windows[axis], Window(1)
        rest = Convolution(tuple(windows), self.channels * window.kernel, self.filters)
        return rest, (*sizes[:axis], window.output(sizes[axis]), *sizes[axis + 1 :])

    def index_map(self, sizes: Sequence[int]) -> NDArray[np.int64]:
        """The index map (equation 8): which padded pixel each tap sees at each position.

        Returns:
            (prod(output), prod(kernel)) row-major indices into the padded grid. Row o, column i
            points at pixel o * stride + i * dilation.

        >>> Convolution((Window(2), Window(2)), 1, 1).index_map((2, 3)).tolist()
        [[0, 1, 3, 4], [1, 2, 4, 5]]
        """
        import numpy as np

        index = np.zeros((1, 1), np.int64)
        for window, size in self._axes(tuple(sizes)):
            pads, output = window.pads(size), window.output(size)
            if size is None or pads is None or output is None:
                raise GeometryError("an index map needs every size")
            axis = (
                np.arange(output)[:, None] * window.stride
                + np.arange(window.kernel) * window.dilation
            )
            grid = index[:, None, :, None] * (pads[0] + size + pads[1]) + axis[:, None, :]
            index = grid.reshape(index.shape[0] * output, index.shape[1] * window.kernel)
        return index


def product(sizes: Sizes) -> int | None:
    """Product of sizes; ``None`` if one of them is unknown."""
    known = known_sizes(sizes)
    return math.prod(known) if len(known) == len(sizes) else None


def known_sizes(sizes: Sizes) -> list[int]:
    """Sizes of which none is unknown."""
    return [size for size in sizes if size is not None]
