"""Which layers stay channels first, as ONNX has them: pointwise ones among themselves."""

from __future__ import annotations

from collections.abc import Mapping, Set

import onnx_ir as ir

from convfc.formats.onnx.graph_ops import OnnxOps

_TRANSPARENT = frozenset(
    (
        *("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Sigmoid", "HardSigmoid"),
        *("HardSwish", "Mish", "Softplus", "Tanh", "Clip", "Add", "Sub", "Mul", "Div", "Sum"),
        *("Max", "Min", "BatchNormalization", "Concat", "Cast", "Dropout", "Identity"),
    )
)
"""Operators through which onnxruntime moves a Transpose, so that two of them meet and cancel."""


def staying(layers: Mapping[ir.Node, OnnxOps]) -> Set[ir.Node]:
    """The layers whose product is `OnnxOps.channels_first_product`.

    It needs no Transpose. But beside a layer that does, through elementwise operators, one with
    channels last is better: it takes the bias along, and what is between needs no Transpose either.

    Args:
        layers: the nodes that are going to be replaced, before any is.
    """
    free = {
        node
        for node, ops in layers.items()
        if ops.has_channels_first and not ops.prefers_channels_first
    }
    first = {node for node, ops in layers.items() if ops.prefers_channels_first}
    waiting = [node for node in layers if node not in free | first]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        above = [value.producer() for value in node.inputs if value is not None]
        below = [user for value in node.outputs for user, _ in value.uses()]
        for other in (*above, *below):
            if other is None or other in seen:
                continue
            if other in free or other.op_type in _TRANSPARENT:
                seen.add(other)
                waiting.append(other)
    return first | free - seen
