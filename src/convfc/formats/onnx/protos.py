"""An ONNX file as a protobuf message: reading it raw, what is wrong with it, and its graphs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError, Message
from onnx import checker, helper

from convfc.errors import FileError
from convfc.formats.onnx.negative_sizes import forget_negative
from convfc.formats.onnx.operators import DOMAINS
from convfc.formats.onnx.stored_weights import LARGE, read_skeleton
from convfc.refusals import Code
from convfc.text.visible import visible

_ANY = onnx.TensorProto.FLOAT
_EXPERIMENTAL = "experimental"
_TRIED = {"Affine", "ConstantFill", "Crop", "DynamicSlice", "GRUUnit", "GivenTensorFill"}
_TRIED |= {"ATen", "ImageScaler", "ParametricSoftplus", "Scale", "ScaledTanh"}
_NAMED = re.compile(r"""^(?:Error calling .* with: )?name: "(.+?)"$""", re.MULTILINE)
"""How the text of a message in protobuf names what it is about."""


def read_proto(path: Path) -> onnx.ModelProto:
    """Parse an ONNX file without its external data and large weights; see `stored_weights`.

    Raises:
        FileError: the file is no protobuf message of the kind.
    """
    try:
        proto = read_skeleton(path)
    except DecodeError as error:
        raise FileError(f"{path}: not an ONNX file, or a damaged one", code=Code.DAMAGED) from error
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}", code=Code.NO_FILE) from error
    bodies = (proto.graph, *proto.functions)
    forget_negative(graph for body in bodies for graph in graphs_of(body))
    return proto


def graphs_of(body: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.GraphProto]:
    """A graph and all that are in it, at any depth; of a function, those in it."""
    if isinstance(body, onnx.GraphProto):
        yield body
    for node in body.node:
        for attribute in node.attribute:
            for subgraph in (
                *([attribute.g] if attribute.HasField("g") else []),
                *attribute.graphs,
            ):
                yield from graphs_of(subgraph)


def settings(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by their names; texts as bytes."""
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def fresh_names(proto: onnx.ModelProto) -> Callable[[str], str]:
    """What makes a name for a value that nothing in a model has, of a wish."""
    bodies = (proto.graph, *proto.functions)
    graphs = [graph for body in bodies for graph in graphs_of(body)]
    nodes = (node for body in (*graphs, *proto.functions) for node in body.node)
    taken = {name for node in nodes for name in node.output}
    taken |= {value.name for graph in graphs for value in (*graph.input, *graph.initializer)}
    taken |= {name for function in proto.functions for name in function.input}

    def fresh(name: str) -> str:
        while name in taken:
            name += "_"
        taken.add(name)
        return name

    return fresh


def malformed(node: onnx.NodeProto) -> str | None:
    """What is wrong with a node, that no checker looks at everywhere; ``None``: nothing."""
    if not node.op_type:
        return "has no operator"
    if node.domain not in DOMAINS:
        return None
    if node.op_type == "Constant" and len(node.attribute) != 1:
        return "is a Constant with no value, or with several"
    for attribute in node.attribute:
        for text in (attribute.s, *attribute.strings):
            try:
                text.decode()
            except UnicodeDecodeError:
                return f"has an attribute '{visible(attribute.name)}' that is no UTF-8 text"
    return None


def named_like_operators(proto: onnx.ModelProto) -> Iterator[str]:
    """Functions that no runtime would call: it has an operator of that name."""
    version = max((e.version for e in proto.opset_import if e.domain in DOMAINS), default=1)
    for function in proto.functions:
        if function.domain in DOMAINS:
            try:
                schema = onnx.defs.get_schema(function.name, version, "")
            except onnx.defs.SchemaError:
                continue
            if not schema.deprecated:
                yield function.name


def complaint(proto: onnx.ModelProto) -> str | None:
    """What the official checker says against a graph; ``None`` if it is valid.

    Operators of other people may lack the version of their domain, which is nothing to us. Nor is
    what every runtime finds out by itself: see `_mend`.
    """
    bare = _without_weights(proto)
    used = {node.domain for graph in graphs_of(proto.graph) for node in graph.node}
    unnamed = used - {entry.domain for entry in proto.opset_import} - {"", "ai.onnx"}
    bare.opset_import.extend(onnx.OperatorSetIdProto(domain=d, version=1) for d in unnamed)
    _mend(bare)
    try:
        checker.check_model(bare)
    except Exception as error:  # a ValidationError, but for some graphs others
        return first_line(error)
    return None


def _mend(proto: onnx.ModelProto) -> None:
    """Add what the checker insists on, and what nobody who runs a model needs.

    That are the shapes of tensors, the types of what nodes make, and the list of weights among the
    inputs that files had before IR version 4. Experimental operators, of which the checker writes
    to descriptor 2, become somebody's own.
    """
    proto.opset_import.add(domain=_EXPERIMENTAL, version=1)
    if 0 < proto.ir_version < 4:
        proto.ir_version = 4
    for graph in graphs_of(proto.graph):
        for node in graph.node:
            if node.domain in DOMAINS and node.op_type in _TRIED:
                node.domain = _EXPERIMENTAL
        for info in (*graph.output, *graph.value_info):
            if info.type.WhichOneof("value") in (None, "tensor_type"):
                info.type.tensor_type.elem_type = info.type.tensor_type.elem_type or _ANY
        for info in (*graph.input, *graph.output, *graph.value_info):
            if info.type.HasField("tensor_type"):
                info.type.tensor_type.shape.SetInParent()


def _without_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which the large weights are empty: the checker makes another of all it gets.

    So are those in other files, which are seen to elsewhere.
    """
    bare = onnx.ModelProto(**_fields(proto, but="graph"))
    bare.graph.CopyFrom(onnx.GraphProto(**_fields(proto.graph, but="initializer")))
    bare.graph.initializer.extend(_lightened(tensor) for tensor in proto.graph.initializer)
    for graph in graphs_of(bare.graph):
        for tensor in graph.initializer:
            if tensor.external_data:
                tensor.CopyFrom(_emptied(tensor))
    return bare


def _fields(message: Message, but: str) -> dict[str, Any]:
    return {field.name: value for field, value in message.ListFields() if field.name != but}


def _lightened(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """A weight, or an empty one if it is large; it has all its bytes: see `check_weights`."""
    large = tensor.HasField("raw_data") and ir.TensorProtoTensor(tensor).nbytes >= LARGE
    return _emptied(tensor) if large else tensor


def _emptied(tensor: onnx.TensorProto) -> onnx.TensorProto:
    empty: dict[str, Any] = {"name": tensor.name, "dims": [0], "raw_data": b""}
    return onnx.TensorProto(data_type=tensor.data_type, **empty)


def first_line(error: BaseException) -> str:
    """What an exception says, on one line."""
    text = visible(" ".join(str(error).split())) or type(error).__name__
    text = text.partition(". Please contribute")[0]  # to onnx_ir, in words that help nobody here
    return text if len(text) <= 200 else f"{text[:198]}.."


def cause(error: BaseException) -> str:
    """What lies behind an exception of onnx_ir, and in what: it names each thing on the way."""
    names: list[str] = []
    while error.__cause__ is not None:
        found = _NAMED.search(str(error))
        if found and found[1] not in names:
            names.append(found[1])
        error = error.__cause__
    where = ", ".join(f"'{visible(name)}'" for name in names)
    return f"{where}: {first_line(error)}" if names else first_line(error)
