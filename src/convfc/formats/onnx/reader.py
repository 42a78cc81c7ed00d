"""Reading an ONNX file into onnx_ir, and refusing early what could not be written back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError, Message
from onnx import checker

from convfc.errors import ConvfcError, FileError, UnsupportedModelError
from convfc.formats.onnx.ambiguity import ambiguities
from convfc.formats.onnx.external import check_external, find_external
from convfc.formats.onnx.negative_sizes import at_risk, forget_negative, held_negative
from convfc.formats.onnx.operators import DOMAINS
from convfc.formats.onnx.rehearsal import rehearse
from convfc.formats.onnx.runtimes import Session
from convfc.formats.onnx.shape_inference import infer
from convfc.formats.onnx.stored_weights import LARGE, fetched, read_skeleton
from convfc.formats.onnx.tensor_sizes import check_weights
from convfc.formats.onnx.texts import check_texts
from convfc.formats.onnx.unfolding import MOST_UNFOLDED, unfolds
from convfc.text.visible import visible

_DESCRIBED = "described"
"""Where a model that was read keeps the names of values that the file describes."""

_LISTED = "listed"
"""Where it keeps the names of all its inputs, of weights too, in the order of the file."""


def read(path: Path) -> tuple[ir.Model, ir.Model, tuple[str, ...]]:
    """Load an ONNX file twice: as it is, and with every shape that can be inferred.

    And what may be read in two ways, which only the message itself tells; see `ambiguities`.

    Shape inference runs on the second copy because it may alter what it is given. Both copies
    have the same nodes in the same order; large weights stay on disk until somebody asks.

    Raises:
        FileError: the file or its external data cannot be read.
        UnsupportedModelError: it holds something that would be lost on the way back.
    """
    proto = read_proto(path)
    check_texts(path, proto)
    if not proto.opset_import or not proto.graph.output:
        raise FileError(f"{path}: not an ONNX model: it has no graph with outputs")
    if proto.training_info:
        raise UnsupportedModelError(
            f"{path}: it carries training information, which would be lost; "
            "export the model for inference"
        )
    bodies = (proto.graph, *proto.functions)
    if any(graph.sparse_initializer for body in bodies for graph in graphs_of(body)):
        raise UnsupportedModelError(
            f"{path}: it has sparse initializers, which would be lost; make them dense"
        )
    graphs = (*proto.functions, *(graph for body in bodies for graph in graphs_of(body)))
    for node in (node for graph in graphs for node in graph.node):
        wrong = _malformed(node)
        if wrong is not None:
            name = visible(node.name or next(iter(node.output), ""))
            raise FileError(f"{path}: an invalid ONNX graph: node '{name}' {wrong}")
    for name in held_negative(graphs):
        raise FileError(
            f"{path}: an invalid ONNX graph: '{visible(name)}' has an impossible shape, "
            "with a size below zero"
        )
    for name in _named_like_operators(proto):
        raise UnsupportedModelError(
            f"{path}: its function '{name}' has the name of a standard operator, which runtimes "
            "run instead; rename it"
        )
    if unfolds(proto):
        raise UnsupportedModelError(
            f"{path}: its functions call each other so often that it would unfold to more than "
            f"{MOST_UNFOLDED:,} nodes; export it without functions"
        )
    check_weights(path, proto)
    check_external(path, proto)
    wrong = _complaint(proto)
    copies = copies_of(path, proto)
    if wrong is not None:
        # Only now: onnxruntime ends the process over sizes that the lines above refuse.
        _require_loadable(path, wrong)
    return *copies, tuple(ambiguities(proto))


def copies_of(path: Path, proto: onnx.ModelProto) -> tuple[ir.Model, ir.Model]:
    """The two copies that `read` returns, of a message whose data lie beside the file."""
    try:
        return _copies_of(path, proto)
    except ConvfcError:
        raise
    except Exception as error:  # onnx_ir has many kinds for what the checker lets pass
        raise FileError(f"{path}: an invalid ONNX graph: {_first_line(error)}") from error


def _copies_of(path: Path, proto: onnx.ModelProto) -> tuple[ir.Model, ir.Model]:
    model, inferred = ir.serde.deserialize_model(proto), ir.serde.deserialize_model(proto)
    remember_described(model, proto)
    for copy in (model, inferred):
        _sort(copy)
    if proto.ir_version < 4:
        _unlist(model)
        _unlist(inferred)
        inferred.ir_version = 4  # or weights that are no inputs had no shapes
    for copy in (model, inferred):
        fetched(copy, path)
        find_external(copy, path)
    if at_risk(inferred):
        rehearse(path)
    infer(inferred)
    return model, inferred


def _sort(model: ir.Model) -> None:
    """Put nodes behind those that they read from, as the format wants it; runtimes do it, too."""
    bodies: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for body in bodies:
        if not _is_sorted(body):
            body.sort()


def _is_sorted(body: ir.Graph | ir.Function) -> bool:
    """Whether no node, at any depth, reads what a later one makes."""
    made: set[ir.Value] = set()
    later = {value for node in body.all_nodes() for value in node.outputs}
    for node in body.all_nodes():
        if any(value in later and value not in made for value in node.inputs):
            return False
        made.update(node.outputs)
    return True


def _malformed(node: onnx.NodeProto) -> str | None:
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


def _named_like_operators(proto: onnx.ModelProto) -> Iterator[str]:
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


def read_proto(path: Path) -> onnx.ModelProto:
    """Parse an ONNX file without its external data and large weights; see `stored_weights`.

    Raises:
        FileError: the file is no protobuf message of the kind.
    """
    try:
        proto = read_skeleton(path)
    except DecodeError as error:
        raise FileError(f"{path}: not an ONNX file, or a damaged one") from error
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    bodies = (proto.graph, *proto.functions)
    forget_negative(graph for body in bodies for graph in graphs_of(body))
    return proto


def _unlist(model: ir.Model) -> None:
    """Take weights off the inputs of a model from before IR version 4.

    All weights had to be inputs then, which by the letter makes each a mere default. But nobody
    meant that: onnxruntime takes them for constants, which they are from here on.
    """
    inputs = model.graph.inputs
    model.meta[_LISTED] = [value.name for value in inputs]
    inputs[:] = [value for value in inputs if not value.is_initializer()]


def relist(model: ir.Model) -> None:
    """List weights as inputs again, those that are new behind all others."""
    if _LISTED not in model.meta:
        return
    graph = model.graph
    values = {value.name: value for value in graph.inputs} | dict(graph.initializers)
    listed = [name for name in model.meta[_LISTED] if name in values]
    listed += [name for name in graph.initializers if name not in listed]
    graph.inputs[:] = [values[name] for name in listed]


def remember_described(model: ir.Model, proto: onnx.ModelProto) -> None:
    """Note in a model which of its values its file describes, for `undescribe`."""
    names = {info.name for graph in graphs_of(proto.graph) for info in graph.value_info}
    model.meta[_DESCRIBED] = names


def undescribe(model: ir.Model) -> None:
    """Take type and shape off weights that had no description in the file.

    They tell it themselves; onnx_ir would save a description of each, beside them.
    """
    for graph in model.graphs():
        for name, value in graph.initializers.items():
            port = value.is_graph_input() or value.is_graph_output()
            if name not in model.meta[_DESCRIBED] and not port:
                value.type = value.shape = None


def _complaint(proto: onnx.ModelProto) -> str | None:
    """What the official checker says against a graph; ``None`` if it is valid.

    Operators of other people may lack the version of their domain, which is nothing to us.
    """
    bare = _without_weights(proto)
    used = {node.domain for graph in graphs_of(proto.graph) for node in graph.node}
    unnamed = used - {entry.domain for entry in proto.opset_import} - {"", "ai.onnx"}
    bare.opset_import.extend(onnx.OperatorSetIdProto(domain=d, version=1) for d in unnamed)
    try:
        checker.check_model(bare)
    except Exception as error:  # a ValidationError, but for some graphs others
        return _first_line(error)
    return None


def _require_loadable(path: Path, wrong: str) -> None:
    """Refuse a graph that the checker refuses, unless onnxruntime loads it all the same."""
    try:
        Session(path, str(path), once=True)
    except UnsupportedModelError as error:
        raise FileError(f"{path}: an invalid ONNX graph: {wrong}") from error


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


def _first_line(error: Exception) -> str:
    """What an exception says, on one line."""
    text = visible(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:198]}.."
