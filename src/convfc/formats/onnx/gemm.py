"""Gemm as MatMul and Add: two operators that all programs know, in place of one with attributes."""

from __future__ import annotations

import math
from collections.abc import Set
from typing import Any

import numpy as np
import onnx_ir as ir

from convfc.formats.onnx.emitter import Emitter, Names, constant_of
from convfc.formats.onnx.known_values import Known
from convfc.formats.onnx.operators import identifier, known_shape
from convfc.formats.onnx.sites import places

_MOST_TRANSPOSED = 2**24
"""Weights that are laid out anew; larger matrices stay as they are, in the file they are in."""
_CONVOLUTIONS = (("", "Conv"), ("", "ConvTranspose"))
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


def biased(shell: ir.Model, model: ir.Model, inferred: ir.Model) -> int:
    """Add zeros to each convolution and each product of rows that has no bias; how many there were.

    Nodes get names, by which OMLT tells them apart.

    Args:
        shell: the model, changed in place; it need not have its weights.
        model: the same, with all its weights.
        inferred: the same, with every shape that can be inferred.
    """
    known, names, count = Known(shell, model, inferred), Names(shell), 0
    for node in list(known.graph):
        node.name = node.name or names.fresh(f"{node.outputs[0].name}/{node.op_type}")
        made, name = node.outputs[0], f"{node.outputs[0].name}/bias"
        operands = [value for value in node.inputs if value is not None]
        row = known.row(made)
        if identifier(node) in _CONVOLUTIONS and len(operands) == 2:
            filters = known.filters(node)
            zeros = filters and known.constants({name: np.zeros(filters)}, operands[1])
            if zeros:
                node.resize_inputs(3)
                node.replace_input_with(2, zeros[0])
                count += 1
        elif identifier(node) == ("", "MatMul") and row is not None and len(row) == 1:
            reader = known.only_reader(made)
            added = reader is not None and reader.op_type == "Add"
            zeros = None if added else known.constants({name: np.zeros(row)}, made)
            if zeros and known.row(operands[0]) is not None:
                product = known.before(node, "MatMul", operands)
                count += known.become(node, "Add", [product, zeros[0]])
    return count


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
