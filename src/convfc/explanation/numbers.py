"""The numbers of one layer on one sample: y = P F + b with everything filled in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convfc.core.arrays import Array, numpy_type
from convfc.core.geometry import Convolution, Window
from convfc.core.im2col import patch_tensor
from convfc.core.lowering import Lowering, lower
from convfc.core.numpy_ops import NumpyOps, filter_matrices
from convfc.core.quantization import Quantization, Scaling
from convfc.errors import UnsupportedModelError
from convfc.explanation.agreement import Agreement, agreement
from convfc.explanation.patch_matrix import index_map
from convfc.explanation.slices import flat
from convfc.refusals import Code, Refusal
from convfc.system.capacity import excess
from convfc.text.shown import Shown
from convfc.text.visible import visible

_DRAWN = 32
"""Bytes for each number of the patch matrix, while it is multiplied and drawn."""


@dataclass(frozen=True, repr=False)
class Explanation(Shown):
    """One convolution of two spatial axes.

    A first axis of size 1 is added to a single one; of more than two, one slice is left (`slices`).
    With groups, matrices are those of the first block of channels. Of a quantized layer, all
    numbers are integers from which the zero point is taken off, so that its pads are 0.

    Attributes:
        title: what is explained; names in it and in `said` are made visible, see `visible`.
        lowering: geometry and sizes.
        dtype: numpy's name of the element type that the layer computes with.
        image: (height, width, channels), what the layer is fed.
        description: what the sample is.
        remarks: what else one must know to read the numbers, a sentence each.
        patches: P, (positions, taps * channels / groups).
        filters: F, (taps * channels / groups, filters / groups).
        bias: (filters / groups,) or ``None``.
        output: P F + b, (positions, filters / groups): in double precision, or exact integers.
        own: the same as the layer itself computes it, before its activation: as integers scaled
            and rounded where there is a `scaling`; ``None`` without a model.
        agreement: how near `own` is to `output`; ``None`` without a model.
        scaling: what a quantized layer does with the sums in the end, its scales those of the
            first block; ``None``: nothing.
        others: the images behind this one in a batch. P of the batch is theirs, one below the
            other (`batch`).
    """

    title: str
    lowering: Lowering
    dtype: str
    image: Array
    description: str
    remarks: tuple[str, ...]
    patches: Array
    filters: Array
    bias: Array | None
    output: Array
    own: Array | None = None
    agreement: Agreement | None = None
    scaling: Scaling | None = None
    others: tuple[Explanation, ...] = ()

    @property
    def batch(self) -> tuple[Explanation, ...]:
        """Each image, alone: N of them are N blocks of rows of P, which meet the same F."""
        return (replace(self, others=()), *self.others)

    @property
    def convolution(self) -> Convolution:
        """The geometry."""
        return self.lowering.inner

    @property
    def outputs(self) -> tuple[int, int]:
        """Height and width of the output."""
        height, width = self.lowering.output
        assert height is not None and width is not None  # noqa: S101, PT018 - all is known
        return height, width

    @property
    def pads(self) -> tuple[tuple[int, int], ...]:
        """Zeros before and after each axis."""
        pads = self.lowering.pads
        assert pads is not None  # noqa: S101 - all is known
        return pads

    @property
    def itemsize(self) -> int:
        """Bytes of a number of the image, as the layer gets it."""
        return numpy_type(self.dtype).itemsize

    @property
    def depth(self) -> int:
        """Channels of a window."""
        return self.convolution.channels // self.convolution.groups

    @property
    def integral(self) -> bool:
        """Whether all numbers are integers, so that no sum is rounded."""
        return self.output.dtype.kind == "i"

    @property
    def index_map(self) -> NDArray[np.int64]:
        """Which number of the flattened image each entry of P is; -1 in the padding."""
        windows, channels = self.convolution.windows, self.convolution.channels
        places = index_map(
            self.image.shape[:2],
            self.convolution.kernel,
            channels=channels,
            strides=[window.stride for window in windows],
            dilations=[window.dilation for window in windows],
            padding=self.pads,
        )
        every = places.reshape(len(places), -1, channels)
        return every[..., : self.depth].reshape(self.patches.shape)

    @property
    def flipped(self) -> Explanation:
        """The same with each filter flipped: what mathematics calls a convolution.

        Layers compute a cross-correlation. No layer has computed this, so `own` is ``None``.
        """
        kernel = self.filters.reshape(*self.convolution.kernel, -1)
        filters = kernel[::-1, ::-1].reshape(self.filters.shape)
        output, _ = _products(self.patches, filters, self.bias)
        return replace(
            self, filters=filters, output=output, own=None, agreement=None, scaling=None, others=()
        )

    def dense_part(self, pixels: range, columns: range) -> Array:
        """A part of M, the one matrix that makes the whole output of the whole flattened image.

        Args:
            pixels: its rows: numbers of the flattened image.
            columns: of it; a window has as many as there are filters in the first block.
        """
        places = [divmod(column, self.filters.shape[1]) for column in columns]
        part = np.zeros((len(pixels), len(places)), self.filters.dtype)
        for row, pixel in zip(part, pixels, strict=True):
            place, channel = divmod(pixel, self.image.shape[2])
            for n, (position, number) in enumerate(places):
                tap = self._tap(divmod(place, self.image.shape[1]), position)
                if tap is not None and channel < self.depth:
                    row[n] = self.filters[tap * self.depth + channel, number]
        return part

    def _tap(self, place: tuple[int, int], position: int) -> int | None:
        """With which tap a window sees a place of the image; ``None``: not at all."""
        tap = 0
        axes = zip(place, self.corner(position), self.convolution.windows, strict=True)
        for at, start, window in axes:
            step, rest = divmod(at - start, window.dilation)
            if rest or not 0 <= step < window.kernel:
                return None
            tap = tap * window.kernel + step
        return tap

    def corner(self, position: int) -> tuple[int, int]:
        """Row and column of a window's first tap in the image; negative in the padding."""
        place = divmod(position, self.outputs[1])
        axes = zip(place, self.convolution.windows, self.pads, strict=True)
        row, column = (at * window.stride - before for at, window, (before, _) in axes)
        return row, column

    @property
    def most_telling(self) -> tuple[int, int]:
        """The window and the filter of the first block that have most to show."""
        window = int(np.argmax(np.ptp(self.patches, axis=1) + np.var(self.patches, axis=1)))
        varied = np.ptp(self.output, axis=0) * np.ptp(self.filters, axis=0)
        return window, int(np.argmax(varied))

    def patch_image(self, position: int, channel: int = 0) -> Array:
        """The window of a position, one channel of it: (taps, taps)."""
        window = self.patches[position].reshape(*self.convolution.kernel, -1)
        return np.asarray(window[..., channel])

    def filter_image(self, number: int, channel: int = 0) -> Array:
        """A filter laid out as it lies in the window, one channel of it: (taps, taps)."""
        window = self.filters[:, number].reshape(*self.convolution.kernel, -1)
        return np.asarray(window[..., channel])

    def output_image(self, number: int) -> Array:
        """What one filter makes of the image: (height, width)."""
        return self.output[:, number].reshape(self.outputs)

    def products(self, position: int, number: int) -> Array:
        """Tap by tap and channel by channel, what adds up to a number of P F."""
        column = self.filters[:, number]
        return np.asarray(self.patches[position].astype(self.output.dtype) * column)


def explanation(
    title: str,
    conv: Convolution,
    x: Array,
    kernel: Array,
    bias: Array | None,
    description: str,
    *,
    dtype: str = "float32",
    own: Array | None = None,
    quantization: Quantization | None = None,
) -> Explanation:
    """Fill in everything.

    Args:
        title: what is explained.
        conv: the geometry.
        x: one sample, (1, sizes.., channels), as the layer gets it.
        kernel: (k.., channels / groups, filters), as the layer has it.
        bias: (filters,).
        description: what the sample is.
        dtype: numpy's name of the element type that the layer computes with.
        own: what the layer makes of it, (1, outputs.., filters).
        quantization: of a layer that computes with integers.

    Raises:
        DisagreementError: `own` is not P F + b.
        UnsupportedModelError: the matrices are too large for this machine.
    """
    remarks = []
    if conv.rank == 1:
        remarks.append("its one axis is drawn as an image of one row")
        conv = replace(conv, windows=(Window(1), *conv.windows))
        x, kernel = x[:, None], kernel[None]
    if quantization is not None:
        x, kernel = _shifted(x, kernel, quantization)
        remarks += _of_integers(quantization)
    conv, x, kernel, own, said = flat(conv, x, kernel, own)
    remarks += said
    lowering = lower(conv, x.shape[1:-1])
    if isinstance(lowering, Refusal):
        raise UnsupportedModelError(
            f"{title or 'the convolution'}: it cannot be explained: {lowering.reason}",
            code=lowering.code,
        )
    rows_, columns = lowering.patch_matrix
    why = excess(_DRAWN * (rows_ or 0) * columns, conv.multiply_adds(lowering.sizes) or 0)
    if why is not None:
        raise UnsupportedModelError(
            f"{title or 'the convolution'}: it cannot be explained: {why}", code=Code.NOT_EXPLAINED
        )
    depth, width = conv.channels // conv.groups, conv.filters // conv.groups
    if conv.groups > 1:
        remarks.append(_of_groups(conv, depth, width))
    rows = patch_tensor(NumpyOps(kernel), x, lowering).reshape(-1, conv.taps, conv.channels)
    patches = rows[..., :depth].reshape(len(rows), conv.patch_length)
    filters = filter_matrices(kernel, conv.groups)[0]
    bias = None if bias is None else bias[:width]
    output, magnitude = _products(patches, filters, bias)
    scaling = None if quantization is None else quantization.scaling
    if scaling is not None:
        scaling = replace(scaling, kernel_scales=scaling.kernel_scales[:width])
    found = None
    if own is not None:
        own = own.reshape(-1, conv.filters)[:, :width]
        found = agreement(own, output, magnitude, conv.patch_length, dtype, scaling)
    return Explanation(
        title=visible(title),
        lowering=lowering,
        dtype=dtype,
        image=x[0],
        description=visible(description),
        remarks=tuple(remarks),
        patches=patches,
        filters=filters,
        bias=bias,
        output=output,
        own=own,
        agreement=found,
        scaling=scaling,
    )


def _products(patches: Array, filters: Array, bias: Array | None) -> tuple[Array, Array]:
    """P F + b, and the sums of the magnitudes of what is summed there.

    Products of 8-bit integers and their sums are exact in double precision.
    """
    wide, columns = patches.astype(np.float64), filters.astype(np.float64)
    added: Array = np.zeros(filters.shape[1]) if bias is None else bias.astype(np.float64)
    output = wide @ columns + added
    magnitude = abs(wide) @ abs(columns) + abs(added)
    return output.astype(np.int64) if patches.dtype.kind == "i" else output, magnitude


def _shifted(x: Array, kernel: Array, quantization: Quantization) -> tuple[Array, Array]:
    """Both without their zero points."""
    shifted = kernel.astype(np.int64) - quantization.kernel_zeros
    return x.astype(np.int64) - quantization.x_zero, shifted


def _of_integers(quantization: Quantization) -> list[str]:
    x, zeros = quantization.x_zero, quantization.kernel_zeros
    same = len(set(zeros.tolist())) == 1
    kernel = f"{zeros[0]} off the filters"
    if not same:
        kernel = f"its own, {zeros.min()} to {zeros.max()}, off each filter"
    return [
        f"integers without their zero points: {x} is taken off the input and its pads, which are "
        f"0 then, and {kernel}"
    ]


def _of_groups(conv: Convolution, depth: int, width: int) -> str:
    def first(count: int, total: int, what: str) -> str:
        return f"{what} {'0' if count == 1 else f'0 to {count - 1:,}'} of {total:,}"

    return (
        f"{conv.groups:,} blocks of channels, each on its own; this is the first: "
        f"{first(depth, conv.channels, 'channel' + 's' * (depth > 1))}, "
        f"{first(width, conv.filters, 'filter' + 's' * (width > 1))}"
    )
