"""Where a converted file came from: the record that convfc stores in every file it makes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convfc.core.geometry import AnyConvolution, Convolution, Same, Window
from convfc.core.lowering import Lowering
from convfc.core.transposed import TransposedConvolution, TransposedWindow
from convfc.core.whole import Form, MaxPool
from convfc.errors import FileError
from convfc.formats.forms import DEFAULT, FORMS, Forms
from convfc.formats.reading import Reading
from convfc.formats.shapes import Shapes
from convfc.refusals import Code
from convfc.text.visible import visible

KEY = "convfc"
"""Name of the record: an ONNX metadata property, an HDF5 root attribute, a .keras zip member."""

_LONGEST = 2**24
"""Letters of a record: of tens of thousands of layers. Reading one takes some twenty times that."""

LONGEST_OUTLINE = 2**22
"""Letters of an outline; without one, the way back takes the original beside the file."""


@dataclass(frozen=True)
class LayerRecord:
    """One converted layer.

    Attributes:
        name: the site's name.
        patches: the patch method.
        geometry: kernel, strides, dilations, pads, channels, filters, groups and input sizes;
            of a transposed convolution also what is added to the output.
        block: see `Lowering.block`.
        form: see `Lowering.form`.
        bands: see `Lowering.bands`.
    """

    name: str
    patches: str
    geometry: Mapping[str, Any]
    block: Sequence[int] = field(default_factory=list)
    form: str = Form.PATCHES.value
    bands: int = 1

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
        method, form = lowering.method.value, lowering.form.value
        return cls(name, method, geometry, list(lowering.block), form, lowering.bands)

    def convolution(self) -> AnyConvolution:
        """The convolution that was converted.

        A length that the model prescribes for its output is not recorded: the rule stands alone.

        Raises:
            GeometryError: there is no such convolution.
        """
        given = self.geometry
        paddings = [Same(one) if isinstance(one, str) else tuple(one) for one in given["padding"]]
        axes = zip(given["kernel"], given["strides"], given["dilations"], paddings, strict=True)
        counts = given["channels"], given["filters"], given["groups"]
        if "transposed" not in given:
            return Convolution(tuple(Window(*axis) for axis in axes), *counts)
        ends = zip(axes, given["output_padding"], strict=True)
        return TransposedConvolution(
            tuple(TransposedWindow(*axis, end) for axis, end in ends), *counts
        )


@dataclass(frozen=True)
class Provenance:
    """What a converted file says about itself.

    Attributes:
        source: name of the original file, without its folder.
        sha256: of the original file's bytes, in hexadecimal.
        version: of the convfc that made it.
        layers: what was converted, in the order of execution.
        client: whom it was made for, by the name of a preset; ``None``: nobody in particular.
        forms: how its products are written.
        shapes: by the name of an input, the sizes that it was fixed to: of these alone the file
            is the original's function.
        keras2_numbers: see `Reading`.
        affine, max_pool, flat_io: see `Reading`.
        architecture: the name of the file with the original's network, if that is another one.
        architecture_sha256: of that file's bytes; empty if there is none.
        outline: the original without the numbers of its weights, as its format writes it down:
            what it takes to go back. Empty where it would be too long, and in older records.
        reverted: whether the file was made of a converted one, which is the source then, by the
            way back; nothing in it is converted any more.
    """

    source: str
    sha256: str
    version: str
    layers: tuple[LayerRecord, ...]
    client: str | None = None
    forms: Forms = DEFAULT
    shapes: Shapes = field(default_factory=dict)
    keras2_numbers: bool = False
    affine: bool = False
    max_pool: MaxPool = MaxPool.KEEP
    flat_io: bool = False
    architecture: str | None = None
    architecture_sha256: str = ""
    outline: str = ""
    reverted: bool = False

    def layer(self, name: str) -> LayerRecord | None:
        """What is recorded of a layer, if anything is."""
        return next((record for record in self.layers if record.name == name), None)

    def reading(self, original: Path | None = None) -> Reading:
        """How the original was read when it was converted.

        Args:
            original: beside which the file with its network is, if that is another one.
        """
        beside = None
        if original is not None and self.architecture is not None:
            beside = original.with_name(self.architecture)
        return Reading(
            shapes=self.shapes,
            keras2_numbers=self.keras2_numbers,
            affine=self.affine,
            max_pool=self.max_pool,
            flat_io=self.flat_io,
            biased=self.forms.biased,
            architecture=beside,
        )

    def to_json(self) -> str:
        """Compact JSON text; what nobody asked for is left out."""
        given = {**vars(self), "forms": self.forms.names}
        asked = {name: x for name, x in given.items() if x and x != _NOBODY_ASKED.get(name)}
        record = {
            name: x for name, x in given.items() if name in asked or name not in _NOBODY_ASKED
        }
        record["layers"] = [_said(layer) for layer in self.layers]
        return json.dumps(record, separators=(",", ":"))

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
            if len(text) > _LONGEST:
                raise ValueError(f"it is longer than {_LONGEST:,} letters")
            record = json.loads(text)
            if isinstance(record, dict):
                record = _NOBODY_ASKED | record
            _require(record, _FILE, "the record")
            for number, layer in enumerate(record["layers"]):
                _require(_OF_A_LAYER | layer, _LAYER, f"layer {number}")
        except (ValueError, TypeError, RecursionError) as error:
            what = visible(str(error))[:200]
            raise FileError(
                f"{path}: its convfc record is damaged: {what}",
                remedy="convert the original again",
                code=Code.RECORD,
            ) from error
        layers = tuple(LayerRecord(**layer) for layer in record.pop("layers"))
        record["forms"] = Forms.of(record["forms"])
        record["max_pool"] = MaxPool(record["max_pool"])
        record["shapes"] = {name: tuple(sizes) for name, sizes in record["shapes"].items()}
        return cls(layers=layers, **record)


def _said(layer: LayerRecord) -> dict[str, Any]:
    """What stands in the record of a layer; what is as usual is left out."""
    usual = {"form": Form.PATCHES.value, "bands": 1}
    return {name: said for name, said in vars(layer).items() if said != usual.get(name)}


_Check = Callable[[Any], bool]


def _word(value: object) -> bool:
    """A short text that somebody may read."""
    return isinstance(value, str) and len(value) <= 100


def _file_name(value: object) -> bool:
    """The name of a file in some folder; with a folder in it, it could lead anywhere."""
    if not isinstance(value, str) or value in ("", "..") or Path(value).name != value:
        return False
    try:
        fits = len(os.fsencode(value)) <= 255
    except UnicodeEncodeError:  # half a pair of UTF-16
        return False
    return fits and not {"\\", "\0"}.intersection(value)


def _number(least: int) -> _Check:
    """A whole number that fits into 64 bits, as all sizes do."""
    return lambda value: type(value) is int and least <= value < 2**63


def _list_of(check: _Check) -> _Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _padding(value: object) -> bool:
    """How one axis is padded: by a rule, or before and after."""
    pair = isinstance(value, list) and len(value) == 2 and all(map(_number(0), value))
    return pair or value in [rule.value for rule in Same]


_shape = _list_of(_number(1))

_FILE: Mapping[str, _Check] = {
    "source": _file_name,
    "sha256": _word,
    "version": _word,
    "layers": _list_of(lambda layer: isinstance(layer, dict)),
    "client": lambda value: value is None or (_word(value) and value != ""),
    "forms": _list_of(lambda value: value in FORMS),
    "shapes": lambda value: isinstance(value, dict) and all(map(_shape, value.values())),
    "keras2_numbers": lambda value: isinstance(value, bool),
    "affine": lambda value: isinstance(value, bool),
    "max_pool": lambda value: value in [one.value for one in MaxPool],
    "flat_io": lambda value: isinstance(value, bool),
    "architecture": lambda value: value is None or _file_name(value),
    "architecture_sha256": _word,
    "outline": lambda value: isinstance(value, str) and len(value) <= LONGEST_OUTLINE,
    "reverted": lambda value: isinstance(value, bool),
}
_NOBODY_ASKED: dict[str, Any] = {
    **{"client": None, "forms": [], "shapes": {}},
    **{
        "keras2_numbers": False,
        "affine": False,
        "max_pool": MaxPool.KEEP.value,
        "flat_io": False,
        "architecture": None,
        "architecture_sha256": "",
        "outline": "",
        "reverted": False,
    },
}
_OF_A_LAYER: dict[str, Any] = {"block": [], "form": Form.PATCHES.value, "bands": 1}
"""Fields that a record need not have; older ones do not."""
_LAYER: Mapping[str, _Check] = {
    "name": lambda value: isinstance(value, str),
    "patches": _word,
    "geometry": lambda value: isinstance(value, dict) and _is_geometry(value),
    "block": _list_of(_number(1)),
    "form": lambda value: value in [form.value for form in Form],
    "bands": _number(1),
}
_GEOMETRY: Mapping[str, _Check] = {
    "kernel": _list_of(_number(1)),
    "strides": _list_of(_number(1)),
    "dilations": _list_of(_number(1)),
    "padding": _list_of(_padding),
    "channels": _number(1),
    "filters": _number(1),
    "groups": _number(1),
    "sizes": _list_of(lambda size: size is None or _number(0)(size)),
}
_TRANSPOSED: Mapping[str, _Check] = {
    **_GEOMETRY,
    "transposed": lambda value: value is True,
    "output_padding": _list_of(_number(0)),
}
"""Every field of a record, and what it takes."""


def _is_geometry(given: Mapping[str, Any]) -> bool:
    """Whether every field is there and right, and all lists tell of the same axes."""
    fields = _TRANSPOSED if "transposed" in given else _GEOMETRY
    sane = given.keys() == fields.keys() and all(fits(given[name]) for name, fits in fields.items())
    return sane and len({len(value) for value in given.values() if isinstance(value, list)}) == 1


def _require(given: object, fields: Mapping[str, _Check], where: str) -> None:
    """Refuse what has other fields, or something in them that is not of their kind.

    Raises:
        ValueError: it says which field it is.
    """
    if not isinstance(given, dict):
        raise ValueError(f"{where} is no set of fields")
    for name in [*fields, *(given.keys() - fields.keys())]:
        if name not in fields:
            raise ValueError(f"{where} has a field '{name}', which this convfc does not know")
        if name not in given:
            raise ValueError(f"{where} has no '{name}'")
        if not fields[name](given[name]):
            raise ValueError(f"{where} has a '{name}' that is none")
