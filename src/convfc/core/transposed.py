"""Transposed convolutions: each input position adds its own window to the output.

With stride s, the outputs at o = q * s + p for one phase p < s are an ordinary convolution of the
input with every s-th tap of the kernel, the other way round. All phases together are one ordinary
convolution with stride 1 and s times the filters (`TransposedConvolution.inner`), whose filters
are then interleaved along the axis and cut to the output. Where kernel == stride, each input
position makes its own piece of the output and there are no patches at all.

Sources: Dumoulin & Visin (2016), chapter 4; Shi et al., "Is the deconvolution layer the same as a
convolutional layer?" (2016); the ONNX operator ConvTranspose and onnxruntime for pads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from convfc.core.geometry import (
    AnyConvolution,
    AnyWindow,
    Convolution,
    Pads,
    Same,
    Sizes,
    Window,
    product,
)
from convfc.errors import GeometryError
from convfc.refusals import Code

if TYPE_CHECKING:  # as in `convfc.core.geometry`
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Frame:
    """What an output of prescribed length sees of an axis whose size is unknown: a fixed length.

    Where it starts depends on the size. With `pads` around the axis, the piece of `length` from
    crop // stride on is all that matters; in what `window` makes of that, the output starts at
    crop % stride. Here `crop` is what `TransposedWindow.pads` crops off before the output.

    Attributes:
        pads: zeros before and after the axis.
        length: of the piece.
        window: makes stride - 1 outputs more than are prescribed from the piece.
        shift: crop is half of size * stride + shift, or of nothing if that is negative.
        rounds_up: whether that half is rounded up.
    """

    pads: Pads
    length: int
    window: TransposedWindow
    shift: int
    rounds_up: bool


@dataclass(frozen=True)
class TransposedWindow(AnyWindow):
    """One spatial axis of a transposed convolution.

    All windows added up make an axis of (size - 1) * stride + extent; `padding` crops it.

    Attributes:
        padding: what is cropped off before and after, or the rule that makes the output as long
            as the stride alone would (size * stride) or as `length` says.
        output_padding: positions that are added at the end, where windows may not reach.
        length: of the output, where it is prescribed; `padding` is a rule then.

    Raises:
        GeometryError: see `AnyWindow`; also a negative `output_padding`.
    """

    output_padding: int = 0
    length: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output_padding < 0:
            raise GeometryError(f"output padding {self.output_padding} is negative")

    @property
    def probe_size(self) -> int:
        """See `AnyWindow.probe_size`; large enough for the prescribed length, if there is one."""
        return max(super().probe_size, (self.length or 0) // self.stride + 1)

    def pads(self, size: int | None) -> Pads | None:
        """What is cropped off before and after; a negative number after is added instead."""
        if not isinstance(self.padding, Same):
            return self.padding[0], self.padding[1] - self.output_padding
        if self.length is None:
            # A stride longer than the window leaves a gap at the end, which is not filled.
            excess = max(self.extent - self.stride, -self.output_padding)
        elif size is None:
            return None
        else:
            excess = (size - 1) * self.stride + self.extent - self.length
        before, _ = self.padding.split(max(excess + self.output_padding, 0))
        return before, excess - before

    def output(self, size: int | None) -> int | None:
        """Length of the output of an axis of `size`; ``None`` if unknown.

        >>> TransposedWindow(3, stride=2).output(4)
        9

        Raises:
            GeometryError: all of it is cropped off.
        """
        pads = self.pads(size)
        if size is None or pads is None:
            return self.length
        length = (size - 1) * self.stride + self.extent - sum(pads)
        if length < 1:
            raise GeometryError(f"the crop {pads} leaves nothing of an axis of {size}")
        return length

    def inner(self, size: int | None) -> Window:
        """The window of the ordinary convolution that computes all phases.

        Of 3 taps with stride 2, the first and the last make phase 0, the second one phase 1:

        >>> TransposedWindow(3, stride=2).inner(4)
        Window(kernel=2, stride=1, dilation=1, padding=(1, 1))

        Raises:
            GeometryError: it depends on an unknown size.
        """
        before, after = self._known_pads(size)
        step, reach = self._inner_dilation, self._reach
        padding = (
            max(reach - before // self.stride, 0),
            max(-(-(self.extent - after) // self.stride) - 1, 0),
        )
        return Window(reach // step + 1, 1, step, padding)

    def cut(self, size: int | None) -> slice:
        """The output's place in the interleaved phases that `inner` computes.

        >>> TransposedWindow(3, stride=2).cut(4)  # 5 positions of 2 phases: one too many
        slice(0, -1, 1)
        """
        (before, after), padding = self._known_pads(size), self.inner(size).padding
        assert not isinstance(padding, Same)  # noqa: S101 - for the type checker: `inner` makes numbers
        start = before - self.stride * (self._reach - padding[0])
        tail = (padding[1] + 1) * self.stride - self.extent + after
        return slice(start, -tail or None, 1)

    @property
    def frame(self) -> Frame:
        """How to compute an output of prescribed `length` when the size is not known.

        Four inputs make 9 outputs here. Of the 3 too many, crop = (4 * 2 + shift) // 2 = 1 stands
        before the output: the piece starts at 1 // 2 = 0, the output at 1 % 2 = 1 in what it makes.

        >>> frame = TransposedWindow(3, stride=2, padding=Same.UPPER, length=6).frame
        >>> frame.pads, frame.length, frame.shift, frame.window.output(frame.length)
        ((1, 3), 5, -5, 7)

        Raises:
            GeometryError: no length is prescribed.
        """
        if self.length is None or not isinstance(self.padding, Same):
            raise GeometryError(
                "its crop depends on a size that is unknown before run time", code=Code.OPEN_SIZE
            )
        steps = -(-(self.length + self.stride - 1) // self.stride)
        wanted = self.length + self.stride - 1
        after = (steps - 1) * self.stride + self.extent - wanted
        window = replace(
            self,
            padding=(self._reach * self.stride, max(after, 0)),
            output_padding=max(-after, 0),
            length=None,
        )
        tail = max(steps - 1, (self.extent + self.output_padding) // self.stride + 1)
        shift = self.extent + self.output_padding - self.length - self.stride
        return Frame(
            (self._reach, tail), self._reach + steps, window, shift, self.padding is Same.LOWER
        )

    @property
    def tap_of_phase(self) -> NDArray[np.int64]:
        """Which tap stands where in `inner`, its taps in order and in each of them the phases.

        Returns:
            (inner taps * stride,) indices of taps; `kernel` itself where there is none.

        >>> TransposedWindow(3, stride=2).tap_of_phase.tolist()  # 3: none in that phase
        [2, 3, 0, 1]
        """
        import numpy as np

        taps = np.arange(self._reach // self._inner_dilation, -1, -1) * self._inner_dilation
        place = (taps[:, None] * self.stride + np.arange(self.stride)).reshape(-1)
        exists = (place % self.dilation == 0) & (place < self.extent)
        return np.where(exists, place // self.dilation, self.kernel)

    @property
    def _reach(self) -> int:
        """How many inputs back the last tap of a window is felt."""
        return (self.extent - 1) // self.stride

    @property
    def _inner_dilation(self) -> int:
        # All taps are in phase 0 then, this far apart; else the gaps between them differ.
        return self.dilation // self.stride if self.dilation % self.stride == 0 else 1

    def _known_pads(self, size: int | None) -> Pads:
        pads = self.pads(size)
        if pads is None:
            raise GeometryError(
                "its crop depends on a size that is unknown before run time", code=Code.OPEN_SIZE
            )
        return pads


@dataclass(frozen=True)
class TransposedConvolution(AnyConvolution):
    """A transposed convolution over any number of spatial axes.

    Its kernel is (k1, .., kr, channels / groups, filters) as that of any convolution; `AnyWindow`
    and `AnyConvolution` say what the rest means.
    """

    windows: tuple[TransposedWindow, ...]

    def positions(self, sizes: Sizes) -> int | None:
        """See `AnyConvolution.positions`: from each input position."""
        return product(sizes)

    @property
    def phases(self) -> tuple[int, ...]:
        """See `AnyConvolution.phases`: the strides."""
        return tuple(window.stride for window in self.windows)

    def inner(self, sizes: Sizes) -> Convolution:
        """See `AnyConvolution.inner`.

        Raises:
            GeometryError: it depends on an unknown size.
        """
        windows = [w.inner(size) for w, size in zip(self.windows, sizes, strict=True)]
        filters = self.filters * math.prod(self.phases)
        return Convolution(tuple(windows), self.channels, filters, self.groups)

    def frames(self, sizes: Sizes) -> Mapping[int, Frame]:
        """By spatial axis: of those whose crop depends on an unknown size."""
        axes = enumerate(zip(self.windows, sizes, strict=True))
        return {axis: w.frame for axis, (w, size) in axes if size is None and w.length is not None}

    def framed(self, sizes: Sizes) -> tuple[TransposedConvolution, Sizes]:
        """See `AnyConvolution.framed`."""
        windows, known = list(self.windows), list(sizes)
        for axis, frame in self.frames(sizes).items():
            windows[axis], known[axis] = frame.window, frame.length
        return replace(self, windows=tuple(windows)), tuple(known)

    def inner_kernel(self, kernel: NDArray[Any]) -> NDArray[Any]:
        """See `AnyConvolution.inner_kernel`: a filter for each phase, its taps backwards.

        >>> import numpy as np
        >>> conv = TransposedConvolution((TransposedWindow(3, stride=2),), 1, filters=1)
        >>> conv.inner_kernel(np.array([10, 20, 30]).reshape(3, 1, 1)).reshape(2, 2).tolist()
        [[30, 0], [10, 20]]
        """
        import numpy as np

        kernel = np.pad(kernel, [*[(0, 1)] * self.rank, (0, 0), (0, 0)])
        for axis, window in enumerate(self.windows):
            kernel = kernel.take(window.tap_of_phase, axis)
        shape, order = self.phase_layout
        phased = kernel.reshape(shape).transpose(order)
        inner: NDArray[Any] = phased.reshape(*phased.shape[: self.rank + 1], -1)
        return inner

    @property
    def phase_layout(self) -> tuple[list[int], list[int]]:
        """How to take phases apart from taps in a kernel, once `tap_of_phase` is taken.

        Returns:
            The shape (taps, phase, taps, phase, .., channels / groups, groups, filters / groups)
            and the order of axes that puts phases between the last two.
        """
        shape = []
        for window in self.windows:
            shape += [len(window.tap_of_phase) // window.stride, window.stride]
        shape += [self.channels // self.groups, self.groups, self.filters // self.groups]
        end = 2 * self.rank
        return shape, [*range(0, end, 2), end, end + 1, *range(1, end, 2), end + 2]

    def cuts(self, sizes: Sizes) -> tuple[slice, ...]:
        """See `AnyConvolution.cuts`."""
        return tuple(w.cut(size) for w, size in zip(self.windows, sizes, strict=True))
