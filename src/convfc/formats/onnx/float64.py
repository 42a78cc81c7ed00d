"""An ONNX model with all its real numbers in a wider type: it hardly rounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from convfc.core.arrays import coarsest
from convfc.errors import UnsupportedModelError
from convfc.formats.onnx.emitter import constant_of
from convfc.formats.onnx.operators import identifier
from convfc.formats.onnx.sites import Place, label, numpy_name, places
from convfc.refusals import Code

_NARROW = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_NAMES = {
    ir.DataType.FLOAT: "tensor(float)",
    ir.DataType.FLOAT16: "tensor(float16)",
    ir.DataType.BFLOAT16: "tensor(bfloat16)",
    ir.DataType.DOUBLE: "tensor(double)",
}
_TYPE_ATTRIBUTES = ("to", "dtype")


def widen(model: ir.Model, to: ir.DataType = ir.DataType.DOUBLE) -> None:
    """Give every tensor of real numbers one wide type; inputs and outputs included.

    Constants that an operator takes in float32 only, such as the scales of a Resize, stay; what
    one makes of integers in float32 only, such as dequantized weights, is cast.

    Args:
        model: changed in place.
        to: the type, float64 or float32.

    Raises:
        UnsupportedModelError: an operator has no form for that type by its definition, such as one
            that quantizes: the result would be another function.
    """
    kept: set[ir.Value] = set()
    found = list(places(model))
    for place in found:
        if (place.node.domain, place.node.op_type, place.node.overload) not in model.functions:
            kept |= _narrow_values(place, to)
    for place in found:
        _widen_node(place.node, kept, to)
    bodies = {place.body for place in found} | {model.graph}
    for body in bodies:
        for value in (*body.inputs, *(value for node in body for value in node.outputs)):
            _widen_type(value, kept, to)
        if isinstance(body, ir.Graph):
            for value in body.initializers.values():
                if value not in kept and value.const_value is not None:
                    value.const_value = _wide(value.const_value, to)
                _widen_type(value, kept, to)


def _narrow_values(place: Place, to: ir.DataType) -> set[ir.Value]:
    """The constants that a node takes, and the outputs that it makes, in narrow types only.

    Raises:
        UnsupportedModelError: it takes other values in narrow types only.
    """
    node = place.node
    domain, op_type = identifier(node)
    try:
        schema = onnx.defs.get_schema(op_type, place.opset, domain)
    except onnx.defs.SchemaError:
        raise UnsupportedModelError(
            f"'{label(node)}' is a {node.op_type} of '{node.domain}', which convfc does not know",
            code=Code.NOT_RUN,
        ) from None
    narrower = {_NAMES[dtype] for dtype in _NARROW if dtype is not to}
    types = {rule.type_param_str: set(rule.allowed_type_strs) for rule in schema.type_constraints}

    def narrow(values: Sequence[ir.Value | None], formals: Sequence[Any]) -> Iterator[ir.Value]:
        for number, value in enumerate(values):
            formal = formals[min(number, len(formals) - 1)]
            allowed = types.get(formal.type_str, {formal.type_str})
            if value is not None and allowed & narrower and _NAMES[to] not in allowed:
                yield value

    taken = set(narrow(node.inputs, schema.inputs))
    if any(constant_of(value) is None for value in taken):
        raise UnsupportedModelError(
            f"{node.op_type} ('{label(node)}') has no {to.numpy().name} form", code=Code.NOT_RUN
        )
    made = set(narrow(node.outputs, schema.outputs))
    for value in made:
        _cast_behind(place, value, to)
    return taken | made


def _cast_behind(place: Place, value: ir.Value, to: ir.DataType) -> None:
    """Let those who read a value read it in the wide type."""
    cast = ir.node("Cast", [value], attributes={"to": int(to)})
    wide = cast.outputs[0]
    wide.name, value.name = value.name, f"{value.name} as it is made"
    value.replace_all_uses_with(wide, replace_graph_outputs=True)
    cast.replace_input_with(0, value)
    place.body.insert_after(place.node, cast)


def _widen_node(node: ir.Node, kept: set[ir.Value], to: ir.DataType) -> None:
    if any(value in kept for value in node.outputs):
        return
    if node.op_type == "Constant":
        tensor = constant_of(node.outputs[0])
        if tensor is not None:
            node.attributes.clear()
            node.attributes.add(ir.AttrTensor("value", _wide(tensor, to)))
    elif node.op_type == "ConstantOfShape" and "value" not in node.attributes:
        node.attributes.add(ir.AttrTensor("value", ir.tensor(np.zeros(1, to.numpy()))))
    for attribute in list(_widened(node, to)):
        node.attributes.add(attribute)


def _widened(node: ir.Node, to: ir.DataType) -> Iterator[ir.Attr]:
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type is ir.AttributeType.TENSOR:
            yield ir.AttrTensor(attribute.name, _wide(attribute.as_tensor(), to))
        elif attribute.name in _TYPE_ATTRIBUTES and attribute.value in map(int, _NARROW):
            yield ir.AttrInt64(attribute.name, int(to))


def _widen_type(value: ir.Value, kept: set[ir.Value], to: ir.DataType) -> None:
    if value not in kept and value.dtype in _NARROW:
        value.dtype = to


def _wide(tensor: ir.TensorProtocol, to: ir.DataType) -> ir.TensorProtocol:
    return ir.tensor(tensor.numpy().astype(to.numpy())) if tensor.dtype in _NARROW else tensor


def precision_of(model: ir.Model) -> str:
    """The coarsest type of real numbers in a model."""
    weights = (value.dtype for graph in model.graphs() for value in graph.initializers.values())
    ports = (value.dtype for value in (*model.graph.inputs, *model.graph.outputs))
    nodes = [place.node for place in places(model)]
    casts = (ir.DataType(node.attributes.get_int("to", 1)) for node in nodes)
    constants = (constant_of(value) for node in nodes for value in node.outputs)
    made = (tensor.dtype for tensor in constants if tensor is not None)
    return coarsest(map(numpy_name, (*weights, *ports, *casts, *made)))
