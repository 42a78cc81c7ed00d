"""Opening up the functions of a model whose convolutions only their callers determine.

A function with attributes that each caller gives, or a kernel of which callers disagree about the
shape, is several convolutions in one: it is put in the place of its calls, where each is its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from convfc.errors import GeometryError
from convfc.formats.onnx.carried_types import carried, unpack
from convfc.formats.onnx.emitter import Names
from convfc.formats.onnx.operators import geometry, is_convolution, why_left
from convfc.formats.onnx.sites import lowest_opset, opset_of, places, subgraphs
from convfc.formats.onnx.writer import form_of, undescribe

Identifier = ir.OperatorIdentifier


def undetermined(inferred: ir.Model) -> set[Identifier]:
    """Functions with convolutions that cannot be converted in there, but perhaps in the callers.

    Args:
        inferred: a model with its shapes.
    """
    return {
        identifier
        for identifier, function in inferred.functions.items()
        for node in function.all_nodes()
        if is_convolution(node) and not _is_determined(node, opset_of(function))
    }


def readiness(inferred: ir.Model) -> tuple[int, int]:
    """How many convolutions are determined, and (negative) how many are not: more is better."""
    nodes = (place.node for place in places(inferred))
    found = [_is_determined(node, None) for node in nodes if is_convolution(node)]
    return found.count(True), -found.count(False)


def _is_determined(node: ir.Node, opset: int | None) -> bool:
    if why_left(node) is not None:
        return True  # elsewhere it would be left as well
    try:
        geometry(node)
    except GeometryError:
        return False
    return opset is None or lowest_opset(node) <= opset


def inlined(proto: onnx.ModelProto, functions: set[Identifier]) -> onnx.ModelProto:
    """A copy of a model with some of its functions in the places of their calls.

    `InlinePass` does it, but its names are unique per graph only, and it knows neither functions of
    an older opset nor outputs that are inputs nor those that a call leaves out.
    """
    with carried(proto):
        model = ir.from_proto(proto)
    mark = "/"  # for names that are yet to be made unique
    while any(name.startswith(mark) for name in Names(model).taken if name is not None):
        mark += "/"
    for identifier in functions:
        _make_ready(model, model.functions[identifier], mark)
    before = {place.node for place in places(model)}
    for call in before:
        if call.op_identifier() in functions:
            for output in call.outputs:
                output.name = output.name or f"{mark}unused"
    InlinePass(lambda function: function.identifier() in functions)(model)
    for identifier in functions & model.functions.keys():
        del model.functions[identifier]  # nobody called it
    names = Names(model)
    for place in places(model):
        if place.node not in before:
            place.node.name = names.fresh((place.node.name or "").removeprefix(mark))
            for value in _made_by(place.node):
                if value.name is not None and value.name.startswith(mark):
                    value.name = names.fresh(value.name.removeprefix(mark))
    undescribe(model, form_of(proto))
    opened = ir.to_proto(model)
    unpack(opened)
    return opened


def _make_ready(model: ir.Model, function: ir.Function, mark: str) -> None:
    # Its operators are the same in both versions: a model with other functions is invalid.
    common = function.opset_imports.keys() & model.opset_imports.keys()
    function.opset_imports.update({domain: model.opset_imports[domain] for domain in common})
    for node in function.all_nodes():
        node.name = f"{mark}{node.name or node.op_type}"
        for value in _made_by(node):
            value.name = f"{mark}{value.name}" if value.name else value.name
    for index, output in enumerate(function.outputs):
        if output in function.inputs:
            copy = ir.node("Identity", [output])
            copy.outputs[0].name = f"{mark}{output.name}"
            function.append(copy)
            function.outputs[index] = copy.outputs[0]


def _made_by(node: ir.Node) -> Iterator[ir.Value]:
    """A node's outputs, and the inputs and weights of its subgraphs."""
    yield from node.outputs
    for attribute in node.attributes.values():
        for graph in subgraphs(attribute):
            yield from graph.inputs
            yield from graph.initializers.values()
