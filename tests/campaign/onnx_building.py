"""How the small ONNX models of the campaign are built."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
node = helper.make_node
FLOAT = TensorProto.FLOAT


class Weights:
    """Random numbers that are the same in every process.

    Args:
        name: of the model.
    """

    def __init__(self, name: str) -> None:
        self._random = np.random.default_rng(zlib.crc32(name.encode()))

    def real(self, *shape: int) -> Array:
        """Normally distributed."""
        return self._random.normal(size=shape).astype(np.float32)

    def positive(self, *shape: int) -> Array:
        """Their magnitudes, and not too small."""
        return abs(self.real(*shape)) + np.float32(0.1)

    def whole(self, dtype: str, *shape: int) -> Array:
        """Of the whole range of a type of 8 bits."""
        limits = np.iinfo(dtype)
        return self._random.integers(limits.min, limits.max + 1, shape).astype(dtype)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Sequence[str],
    weights: Mapping[str, Array | np.generic],
    opset: int = 17,
    ir_version: int = 8,
    **more: Any,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, FLOAT, dims) for name, dims in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    domains = [helper.make_opsetid("", opset)]
    domains += [helper.make_opsetid(d, 1) for d in sorted({node.domain for node in nodes} - {""})]
    model = helper.make_model(graph, opset_imports=domains, ir_version=ir_version, **more)
    inferred = onnx.shape_inference.infer_shapes(model).graph.output
    rank = len(next(iter(inputs.values())))
    for port, found in zip(model.graph.output, inferred, strict=True):
        known = len(found.type.tensor_type.shape.dim) or rank
        port.CopyFrom(helper.make_tensor_value_info(port.name, FLOAT, [None] * known))
    return model


def inner(
    name: str,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, int] = {},
    outputs: Mapping[str, int] = {},
) -> onnx.GraphProto:
    """A subgraph, whose values have the given types; what is no real number is a single one."""

    def ports(types: Mapping[str, int]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, kind, None if kind == FLOAT else [])
            for name, kind in types.items()
        ]

    return helper.make_graph(nodes, name, ports(inputs), ports(outputs))
