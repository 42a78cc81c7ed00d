"""A model with a newer version of the standard operators, by the official converter.

What that does not know is told to it in other words, and told back afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference, version_converter

from convfc.formats.onnx.experimental import without_experimental
from convfc.formats.onnx.protos import complaint, graphs_of, settings

_FIRST_SIZE = 1_000_003
"""Of the sizes that stand for open ones; a model has no such numbers."""
_WHOLE = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)
_SETTINGS = {"Clip": 1, "Pad": 2}
"""From which operand on an operator has what were attributes, as real numbers."""


def raised(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """A copy of a model without functions, of another opset.

    Weights in other files, which the converter would lose, are inputs meanwhile.

    Raises:
        Exception: it cannot do that; it has many kinds, RuntimeError among them.
    """
    graph = proto.graph
    apart = {tensor.name: tensor for tensor in graph.initializer if tensor.external_data}
    listed = {value.name for value in graph.input}
    kept = [tensor for tensor in graph.initializer if tensor.name not in apart]
    without = without_experimental(proto)
    del without.graph.initializer[:]
    without.graph.initializer.extend(kept)
    for name in apart.keys() - listed:
        value = helper.make_tensor_value_info(name, apart[name].data_type, apart[name].dims)
        without.graph.input.append(value)
    try:
        newer = version_converter.convert_version(without, opset)
    except Exception:  # it asks for all sizes where operators of before opset 7 broadcast
        newer = _with_sizes(without, opset)
    _retype(newer, without)
    wrong = complaint(newer)
    if wrong is not None:
        raise ValueError(wrong)
    inputs = [value for value in newer.graph.input if value.name in listed]
    del newer.graph.input[:]
    newer.graph.input.extend(inputs)
    newer.graph.initializer.extend(apart.values())
    return newer


def _retype(newer: onnx.ModelProto, older: onnx.ModelProto) -> None:
    """Give settings that became operands the type of the data: the converter makes all float32."""
    made = {node.output[0]: node for node in newer.graph.node if node.op_type == "Constant"}
    if not any(name in made for node in newer.graph.node for name in _given(node)):
        return
    graph = shape_inference.infer_shapes(older).graph
    known = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for info in (*graph.input, *graph.output, *graph.value_info):
        known[info.name] = info.type.tensor_type.elem_type
    for node in newer.graph.node:
        for name in {*_given(node)} & made.keys() - known.keys():
            kind = known.get(node.input[0]) or onnx.TensorProto.FLOAT
            value = made[name].attribute[0].t
            with np.errstate(over="ignore"):  # no bound is the largest number of a float32
                array = numpy_helper.to_array(value).astype(helper.tensor_dtype_to_np_dtype(kind))
            value.CopyFrom(numpy_helper.from_array(array, value.name))


def _given(node: onnx.NodeProto) -> Sequence[str]:
    """Operands that were attributes before."""
    first = None if node.domain else _SETTINGS.get(node.op_type)
    return () if first is None else node.input[first:]


def _with_sizes(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The same for a model with open sizes, which have numbers meanwhile.

    Raises:
        ValueError: the newer model depends on these numbers.
    """
    closed = onnx.ModelProto()
    closed.CopyFrom(proto)
    del closed.graph.value_info[:]
    for info in closed.graph.output:  # its sizes follow
        info.type.tensor_type.ClearField("shape")
    numbers, sizes = count(_FIRST_SIZE, 2), dict[str, int]()
    for info in closed.graph.input:
        for dim in info.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                name = dim.dim_param
                dim.dim_value = sizes.setdefault(name, next(numbers)) if name else next(numbers)
    newer = version_converter.convert_version(closed, opset)
    new = {*_whole_numbers(newer)}.difference(_whole_numbers(proto))
    if any(abs(number) >= _FIRST_SIZE for number in new):
        raise ValueError("the newer operators depend on sizes that are open")
    for field in ("input", "output"):
        infos = {info.name: info for info in getattr(proto.graph, field)}
        for info in getattr(newer.graph, field):
            if info.name in infos:
                info.CopyFrom(infos[info.name])
    del newer.graph.value_info[:]
    newer.graph.value_info.extend(proto.graph.value_info)
    return newer


def _whole_numbers(proto: onnx.ModelProto) -> Iterator[int]:
    """Every integer that a model holds, in constants and attributes."""
    for graph in graphs_of(proto.graph):
        tensors = list(graph.initializer)
        for value in (value for node in graph.node for value in settings(node).values()):
            if isinstance(value, int):
                yield value
            elif isinstance(value, onnx.TensorProto):
                tensors.append(value)
            elif isinstance(value, list):
                yield from (one for one in value if isinstance(one, int))
        for tensor in tensors:
            if tensor.data_type in _WHOLE and not tensor.external_data:
                yield from numpy_helper.to_array(tensor).ravel().tolist()
