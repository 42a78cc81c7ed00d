"""An ONNX file as a `convfc.model.Model`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
from numpy.typing import NDArray

if TYPE_CHECKING:  # only `verify` needs it
    import onnxruntime

from convfc.errors import UnsupportedModelError
from convfc.lowering import Lowering
from convfc.model import Feed, Port, Site
from convfc.onnx_model.operators import is_convolution, known_shape
from convfc.onnx_model.reading import (
    embed_attributes,
    external_tensors,
    raised,
    read,
    read_proto,
    undescribe,
)
from convfc.onnx_model.rewriting import rewrite
from convfc.onnx_model.running import one_line, session
from convfc.onnx_model.sites import (
    Place,
    label,
    lowest_opset,
    numpy_name,
    opset_of,
    places,
    site_of,
)
from convfc.provenance import KEY, Provenance

_INLINE_LIMIT = 2**31 - 2**24
"""A protobuf message ends at 2 GiB; the rest is room for the graph itself."""


def open_onnx(path: Path) -> OnnxModel:
    """Open an ONNX file.

    Raises:
        FileError: the file or its external data cannot be read.
        UnsupportedModelError: it holds something that would be lost on the way back.
    """
    return OnnxModel(path)


def read_provenance(path: Path) -> Provenance | None:
    """The record that convfc stored in an ONNX file; ``None`` if it did not make the file.

    Raises:
        FileError: the file cannot be read.
    """
    for entry in read_proto(path).metadata_props:
        if entry.key == KEY:
            return Provenance.from_json(entry.value, path)
    return None


class OnnxModel:
    """An ONNX file that was opened; see `convfc.model.Model` for the members."""

    notes: Sequence[str] = ()

    def __init__(self, path: Path) -> None:
        self.path = path
        self._model, inferred = read(path)
        twins = _convolutions(self._model, inferred)
        needed = max((lowest_opset(twin) for _, twin in twins), default=1)
        before = opset_of(self._model.graph)
        newer = raised(path, needed) if needed > before else None
        self._remarks: Sequence[str] = ()
        if newer is not None:
            self._model, inferred = newer
            twins = _convolutions(self._model, inferred)
            self._remarks = [
                f"The opset was raised from {before} to {needed}, which patches + MatMul need here."
            ]
        self._places: dict[str, Place] = {}
        sites = []
        for place, twin in twins:
            name = self._unique("/".join((*place.within, label(place.node))))
            self._places[name] = place
            sites.append(site_of(place, twin, name))
        self.sites: Sequence[Site] = sites
        text = self._model.metadata_props.get(KEY)
        self.provenance = None if text is None else Provenance.from_json(text, path)
        graph = self._model.graph
        self.inputs = [_port(value) for value in graph.inputs if not value.is_initializer()]
        self.outputs = [_port(value) for value in graph.outputs]

    def _unique(self, name: str) -> str:
        number, unique = 1, name
        while unique in self._places:
            number += 1
            unique = f"{name}#{number}"
        return unique

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        return session(self.path)

    def run(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """See `Model.run`."""
        names = [port.name for port in self.outputs]
        loaded = self._session
        try:
            return dict(zip(names, loaded.run(names, dict(feed)), strict=True))
        except Exception as error:
            raise UnsupportedModelError(
                f"{self.path}: onnxruntime cannot run it: {one_line(error)}"
            ) from error

    def save_converted(
        self, path: Path, lowerings: Mapping[str, Lowering], provenance: Provenance
    ) -> Sequence[str]:
        """See `Model.save_converted`.

        Weights go into a file beside it if the original kept them so or if they would not fit into
        one file. Its name changes with what was done, so that a file which is about to be replaced
        keeps its own weights until then.
        """
        model = self._model
        apart = next(external_tensors(model), None) is not None
        apart = apart or self._weight_bytes > _INLINE_LIMIT
        rewrite(
            model, {name: (self._places[name], lowering) for name, lowering in lowerings.items()}
        )
        record = provenance.to_json()
        model.metadata_props[KEY] = record
        undescribe(model)
        embed_attributes(model)
        data = f"{path.name}.{hashlib.sha256(record.encode()).hexdigest()[:8]}.data"
        ir.save(model, path, "protobuf", external_data=data if apart else None)
        return self._remarks

    @property
    def _weight_bytes(self) -> int:
        return sum(
            value.const_value.nbytes
            for graph in self._model.graphs()
            for value in graph.initializers.values()
            if value.const_value is not None
        )


def _convolutions(model: ir.Model, inferred: ir.Model) -> list[tuple[Place, ir.Node]]:
    """Every convolution, each with its twin that has shapes."""
    pairs = zip(places(model), places(inferred), strict=True)
    return [(place, twin.node) for place, twin in pairs if is_convolution(place.node)]


def _port(value: ir.Value) -> Port:
    if not isinstance(value.type, ir.TensorType):
        return Port(value.name or "", None, "string" if value.type is None else str(value.type))
    return Port(value.name or "", known_shape(value), numpy_name(value.dtype), channels_last=False)
