"""Gemm as MatMul and Add: two operators that all programs know, in place of one with attributes."""

from __future__ import annotations

import math
from collections.abc import Set
from typing import Any

import onnx_ir as ir

from convfc.formats.onnx.emitter import Emitter, Names, constant_of
from convfc.formats.onnx.known_values import Known
from convfc.formats.onnx.operators import identifier, known_shape
from convfc.formats.onnx.sites import places

_MOST_TRANSPOSED = 2**24
"""Weights that are laid out anew; larger matrices stay as they are, in the file they are in."""
_PLAIN = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}


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


def is_gemm(node: ir.Node) -> bool:
    """Whether it is a Gemm."""
    return identifier(node) == ("", "Gemm")


def gemms_apart(model: ir.Model, kept: Set[str | None]) -> None:
    """Make a MatMul and an Add of each Gemm that is no more than these.

    Args:
        model: changed in place.
        kept: names of values of which the makers stay as they are.
    """
    names = Names(model)
    constants: dict[Any, ir.Value] = {}
    for place in list(places(model)):
        node = place.node
        if not is_gemm(node) or node.outputs[0].name in kept:
            continue
        settings = {name: attribute.value for name, attribute in node.attributes.items()}
        a, b, *more = node.inputs
        emit = Emitter(place, names, constants)
        if settings.pop("transB", 0) and b is not None:
            b = _transposed(emit, b)
        if (_PLAIN | settings) != _PLAIN or a is None or b is None:
            continue
        bias = more[0] if more else None
        node.attributes.clear()
        node.replace_input_with(1, b)
        if bias is None:
            node.op_type = "MatMul"
            node.resize_inputs(2)
            continue
        product = emit.node("MatMul", a, b)
        node.op_type = "Add"
        node.resize_inputs(2)
        node.replace_input_with(0, product)
        node.replace_input_with(1, bias)


def _transposed(emit: Emitter, matrix: ir.Value) -> ir.Value | None:
    """A constant matrix laid out anew; ``None`` of any other, or of a large one."""
    stored = constant_of(matrix)
    if stored is None or len(stored.shape) != 2 or stored.size > _MOST_TRANSPOSED:
        return None
    laid_out = ir.Tensor(stored.numpy().T.copy(), dtype=stored.dtype)
    return emit.constant((id(matrix), "transposed"), lambda: laid_out, "transposed")
