"""Where a converted file came from: the record that convfc stores in every file it makes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from convfc.errors import FileError
from convfc.geometry import Same
from convfc.lowering import Lowering
from convfc.transposed import TransposedConvolution

KEY = "convfc"
"""Name of the record: an ONNX metadata property, an HDF5 root attribute, a .keras zip member."""


@dataclass(frozen=True)
class LayerRecord:
    """One converted layer.

    Attributes:
        name: the site's name.
        patches: the patch method.
        geometry: kernel, strides, dilations, pads, channels, filters, groups and input sizes;
            of a transposed convolution also what is added to the output.
        block: see `Lowering.block`.
    """

    name: str
    patches: str
    geometry: Mapping[str, Any]
    block: Sequence[int] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, lowering: Lowering) -> LayerRecord:
        """The record of one lowering."""
        conv = lowering.convolution
        geometry: dict[str, Any] = {
            "kernel": list(conv.kernel),
            "strides": [w.stride for w in conv.windows],
            "dilations": [w.dilation for w in conv.windows],
            "padding": [
                w.padding.value if isinstance(w.padding, Same) else list(w.padding)
                for w in conv.windows
            ],
            "channels": conv.channels,
            "filters": conv.filters,
            "groups": conv.groups,
            "sizes": list(lowering.sizes),
        }
        if isinstance(conv, TransposedConvolution):
            geometry["transposed"] = True
            geometry["output_padding"] = [w.output_padding for w in conv.windows]
        return cls(name, lowering.method.value, geometry, list(lowering.block))


@dataclass(frozen=True)
class Provenance:
    """What a converted file says about itself.

    Attributes:
        source: name of the original file, without its folder.
        sha256: of the original file's bytes, in hexadecimal.
        version: of the convfc that made it.
        layers: what was converted, in the order of execution.
    """

    source: str
    sha256: str
    version: str
    layers: tuple[LayerRecord, ...]

    def layer(self, name: str) -> LayerRecord | None:
        """What is recorded of a layer, if anything is."""
        return next((record for record in self.layers if record.name == name), None)

    def to_json(self) -> str:
        """Compact JSON text."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes, path: Path) -> Provenance:
        """Read what `to_json` wrote.

        Args:
            text: the record.
            path: the file it was found in, for the message.

        Raises:
            FileError: the text is not such a record.
        """
        try:
            record = json.loads(text)
            layers = tuple(LayerRecord(**layer) for layer in record.pop("layers"))
            made = cls(layers=layers, **record)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise FileError(f"{path}: its convfc record is damaged: {error}") from error
        # A source with a folder in it could lead anywhere on the reader's disk.
        if not isinstance(made.source, str) or "/" in made.source or "\\" in made.source:
            raise FileError(f"{path}: its convfc record is damaged: its source is no file name")
        return made
