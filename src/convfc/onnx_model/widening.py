"""An ONNX model with all its real numbers in float64: it hardly rounds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir

from convfc.errors import UnsupportedModelError
from convfc.onnx_model.emitting import constant_of
from convfc.onnx_model.operators import DOMAINS
from convfc.onnx_model.sites import Place, label, places

_NARROW = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_NARROW_NAMES = {f"tensor({name})" for name in ("float", "float16", "bfloat16")}
_WIDE_NAME = "tensor(double)"
_TYPE_ATTRIBUTES = ("to", "dtype")


def widen(model: ir.Model) -> None:
    """Give every tensor of real numbers the type float64; inputs and outputs included.

    Constants that an operator takes in float32 only, such as the scales of a Resize, stay.

    Args:
        model: changed in place.

    Raises:
        UnsupportedModelError: an operator has no form for float64 by its definition, such as one
            that quantizes: the result would be another function.
    """
    kept: set[ir.Value] = set()
    found = list(places(model))
    for place in found:
        if (place.node.domain, place.node.op_type, place.node.overload) not in model.functions:
            kept |= _narrow_constants(place)
    for place in found:
        _widen_node(place.node, kept)
    bodies = {place.body for place in found} | {model.graph}
    for body in bodies:
        for value in (*body.inputs, *(value for node in body for value in node.outputs)):
            _widen_type(value, kept)
        if isinstance(body, ir.Graph):
            for value in body.initializers.values():
                if value not in kept and value.const_value is not None:
                    value.const_value = _wide(value.const_value)
                _widen_type(value, kept)


def _narrow_constants(place: Place) -> set[ir.Value]:
    """The constants that a node takes in narrow types only.

    Raises:
        UnsupportedModelError: that goes for more than constants.
    """
    node = place.node
    domain = "" if node.domain in DOMAINS else node.domain
    try:
        schema = onnx.defs.get_schema(node.op_type, place.opset, domain)
    except onnx.defs.SchemaError:
        raise UnsupportedModelError(
            f"'{label(node)}' is a {node.op_type} of '{node.domain}', of which convfc knows nothing"
        ) from None
    types = {rule.type_param_str: set(rule.allowed_type_strs) for rule in schema.type_constraints}
    kept = set()
    for values, formals in ((node.inputs, schema.inputs), (node.outputs, schema.outputs)):
        for number, value in enumerate(values):
            formal = formals[min(number, len(formals) - 1)]
            allowed = types.get(formal.type_str, {formal.type_str})
            if value is None or not allowed & _NARROW_NAMES or _WIDE_NAME in allowed:
                continue
            if value.producer() is node or constant_of(value) is None:
                raise UnsupportedModelError(f"{node.op_type} ('{label(node)}') has no float64 form")
            kept.add(value)
    return kept


def _widen_node(node: ir.Node, kept: set[ir.Value]) -> None:
    if any(value in kept for value in node.outputs):
        return
    if node.op_type == "Constant":
        tensor = constant_of(node.outputs[0])
        if tensor is not None:
            node.attributes.clear()
            node.attributes.add(ir.AttrTensor("value", _wide(tensor)))
    elif node.op_type == "ConstantOfShape" and "value" not in node.attributes:
        node.attributes.add(ir.AttrTensor("value", ir.tensor(np.zeros(1))))
    for attribute in list(_widened(node)):
        node.attributes.add(attribute)


def _widened(node: ir.Node) -> Iterator[ir.Attr]:
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type is ir.AttributeType.TENSOR:
            yield ir.AttrTensor(attribute.name, _wide(attribute.as_tensor()))
        elif attribute.name in _TYPE_ATTRIBUTES and attribute.value in map(int, _NARROW):
            yield ir.AttrInt64(attribute.name, int(ir.DataType.DOUBLE))


def _widen_type(value: ir.Value, kept: set[ir.Value]) -> None:
    if value not in kept and value.dtype in _NARROW:
        value.dtype = ir.DataType.DOUBLE


def _wide(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.tensor(tensor.numpy().astype(np.float64)) if tensor.dtype in _NARROW else tensor
