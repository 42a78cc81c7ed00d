"""Filter matrices that are computed from constants, such as those behind a DequantizeLinear.

They stay what they are, in as few bits as they have; the kernel is laid out from them in the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from convfc.core.arrangement import LayOut
from convfc.core.geometry import AnyConvolution, Convolution
from convfc.formats.onnx.emitter import Emitter, constant_of


@dataclass(frozen=True)
class Steps:
    """How a kernel comes from a filter matrix: reshaped, transposed, reshaped."""

    split: Sequence[int]
    order: Sequence[int]
    shape: Sequence[int]

    def emit(self, emit: Emitter, matrix: ir.Value) -> ir.Value:
        """The kernel as nodes."""
        kernel = emit.transpose(emit.reshape(matrix, list(self.split)), self.order)
        same = len(self.order) == len(self.shape)
        return kernel if same else emit.reshape(kernel, list(self.shape))


def steps_back(conv: AnyConvolution, lay_out: LayOut) -> Steps | None:
    """The steps from a filter matrix in blocks to the kernel; ``None`` of any other layout.

    Args:
        conv: the convolution.
        lay_out: how the numbers of its kernel are laid out.
    """
    if not isinstance(conv, Convolution):
        return None
    rank, groups = conv.rank, conv.groups
    each, width = conv.filters // groups, conv.channels // groups
    shape = [conv.filters, width, *conv.kernel]
    split = [*conv.kernel, width, each]
    order = [rank + 1, rank, *range(rank)]
    if groups > 1:
        split, order = [groups, *split], [0, *(axis + 1 for axis in order)]
    places = np.arange(conv.weights).reshape(shape)
    back = lay_out(places).reshape(split).transpose(order).reshape(shape)
    return Steps(split, order, shape) if np.array_equal(back, places) else None


def is_computed(value: ir.Value) -> bool:
    """Whether a value is no constant, but made of nothing else."""
    todo, seen = [value], {value}
    while todo:
        made = todo.pop()
        node = made.producer()
        if constant_of(made) is not None:
            continue
        if node is None or not node.inputs:
            return False
        new = {v for v in node.inputs if v is not None} - seen
        seen |= new
        todo += new
    return constant_of(value) is None
