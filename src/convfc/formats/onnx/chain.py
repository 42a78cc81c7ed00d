"""Whether the convolutions of a graph follow each other, with nothing between that expands.

What stands between two of them must not move two samples further apart, in the 2-norm: then the
norms of the convolutions bound, multiplied, what all of them together do.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from convfc.formats.onnx.operators import identifier, known_shape
from convfc.formats.onnx.sites import label
from convfc.formats.onnx.standalone import tensor_of
from convfc.formats.weights import Chain

_CONTRACTING = frozenset(
    (
        *("Relu", "Sigmoid", "Tanh", "HardSigmoid", "Softplus", "Softsign", "Clip", "Abs", "Neg"),
        *("Identity", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Softmax"),
        *("GlobalAveragePool", "GlobalMaxPool"),
    )
)
"""Those that never expand, whatever their attributes are: slopes of at most 1, and what moves."""
_SLOPES = {"LeakyRelu": 0.01, "Elu": 1.0}
"""Those with a slope as an attribute, and what it is by default."""


def chain_of(graph: ir.Graph, layers: Mapping[ir.Node, str]) -> Chain:
    """Follow the graph from its first convolution.

    Args:
        graph: the main graph of a model.
        layers: every convolution of the model and its name.
    """
    node = next((node for node in graph if node in layers), None)
    found: dict[str, None] = {}
    between: dict[str, None] = {}
    passed: dict[str, None] = {}
    while node is not None:
        if node in layers:
            found[layers[node]] = None
            between |= passed
            passed = {}
        elif _contracts(node):
            passed[node.op_type] = None
        else:
            return _ended(found, between, layers, f"'{label(node)}' ({node.op_type}) comes next")
        value = node.outputs[0]
        uses = list(value.uses())
        readers = {reader for reader, _ in uses}
        if len(uses) != 1 or value.is_graph_output() or any(v.uses() for v in node.outputs[1:]):
            return _ended(found, between, layers, f"what '{label(node)}' makes has other readers")
        ((reader, place),) = uses
        node = reader if place == 0 and reader.graph is graph else None
        if node is None:
            names = ", ".join(label(reader) for reader in readers)
            return _ended(found, between, layers, f"'{names}' comes next")
    return _ended(found, between, layers, "they are in a function or a branch")


def _ended(
    found: Mapping[str, None], between: Mapping[str, None], layers: Mapping[ir.Node, str], why: str
) -> Chain:
    complete = len(found) == len(layers)
    return Chain(tuple(found), tuple(between), None if complete else why)


def _contracts(node: ir.Node) -> bool:
    """Whether it moves no two inputs further apart."""
    (domain, kind), setting = identifier(node), node.attributes.get_float
    if domain:
        return False
    if kind in _SLOPES:
        return 0 <= setting("alpha", _SLOPES[kind]) <= 1
    if kind == "HardSigmoid":
        return abs(setting("alpha", 0.2)) <= 1
    if kind == "Dropout":  # not while it trains
        return len(node.inputs) < 3
    if kind in ("Add", "Sub"):
        return _shifts(node)
    if kind in ("MaxPool", "AveragePool"):
        return _pools_apart(node)
    return kind in _CONTRACTING


def _shifts(node: ir.Node) -> bool:
    """Whether it adds a constant to each sample, and repeats nothing."""
    x, other = node.inputs
    if x is None or other is None or tensor_of(other) is None:
        return False
    shapes = known_shape(x), known_shape(node.outputs[0])
    return None not in shapes and shapes[0] == shapes[1]


def _pools_apart(node: ir.Node) -> bool:
    """Whether each input is in one window at most."""
    kernel = node.attributes.get_ints("kernel_shape", [])
    ones = [1] * len(kernel)
    strides, dilations = (node.attributes.get_ints(name, ones) for name in ("strides", "dilations"))
    apart = all(stride >= taps for stride, taps in zip(strides, kernel, strict=False))
    return apart and all(dilation == 1 for dilation in dilations)
