"""What an ONNX file holds beside the model: our record, and the names of its files of weights."""

from __future__ import annotations

from pathlib import Path

from convfc.formats.onnx.protos import graphs_of, read_proto
from convfc.formats.onnx.stored_weights import is_inside
from convfc.formats.provenance import KEY, Provenance


def read_provenance(path: Path) -> Provenance | None:
    """The record that convfc stored in an ONNX file; ``None`` if it did not make the file.

    Raises:
        FileError: the file cannot be read.
    """
    for entry in read_proto(path).metadata_props:
        if entry.key == KEY:
            return Provenance.from_json(entry.value, path)
    return None


def read_data_names(path: Path) -> frozenset[str]:
    """Names of the files beside an ONNX file that hold weights of it.

    Raises:
        FileError: the file cannot be read.
    """
    tensors = (x for graph in graphs_of(read_proto(path).graph) for x in graph.initializer)
    entries = (e for tensor in tensors if not is_inside(tensor) for e in tensor.external_data)
    return frozenset(entry.value for entry in entries if entry.key == "location")
