"""Open sizes of a model's inputs fixed, and all that follows from them."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from convfc.errors import UsageError
from convfc.formats.onnx.operators import known_shape
from convfc.formats.onnx.protos import graphs_of
from convfc.formats.shapes import Shapes, unlike


def fixed(proto: onnx.ModelProto, shapes: Shapes) -> onnx.ModelProto:
    """A copy whose inputs have such shapes; what is stated of other values' sizes is forgotten.

    Raises:
        UsageError: there is no such input, or it takes another shape.
    """
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    weights = {tensor.name for tensor in made.graph.initializer}
    inputs = {value.name: value for value in made.graph.input if value.name not in weights}
    for name, wanted in shapes.items():
        if name not in inputs:
            raise UsageError(f"there is no input '{name}'; there are: {', '.join(inputs)}")
        if not inputs[name].type.HasField("tensor_type"):
            raise UsageError(f"input '{name}' is no tensor, and has no sizes to fix")
        tensor = inputs[name].type.tensor_type
        known = None
        if tensor.HasField("shape"):
            known = [dim.dim_value or None for dim in tensor.shape.dim]
        wrong = unlike(name, known, wanted)
        if wrong is not None:
            raise UsageError(wrong)
        tensor.shape.Clear()
        tensor.shape.dim.extend(onnx.TensorShapeProto.Dimension(dim_value=n) for n in wanted)
    for graph in graphs_of(made.graph):
        own = {tensor.name for tensor in graph.initializer}
        for info in (*graph.value_info, *(graph.output if graph is made.graph else ())):
            for dim in info.type.tensor_type.shape.dim if info.name not in own else ():
                if info.name not in inputs:
                    dim.Clear()
    return made


def restate(model: ir.Model, inferred: ir.Model) -> None:
    """State of each value what follows from the inputs.

    Args:
        model: changed in place.
        inferred: the same model with every shape that can be inferred.
    """
    for node, shaped in zip(model.graph, inferred.graph, strict=True):
        for value, found in zip(node.outputs, shaped.outputs, strict=True):
            shape = known_shape(found)
            if shape is not None and any(shape):
                value.shape = ir.Shape(shape)
                value.type = value.type or found.type
