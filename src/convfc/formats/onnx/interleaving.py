"""The outputs of phases in their places, where sizes are not known before run time."""

from __future__ import annotations

from itertools import chain

import onnx_ir as ir

from convfc.core.geometry import AnyConvolution, Sizes
from convfc.formats.onnx.emitter import Emitter


def interleaved(emit: Emitter, y: ir.Value, convolution: AnyConvolution, sizes: Sizes) -> ir.Value:
    """See `Ops.interleave`: all axes at once, for the sizes are computed.

    Args:
        emit: where nodes go; from opset 14 on.
        y: (batch, sizes.., groups * phases.. * depth).
        convolution: the geometry.
        sizes: those of `y`.
    """
    rank, groups, phases = convolution.rank, convolution.groups, convolution.phases
    apart = emit.reshape(y, [None, *sizes, groups, *phases, convolution.filters // groups])
    pairs = chain(*((1 + axis, rank + 2 + axis) for axis in range(rank)))
    turned = emit.transpose(apart, [0, *pairs, rank + 1, 2 * rank + 2])
    axes = emit.integers([*range(rank + 1)], "axes")
    before = emit.node("Gather", emit.sizes(apart), axes, axis=0)
    after = emit.node("Mul", before, emit.integers([1, *phases], "phases"))
    filters = emit.integers([convolution.filters], "filters")
    return emit.node("Reshape", turned, emit.node("Concat", after, filters, axis=0))
