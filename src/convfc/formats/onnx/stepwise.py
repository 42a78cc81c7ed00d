"""Runs an ONNX model node by node: each in onnxruntime, or in onnx's evaluator where that cannot.

onnxruntime lacks the float64 form of some operators, and then refuses the whole model; onnx's own
evaluator has all of them, but takes minutes for a large net.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from convfc.core.arrays import Array
from convfc.errors import UnsupportedModelError
from convfc.formats.onnx.emitter import constant_of
from convfc.formats.onnx.runtimes import Reference, Session
from convfc.formats.onnx.sites import label
from convfc.refusals import Code

_SLOW_NUMBERS = 2**20
"""Numbers that may go into nodes which only onnx's evaluator has: it takes up to 16 s for them."""


def run_stepwise(model: ir.Model, feed: Mapping[str, Array], name: str) -> dict[str, Array]:
    """All outputs; at no time is there more in memory than what is yet to be read.

    Args:
        model: what to run; its types need not be known. Its nodes are brought into an order.
        feed: by the names of its inputs.
        name: of the model, for messages.

    Raises:
        UnsupportedModelError: a node cannot be run, or only in a time that nobody waits for.
    """
    model.graph.sort()  # onnxruntime takes nodes in any order
    known: dict[ir.Value, Any] = {value: feed[value.name or ""] for value in _fed(model)}
    outputs = set(model.graph.outputs)
    readers = Counter(value for node in model.graph for value in set(_read_by(node)))
    slow = 0
    for node in model.graph:
        tensor = constant_of(node.outputs[0])
        if tensor is not None:
            known[node.outputs[0]] = tensor.numpy()
            continue
        values = {v: known[v] if v in known else _initial(v) for v in dict.fromkeys(_read_by(node))}
        alone = _alone(model, node, values)
        arrays = {value.name or "": array for value, array in values.items()}
        made = [value for value in node.outputs if value.name]
        names = [value.name or "" for value in made]
        proto = ir.to_proto(alone)
        try:
            results = Session(proto.SerializeToString(), name).run(names, arrays)
        except UnsupportedModelError:
            slow += sum(np.size(array) for array in arrays.values())
            if slow > _SLOW_NUMBERS:
                raise UnsupportedModelError(
                    f"{node.op_type} ('{label(node)}') would take too long: onnxruntime has it "
                    "in float32 only",
                    code=Code.TOO_LONG,
                ) from None
            results = Reference(proto, label(node)).run(names, arrays)
        known.update(zip(made, results, strict=True))
        for value in values:
            readers[value] -= 1
            if not readers[value] and value not in outputs:
                known.pop(value, None)
    return {
        value.name or "": known[value] if value in known else _initial(value) for value in outputs
    }


def _fed(model: ir.Model) -> list[ir.Value]:
    return [value for value in model.graph.inputs if not value.is_initializer()]


def _initial(value: ir.Value) -> Array:
    assert value.const_value is not None, value.name  # noqa: S101 - or the file is not in order
    return value.const_value.numpy()


def _read_by(node: ir.Node) -> Iterator[ir.Value]:
    """What a node reads, its subgraphs included, from the graph that it stands in."""
    yield from (value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        if attribute.type is ir.AttributeType.GRAPH:
            yield from _captured(attribute.as_graph())
        elif attribute.type is ir.AttributeType.GRAPHS:
            for graph in attribute.as_graphs():
                yield from _captured(graph)


def _captured(graph: ir.Graph) -> Iterator[ir.Value]:
    own = {*graph.inputs, *graph.initializers.values()}
    own |= {value for node in graph for value in node.outputs}
    for node in graph:
        yield from (value for value in _read_by(node) if value not in own)
    yield from (value for value in graph.outputs if value not in own)


def _alone(model: ir.Model, node: ir.Node, values: Mapping[ir.Value, Array]) -> ir.Model:
    """One node as a model, everything that it reads an input."""
    inputs = {value: _described(value.name, array) for value, array in values.items()}
    outputs = [ir.Value(name=value.name) for value in node.outputs]
    copy = ir.Node(
        node.domain,
        node.op_type,
        [None if value is None else inputs[value] for value in node.inputs],
        node.attributes.values(),
        overload=node.overload,
        outputs=outputs,
    )
    graph = ir.Graph(
        list(inputs.values()),
        [value for value in outputs if value.name],
        nodes=[copy],
        opset_imports=model.graph.opset_imports,
        name="step",
    )
    return ir.Model(graph, ir_version=model.ir_version, functions=list(model.functions.values()))


def _described(name: str | None, array: Array) -> ir.Value:
    dtype = ir.DataType.from_numpy(np.asarray(array).dtype)
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(np.shape(array)))
