"""Numbers of a model that are in another file: where they may be, and whether they are there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx import TensorProto

from convfc.errors import FileError
from convfc.formats.onnx.stored_weights import is_inside
from convfc.formats.onnx.tensor_sizes import length_of, tensors_of
from convfc.gates import require_file
from convfc.refusals import Code
from convfc.text.visible import visible


def check_external(path: Path, proto: onnx.ModelProto) -> None:
    """Refuse external data that are missing, too short or outside the model's folder.

    Before any runtime opens them: a pipe or a device would never end.

    Raises:
        FileError: it names the file and where the data should be.
    """
    sizes: dict[str, int] = {}
    for name, tensor in tensors_of(proto):
        if tensor.data_location != TensorProto.EXTERNAL or is_inside(tensor):
            continue
        told = {entry.key: entry.value for entry in tensor.external_data}
        location = told["location"]
        if location not in sizes:
            sizes[location] = _size(path, name, location)
        if sizes[location] < int(told.get("offset", 0)) + length_of(tensor):
            raise FileError(
                f"{path}: its external data file '{visible(location)}' is cut short",
                remedy="get a fresh copy of it",
                code=Code.DAMAGED,
            )


def _size(path: Path, name: str, location: str) -> int:
    """How many bytes a file of external data has."""
    shown = visible(location if len(location) <= 100 else f"{location[:100]}..")
    try:
        data = (path.parent / location).resolve()
        homes = (path.parent.resolve(), path.resolve().parent)
    except (OSError, ValueError, RuntimeError) as error:  # NUL, too long, links in a circle
        words = getattr(error, "strerror", None) or error
        raise FileError(
            f"{path}: there is no external data file '{shown}': {words}", code=Code.OTHER_FILE
        ) from error
    # Some download caches keep links to a model and its data in one folder and both files in
    # another; each pair of neighbours is as good as the other.
    if not any(data.is_relative_to(home) for home in homes):
        raise FileError(
            f"{path}: the external data of {name} lies outside the model's folder: '{shown}'",
            code=Code.OTHER_FILE,
        )
    if data == path.resolve():
        raise FileError(
            f"{path}: an invalid ONNX graph: the data of {name} are in the model itself",
            code=Code.INVALID_GRAPH,
        )
    try:
        require_file(data)
        return data.stat().st_size
    except (FileError, OSError) as error:
        what = str(error).removeprefix(f"{data}: ")
        raise FileError(
            f"{path}: its external data file '{shown}' is missing: {what}",
            remedy="it belongs beside the model",
            code=Code.OTHER_FILE,
        ) from error


def find_external(model: ir.Model, path: Path) -> None:
    """Let what a model has in other files be read from where that really lies.

    The file and its data may be links into one folder, as download caches keep them: onnx_ir takes
    data outside of the folder that it is told for a theft. That they are no such is seen before.

    Args:
        model: changed in place.
        path: its file.
    """
    for graph in _graphs(model):
        for value in graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor):
                real = (path.parent / tensor.location).resolve()
                value.const_value = ir.ExternalTensor(
                    *(real.name, tensor.offset, tensor.length, tensor.dtype),
                    shape=tensor.shape,
                    name=tensor.name or "",
                    doc_string=tensor.doc_string,
                    metadata_props=dict(tensor.metadata_props),
                    base_dir=real.parent,
                )
    for _, attribute in _tensor_attributes(model):
        for tensor in _tensors(attribute):
            if isinstance(tensor, ir.ExternalTensor):
                tensor.base_dir = path.parent


def external_tensors(model: ir.Model) -> Iterator[ir.ExternalTensor]:
    """Every tensor of the model whose numbers are in another file."""
    for graph in _graphs(model):
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                yield value.const_value
    for _, attribute in _tensor_attributes(model):
        yield from (t for t in _tensors(attribute) if isinstance(t, ir.ExternalTensor))


def files_of(path: Path, model: ir.Model) -> tuple[Path, ...]:
    """A model's file, and those beside it that hold weights of it."""
    apart = {Path(tensor.path) for tensor in external_tensors(model)}
    return (path, *sorted(apart))


def embed_attributes(model: ir.Model) -> None:
    """Take external tensors of attributes into the model: onnx_ir saves only weights apart."""
    for node, attribute in list(_tensor_attributes(model)):
        tensors = _tensors(attribute)
        if any(isinstance(tensor, ir.ExternalTensor) for tensor in tensors):
            inside = [ir.Tensor(t.numpy().copy(), dtype=t.dtype, name=t.name) for t in tensors]
            single = attribute.type is ir.AttributeType.TENSOR
            node.attributes[attribute.name] = (
                ir.AttrTensor(attribute.name, inside[0])
                if single
                else ir.AttrTensors(attribute.name, inside)
            )


def _graphs(model: ir.Model) -> Iterator[ir.Graph]:
    """Every graph, those of functions and what is inside them too."""
    yield from model.graphs()
    for function in model.functions.values():
        yield from (function.graph, *function.subgraphs())


def _tensor_attributes(model: ir.Model) -> Iterator[tuple[ir.Node, ir.Attr]]:
    kinds = (ir.AttributeType.TENSOR, ir.AttributeType.TENSORS)
    for graph in _graphs(model):
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.type in kinds and not attribute.is_ref():
                    yield node, attribute


def _tensors(attribute: ir.Attr) -> list[ir.TensorProtocol]:
    single = attribute.type is ir.AttributeType.TENSOR
    return [attribute.as_tensor()] if single else list(attribute.as_tensors())
