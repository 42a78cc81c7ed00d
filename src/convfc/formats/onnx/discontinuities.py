"""The operators of ONNX whose result jumps where the input moves a little."""

from __future__ import annotations

import onnx_ir as ir

_CHOOSES = frozenset(("ArgMax", "ArgMin", "Hardmax", "NonMaxSuppression", "NonZero", "TopK"))
_COMPARES = frozenset(("Greater", "GreaterOrEqual", "Less", "LessOrEqual"))
_ROUNDS = frozenset(("Ceil", "Floor", "Mod", "Round", "Sign", "Unique"))


def is_step(node: ir.Node) -> bool:
    """Whether a node rounds, compares or chooses; integers made of what it reads count as well."""
    kind = node.op_type
    if kind in _CHOOSES | _COMPARES | _ROUNDS or "Quantize" in kind or kind.startswith("QLinear"):
        return True
    read = node.inputs[0] if node.inputs else None
    if kind != "Cast" or read is None or read.dtype is None:
        return False
    made = ir.DataType(node.attributes["to"].as_int())
    return read.dtype.is_floating_point() and not made.is_floating_point()
