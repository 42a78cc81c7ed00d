"""What two readers of an ONNX file may understand in two ways.

The format forbids most of it, but parsers take it: of two attributes of one name some take the
first and some the last. A proof about what one reader sees is none about what a runtime computes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import onnx

from convfc.formats.onnx.operators import DOMAINS

_ATTRIBUTE_FIELDS = {
    onnx.AttributeProto.FLOAT: "f",
    onnx.AttributeProto.INT: "i",
    onnx.AttributeProto.STRING: "s",
    onnx.AttributeProto.TENSOR: "t",
    onnx.AttributeProto.GRAPH: "g",
    onnx.AttributeProto.SPARSE_TENSOR: "sparse_tensor",
    onnx.AttributeProto.TYPE_PROTO: "tp",
    onnx.AttributeProto.FLOATS: "floats",
    onnx.AttributeProto.INTS: "ints",
    onnx.AttributeProto.STRINGS: "strings",
    onnx.AttributeProto.TENSORS: "tensors",
    onnx.AttributeProto.GRAPHS: "graphs",
    onnx.AttributeProto.SPARSE_TENSORS: "sparse_tensors",
    onnx.AttributeProto.TYPE_PROTOS: "type_protos",
}
_TENSORS, _GRAPHS = {"t", "tensors"}, {"g", "graphs"}
_DATA_FIELDS = (
    *("float_data", "int32_data", "string_data", "int64_data", "raw_data"),
    *("double_data", "uint64_data", "external_data"),
)


def ambiguities(model: onnx.ModelProto) -> Iterator[str]:
    """Everything in a model that may be read in two ways, a phrase each."""
    yield from _versions(model.opset_import, "the model")
    yield from _twice((entry.key for entry in model.metadata_props), "metadata")
    functions = ((f.domain, f.name, f.overload) for f in model.functions)
    yield from _twice(functions, "function")
    yield from _graph(model.graph, frozenset())
    for function in model.functions:
        where = f"function '{function.name}'"
        yield from _versions(function.opset_import, where)
        formals = [*function.attribute, *(entry.name for entry in function.attribute_proto)]
        yield from _twice(formals, f"{where}: attribute")
        yield from _nodes(function.node, function.input, frozenset())


def _twice(names: Iterable[object], what: str) -> Iterator[str]:
    counted = Counter(names)
    yield from (f"{what} '{name}' is there twice" for name, n in counted.items() if n > 1)


def _versions(imports: Iterable[onnx.OperatorSetIdProto], where: str) -> Iterator[str]:
    domains = ("" if entry.domain in DOMAINS else entry.domain for entry in imports)
    yield from _twice(domains, f"{where}: the version of")


def _graph(graph: onnx.GraphProto, outer: frozenset[str]) -> Iterator[str]:
    inputs = [value.name for value in graph.input]
    weights = [tensor.name for tensor in graph.initializer]
    yield from _twice(weights, "initializer")
    for tensor in graph.initializer:
        yield from _tensor(tensor)
    given = [*inputs, *(name for name in weights if name not in set(inputs))]
    yield from _nodes(graph.node, given, outer)


def _nodes(
    nodes: Iterable[onnx.NodeProto], given: Iterable[str], outer: frozenset[str]
) -> Iterator[str]:
    nodes = list(nodes)
    made = [*given, *(name for node in nodes for name in node.output if name)]
    yield from _twice(made, "value")
    yield from (f"value '{name}' hides another one" for name in outer.intersection(made))
    visible: frozenset[str] | None = None
    for node in nodes:
        name = node.name or node.op_type
        yield from _twice((entry.name for entry in node.attribute), f"node '{name}': attribute")
        for attribute in node.attribute:
            filled = {field.name for field, _ in attribute.ListFields()}
            filled &= {*_ATTRIBUTE_FIELDS.values(), "ref_attr_name"}
            if filled - {_ATTRIBUTE_FIELDS.get(attribute.type, ""), "ref_attr_name"} or (
                "ref_attr_name" in filled and len(filled) > 1
            ):
                yield f"node '{name}': attribute '{attribute.name}' has values of several kinds"
            for tensor in (attribute.t, *attribute.tensors) if filled & _TENSORS else ():
                yield from _tensor(tensor)
            for graph in (attribute.g, *attribute.graphs) if filled & _GRAPHS else ():
                visible = visible or outer.union(made)
                yield from _graph(graph, visible)


def _tensor(tensor: onnx.TensorProto) -> Iterator[str]:
    filled = {field.name for field, _ in tensor.ListFields()} & {*_DATA_FIELDS}
    if len(filled) > 1:
        yield f"tensor '{tensor.name}' has its numbers in {' and in '.join(sorted(filled))}"
    # Of 256, some take the lowest byte.
    if tensor.data_type == onnx.TensorProto.BOOL and not {0, 1}.issuperset(tensor.int32_data):
        yield f"tensor '{tensor.name}' has truth values other than 0 and 1"
