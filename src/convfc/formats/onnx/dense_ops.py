"""The dense form in ONNX: flatten, one product with a constant matrix, back.

Everything is in ONNX's own order of axes, rows (channels, sizes..) and columns (filters, outputs..)
of M, so that nothing is transposed, and neighbours need no Reshape between them (`flat`).
"""

from __future__ import annotations

import math
from functools import cached_property

import onnx_ir as ir

from convfc.core.whole import Whole
from convfc.formats.onnx.emitter import constant_of
from convfc.formats.onnx.filter_matrix import channels_last
from convfc.formats.onnx.graph_ops import IntegerOps, OnnxOps
from convfc.formats.onnx.operators import operands


def why_not_dense(node: ir.Node) -> str | None:
    """Why a convolution cannot be one matrix: its numbers are not there before it is run."""
    given = operands(node)
    for role, what in (("kernel", "kernel"), ("kernel_zero", "zero point of the kernel")):
        value = given.get(role)
        if value is None or constant_of(value) is not None:
            continue
        if value.is_initializer():
            return f"its {what} may be overridden by callers; --freeze-weights makes it a constant"
        return f"its {what} is computed at run time, and one matrix is a constant"
    return None


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
        matrix = self._constant
        if self._bias is None or self._adds:
            return matrix
        row = self.emit.reshape(self._bias, [1, -1])
        return self.emit.call(self.emit.node("Concat", matrix, row, axis=0), "dense_matrix")

    @property
    def _constant(self) -> ir.Value:
        """M, computed while the file is written: one at a time is in memory."""
        kernel, zero, whole = self._kernel, self._filling, self._whole
        tensor = constant_of(kernel)
        numbers = None if zero is None else constant_of(zero)
        assert tensor is not None, "see `why_not_dense`"  # noqa: S101 - for the type checker

        def matrix() -> ir.TensorProtocol:
            last = channels_last(tensor.numpy(), whole.convolution)
            zeros = None if numbers is None else numbers.numpy()
            made = whole.matrix(last, zeros, channels_first=True)
            if isinstance(tensor, ir.ExternalTensor):
                tensor.release()  # see `filter_matrix`
            return ir.Tensor(made, dtype=tensor.dtype)

        def lazy() -> ir.TensorProtocol:
            return ir.LazyTensor(matrix, dtype=tensor.dtype, shape=ir.Shape(whole.shape))

        key = (id(kernel), None if zero is None else id(zero), whole)
        return self.emit.constant(key, lazy, "dense_matrix")

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

            def repeated() -> ir.TensorProtocol:
                each = whole.bias(tensor.numpy().reshape(-1), channels_first=True)
                return ir.Tensor(each, dtype=tensor.dtype)

            return emit.constant((id(value), whole), repeated, role)
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
        zero = self._moved[1]
        tensor = None if zero is None else constant_of(zero)
        if zero is None or tensor is None or tensor.size == 1:
            return zero
        return self._repeated(zero, "kernel_zero")

    @property
    def _multiplier(self) -> ir.Value:
        emit, multiplier = self.emit, super()._multiplier
        tensor = constant_of(multiplier)
        if tensor is None:  # for all filters or for each, which shows at run time
            filters = emit.integers([self._lowering.convolution.filters], "filters")
            multiplier = emit.node("Expand", multiplier, filters)
        elif tensor.size == 1:
            return multiplier
        return self._repeated(multiplier, "multiplier")
