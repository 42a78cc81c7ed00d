"""Products that an optimizer made one with what is added to them, taken apart again."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import onnx_ir as ir

from convfc.formats.onnx.emitter import Emitter, Names
from convfc.formats.onnx.operators import identifier
from convfc.formats.onnx.sites import places

_PLAIN = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}


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
        if identifier(node) != ("", "Gemm") or node.outputs[0].name in kept:
            continue
        settings = {name: attribute.value for name, attribute in node.attributes.items()}
        a, b, *more = node.inputs
        if (_PLAIN | settings) != _PLAIN or a is None or b is None:
            continue
        bias = more[0] if more else None
        node.attributes.clear()
        if bias is None:
            node.op_type = "MatMul"
            node.resize_inputs(2)
            continue
        product = Emitter(place, names, constants).node("MatMul", a, b)
        node.op_type = "Add"
        node.resize_inputs(2)
        node.replace_input_with(0, product)
        node.replace_input_with(1, bias)
