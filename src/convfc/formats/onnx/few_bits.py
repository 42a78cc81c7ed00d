"""MatMulNBits, onnxruntime's product with packed weights, as DequantizeLinear and MatMul.

Its weights are packed column by column; here they are the matrix again, in as few bits. The rest
is standard operators, of opset 21.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from convfc.core.arrays import Array
from convfc.formats.onnx.emitter import Emitter, Names, constant_of
from convfc.formats.onnx.operators import DOMAINS, PACKED, identifier
from convfc.formats.onnx.opset_steps import StepError
from convfc.formats.onnx.raising import step_of
from convfc.formats.onnx.sites import opset_of, places

OPSET = 21
"""From here on, there are numbers of 4 bits, and scales of blocks."""
_IR_VERSION = 10
_SIGNED = {4: ir.DataType.INT4, 8: ir.DataType.INT8}
_EXACT = (0, 1)
"""What `accuracy_level` may be: others let runtimes round the rows, to 8 bits for instance."""
_UNSIGNED = {4: ir.DataType.UINT4, 8: ir.DataType.UINT8}


def is_packed(node: ir.Node) -> bool:
    """Whether it is a MatMulNBits."""
    return identifier(node) == PACKED


def unpack_products(model: ir.Model, kept: Set[str | None]) -> None:
    """Make standard operators of each MatMulNBits that can be, if the opset can be raised.

    Args:
        model: changed in place.
        kept: names of values of which the makers stay as they are.
    """
    packed = [place for place in places(model) if is_packed(place.node)]
    if not packed or not _can_be_raised(model):
        return
    names, constants = Names(model), dict[Any, ir.Value]()
    for place in packed:
        if place.node.outputs[0].name not in kept:
            _unpack(place.node, Emitter(place, names, constants))


def raised_for_few_bits(model: ir.Model) -> str | None:
    """Raise the opset of a model if there is something in it that needs that; what to say of it."""
    before = opset_of(model.graph)
    if before >= OPSET or not any(_is_new(place.node) for place in places(model)):
        return None
    for imports in (model.opset_imports, *(f.opset_imports for f in model.functions.values())):
        for domain in DOMAINS & imports.keys():
            imports[domain] = OPSET
    model.ir_version = max(model.ir_version or 0, _IR_VERSION)
    return f"The opset was raised from {before} to {OPSET}, which weights of few bits need."


def _is_new(node: ir.Node) -> bool:
    """Whether a node is of a kind that older opsets do not have."""
    stored = constant_of(node.inputs[0]) if node.inputs and node.inputs[0] is not None else None
    few = stored is not None and stored.dtype in (_SIGNED[4], _UNSIGNED[4])
    blocks = node.attributes.get_int("block_size", 0)
    return node.op_type == "DequantizeLinear" and (few or blocks > 0)


def _can_be_raised(model: ir.Model) -> bool:
    """Whether all its operators mean the same in the opset that is needed."""
    before = opset_of(model.graph)
    if before < 13:
        return False
    try:
        return all(
            step_of(onnx.helper.make_node(*kind, [], [], domain=""), version) is None
            for kind in {(place.node.op_type,) for place in places(model) if not place.node.domain}
            for version in range(before + 1, OPSET + 1)
        )
    except StepError:
        return False


def _unpack(node: ir.Node, emit: Emitter) -> None:
    """A product with a matrix that is dequantized, and a sum if it has a bias."""
    rows, stored, scales, zeros, order, bias = [*node.inputs, *[None] * 6][:6]
    bits, block = node.attributes.get_int("bits", 4), node.attributes.get_int("block_size", 0)
    depth, width = node.attributes.get_int("K", 0), node.attributes.get_int("N", 0)
    weights = [None if v is None else constant_of(v) for v in (stored, scales, zeros)]
    computed = [weight is None for weight in weights] != [False, False, zeros is None]
    if rows is None or computed or bits not in _SIGNED or order is not None or not block:
        return
    count = -(-depth // block)
    packed, scale, zero = (None if each is None else each.numpy() for each in weights)
    assert packed is not None and scale is not None  # noqa: S101, PT018 - asked above
    if zero is not None and zero.dtype != np.uint8:
        return
    if node.attributes.get_int("accuracy_level", 0) not in _EXACT:
        return
    numbers = _unpacked(packed, bits).reshape(width, count * block)[:, :depth].T
    middle = 1 << (bits - 1)
    shift = np.full((width, count), middle, np.uint8)
    if zero is not None:
        shift = _unpacked(zero.reshape(width, -1), bits)[:, :count]
    scale = scale.reshape(width, count).T
    inputs = [emit.numbers(np.ascontiguousarray(scale if count > 1 else scale[0]), "scale")]
    dtype = _UNSIGNED[bits]
    if (shift == middle).all():
        dtype, numbers = _SIGNED[bits], numbers.astype(np.int16) - middle
    else:
        shift = shift.T if count > 1 else shift[:, 0]
        inputs.append(_constant(emit, shift, dtype, "zero_point"))
    matrix = emit.node(
        "DequantizeLinear",
        _constant(emit, numbers, dtype, "quantized"),
        *inputs,
        **({"axis": 0, "block_size": block} if count > 1 else {"axis": 1}),
    )
    operands = [rows, matrix]
    if bias is not None:
        operands = [emit.node("MatMul", *operands), bias]
    node.op_type, node.domain = "MatMul" if bias is None else "Add", ""
    node.attributes.clear()
    node.resize_inputs(2)
    for place, value in enumerate(operands):
        node.replace_input_with(place, value)


def _unpacked(packed: Array, bits: int) -> Array:
    """Unsigned numbers, of which the first is in the lowest bits of a byte."""
    if bits == 8:
        return packed
    both = np.stack([packed & 15, packed >> 4], axis=-1)
    return both.reshape(*packed.shape[:-1], -1)


def _constant(emit: Emitter, numbers: Array, dtype: ir.DataType, role: str) -> ir.Value:
    array = np.ascontiguousarray(numbers).astype(dtype.numpy())
    key = (role, dtype, array.shape, array.tobytes())
    return emit.constant(key, lambda: ir.Tensor(array, dtype=dtype), role)
