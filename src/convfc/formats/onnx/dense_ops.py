"""The dense form in ONNX: flatten, one product with a constant matrix, back.

Everything is in ONNX's own order of axes, rows (channels, sizes..) and columns (filters, outputs..)
of M, so that nothing is transposed, and neighbours need no Reshape between them (`flat`).
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import onnx_ir as ir

from convfc.core.arrays import Array
from convfc.core.transposed import TransposedConvolution
from convfc.core.whole import Whole
from convfc.formats.onnx.emitter import Arrangement, constant_of
from convfc.formats.onnx.filter_matrix import channels_last
from convfc.formats.onnx.graph_ops import IntegerOps, OnnxOps


class DenseOps(OnnxOps):
    """One product of floating-point numbers."""

    @property
    def has_channels_first(self) -> bool:
        """See `OnnxOps`: there are no positions to be rows or columns."""
        return False

    def dense_product(self, x: ir.Value) -> tuple[ir.Value, ir.Value]:
        """The product x M + b', and the shape that makes it the layer's output."""
        row = self.emit.reshape(x, [-1, self._lowering.inner.patch_length])
        y = self._finish(self._multiply(row, 2))
        sizes = [size for size in self._lowering.output if size is not None]
        shape = [-1, self._lowering.convolution.filters, *sizes]
        return y, self.emit.integers(shape, "shape")

    @cached_property
    def _whole(self) -> Whole:
        return Whole(self._lowering.convolution, self._lowering.sizes)

    @cached_property
    def _matrix(self) -> ir.Value:
        matrix = self._made
        if self._bias is None or self._adds:
            return matrix
        row = self.emit.reshape(self._bias, [1, -1])
        return self.emit.call(self.emit.node("Concat", matrix, row, axis=0), "dense_matrix")

    @property
    def _made(self) -> ir.Value:
        """M: a constant where its numbers are, computed while the file is written."""
        kernel, zero, whole = self._kernel, self._filling, self._whole
        tensor = constant_of(kernel)
        numbers = None if zero is None else constant_of(zero)
        if tensor is None or (zero is not None and numbers is None):
            return self.emit.call(self._at_run_time(kernel), "dense_matrix")

        def lay_out(given: Array, zeros: Array | None = None) -> Array:
            return whole.matrix(channels_last(given, whole.convolution), zeros, channels_first=True)

        def matrix_of(given: Array) -> Array:
            return lay_out(given, None if numbers is None else numbers.numpy())

        def matrix() -> ir.TensorProtocol:
            made = matrix_of(tensor.numpy())
            if isinstance(tensor, ir.ExternalTensor):
                tensor.release()  # see `filter_matrix`
            return ir.Tensor(made, dtype=tensor.dtype)

        def lazy() -> ir.TensorProtocol:
            return ir.LazyTensor(matrix, dtype=tensor.dtype, shape=ir.Shape(whole.shape))

        key = (id(kernel), None if zero is None else id(zero), whole)
        made = self.emit.constant(key, lazy, "dense_matrix")
        ground = None if numbers is None else lambda: matrix_of(np.zeros_like(tensor.numpy()))
        self.emit.arranged[made] = Arrangement(kernel, lay_out, ground=ground)
        return made

    def _at_run_time(self, kernel: ir.Value) -> ir.Value:
        """M of a kernel that is computed: with zeros behind its axes, taken by index maps."""
        emit, whole = self.emit, self._whole
        conv, rank, groups = whole.convolution, self._rank, whole.convolution.groups
        each = [conv.channels // groups, conv.filters // groups]
        transposed = isinstance(conv, TransposedConvolution)
        split = [groups, *(each if transposed else reversed(each)), *conv.kernel]
        several = groups > 1
        pads = [*[0] * len(split), int(several), 0, 0, *[1] * rank]
        taken = emit.pad(emit.reshape(kernel, split), pads)
        for axis in reversed(range(rank)):
            taps = emit.integers(whole.taps(axis), "taps")
            taken = emit.node("Gather", taken, taps, axis=3 + axis)
        if several:  # no group meets another one
            of_group = np.where(np.eye(groups), np.arange(groups), groups).astype(np.int32)
            taken = emit.node("Gather", taken, emit.integers(of_group, "groups"), axis=0)
        first, second = (1, 2) if transposed else (2, 1)
        rows = [several + first, *(several + 3 + 2 * axis for axis in range(rank))]
        columns = [several + second, *(several + 4 + 2 * axis for axis in range(rank))]
        order = [0, *rows, *([1] if several else []), *columns]
        return emit.reshape(emit.transpose(taken, order), list(whole.shape))

    @property
    def _filling(self) -> ir.Value | None:
        """What stands for zero in M; ``None`` for the number zero."""
        return None

    @cached_property
    def _bias(self) -> ir.Value | None:
        bias = self.given.get("bias")
        return None if bias is None else self._repeated(bias, "bias")

    def _repeated(self, value: ir.Value, role: str) -> ir.Value:
        """What filters have one of each, for each column of M."""
        emit, whole, tensor = self.emit, self._whole, constant_of(value)
        if tensor is not None:

            def lay_out(numbers: Array) -> Array:
                return whole.bias(numbers.reshape(-1), channels_first=True)

            def repeated() -> ir.TensorProtocol:
                return ir.Tensor(lay_out(tensor.numpy()), dtype=tensor.dtype)

            made = emit.constant((id(value), whole), repeated, role)
            emit.arranged[made] = Arrangement(value, lay_out)
            return made
        times = math.prod(size for size in whole.output if size is not None)
        rows = emit.reshape(value, [whole.convolution.filters, 1])
        if emit.place.opset < 6:
            return emit.reshape(emit.node("Concat", *[rows] * times, axis=1), [-1])
        tiled = emit.node("Tile", rows, emit.integers([1, times], "times"))
        return emit.call(emit.reshape(tiled, [-1]), role)


class IntegerDenseOps(DenseOps, IntegerOps):
    """One exact product of 8-bit integers."""

    @property
    def _filling(self) -> ir.Value | None:
        return self._moved[1]

    @cached_property
    def _kernel_zero(self) -> ir.Value | None:
        zero = self._of_each(self._moved[1])
        return zero if zero is None or _is_one(zero) else self._repeated(zero, "kernel_zero")

    def _of_each(self, value: ir.Value | None) -> ir.Value | None:
        """One number for all filters, or one for each, where only the run would tell which."""
        if value is None or constant_of(value) is not None:
            return value
        filters = self.emit.integers([self._lowering.convolution.filters], "filters")
        return self.emit.node("Expand", value, filters)

    def _at_run_time(self, kernel: ir.Value) -> ir.Value:
        """M less what stands for zero, in real numbers, which hold all that exactly; then in full.

        Before opset 11 nothing else is padded.
        """
        emit, zero = self.emit, self._of_each(self._moved[1])
        wide = emit.cast(kernel, ir.DataType.INT32)
        if zero is not None:
            each = zero if _is_one(zero) else emit.reshape(zero, [-1, *[1] * (self._rank + 1)])
            wide = emit.node("Sub", wide, emit.cast(each, ir.DataType.INT32))
        taken = super()._at_run_time(emit.cast(wide, ir.DataType.FLOAT))
        whole = emit.cast(taken, ir.DataType.INT32)
        if self._kernel_zero is not None:
            columns = emit.cast(self._kernel_zero, ir.DataType.INT32)
            whole = emit.node("Add", whole, columns)
        return emit.cast(whole, kernel.dtype or self._type)

    @property
    def _type(self) -> ir.DataType:
        """Of the kernel, where the file does not say: see `unsigned`."""
        return ir.DataType.INT8 if self._kernel is self.given["kernel"] else ir.DataType.UINT8

    @property
    def _multiplier(self) -> ir.Value:
        multiplier = self._of_each(super()._multiplier)
        assert multiplier is not None, "it is given"  # noqa: S101 - for the type checker
        return multiplier if _is_one(multiplier) else self._repeated(multiplier, "multiplier")


def _is_one(value: ir.Value) -> bool:
    """Whether it is known to be a single number."""
    tensor = constant_of(value)
    return tensor is not None and tensor.size == 1
