"""`convfc.core.im2col.Ops` on ONNX values: each call adds nodes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from convfc.core.arrays import to_first, to_last
from convfc.core.geometry import AnyConvolution, Convolution, Pads, Sizes, Window, product
from convfc.core.im2col import Ops, one_open
from convfc.core.lowering import Lowering, PatchMethod
from convfc.formats.forms import DEFAULT, Forms
from convfc.formats.onnx.bands import bands
from convfc.formats.onnx.emitter import END, Emitter, constant_of
from convfc.formats.onnx.filter_matrix import Layout, filter_matrix, phase_bias, unsigned
from convfc.formats.onnx.index_map import gathered, stored
from convfc.formats.onnx.interleaving import interleaved
from convfc.formats.onnx.taps import shifted_sum, summed_products, weighted_sum


def _merged(positions: Sizes) -> int | None:
    """Positions as one axis, in the place of the first, to reshape to."""
    return product(positions) if None not in positions or len(positions) == 1 else -1


class OnnxOps(Ops[ir.Value]):
    """Operations around a product of floating-point numbers.

    Args:
        emitter: where the nodes go.
        lowering: the layer.
        given: its inputs by their roles.
        forms: how its product is written.
    """

    def __init__(
        self,
        emitter: Emitter,
        lowering: Lowering,
        given: Mapping[str, ir.Value],
        forms: Forms = DEFAULT,
    ) -> None:
        self.emit = emitter
        self._lowering = lowering
        self.given = given
        self._forms = forms
        self._rank = lowering.convolution.rank

    @property
    def has_channels_first(self) -> bool:
        """Whether `channels_first_product` is the whole layer: a pointwise one.

        ONNX's own layout is the transposed patch matrix of such a layer, group by group.
        """
        lowering = self._lowering
        padded = any(map(any, lowering.pads or ()))
        return (
            lowering.method is PatchMethod.NONE
            and not self._forms.filters_right
            and isinstance(lowering.convolution, Convolution)
            and not (padded or lowering.inner.depthwise)
            and self._adds
            and lowering.sizes.count(None) <= 1
        )

    @property
    def prefers_channels_first(self) -> bool:
        """Whether it is so whatever is around it: groups would be moved, there and back."""
        return self.has_channels_first and self._lowering.convolution.groups > 1

    def channels_first_product(self, x: ir.Value) -> tuple[str, tuple[ir.Value, ...]]:
        """F^T P^T + b for each group, reshaped: the last operator and what it reads.

        Along one open axis, the input is P^T as it is, and the product the output.
        """
        emit, inner, sizes = self.emit, self._lowering.inner, self._lowering.sizes
        groups = [inner.groups] if inner.groups > 1 else []
        matrix = filter_matrix(emit, self.given["kernel"], self._lowering, Layout.TRANSPOSED)
        bias = self._bias and emit.reshape(self._bias, [*groups, -1, 1])
        if sizes == (None,) and not (groups or emit.zeros):
            if bias is None:
                return "MatMul", (matrix, x)
            return "Add", (emit.node("MatMul", matrix, x), bias)
        columns = emit.reshape(x, [None, *groups, inner.patch_length, product(sizes) or -1])
        y = emit.node("MatMul", matrix, emit.call(columns, "patch_matrix"))
        y = y if bias is None else emit.node("Add", y, bias)
        return "Reshape", (y, emit.shape(x, [None, inner.filters, *one_open(sizes)]))

    def pad(self, x: ir.Value, pads: Sequence[Sequence[Pads]]) -> ir.Value:
        """See `Ops.pad`; sizes that are not known before run time need opset 11.

        The pads of all axes and remainders form one table, of which each axis takes a row.
        With open sizes and strides 2 and 3, its rows are 1 of the batch, 2, 3 and 1 of the
        channels: a second size of 7 takes row 3 + 7 % 3 = 4.
        """
        emit = self.emit
        table = [((0, 0),), *pads, ((0, 0),)]
        counts = [len(rows) for rows in table]
        flat = [row for rows in table for row in rows]
        if len(flat) == len(table):
            return emit.pad(x, [*(row[0] for row in flat), *(row[1] for row in flat)], self._zero)
        firsts = np.cumsum([0, *counts[:-1]])
        remainders = emit.node("Mod", emit.sizes(x), emit.integers(counts, "strides"))
        rows = emit.node("Add", remainders, emit.integers(firsts.tolist(), "rows"))
        chosen = emit.node(
            "Gather", emit.numbers(np.array(flat, np.int64), "pads_by_remainder"), rows, axis=0
        )
        padded = emit.pad(x, emit.reshape(emit.transpose(chosen, [1, 0]), [-1]), self._zero)
        # Shape inference gives up all axes of such a Pad; most of them are known.
        axes = zip(self._lowering.sizes, pads, strict=True)
        sizes = [None if size is None else size + sum(rows[0]) for size, rows in axes]
        return emit.reshape(padded, [None, *sizes, self._lowering.convolution.channels])

    def slice(self, x: ir.Value, slices: Sequence[slice]) -> ir.Value:
        """See `Ops.slice`; before opset 10, pooling of single numbers makes the steps."""
        emit = self.emit
        old = emit.place.opset < 10
        steps = [piece.step for piece in slices]
        # An axis that is taken whole needs no mention.
        whole = [slice(0, None, 1), *([slice(0, None, step) for step in steps] if old else [])]
        pieces = {axis: piece for axis, piece in enumerate(slices, 1) if piece not in whole}
        starts = [piece.start for piece in pieces.values()]
        ends = [END if piece.stop is None else piece.stop for piece in pieces.values()]
        if not old:
            if not pieces:
                return x
            lists = {"starts": starts, "ends": ends, "axes": list(pieces)}
            lists["steps"] = [piece.step for piece in pieces.values()]
            return emit.node("Slice", x, *(emit.integers(v, role) for role, v in lists.items()))
        if pieces:
            x = emit.node("Slice", x, starts=starts, ends=ends, axes=list(pieces))
        if max(steps) == 1:
            return x
        rank = self._rank + 2
        first = emit.transpose(x, to_first(rank))
        ones = [1] * self._rank
        kept = emit.node("AveragePool", first, kernel_shape=ones, strides=steps)
        return emit.transpose(kept, to_last(rank))

    def take(self, x: ir.Value, index: NDArray[np.int64]) -> ir.Value:
        """See `Ops.take`."""
        return self.emit.node("Gather", x, stored(self.emit, index), axis=1)

    def gather(self, x: ir.Value, convolution: Convolution, sizes: Sizes) -> ir.Value:
        """See `Ops.gather`; a row of taps for each position, then a row of numbers."""
        taps, columns = gathered(self.emit, x, convolution), convolution.taps * convolution.channels
        return self.emit.reshape(taps, [None, *convolution.output(sizes), columns])

    def concatenate(self, xs: Sequence[ir.Value], axis: int) -> ir.Value:
        """See `Ops.concatenate`."""
        return self.emit.node("Concat", *xs, axis=axis % (self._rank + 2))

    def bands(self, x: ir.Value, window: Window, count: int) -> Iterable[ir.Value]:
        """See `Ops.bands`."""
        return bands(self.emit, x, window, count)

    def reshape(self, x: ir.Value, shape: Sequence[int | None]) -> ir.Value:
        """See `Ops.reshape`."""
        return self.emit.reshape(x, [None, *shape])

    def transpose(self, x: ir.Value, order: Sequence[int]) -> ir.Value:
        """See `Ops.transpose`."""
        return self.emit.transpose(x, order)

    def product(self, patches: ir.Value, convolution: Convolution, positions: Sizes) -> ir.Value:
        """See `Ops.product`.

        With groups, each has a product of its own, all in one batch; groups of one channel are
        multiplied and summed, for as matrices they would be a single column.
        """
        groups, rank = convolution.groups, convolution.rank
        if groups == 1:
            return self._dense(patches, convolution, positions)
        if self._sums:
            y = summed_products(self.emit, patches, self._matrix, convolution, positions)
            return self._finish(y)
        emit, keep = self.emit, [None, *positions]
        split = [*keep, convolution.taps, groups, convolution.channels // groups]
        blocks = emit.reshape(patches, split)
        if positions.count(None) > 1:
            # There is no way back from one axis: a product for each line of positions.
            blocks = emit.transpose(blocks, [*range(rank), rank + 2, rank, rank + 1, rank + 3])
            flat = emit.reshape(blocks, [None] * (rank + 2) + [convolution.patch_length])
            y = emit.transpose(
                self._multiply(flat, rank + 3), [*range(rank), rank + 1, rank, rank + 2]
            )
        else:
            space = range(1, rank + 1)
            merged, apart = _merged(positions), positions if rank == 1 else one_open(positions)
            kept = [None, None if merged == -1 else groups]  # with the batch, if that has to be
            blocks = emit.transpose(blocks, [0, rank + 2, *space, rank + 1, rank + 3])
            flat = emit.reshape(blocks, [*kept, merged, convolution.patch_length])
            y = self._multiply(flat, 4)
            y = emit.reshape(y, [*kept, *apart, convolution.filters // groups])
            y = emit.transpose(y, [0, *(axis + 1 for axis in space), 1, rank + 2])
        return self._finish(emit.reshape(y, [*keep, convolution.filters]))

    def _dense(self, patches: ir.Value, convolution: Convolution, positions: Sizes) -> ir.Value:
        """The product as that of two matrices, wherever there is a way back.

        Onnxruntime folds a bias or a BatchNormalization that follows into it in this form only.
        """
        emit, sizes = self.emit, [size for size in positions if size is not None]
        if len(sizes) < len(positions):
            return self._finish(self._multiply(patches, self._rank + 2))
        rows = [-1, math.prod(sizes)] if self._forms.keep_batch else [-1]
        y = self._multiply(emit.reshape(patches, [*rows, convolution.patch_length]), len(rows) + 1)
        return emit.reshape(self._finish(y), [-1, *sizes, convolution.filters])

    def interleave(self, y: ir.Value, convolution: AnyConvolution, sizes: Sizes) -> ir.Value:
        """See `Ops.interleave`."""
        if None not in sizes or self.emit.zeros:
            return super().interleave(y, convolution, sizes)
        return interleaved(self.emit, y, convolution, sizes)

    def weighted_sum(
        self, taps: Iterable[ir.Value], convolution: Convolution, positions: Sizes
    ) -> ir.Value:
        """See `Ops.weighted_sum`."""
        return weighted_sum(self.emit, taps, self._matrix, self._bias, convolution, positions)

    def shifted_sum(self, rows: ir.Value, convolution: Convolution, positions: Sizes) -> ir.Value:  # noqa: ARG002 - see `Ops`
        """See `Ops.shifted_sum`."""
        return self._finish(shifted_sum(self.emit, rows, self._matrix, convolution))

    @property
    def _sums(self) -> bool:
        """Whether the product is `summed_products`; operators broadcast from opset 7 on."""
        wanted = not self._forms.depthwise_products
        return wanted and self._lowering.inner.depthwise and self.emit.place.opset >= 7

    @cached_property
    def _matrix(self) -> ir.Value:
        shifted = self._lowering.method is PatchMethod.SHIFT
        layout = Layout.BY_TAP if self._sums else Layout.SIDE_BY_SIDE if shifted else Layout.BLOCKS
        matrix = filter_matrix(self.emit, self._kernel, self._lowering, layout)
        if self._bias is None or self._adds:
            return matrix
        groups = self._lowering.convolution.groups
        shape = [1, -1] if groups == 1 else [groups, 1, -1]
        row = self.emit.reshape(self._bias, shape)
        whole = self.emit.node("Concat", matrix, row, axis=len(shape) - 2)
        return self.emit.call(whole, "filter_matrix")

    @property
    def _kernel(self) -> ir.Value:
        return self.given["kernel"]

    @property
    def _zero(self) -> ir.Value | None:
        """What pads are filled with; ``None`` for the number zero."""
        return None

    def _multiply(self, patches: ir.Value, rank: int) -> ir.Value:
        """The product of patches, a tensor of `rank` axes, with the filter matrix."""
        if self._bias is not None and not self._adds:
            patches = self.emit.ones_column(patches, rank)
        return self.emit.node("MatMul", self.emit.call(patches, "patch_matrix"), self._matrix)

    def _finish(self, y: ir.Value) -> ir.Value:
        """Whatever follows the product."""
        return self.emit.node("Add", y, self._bias) if self._bias and self._adds else y

    @cached_property
    def _bias(self) -> ir.Value | None:
        bias = self.given.get("bias")
        return None if bias is None else phase_bias(self.emit, bias, self._lowering)

    @property
    def _adds(self) -> bool:
        """Whether the bias is added, else it is a row of the filter matrix.

        Before opset 7, the vector of an Add was not found by the shapes, and onnxruntime never
        learned that form.
        """
        return self.emit.place.opset >= 7


class IntegerOps(OnnxOps):
    """Operations around an exact product of 8-bit integers (ConvInteger, QLinearConv)."""

    @property
    def _zero(self) -> ir.Value | None:
        return self.given.get("x_zero")

    @property
    def has_channels_first(self) -> bool:
        """See `OnnxOps`: zero points stand for columns of the product, not for rows."""
        return False

    @property
    def _sums(self) -> bool:
        return False

    def _multiply(self, patches: ir.Value, rank: int) -> ir.Value:  # noqa: ARG002 - see `OnnxOps`
        zeros = [self.given.get("x_zero"), self._kernel_zero]
        patches = self.emit.call(patches, "patch_matrix")
        return self.emit.node("MatMulInteger", patches, self._matrix, *zeros)

    @property
    def _kernel(self) -> ir.Value:
        return self._moved[0]

    @cached_property
    def _moved(self) -> tuple[ir.Value, ir.Value | None]:
        """The kernel and its zero points, in a type whose product with the input is exact."""
        kernel, zero = self.given["kernel"], self.given.get("kernel_zero")
        known = None if self._zero is None else constant_of(self._zero)
        if known is not None and known.dtype is ir.DataType.INT8:
            return kernel, zero
        return unsigned(self.emit, kernel, zero)

    @cached_property
    def _kernel_zero(self) -> ir.Value | None:
        """The kernel's zero points; with groups, those of a block are a row."""
        emit, zero = self.emit, self._moved[1]
        conv = self._lowering.convolution
        if zero is None or conv.groups == 1:
            return zero
        tensor = constant_of(zero)
        if tensor is None:  # for all filters or for each, which shows at run time
            zero = emit.node("Expand", zero, emit.integers([conv.filters], "filters"))
        elif tensor.size == 1:
            return zero
        return emit.reshape(zero, [conv.groups, 1, conv.filters // conv.groups])

    def _finish(self, y: ir.Value) -> ir.Value:
        """Add the bias, as integers; then scale and round as QLinearConv does, if it is one."""
        emit, given = self.emit, self.given
        y = super()._finish(y)
        if "y_scale" not in given:
            return y
        scaled = emit.node("Mul", emit.cast(y, ir.DataType.FLOAT), self._multiplier)
        one = emit.numbers(np.array(1, np.float32), "one")
        return emit.node("QuantizeLinear", scaled, one, given["y_zero"])

    @property
    def _multiplier(self) -> ir.Value:
        """(x_scale * kernel_scale) / y_scale in float32, in this order, as onnxruntime does."""
        scales = [self.given[role] for role in ("x_scale", "kernel_scale", "y_scale")]
        tensors = [constant_of(scale) for scale in scales]
        x, kernel, y = (None if tensor is None else tensor.numpy() for tensor in tensors)
        if x is None or kernel is None or y is None:
            both = self.emit.node("Mul", scales[0], scales[1])
            return self.emit.node("Div", both, scales[2])
        multiplier: NDArray[Any] = x * kernel / y
        return self.emit.numbers(np.asarray(multiplier, np.float32), "multiplier")
