"""Filter matrices that are computed from constants, such as those behind a DequantizeLinear.

They stay in as few bits as they have; the kernel is laid out from them in the graph, or the stored
numbers are, where each has the scale of its filter or all have one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from convfc.core.arrangement import LayOut
from convfc.core.arrays import Array
from convfc.core.geometry import AnyConvolution, Convolution
from convfc.formats.onnx.emitter import Emitter, constant_of
from convfc.formats.onnx.operators import known_shape
from convfc.formats.onnx.structure import operator

_MOST = 64
"""How many values there may be before one that is computed of constants; data have many more."""


@dataclass(frozen=True)
class Steps:
    """How a kernel comes from a filter matrix: reshaped, transposed, reshaped.

    Attributes:
        split: the shape to begin with.
        order: of its axes.
        shape: of the kernel.
        filters: on which axis a matrix without groups has its filters.
    """

    split: Sequence[int]
    order: Sequence[int]
    shape: Sequence[int]
    filters: int

    def lay_out(self, matrix: Array) -> Array:
        """The kernel as numbers."""
        laid_out = matrix.reshape(self.split).transpose(self.order).reshape(self.shape)
        return np.ascontiguousarray(laid_out)

    def emit(self, emit: Emitter, matrix: ir.Value) -> ir.Value:
        """The kernel as nodes, or as a constant if the matrix is one."""
        if constant_of(matrix) is not None:
            return self._constant(emit, matrix)
        node, stored = matrix.producer(), None
        if node is not None and operator(node) == ("", "DequantizeLinear", ""):
            stored = node.inputs[0]
        if node is not None and stored is not None and self._has_scales_of_filters(node):
            kernel = self._constant(emit, stored)
            axis = {"axis": 0} if known_shape(node.inputs[1]) else {}
            return emit.node("DequantizeLinear", kernel, *node.inputs[1:], **axis)
        kernel = emit.transpose(emit.reshape(matrix, list(self.split)), self.order)
        same = len(self.order) == len(self.shape)
        return kernel if same else emit.reshape(kernel, list(self.shape))

    def _has_scales_of_filters(self, node: ir.Node) -> bool:
        """Whether a DequantizeLinear of constants has one scale, or one for each filter."""
        fixed = [value is not None and constant_of(value) is not None for value in node.inputs]
        stored, scales = (known_shape(value) or () for value in node.inputs[:2])
        axis = node.attributes.get_int("axis", 1) % max(len(stored), 1)
        grouped = len(self.split) > len(self.shape)
        of_filters = axis == (len(stored) - 1 if self.filters else 0)
        by_filter = len(scales) == 1 and of_filters and not grouped
        plain = not node.attributes.get_int("block_size", 0)
        return all(fixed) and plain and (not scales or by_filter)

    def _constant(self, emit: Emitter, matrix: ir.Value) -> ir.Value:
        stored = constant_of(matrix)
        assert stored is not None  # noqa: S101 - asked before
        kernel = ir.Tensor(self.lay_out(stored.numpy()), dtype=stored.dtype)
        return emit.constant((id(matrix), *self.shape), lambda: kernel, "kernel")


def steps_to_kernel(conv: Convolution, *, transposed: bool = False) -> Steps:
    """The steps from a filter matrix in blocks, (G, K, filters / G), to the kernel.

    Args:
        conv: the convolution.
        transposed: whether the matrix is (G, filters / G, K).
    """
    rank, groups = conv.rank, conv.groups
    each, width = conv.filters // groups, conv.channels // groups
    shape = [conv.filters, width, *conv.kernel]
    split, order = [*conv.kernel, width, each], [rank + 1, rank, *range(rank)]
    if transposed:
        split, order = [each, *conv.kernel, width], [0, rank + 1, *range(1, rank + 1)]
    if groups > 1:
        split, order = [groups, *split], [0, *(axis + 1 for axis in order)]
    return Steps(split, order, shape, 0 if transposed else 1)


def shape_of(matrix: ir.Value) -> Sequence[int | None] | None:
    """The shape of a constant, or of one that is dequantized."""
    shape, node = known_shape(matrix), matrix.producer()
    if shape is None and node is not None and operator(node) == ("", "DequantizeLinear", ""):
        return known_shape(node.inputs[0])
    return shape


def steps_back(conv: AnyConvolution, lay_out: LayOut) -> Steps | None:
    """The steps from a filter matrix to the kernel; ``None`` of a layout that is not in blocks.

    Args:
        conv: the convolution.
        lay_out: how the numbers of its kernel are laid out.
    """
    if not isinstance(conv, Convolution):
        return None
    steps = [steps_to_kernel(conv, transposed=transposed) for transposed in (False, True)]
    places = np.arange(conv.weights).reshape(steps[0].shape)
    matrix = lay_out(places)
    if matrix.size != places.size:
        return None
    return next((one for one in steps if np.array_equal(one.lay_out(matrix), places)), None)


def is_computed(value: ir.Value) -> bool:
    """Whether a value is no constant, but made of nothing else."""
    todo, seen = [value], {value}
    while todo:
        made = todo.pop()
        node = made.producer()
        if constant_of(made) is not None:
            continue
        if node is None or not node.inputs or len(seen) > _MOST:
            return False
        new = {v for v in node.inputs if v is not None} - seen
        seen |= new
        todo += new
    return constant_of(value) is None
