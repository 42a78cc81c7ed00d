"""Kernels of ONNX as filter matrices: constants where they are constant, else nodes."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from convfc.core.geometry import AnyConvolution
from convfc.core.lowering import Lowering
from convfc.core.transposed import TransposedConvolution
from convfc.formats.onnx.emitter import Arrangement, Emitter, constant_of


class Layout(Enum):
    """How the numbers of a filter matrix are laid out, where there are groups.

    A kernel (4, 2, 3, 3) in 2 groups has K = 18: BLOCKS are (2, 18, 2), TRANSPOSED is (2, 2, 18).
    A depthwise one, (4, 1, 3, 3) in 4 groups, is (9, 4) BY_TAP. One without groups, (4, 2, 3, 3),
    is (6, 12) SIDE_BY_SIDE.
    """

    BLOCKS = "blocks"
    """(G, K, filters / G), or (K, filters) without groups."""
    TRANSPOSED = "transposed"
    """(G, filters / G, K)."""
    SIDE_BY_SIDE = "side by side"
    """(K / k1, k1 * filters): filters for each tap of the first axis; without groups only."""
    BY_TAP = "by tap"
    """(taps, G) where each group has one channel and one filter, (taps, G, filters / G) if more."""


_ORDER = {
    Layout.BLOCKS: [1, 0, 2],
    Layout.TRANSPOSED: [1, 2, 0],
    Layout.SIDE_BY_SIDE: [1, 0, 2],
    Layout.BY_TAP: [0, 1, 2],
}
"""Which of (rows, groups, columns) comes first, second and third; kernels have it so."""


def filter_matrix(
    emit: Emitter, kernel: ir.Value, lowering: Lowering, layout: Layout = Layout.BLOCKS
) -> ir.Value:
    """The filter matrix of `lowering.inner`.

    Args:
        emit: where nodes go.
        kernel: (filters, channels / groups, k1, .., kr) of a convolution, (channels,
            filters / groups, k1, .., kr) of a transposed one.
        lowering: the layer.
        layout: of the result.

    Returns:
        A new constant where the kernel is one, else the result of nodes that lay it out at run
        time.
    """
    conv, inner = lowering.convolution, lowering.inner
    groups = conv.groups
    rows, columns = inner.patch_length, inner.filters // groups
    split, order = [rows, groups, columns], _ORDER[layout]
    shape = [split[axis] for axis in order]
    if layout is Layout.BY_TAP:
        shape = shape[: 2 if columns == 1 else 3]
    elif layout is Layout.SIDE_BY_SIDE:  # the taps of the first axis are what groups are elsewhere
        taps = inner.kernel[0]
        split, shape = [taps, rows // taps, columns], [rows // taps, taps * columns]
    elif groups == 1:
        shape = shape[1:]
    tensor = constant_of(kernel)
    if tensor is None:
        y = emit.reshape(_in_order(emit, kernel, conv, layout), shape)
        return emit.call(y, "filter_matrix")

    def lay_out(numbers: NDArray[Any]) -> NDArray[Any]:
        return _laid_out(numbers, conv).reshape(split).transpose(order).reshape(shape)

    def matrix() -> ir.TensorProtocol:
        laid_out = lay_out(tensor.numpy())
        if isinstance(tensor, ir.ExternalTensor):
            tensor.release()  # or in the end the whole file would be in memory
        return ir.Tensor(np.ascontiguousarray(laid_out), dtype=tensor.dtype)

    def lazy() -> ir.TensorProtocol:
        # Computed while the file is written: no second copy of all weights in memory.
        return ir.LazyTensor(matrix, dtype=tensor.dtype, shape=ir.Shape(shape))

    # Strides and pads do not matter to an ordinary kernel: layers that share it share this, too.
    own = conv if isinstance(conv, TransposedConvolution) else groups
    made = emit.constant((id(kernel), own, layout), lazy, "filter_matrix")
    emit.arranged[made] = Arrangement(kernel, lay_out)
    return made


def unsigned(
    emit: Emitter, kernel: ir.Value, zero: ir.Value | None
) -> tuple[ir.Value, ir.Value | None]:
    """A kernel of 8-bit integers and its zero points in uint8: int8 ones with 128 added to both.

    On x86 with AVX2 or AVX-512 but without VNNI, onnxruntime's product of uint8 and int8 adds
    pairs of products in 16 bits, which saturate. That of any other two types is exact everywhere.

    Args:
        emit: where nodes go.
        kernel: int8 or uint8; its type need not be known where it is computed at run time.
        zero: of the same type, one or one per filter; ``None`` is 0.

    Returns:
        Both, of which the difference is as before; constants where they were.
    """
    tensors = [constant_of(value) for value in (kernel, zero) if value is not None]
    types = [tensor.dtype for tensor in tensors if tensor is not None]
    if ir.DataType.UINT8 in types:
        return kernel, zero
    if types:
        shift = emit.numbers(np.array(_SIGN, np.int32), "shift")
    else:
        shift = _shift_at_run_time(emit, kernel)
    if zero is not None:
        moved = _shifted(emit, zero, shift, "kernel_zero")
    elif types:
        moved = emit.numbers(np.array(_SIGN, np.uint8), "kernel_zero")
    else:
        moved = emit.cast(shift, ir.DataType.UINT8)
    return _shifted(emit, kernel, shift, "kernel"), moved


_SIGN = 128
"""From the smallest int8 to the smallest uint8."""


def _shift_at_run_time(emit: Emitter, kernel: ir.Value) -> ir.Value:
    """128 if a kernel turns out to be int8, 0 if it is uint8: int32, a scalar.

    What is far below both types, quantized with one of the kernel's numbers as the zero point, is
    the smallest number of the kernel's type.
    """
    first = emit.numbers(np.array(0, np.int64), "first")
    number = emit.node("Gather", emit.reshape(kernel, [-1]), first, axis=0)
    far = emit.numbers(np.array(-1024, np.float32), "far_below")
    one = emit.numbers(np.array(1, np.float32), "one")
    smallest = emit.cast(emit.node("QuantizeLinear", far, one, number), ir.DataType.INT32)
    return emit.node("Sub", emit.numbers(np.array(0, np.int32), "zero"), smallest)


def _shifted(emit: Emitter, x: ir.Value, shift: ir.Value, role: str) -> ir.Value:
    """8-bit integers moved into uint8."""
    tensor = constant_of(x)
    if tensor is None:
        wide = emit.node("Add", emit.cast(x, ir.DataType.INT32), shift)
        return emit.cast(wide, ir.DataType.UINT8)

    def moved() -> ir.TensorProtocol:
        numbers = (tensor.numpy().astype(np.int16) + _SIGN).astype(np.uint8)
        if isinstance(tensor, ir.ExternalTensor):
            tensor.release()  # see `filter_matrix`
        return ir.Tensor(numbers)

    def lazy() -> ir.TensorProtocol:
        shape = ir.Shape(tensor.shape.numpy())
        return ir.LazyTensor(moved, dtype=ir.DataType.UINT8, shape=shape)

    made = emit.constant((id(x), "unsigned"), lazy, role)
    emit.arranged[made] = Arrangement(x, lambda numbers: numbers, _SIGN)
    return made


def phase_bias(emit: Emitter, bias: ir.Value, lowering: Lowering) -> ir.Value:
    """The bias of `lowering.inner`: the layer's own, again for each phase."""
    conv = lowering.convolution
    phases = lowering.inner.filters // conv.filters
    if phases == 1:
        return bias
    tensor = constant_of(bias)
    if tensor is not None:

        def repeated() -> ir.TensorProtocol:
            return ir.Tensor(conv.inner_bias(tensor.numpy()), dtype=tensor.dtype)

        made = emit.constant((id(bias), conv), repeated, "bias")
        emit.arranged[made] = Arrangement(bias, conv.inner_bias)
        return made
    blocks = emit.reshape(bias, [conv.groups, conv.filters // conv.groups])
    return emit.reshape(emit.node("Concat", *[blocks] * phases, axis=1), [-1])


def _laid_out(kernel: NDArray[Any], conv: AnyConvolution) -> NDArray[Any]:
    """`AnyConvolution.inner_kernel` of a constant kernel: always a copy."""
    return np.array(conv.inner_kernel(channels_last(kernel, conv)))


def channels_last(kernel: NDArray[Any], conv: AnyConvolution) -> NDArray[Any]:
    """A constant kernel of ONNX in the shape of `AnyConvolution.kernel_shape`."""
    rank, groups, merged = conv.rank, conv.groups, conv.kernel_shape
    split, order = [conv.filters, merged[-2], *conv.kernel], [*range(2, rank + 2), 1, 0]
    if isinstance(conv, TransposedConvolution):
        split = [groups, conv.channels // groups, conv.filters // groups, *conv.kernel]
        order = [*range(3, rank + 3), 1, 0, 2]
    return kernel.reshape(split).transpose(order).reshape(merged)


def _in_order(emit: Emitter, kernel: ir.Value, conv: AnyConvolution, layout: Layout) -> ir.Value:
    """A kernel of the run with all its numbers in the order of a layout.

    A single Transpose moves all axes, and groups, if they come first, are first already. Were a
    product to read a Transpose that moves axis 0, onnxruntime 1.32 would crash in float16.
    """
    rank, groups = conv.rank, conv.groups
    first, second = (side // groups for side in (conv.filters, conv.channels))
    axes: Sequence[int] = conv.kernel
    rows, columns = [*range(3, rank + 3), 2], [1]
    if isinstance(conv, TransposedConvolution):
        kernel, first, second = _phased(emit, kernel, conv), second, first
        axes = [n for w in conv.windows for n in (len(w.tap_of_phase) // w.stride, w.stride)]
        rows, columns = [*range(3, 2 * rank + 3, 2), 1], [*range(4, 2 * rank + 3, 2), 2]
    split, parts = [groups, first, second, *axes], (rows, [0], columns)
    if layout is Layout.SIDE_BY_SIDE:
        parts = rows[:1], rows[1:], [0, *columns]
    order = [axis for part in _ORDER[layout] for axis in parts[part]]
    moved = [axis for axis in order if split[axis] > 1]
    if moved == sorted(moved):
        return kernel
    if 1 in split[:2]:  # then the kernel's own first axis is the other one
        spare = split.index(1)
        order = [axis - (axis > spare) for axis in order if axis != spare]
        del split[spare]
    if len(split) > rank + 2:
        kernel = emit.reshape(kernel, split)
    return emit.transpose(kernel, order)


def _phased(emit: Emitter, kernel: ir.Value, conv: TransposedConvolution) -> ir.Value:
    """A kernel of the run with the taps of each axis by phases, or zeros where a phase has none."""
    taps = [window.tap_of_phase for window in conv.windows]
    gaps = [int(tap.max() == window.kernel) for tap, window in zip(taps, conv.windows, strict=True)]
    if any(gaps):
        kernel = emit.pad(kernel, [*[0] * (conv.rank + 4), *gaps])
    for axis, tap in enumerate(taps, 2):
        kernel = emit.node("Gather", kernel, emit.integers(tap.astype(np.int32), "taps"), axis=axis)
    return kernel
