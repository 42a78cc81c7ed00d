"""Other numbers for the layers of a converted file, laid out as the file has those that it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from convfc.formats.onnx.laid_out import laid_out
from convfc.formats.onnx.outline import read_outline
from convfc.formats.onnx.reader import read
from convfc.formats.onnx.reverting import OnnxReverting
from convfc.formats.onnx.standalone import tensor_of
from convfc.formats.onnx.weights import arrays_of, save_with, tensor_like
from convfc.formats.outline import missing
from convfc.formats.provenance import Provenance
from convfc.formats.weights import Numbers, altered


class OnnxRewriting(OnnxReverting):
    """See `convfc.formats.weights.Rewriting` for the members."""

    def __init__(self, path: Path, model: ir.Model, record: Provenance) -> None:
        super().__init__(path, model, record, read_outline(record.outline, path))
        self._path = path

    def rewrite(self, path: Path, numbers: Mapping[str, Sequence[Numbers]]) -> None:
        """See `Rewriting.rewrite`."""
        tensors: dict[str, ir.TensorProtocol] = {}
        sites = {way.site.name: way.site for way in self.layers}
        for name, (own,) in numbers.items():
            layer = self._layers.get(name)
            conv = None if layer is None or layer.program is not None else sites[name].convolution
            if layer is None or conv is None:
                raise altered(self._path, name)
            arrays = arrays_of(own, conv, layer.place.node)
            for role, weight in layer.weights.items():
                if tensor_of(weight.value) is None:
                    raise altered(self._path, name)
                array = laid_out(weight)(arrays[role])
                tensors[weight.value.name or ""] = tensor_like(weight.value, array)
        save_with(tensors, self.files, path)


def open_rewriting(path: Path, record: Provenance) -> OnnxRewriting:
    """Open a converted file to give its layers other numbers.

    Args:
        path: the file.
        record: its record.

    Raises:
        FileError: a file or the record cannot be read, or it lacks what it takes.
        UnsupportedModelError: it holds something that would be lost.
    """
    if not record.outline:
        raise missing(path, "convert the original again")
    return OnnxRewriting(path, read(path)[0], record)
