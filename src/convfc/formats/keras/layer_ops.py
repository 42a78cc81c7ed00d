"""`convfc.core.im2col.Ops` in stock layers of Keras, on its symbolic tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import layers
from numpy.typing import NDArray

from convfc.core.geometry import AnyConvolution, Convolution, Pads, Sizes
from convfc.core.im2col import Ops, one_open
from convfc.formats.keras.stock import AVERAGE, CROPPING, GLOBAL_MAXIMUM, PADDING

Tensor = Any
"""A `keras.KerasTensor`; keras has no types."""

_UPSAMPLING = (layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D)

CarriedSettings = Callable[[tuple[int, ...], tuple[int, ...]], dict[str, Any]]
"""Shapes of kernel and bias to arguments of the layer that holds them."""


class StockOps(Ops[Tensor]):
    """Stock layers only, which every Keras file can hold.

    A Reshape stands one unknown size. Where there are more, blocks of channels are taken one by
    one and phases are interleaved by masks; a mask of 0 and 1 is exact for finite numbers.

    Args:
        name: of the convolution layer; the (first) layer with weights gets it too, so that they
            keep their paths, and the names of all others start with it.
        dtype: its dtype policy.
        rank: number of spatial axes.
    """

    reshapable = 1

    def __init__(self, name: str, dtype: Any, rank: int) -> None:
        self._name = name
        self._dtype = dtype
        self._rank = rank
        self._settings: CarriedSettings
        self._weighted: list[Any] = []
        self._made_dense: Any = None
        self._zero: Any = None
        self._made = 0
        self._tap = ""  # that the next layers cut out, as their names say it

    def weigh(self, settings: CarriedSettings) -> None:
        """Begin the next product, with other weights.

        Args:
            settings: arguments that the layer with the weights takes over.
        """
        self._settings = settings
        self._made_dense = None

    def layer(self, kind: type[Any], *args: Any, **kwargs: Any) -> Any:
        """A layer of the convolution's dtype, with a name of its own."""
        name = self._fresh(self._tap or kind.__name__.lower())
        return kind(*args, **{"name": name, "dtype": self._dtype, **kwargs})

    def _fresh(self, what: str) -> str:
        """A name that nothing else in the small model has."""
        self._made += 1
        return f"{self._name}_{what}_{self._made}"

    def pad(self, x: Tensor, pads: Sequence[Sequence[Pads]]) -> Tensor:
        """See `Ops.pad`; each axis whose pads depend on its unknown size gets them first."""
        for axis, by in enumerate(pads, 1):
            if len(by) > 1:
                x = self._pad_by_remainder(x, axis, by)
        return self._pad_always(x, [by[0] if len(by) == 1 else (0, 0) for by in pads])

    def _pad_by_remainder(self, x: Tensor, axis: int, by: Sequence[Pads]) -> Tensor:
        """Every padding that may be due, each times 1 if it is and times 0 if not, added up.

        The pads after are as many as make one length: too few for one more position. A kernel of 3
        and a stride of 2 need ((0, 1), (1, 1)): the line 1 2 3 4 becomes 1 2 3 4 0 0, for the mark
        0 0 0 0 1 has its 1 among every other entry; 1 2 3 4 5 becomes 0 1 2 3 4 5 0.
        """
        stride, total = len(by), max(map(sum, by))
        mark = self._constant_line(x, axis, 1.0)
        mark = self._exact(layers.ZeroPadding1D, (0, 1), data_format="channels_last")(mark)
        mark = self._exact(layers.Rescaling, -1.0, 1.0)(mark)  # at position n, behind the last
        due = []
        for before in sorted({pads[0] for pads in by}):
            # n = first, first + 1, .. up to stride, or as much more as any multiple of it.
            count = [pads[0] for pads in by].count(before)
            first = next(n for n in range(1, stride + 1) if by[n % stride][0] == before)
            ends = (stride - first, stride)
            flag = self._exact(layers.ZeroPadding1D, ends, data_format="channels_last")(mark)
            flag = self._exact(
                layers.MaxPooling1D, count, strides=stride, data_format="channels_last"
            )(flag)
            flag = self._single(flag, self._rank + 1)
            padding = [(0, 0)] * self._rank
            padding[axis - 1] = (before, total - before)
            due.append(self.layer(layers.Multiply)([self._pad_always(x, padding), flag]))
        return self.layer(layers.Add)(due) if len(due) > 1 else due[0]

    def _pad_always(self, x: Tensor, pads: Sequence[Pads]) -> Tensor:
        return self._along_axes(PADDING, x, pads) if any(map(any, pads)) else x

    def tap(self, x: Tensor, slices: Sequence[slice], axis: int, taps: range) -> Tensor:
        """See `Ops.tap`: what cuts them out is called by them, such as `conv1_axis_2_tap_0_4`."""
        which = f"taps_{taps[0]}_to_{taps[-1]}" if len(taps) > 1 else f"tap_{taps[0]}"
        self._tap = f"axis_{axis + 1}_{which}"
        y = self.slice(x, slices)
        self._tap = ""
        return y

    def slice(self, x: Tensor, slices: Sequence[slice]) -> Tensor:
        """See `Ops.slice`: cropping, then pooling of single numbers for the steps."""
        if len(slices) > self._rank:
            x, slices = self._channels(x, 0, slices[-1].stop), slices[: self._rank]
        crops = [
            (kept.start, size - kept.stop if (kept.stop or 0) > 0 else -(kept.stop or 0))
            for kept, size in zip(slices, self._sizes(x), strict=True)
        ]
        if any(map(any, crops)):
            x = self._along_axes(CROPPING, x, crops)
        steps = [kept.step for kept in slices]
        return self._strided(x, steps) if max(steps) > 1 else x

    def _strided(self, x: Tensor, steps: Sequence[int]) -> Tensor:
        """Every so many entries along each axis; averages of one number are exact."""
        given = {"pool_size": 1, "data_format": "channels_last"}
        if self._rank == 3 and x.dtype == "float64":
            # Tensorflow pools no float64 over three axes: two of them at a time.
            if max(steps[1:]) > 1:
                pool = self.layer(layers.AveragePooling2D, strides=tuple(steps[1:]), **given)
                x = self.layer(layers.TimeDistributed, pool)(x)
            if steps[0] > 1:
                pool = self.layer(layers.AveragePooling2D, strides=(steps[0], 1), **given)
                x = self.layer(layers.Permute, (2, 1, 3, 4))(x)
                x = self.layer(layers.TimeDistributed, pool)(x)
                x = self.layer(layers.Permute, (2, 1, 3, 4))(x)
            return x
        if self._rank == 3 and x.dtype == "float16":
            # Nor float16; to float32 and back is exact.
            given["dtype"] = "float32"
        return self.layer(AVERAGE[self._rank - 1], strides=tuple(steps), **given)(x)

    def take(self, x: Tensor, index: NDArray[np.int64]) -> Tensor:
        """See `Ops.take`."""
        raise NotImplementedError("no stock layer gathers; Site.methods does not offer it")

    def concatenate(self, xs: Sequence[Tensor], axis: int) -> Tensor:
        """See `Ops.concatenate`."""
        return self.layer(layers.Concatenate, axis=axis)(list(xs))

    def reshape(self, x: Tensor, shape: Sequence[int | None]) -> Tensor:
        """See `Ops.reshape`; a Reshape stands one unknown size."""
        return self.layer(layers.Reshape, tuple(one_open(shape)))(x)

    def transpose(self, x: Tensor, order: Sequence[int]) -> Tensor:
        """See `Ops.transpose`."""
        return self.layer(layers.Permute, tuple(order[1:]))(x)

    def product(self, patches: Tensor, convolution: Convolution, positions: Sizes) -> Tensor:
        """See `Ops.product`: Dense, or EinsumDense with an axis for the groups.

        A kernel (3, 3, 2, 6) over 4 channels in 2 groups, with 3 filters each: the very bytes are
        (9, 2, 2, 3), and the equation is bxytgi,tigo->bxygo.
        """
        groups, taps, filters = convolution.groups, convolution.taps, convolution.filters
        inner, outer = convolution.channels // groups, filters // groups
        sizes, space = list(positions), "xyz"[: self._rank]
        if groups == 1:
            return self._dense((convolution.patch_length, filters))(patches)
        if sizes.count(None) <= self.reshapable:
            blocks = self.reshape(patches, [*sizes, taps, groups, inner])
            # No axis for one filter per group: Keras on TensorFlow adds a bias (groups, 1) along
            # axis 1 where that is as long.
            kept = {"g": groups, "o": outer} if outer > 1 else {"g": groups}
            axes = "".join(kept)
            equation = f"b{space}tgi,ti{axes}->b{space}{axes}"
            kernel = (taps, inner, *kept.values())
            # Known sizes are left open behind it, for not all blocks of positions are alike. There
            # are no blocks where one is unknown, and `reshape` needs the others then.
            behind = sizes if None in sizes else [None] * self._rank
            y = self._dense(kernel, equation, behind, bias_rank=len(kept))(blocks)
            return self.reshape(y, [*sizes, filters])
        if inner == 1:
            # Each filter has one channel for itself, and so have the taps an axis.
            repeated = self._repeat(patches, self._rank + 1, outer)
            columns = [self._channels(repeated, tap * filters, filters) for tap in range(taps)]
            stacked = self.concatenate([self._lift(column) for column in columns], 1)
            return self._dense((taps, filters), f"bt{space}f,tf->b{space}f", sizes)(stacked)
        dense = self._dense((convolution.patch_length, filters))
        made = []
        for group in range(groups):
            starts = [(tap * groups + group) * inner for tap in range(taps)]
            block = [self._channels(patches, start, inner) for start in starts]
            y = dense(self.concatenate(block, -1) if taps > 1 else block[0])
            made.append(self._channels(y, group * outer, outer))
        return self.concatenate(made, -1)

    def whole_product(self, x: Tensor, shape: tuple[int, int]) -> Tensor:
        """The product of the dense form: a row of all inputs with a matrix of some shape."""
        return self._dense(shape)(x)

    def _dense(
        self,
        kernel: tuple[int, ...],
        equation: str | None = None,
        sizes: Sequence[Any] = (),
        bias_rank: int = 1,
    ) -> Any:
        """The layer with the weights; all blocks of rows share it.

        A bias is a vector of the last axis or has two axes longer than 1, for with any other one
        Keras on TensorFlow may guess wrong; see `sites.bias_goes_astray`.

        Args:
            kernel: its shape.
            equation: that it computes, as letters of axes; a product of matrices if ``None``.
            sizes: spatial ones of its output, ``None`` where not the same in all blocks, if there
                is an equation.
            bias_rank: the last axes of its output, over which the bias runs.
        """
        if self._made_dense is None:
            bias = kernel[-bias_rank:]
            given = {"name": self._next_name(), **self._settings(kernel, bias)}
            if equation is None:
                self._made_dense = self.layer(layers.Dense, kernel[-1], **given)
            else:
                given["bias_axes"] = equation[-bias_rank:] if given.pop("use_bias") else None
                shape = (*sizes, *bias)
                self._made_dense = self.layer(layers.EinsumDense, equation, shape, **given)
        return self._made_dense

    def _next_name(self) -> str:
        """Of the next layer with weights."""
        name = f"{self._name}_{len(self._weighted)}" if self._weighted else self._name
        self._weighted.append(name)
        return name

    def interleave(self, y: Tensor, convolution: AnyConvolution, sizes: Sizes) -> Tensor:
        """See `Ops.interleave`; Keras has no transposed layers with groups.

        Positions a0 b0 and a1 b1 of two phases become a0 b0 a1 b1: a0 a0 a1 a1 times 1 0 1 0, and
        b0 b0 b1 b1 times 0 1 0 1, added up.
        """
        if sizes.count(None) <= self.reshapable:
            return super().interleave(y, convolution, sizes)
        width = y.shape[-1]
        for axis, phases in enumerate(convolution.phases, 1):
            if phases == 1:
                continue
            width //= phases
            ones = self._constant_line(y, axis, 1.0)
            due = []
            for phase in range(phases):
                one_of = (phase, phases - 1 - phase)
                mask = self._exact(layers.ZeroPadding1D, one_of, data_format="channels_first")(ones)
                shape = [1] * (self._rank + 1)
                shape[axis - 1] = -1
                mask = self._exact(layers.Reshape, shape)(mask)
                own = self._repeat(self._channels(y, phase * width, width), axis, phases)
                due.append(self.layer(layers.Multiply)([own, mask]))
            y = self.layer(layers.Add)(due)
        return y

    def _exact(self, kind: type[Any], *args: Any, **kwargs: Any) -> Any:
        """A layer that computes zeros and ones, whatever the convolution's dtype."""
        return self.layer(kind, *args, dtype="float32", **kwargs)

    def _constant_line(self, x: Tensor, axis: int, value: float) -> Tensor:
        """(batch, n, 1) times `value`, n being the size of an axis of `x`, whatever is in there.

        Nothing is multiplied by 0, for NaN would remain: of the channels 5 and 7, cropped to 7,
        padded to 7 0 and cropped to 0, the largest is 0.
        """
        last = self._rank - 1
        others = [other for other in range(1, self._rank + 1) if other != axis]
        x = self._exact(layers.Permute, (self._rank + 1, *others, axis))(x)
        channels = x.shape[1]
        rest = [(0, 0)] * last
        # One channel gives way to a pad.
        for kind, amount in (
            (CROPPING, (channels - 1, 0)),
            (PADDING, (0, 1)),
            (CROPPING, (1, 0)),
        ):
            x = self._along_axes(kind, x, [amount, *rest], exact=True)
        x = self._exact(GLOBAL_MAXIMUM[last], data_format="channels_last")(x)
        x = self._exact(layers.Reshape, (-1, 1))(x)
        return self._exact(layers.Rescaling, 1.0, value)(x) if value else x

    def _single(self, line: Tensor, rank: int) -> Tensor:
        """The largest number of a line, (batch, 1, .., 1)."""
        x = self._exact(layers.GlobalMaxPooling1D, data_format="channels_last")(line)
        return self._exact(layers.Reshape, (1,) * rank)(x)

    def _lift(self, x: Tensor) -> Tensor:
        """`x` with an axis of 1 behind the batch: that is how Keras merges unequal ranks."""
        if self._zero is None:
            self._zero = self._single(self._constant_line(x, 1, 0.0), self._rank + 2)
        return self.layer(layers.Subtract)([x, self._zero])

    def _channels(self, x: Tensor, start: int, count: int) -> Tensor:
        """Some channels of a tensor.

        To layers that take the first axis for channels, the last one is spatial.
        """
        if self._rank == 1:  # whose layer always takes the last one
            crop = (start, x.shape[-1] - start - count)
            first = self.layer(layers.Permute, (2, 1))(x)
            return self.layer(layers.Permute, (2, 1))(self.layer(layers.Cropping1D, crop)(first))
        crops = [(0, 0)] * (self._rank - 1) + [(start, x.shape[-1] - start - count)]
        kind = CROPPING[self._rank - 1]
        return self.layer(kind, tuple(crops), data_format="channels_first")(x)

    def _repeat(self, x: Tensor, axis: int, times: int) -> Tensor:
        """Repeat each number along an axis of a tensor with two spatial axes or more."""
        if times == 1:
            return x
        first = axis > self._rank
        size = [times if other == axis else 1 for other in range(1 + first, self._rank + 1 + first)]
        data_format = "channels_first" if first else "channels_last"
        return self.layer(_UPSAMPLING[self._rank - 1], tuple(size), data_format=data_format)(x)

    def _along_axes(
        self, kinds: Sequence[type[Any]], x: Tensor, amounts: Sequence[Pads], *, exact: bool = False
    ) -> Tensor:
        make = self._exact if exact else self.layer
        if self._rank == 1:
            # Channels last whatever the user's keras.json says; Cropping1D knows nothing else.
            extra = {} if kinds is CROPPING else {"data_format": "channels_last"}
            return make(kinds[0], amounts[0], **extra)(x)
        return make(kinds[self._rank - 1], tuple(amounts), data_format="channels_last")(x)

    def _sizes(self, x: Tensor) -> list[Any]:
        return list(x.shape[1 : self._rank + 1])
