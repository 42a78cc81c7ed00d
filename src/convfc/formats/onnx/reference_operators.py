"""Operators of which onnx's reference evaluator has not the definition, or is not careful.

Its own QLinearConv multiplies the scales in another order, adds the zero point before it rounds,
and takes the scales of filters for those of another axis unless there are two spatial ones. Its
Expand makes a tensor of ones of the size asked for before it sees whether that size can be had.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

from convfc.core.geometry import Convolution
from convfc.formats.onnx.integer_reference import exact_output
from convfc.formats.onnx.operators import geometry, operands


class _Exact(OpRun):
    """See `exact_output`."""

    op_domain = ""

    def _run(self, *arrays: NDArray[Any] | None, **_: object) -> tuple[NDArray[Any]]:
        node = ir.serde.deserialize_node(self.onnx_node)
        given = {}
        for role, value in operands(node).items():
            array = arrays[node.inputs.index(value)]
            if array is not None:
                given[role], value.shape = array, ir.Shape(array.shape)
        convolution = cast(Convolution, geometry(node)[0])  # none of them is transposed
        return (exact_output(given, convolution),)


class QLinearConv(_Exact):
    """By its definition, for any number of spatial axes."""


class ConvInteger(_Exact):
    """By its definition, with one zero point per filter too."""


class Expand(OpRun):
    """By the rule for sizes, without a tensor of ones."""

    op_domain = ""

    def _run(self, data: NDArray[Any], shape: NDArray[Any]) -> tuple[NDArray[Any]]:
        sizes = np.broadcast_shapes(data.shape, tuple(shape.tolist()))
        return (np.broadcast_to(data, sizes).copy(),)


OPERATORS: list[type[OpRun]] = [QLinearConv, ConvInteger, Expand]
