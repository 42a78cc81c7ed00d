"""Reading an ONNX file into onnx_ir, and refusing early what could not be written back."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

from convfc.errors import ConvfcError, FileError, UnsupportedModelError
from convfc.formats.onnx.ambiguity import ambiguities
from convfc.formats.onnx.carried_types import carried
from convfc.formats.onnx.external import check_external, find_external
from convfc.formats.onnx.function_sizes import MOST_UNFOLDED, unfolds
from convfc.formats.onnx.negative_sizes import at_risk, held_negative
from convfc.formats.onnx.operators import DOMAINS
from convfc.formats.onnx.protos import (
    cause,
    complaint,
    graphs_of,
    malformed,
    named_like_operators,
    read_proto,
)
from convfc.formats.onnx.rehearsal import rehearse
from convfc.formats.onnx.runtimes import Session
from convfc.formats.onnx.shape_inference import infer
from convfc.formats.onnx.stand_ins import put_stand_ins
from convfc.formats.onnx.stored_weights import fetched
from convfc.formats.onnx.tensor_sizes import check_weights
from convfc.formats.onnx.texts import check_texts
from convfc.formats.onnx.writer import Form, form_of
from convfc.formats.shapes import Shapes
from convfc.refusals import Code
from convfc.system.surroundings import Library, until_the_end
from convfc.text.visible import visible

_ONNX_IR = Library("onnx_ir")
"""It tells its log when texts are not as they should be, or when shape inference falls short."""


def read(path: Path) -> tuple[ir.Model, ir.Model, tuple[str, ...], Form]:
    """Load an ONNX file twice: as it is, and with every shape that can be inferred.

    And what only the message itself tells: what may be read in two ways (see `ambiguities`), and
    its form (see `Form`).

    Shape inference runs on the second copy because it may alter what it is given. Both copies
    have the same nodes in the same order; large weights stay on disk until somebody asks.

    Raises:
        FileError: the file or its external data cannot be read.
        UnsupportedModelError: it holds something that would be lost on the way back.
    """
    until_the_end(_ONNX_IR.overheard)
    proto = read_proto(path)
    check_texts(path, proto)
    if not proto.opset_import or not proto.graph.output:
        raise FileError(
            f"{path}: not an ONNX model: it has no graph with outputs", code=Code.INVALID_GRAPH
        )
    if proto.training_info:
        raise UnsupportedModelError(
            f"{path}: it carries training information, which would be lost",
            remedy="export the model for inference",
            code=Code.NOT_KEPT,
        )
    bodies = (proto.graph, *proto.functions)
    if any(graph.sparse_initializer for body in bodies for graph in graphs_of(body)):
        raise UnsupportedModelError(
            f"{path}: it has sparse initializers, which would be lost",
            remedy="make them dense",
            code=Code.NOT_KEPT,
        )
    graphs = (*proto.functions, *(graph for body in bodies for graph in graphs_of(body)))
    for node in (node for graph in graphs for node in graph.node):
        wrong = malformed(node)
        if wrong is not None:
            name = visible(node.name or next(iter(node.output), ""))
            raise FileError(
                f"{path}: an invalid ONNX graph: node '{name}' {wrong}", code=Code.INVALID_GRAPH
            )
        if any(entry.HasField("sparse_tensor") for entry in node.attribute):
            raise UnsupportedModelError(
                f"{path}: '{visible(next(iter(node.output), ''))}' is a sparse constant, which "
                "would be lost",
                remedy="make it dense",
                code=Code.NOT_KEPT,
            )
    for name in held_negative(graphs):
        raise FileError(
            f"{path}: an invalid ONNX graph: '{visible(name)}' has an impossible shape, "
            "with a size below zero",
            code=Code.INVALID_GRAPH,
        )
    for name in named_like_operators(proto):
        raise UnsupportedModelError(
            f"{path}: its function '{name}' has the name of a standard operator, which runtimes "
            "run instead",
            remedy="rename it",
            code=Code.NOT_KEPT,
        )
    if unfolds(proto):
        raise UnsupportedModelError(
            f"{path}: its functions call each other so often that it would unfold to more than "
            f"{MOST_UNFOLDED:,} nodes",
            remedy="export it without functions",
            code=Code.TOO_LARGE,
        )
    check_weights(path, proto)
    check_external(path, proto)
    wrong = complaint(proto)
    copies = copies_of(path, proto)
    if wrong is not None:
        # Only now: onnxruntime ends the process over sizes that the lines above refuse.
        _require_loadable(path, wrong)
    return *copies, tuple(ambiguities(proto)), form_of(proto)


def copies_of(
    path: Path, proto: onnx.ModelProto, shapes: Shapes | None = None
) -> tuple[ir.Model, ir.Model]:
    """The two copies that `read` returns, of a message whose data lie beside the file.

    `shapes` are what inputs of the message are fixed to, in comparison with the file.
    """
    try:
        return _copies_of(path, proto, shapes)
    except ConvfcError:
        raise
    except Exception as error:  # onnx_ir has many kinds for what the checker lets pass
        raise FileError(
            f"{path}: an invalid ONNX graph: {cause(error)}", code=Code.INVALID_GRAPH
        ) from error


def _copies_of(
    path: Path, proto: onnx.ModelProto, shapes: Shapes | None
) -> tuple[ir.Model, ir.Model]:
    model, inferred = deserialized(proto), deserialized(proto)
    _make_inferable(inferred)
    if proto.ir_version < 4:
        inferred.ir_version = 4  # or weights that are no inputs had no shapes
    for copy in (model, inferred):
        fetched(copy, path)
        find_external(copy, path)
    if at_risk(inferred):
        rehearse(path, shapes)
    infer(inferred)
    return model, inferred


def deserialized(proto: onnx.ModelProto) -> ir.Model:
    """A message as onnx_ir has it: in order, and with weights that are inputs only from IR 4 on."""
    with carried(proto):
        model = ir.serde.deserialize_model(proto)
    _sort(model)
    if proto.ir_version < 4:
        _unlist(model)
    return model


def _make_inferable(model: ir.Model) -> None:
    """Keep what would end shape inference from the copy that it runs on.

    That is a domain of which the file has no version. And operators that inference does not know,
    but we do, are told in others. A weight that is an output as well has its own shape, whatever
    the file says of the output.
    """
    put_stand_ins(model)
    for graph in model.graphs():
        for weight in graph.initializers.values():
            if weight.is_graph_output() and weight.const_value is not None:
                weight.shape = ir.Shape(weight.const_value.shape.numpy())
    bodies: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for body in bodies:
        for node in body.all_nodes():
            if node.domain not in DOMAINS:
                body.opset_imports.setdefault(node.domain, 1)


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


def _unlist(model: ir.Model) -> None:
    """Take weights off the inputs of a model from before IR version 4.

    All weights had to be inputs then, which by the letter makes each a mere default. But nobody
    meant that: onnxruntime takes them for constants, which they are from here on.
    """
    inputs = model.graph.inputs
    inputs[:] = [value for value in inputs if not value.is_initializer()]


def _require_loadable(path: Path, wrong: str) -> None:
    """Refuse a graph that the checker refuses, unless onnxruntime loads it all the same."""
    try:
        Session(path, str(path), once=True)
    except UnsupportedModelError as error:
        raise FileError(
            f"{path}: an invalid ONNX graph: {wrong}", code=Code.INVALID_GRAPH
        ) from error
