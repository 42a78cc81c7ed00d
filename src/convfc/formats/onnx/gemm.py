"""Gemm as MatMul and Add: two operators that all programs know, in place of one with attributes."""

from __future__ import annotations

import math

import onnx_ir as ir

from convfc.formats.onnx.known_values import Known
from convfc.formats.onnx.operators import known_shape

_MOST_TRANSPOSED = 2**24
"""Weights that are laid out anew; larger matrices stay as they are, in the file they are in."""


def separated(known: Known, node: ir.Node) -> bool:
    """Gemm that scales nothing: a product and a sum, of the same weights or of their transpose."""
    x, right, *bias = node.inputs
    setting = node.attributes.get_float
    scaled = setting("alpha", 1.0) != 1 or setting("beta", 1.0) != 1
    if x is None or right is None or known.row(x) is None or scaled:
        return False
    if node.attributes.get_int("transA", 0):
        return False
    if node.attributes.get_int("transB", 0):
        shape = known_shape(right) or (None,)
        small = None not in shape and math.prod(filter(None, shape)) <= _MOST_TRANSPOSED
        weights = known.numbers(right) if small else None
        made = (
            None if weights is None else known.constants({f"{right.name}/transposed": weights.T}, x)
        )
        if made is None:
            return False
        (right,) = made
    if not bias or bias[0] is None:
        return known.become(node, "MatMul", [x, right])
    return known.become(node, "Add", [known.before(node, "MatMul", [x, right]), bias[0]])
