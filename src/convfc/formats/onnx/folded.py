"""What nodes of the emitter's come to that read constants alone: optimizers compute it once.

They add up index maps, and repeat and cut weights, which moves numbers and changes none.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from convfc.core.arrays import Array
from convfc.formats.onnx.emitter import constant_of
from convfc.formats.onnx.operators import identifier

MOVES = {("", op) for op in ("Tile", "Split", "Reshape")}
"""What the emitter moves weights with."""


def folded(value: ir.Value) -> ir.TensorProtocol | None:
    """The tensor that a value always is; ``None`` if nodes but those above make it."""
    stored = constant_of(value)
    if stored is not None or value.producer() is None:
        return stored
    found = moved(value, {})
    return None if found is None else ir.Tensor(found)


def moved(value: ir.Value, known: Mapping[ir.Value, Array]) -> Array | None:
    """The numbers of a value.

    Args:
        value: a constant, or computed.
        known: numbers of other values.

    Returns:
        ``None`` unless it is made of these and of constants, by `MOVES` and sums of integers.
    """
    if value in known:
        return known[value]
    stored, node = constant_of(value), value.producer()
    if stored is not None:
        return stored.numpy()
    if node is None or identifier(node) not in MOVES | {("", "Add")}:
        return None
    given = [None if one is None else moved(one, known) for one in node.inputs]
    operands = [one for one in given if one is not None]
    if not operands or len(operands) < len(given):
        return None
    return _computed(node, value.index() or 0, *operands)


def _computed(node: ir.Node, output: int, x: Array, *rest: Array) -> Array | None:
    if node.op_type == "Add":
        whole = x.dtype.kind in "iu" and len(rest) == 1 and x.dtype == rest[0].dtype
        return np.asarray(x + rest[0]) if whole else None
    if node.op_type == "Tile":
        return np.tile(x, rest[0]) if len(rest) == 1 else None
    if node.op_type == "Reshape":
        plain = len(rest) == 1 and 0 not in rest[0]
        return x.reshape(rest[0]) if plain else None
    sizes = rest[0] if rest else np.array(node.attributes.get_ints("split", ()))
    axis = node.attributes.get_int("axis", 0)
    if sizes.size == 0 or not -x.ndim <= axis < x.ndim or sizes.sum() != x.shape[axis]:
        return None
    parts: list[Array] = np.split(x, np.cumsum(sizes)[:-1], axis)
    return parts[output]
