"""What nodes of the emitter's come to that read constants alone: optimizers compute it once.

They add up index maps, and repeat and cut weights, which moves numbers and changes none. And they
lay out weights of few bits before these are dequantized, in the place of what comes of that.
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
_COMPUTED = MOVES | {("", op) for op in ("Add", "DequantizeLinear", "Transpose")}
_FEW_BITS = {ir.DataType.INT4, ir.DataType.INT8, ir.DataType.UINT4, ir.DataType.UINT8}


def folded(value: ir.Value) -> ir.TensorProtocol | None:
    """The tensor that a value always is; ``None`` if nodes but those above make it."""
    stored = constant_of(value)
    if stored is not None or value.producer() is None:
        return stored
    found = moved(value, {})
    return None if found is None else ir.Tensor(found)


def is_dequantized(value: ir.Value) -> bool:
    """Whether a value is made of numbers of few bits by a DequantizeLinear."""
    node = value.producer()
    if node is None or identifier(node) != ("", "DequantizeLinear") or node.inputs[0] is None:
        return False
    stored = constant_of(node.inputs[0])
    return stored is not None and stored.dtype in _FEW_BITS


def moved(value: ir.Value, known: Mapping[ir.Value, Array]) -> Array | None:
    """The numbers of a value.

    Args:
        value: a constant, or computed.
        known: numbers of other values.

    Returns:
        ``None`` unless it is made of these and of constants, by moves, sums of integers, and
        products of an integer of few bits with its scale.
    """
    if value in known:
        return known[value]
    stored, node = constant_of(value), value.producer()
    if stored is not None:
        return stored.numpy()
    if node is None or identifier(node) not in _COMPUTED:
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
    if node.op_type == "DequantizeLinear":
        return _dequantized(node, x, *rest)
    if node.op_type == "Transpose":
        return np.transpose(x, node.attributes.get_ints("perm", [*reversed(range(x.ndim))]))
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


def _dequantized(node: ir.Node, x: Array, scale: Array, zero: Array | None = None) -> Array | None:
    """(x - zero) * scale, where that is rounded once, whoever computes it."""
    if ir.DataType.from_numpy(x.dtype) not in _FEW_BITS or scale.dtype != np.float32:
        return None
    if any(a.value for name, a in node.attributes.items() if name not in ("axis", "block_size")):
        return None
    axis, block = node.attributes.get_int("axis", 1), node.attributes.get_int("block_size", 0)

    def spread(each: Array) -> Array | None:
        """A scale or zero point for each number."""
        if each.size == 1:
            return each.reshape(())
        if block:
            longer = np.repeat(each, block, axis) if -x.ndim <= axis < x.ndim else each
            cut = [slice(size) for size in x.shape]
            return longer[tuple(cut)] if longer.ndim == x.ndim else None
        fits = each.ndim == 1 and -x.ndim <= axis < x.ndim and each.size == x.shape[axis]
        return np.expand_dims(each, [*range(1, x.ndim - axis % x.ndim)]) if fits else None

    scales, zeros = spread(scale), spread(np.zeros((), x.dtype) if zero is None else zero)
    if scales is None or zeros is None:
        return None
    return (x.astype(np.int32) - zeros.astype(np.int32)).astype(np.float32) * scales
