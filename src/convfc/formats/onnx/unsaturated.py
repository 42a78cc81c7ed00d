"""Original models whose quantized convolutions are the same, but do not saturate.

On x86 without VNNI, onnxruntime's QLinearConv of uint8 and int8 and its ConvInteger of int8 and
uint8 add pairs of products in 16 bits. Its own remedy (the session option x64quantprecision) knows
neither kernels that are computed at run time nor ConvInteger, makes invalid models where there is
a QLinearConv of int8 and int8, and takes effect at higher levels of optimization only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from convfc.formats.onnx.carried_types import carried, unpack
from convfc.formats.onnx.emitter import Emitter, Names, constant_of
from convfc.formats.onnx.filter_matrix import unsigned
from convfc.formats.onnx.operators import is_integer, operands, operator_of
from convfc.formats.onnx.sites import places


def steadied(model: str | bytes, folder: Path | None = None) -> str | bytes:
    """The same model, of which onnxruntime makes exact sums on every processor.

    Args:
        model: a file, or the content of one.
        folder: where the external data of a content lies.

    Returns:
        `model` itself where it has no quantized convolution, else the content of another.
    """
    if isinstance(model, bytes):
        proto = onnx.ModelProto.FromString(model)
    else:
        proto = onnx.load(model, format="protobuf", load_external_data=False)
        folder = Path(model).parent
    with carried(proto):
        read = ir.from_proto(proto)
    ir.external_data.set_base_dir(read.graph, folder or "")
    nodes = [place for place in places(read) if is_integer(place.node)]
    if not nodes:
        return model
    names, constants = Names(read), dict[Any, ir.Value]()
    for place in nodes:
        node, operator = place.node, operator_of(place.node)
        moving = ["kernel"]
        if not operator.rounds:
            moving.append("x")
        elif not _is_unsigned(operands(node).get("x_zero")):
            continue  # onnxruntime has no QLinearConv of int8 and uint8, and that of int8 is exact
        for role in moving:
            pair = operator.roles.index(role), operator.roles.index(f"{role}_zero")
            values = [node.inputs[i] if i < len(node.inputs) else None for i in pair]
            if values[0] is not None:
                moved = unsigned(Emitter(place, names, constants), values[0], values[1])
                node.resize_inputs(max(len(node.inputs), pair[1] + 1))
                for i, value in zip(pair, moved, strict=True):
                    node.replace_input_with(i, value)
    steady = ir.to_proto(read)
    unpack(steady)
    content: bytes = steady.SerializeToString()
    return content


def _is_unsigned(zero: ir.Value | None) -> bool:
    """Whether a zero point, and so what it is the zero of, is known to be uint8."""
    tensor = None if zero is None else constant_of(zero)
    dtype = None if zero is None else zero.dtype
    return (dtype if tensor is None else tensor.dtype) is ir.DataType.UINT8
