"""Finding the shapes of values, inside functions too."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from convfc.onnx_model.operators import known_shape

_infer = ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)


def infer(model: ir.Model) -> None:
    """Give every value of a model the shape that can be known before run time.

    Standard shape inference does not tell what is inside a function: there, inputs have what all
    callers agree on, and inference goes on from that.
    """
    _infer(model)
    waiting = dict(model.functions)
    while waiting:
        # No function calls itself, in whatever roundabout way, so one has no caller left.
        called = {node.op_identifier() for f in waiting.values() for node in f.all_nodes()}
        key = next((key for key in waiting if key not in called), next(iter(waiting)))
        function = waiting.pop(key)
        calls = [node for node in _nodes(model) if node.op_identifier() == key]
        for place, formal in enumerate(function.inputs):
            given = [call.inputs[place] for call in calls if place < len(call.inputs)]
            _agree(formal, [value for value in given if value is not None])
        _infer(ir.Model(function.graph, ir_version=model.ir_version))


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from model.graph.all_nodes()
    for function in model.functions.values():
        yield from function.all_nodes()


def _agree(formal: ir.Value, given: list[ir.Value]) -> None:
    """Give a function's input the type and the sizes that are the same in all calls."""
    shapes = [known_shape(value) for value in given]
    types = [value.dtype for value in given]
    if not types or types[0] is None or len(set(types)) > 1:
        return
    formal.dtype = types[0]
    ranks = {None if shape is None else len(shape) for shape in shapes}
    if len(ranks) != 1 or None in ranks:
        return
    axes = zip(*(shape for shape in shapes if shape is not None), strict=True)
    formal.shape = ir.Shape(axis[0] if len(set(axis)) == 1 else None for axis in axes)
