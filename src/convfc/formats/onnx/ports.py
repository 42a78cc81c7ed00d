"""Inputs and outputs of an ONNX model as `convfc.formats.protocols.Port`."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from convfc.formats.onnx.carried_types import named
from convfc.formats.onnx.operators import known_shape
from convfc.formats.onnx.returned import names_of
from convfc.formats.onnx.sites import numpy_name
from convfc.formats.protocols import Port


def port_of(value: ir.Value) -> Port:
    """An input, as it is fed."""
    if not isinstance(value.type, ir.TensorType):
        return Port(value.name or "", None, "string" if value.type is None else named(value.type))
    dims = () if value.shape is None else value.shape
    symbols = tuple(dim.value if isinstance(dim, ir.SymbolicDim) else None for dim in dims)
    dtype = numpy_name(value.dtype)
    return Port(value.name or "", known_shape(value), dtype, channels_last=False, symbols=symbols)


def returned(value: ir.Value) -> list[Port]:
    """An output as what is returned of it: mostly one port."""
    port = port_of(value)
    return [replace(port, name=name) for name in names_of(value)]
