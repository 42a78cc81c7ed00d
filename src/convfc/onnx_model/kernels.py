"""Kernels of ONNX as filter matrices: constants where they are constant, else nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from convfc.applying import filter_matrices
from convfc.geometry import AnyConvolution
from convfc.lowering import Lowering
from convfc.onnx_model.emitting import Emitter, constant_of
from convfc.transposed import TransposedConvolution


def filter_matrix(emit: Emitter, kernel: ir.Value, lowering: Lowering) -> ir.Value:
    """The filter matrix of `lowering.inner`.

    Args:
        emit: where nodes go.
        kernel: (filters, channels / groups, k1, .., kr) of a convolution, (channels,
            filters / groups, k1, .., kr) of a transposed one.
        lowering: the layer.

    Returns:
        (K, filters), or (G, K, filters / G) with groups: a new constant where the kernel is one,
        else the result of nodes that lay it out at run time.
    """
    conv, inner = lowering.convolution, lowering.inner
    groups = conv.groups
    shape = [inner.patch_length, inner.filters // groups]
    if groups > 1:
        shape.insert(0, groups)
    tensor = constant_of(kernel)
    if tensor is None:
        last = _phased(emit, _channels_last(emit, kernel, conv), conv)
        if groups == 1:
            return emit.reshape(last, shape)
        return emit.transpose(emit.reshape(last, [shape[1], groups, shape[2]]), [1, 0, 2])

    def matrix() -> ir.TensorProtocol:
        blocks = _laid_out(tensor.numpy(), conv).reshape(shape)
        if isinstance(tensor, ir.ExternalTensor):
            tensor.release()  # or in the end the whole file would be in memory
        return ir.Tensor(blocks, dtype=tensor.dtype)

    # Computed while the file is written: no second copy of all weights in memory.
    lazy = ir.LazyTensor(matrix, dtype=tensor.dtype, shape=ir.Shape(shape))
    # Strides and pads do not matter to an ordinary kernel: layers that share it share this, too.
    layout = conv if isinstance(conv, TransposedConvolution) else groups
    return emit.constant((id(kernel), layout), lazy, "filter_matrix")


def phase_bias(emit: Emitter, bias: ir.Value, lowering: Lowering) -> ir.Value:
    """The bias of `lowering.inner`: the layer's own, again for each phase."""
    conv = lowering.convolution
    phases = lowering.inner.filters // conv.filters
    if phases == 1:
        return bias
    tensor = constant_of(bias)
    if tensor is not None:
        repeated = ir.Tensor(conv.inner_bias(tensor.numpy()), dtype=tensor.dtype)
        return emit.constant((id(bias), conv), repeated, "bias")
    blocks = emit.reshape(bias, [conv.groups, conv.filters // conv.groups])
    return emit.reshape(emit.node("Concat", *[blocks] * phases, axis=1), [-1])


def _laid_out(kernel: NDArray[Any], conv: AnyConvolution) -> NDArray[Any]:
    """The filter matrices of a constant kernel: always a copy."""
    split, order, merged = _layout(conv)
    last = kernel.reshape(split).transpose(order).reshape(merged)
    return np.array(filter_matrices(conv.inner_kernel(last), conv.groups))


def _layout(conv: AnyConvolution) -> tuple[list[int], list[int], list[int]]:
    """From ONNX's axes to (k1, .., kr, channels / groups, filters): split, order, merged."""
    rank, groups = conv.rank, conv.groups
    merged = list(conv.kernel_shape)
    if not isinstance(conv, TransposedConvolution):
        shape = [conv.filters, merged[-2], *conv.kernel]
        return shape, [*range(2, rank + 2), 1, 0], merged
    split = [groups, conv.channels // groups, conv.filters // groups, *conv.kernel]
    return split, [*range(3, rank + 3), 1, 0, 2], merged


def _channels_last(emit: Emitter, kernel: ir.Value, conv: AnyConvolution) -> ir.Value:
    split, order, merged = _layout(conv)
    if len(split) == len(merged):
        return emit.transpose(kernel, order)
    return emit.reshape(emit.transpose(emit.reshape(kernel, split), order), merged)


def _phased(emit: Emitter, kernel: ir.Value, conv: AnyConvolution) -> ir.Value:
    """`AnyConvolution.inner_kernel` in nodes, with what follows the taps in one axis or several."""
    if not isinstance(conv, TransposedConvolution):
        return kernel
    taps = [window.tap_of_phase for window in conv.windows]
    gaps = [int(tap.max() == window.kernel) for tap, window in zip(taps, conv.windows, strict=True)]
    if any(gaps):
        kernel = emit.pad(kernel, [*[0] * (conv.rank + 2), *gaps, 0, 0])
    for axis, tap in enumerate(taps):
        kernel = emit.node("Gather", kernel, emit.integers(tap.astype(np.int32), "taps"), axis=axis)
    shape, order = conv.phase_layout
    return emit.transpose(emit.reshape(kernel, shape), order)
