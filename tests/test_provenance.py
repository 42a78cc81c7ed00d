"""The record in a converted file: what it may say, and that nothing else is believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convfc import FileError, GeometryError, Same, Window
from convfc.core.geometry import AnyConvolution, Convolution
from convfc.core.lowering import Lowering, PatchMethod, lower
from convfc.core.transposed import TransposedConvolution, TransposedWindow
from convfc.formats.alignment import lowered_again
from convfc.formats.forms import Forms
from convfc.formats.protocols import Site
from convfc.formats.provenance import LayerRecord, Provenance

PATH = Path("m_fc.onnx")
CONV = Convolution((Window(3, 2, 1, Same.UPPER), Window(2, 1, 1, (0, 1))), 2, 4)


def record() -> dict[str, Any]:
    """One of a layer with everything in it."""
    return {
        "source": "m.onnx",
        "sha256": "0" * 64,
        "version": "1.0",
        "layers": [
            {
                "name": "conv",
                "patches": "slice",
                "geometry": {
                    "kernel": [3, 2],
                    "strides": [2, 1],
                    "dilations": [1, 1],
                    "padding": ["same", [0, 1]],
                    "channels": 2,
                    "filters": 4,
                    "groups": 1,
                    "sizes": [None, 7],
                },
                "block": [2],
            }
        ],
    }


def read(fields: object) -> Provenance:
    return Provenance.from_json(json.dumps(fields), PATH)


def test_what_is_written_is_read() -> None:
    ordinary = lower(CONV, (9, None))
    up = TransposedConvolution((TransposedWindow(3, 2, 1, (1, 1), 1),), 2, 3)
    transposed = lower(up, (5,))
    assert isinstance(ordinary, Lowering)
    assert isinstance(transposed, Lowering)
    layers = (LayerRecord.of("a\n\x1b", ordinary), LayerRecord.of("", transposed))
    made = Provenance("m\u00e9 \udcff.onnx", "f" * 64, "1.0", layers)
    assert Provenance.from_json(made.to_json(), PATH) == made


def test_a_record_from_before_there_were_blocks() -> None:
    old = record()
    del old["layers"][0]["block"]
    (layer,) = read(old).layers
    assert list(layer.block) == []
    assert layer.convolution() == CONV


@st.composite
def convolutions(draw: st.DrawFn) -> AnyConvolution:
    """Each axis is drawn for itself; groups divide channels and filters."""
    few = st.integers(1, 4)
    pads = st.sampled_from(Same) | st.tuples(st.integers(0, 3), st.integers(0, 3))
    groups = draw(few)
    counts = groups * draw(few), groups * draw(few), groups
    if draw(st.booleans()):
        window = st.builds(Window, few, few, few, pads)
        return Convolution(tuple(draw(st.lists(window, min_size=1, max_size=3))), *counts)
    turned = st.builds(TransposedWindow, few, few, few, pads, st.integers(0, 3))
    return TransposedConvolution(tuple(draw(st.lists(turned, min_size=1, max_size=3))), *counts)


@given(convolutions(), st.sampled_from(PatchMethod))
def test_a_record_gives_back_its_convolution(conv: AnyConvolution, method: PatchMethod) -> None:
    """Also from the text in the file."""
    layer = LayerRecord.of("conv", Lowering(conv, (None,) * conv.rank, method))
    (again,) = read(json.loads(Provenance("m", "", "1.0", (layer,)).to_json())).layers
    assert layer.convolution() == again.convolution() == conv


def test_a_prescribed_length_is_not_recorded() -> None:
    window = TransposedWindow(3, 2, 1, Same.LOWER, 0, length=9)
    conv = TransposedConvolution((window,), 2, 3)
    layer = LayerRecord.of("up", Lowering(conv, (5,), PatchMethod.SLICE))
    plain = replace(window, length=None)
    assert layer.convolution() == TransposedConvolution((plain,), 2, 3)


def test_a_record_of_no_convolution() -> None:
    odd = record()
    odd["layers"][0]["geometry"]["groups"] = 3
    with pytest.raises(GeometryError, match="3 groups"):
        read(odd).layers[0].convolution()


Damage = Callable[[dict[str, Any]], object]


def each(name: str, *values: object) -> list[tuple[str, object]]:
    return [(name, value) for value in values]


FILE = [
    *each("source", "", ".", "..", "a/b", "a\\b", "a\0", "x" * 300, 5, None),
    ("source", "\ud800"),
    *each("sha256", 5, None, ["0"], "0" * 5000),
    *each("version", 1, None, {}),
    *each("layers", None, {}, "layers", [5], [None], [[]]),
    *each("client", 5, "", ["crown"], "c" * 101),
    *each("forms", None, "keep_batch", {}, ["keep"], [["keep_batch"]], [1]),
    *each("shapes", None, [], {"x": 3}, {"x": [0]}, {"x": [-1]}, {"x": ["1"]}, {"x": [None]}),
    *each("shapes", {"x": [2**63]}, {"x": [True]}, {"x": {}}),
    ("more", 1),
]
LAYER = [
    *each("name", None, 5, ["conv"], {}),
    *each("patches", None, ["gather"], 1),
    *each("geometry", None, [], "", {}),
    *each("block", 5, None, "ab", [-1], [0], [1.5], [True], {"a": 1}, [2**63]),
    ("more", 1),
]
GEOMETRY = [
    *each("kernel", None, 3, [3], [0, 2], [3, 2, 2], [3, "2"], [3, [2]]),
    *each("strides", [2, 10**30], [True, 1], [2, 1.0]),
    *each("padding", ["same", "other"], ["same", [0]], ["same", [0, -1]]),
    *each("padding", ["same", [0, 1, 2]], ["same", None], ["same", {}]),
    *each("channels", 0, -1, None, [2], 2**63, float("nan")),
    *each("sizes", [7], [-1, 7], [None, "7"]),
    ("transposed", True),
    ("transposed", False),
    ("output_padding", [0, 0]),
    ("more", 1),
]


def layer_of(fields: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = fields["layers"][0]
    return found


@pytest.mark.parametrize(
    ("part", "damage"),
    [
        *((lambda fields: fields, one) for one in FILE),
        *((layer_of, one) for one in LAYER),
        *((lambda fields: layer_of(fields)["geometry"], one) for one in GEOMETRY),
    ],
)
def test_a_field_of_another_kind(part: Damage, damage: tuple[str, Any]) -> None:
    read(record())
    fields, (name, value) = record(), damage
    target: Any = part(fields)
    target[name] = value
    with pytest.raises(FileError, match=r"m_fc\.onnx: its convfc record is damaged") as caught:
        read(fields)
    assert len(str(caught.value)) < 400


def test_a_record_of_what_somebody_asked_for() -> None:
    layers = read(record()).layers
    shapes = {"x": (1, 3, 9, 7), "": ()}
    made = Provenance("m.onnx", "f", "1.0", layers, "crown", Forms(keep_batch=True), shapes)
    text = made.to_json()
    assert json.loads(text)["forms"] == ["keep_batch"]
    assert Provenance.from_json(text, PATH) == made
    nobody = Provenance("m.onnx", "f", "1.0", layers)
    assert json.loads(nobody.to_json()).keys() == record().keys()
    assert (read(record()).client, read(record()).forms, read(record()).shapes) == (
        None,
        Forms(),
        {},
    )


@pytest.mark.parametrize("name", ["source", "sha256", "version", "layers"])
def test_a_field_that_lacks(name: str) -> None:
    fields = record()
    del fields[name]
    with pytest.raises(FileError, match=f"has no '{name}'"):
        read(fields)


@pytest.mark.parametrize("name", [*record()["layers"][0], *record()["layers"][0]["geometry"]])
def test_a_field_of_a_layer_that_lacks(name: str) -> None:
    fields = record()
    layer_of(fields).pop(name, None)
    layer_of(fields).get("geometry", {}).pop(name, None)
    if name == "block":
        read(fields)
        return
    with pytest.raises(FileError, match="damaged"):
        read(fields)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "5",
        '"text"',
        "{",
        "[" * 200_000,
        '{"a":' * 200_000,
        "9" * 5000,
        "NaN",
        b"\xff\xfe\x00",
        b"\xcb",
        " " * 2**25,
    ],
    ids=lambda text: repr(text[:8]),
)
def test_a_text_that_is_no_record(text: str | bytes) -> None:
    with pytest.raises(FileError, match=r"m_fc\.onnx: its convfc record is damaged") as caught:
        Provenance.from_json(text, PATH)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "damage",
    [
        {"patches": "none"},
        {"patches": "a method of a later convfc"},
        {"block": [1, 1, 1, 1, 1]},
        {"block": [2**62]},
        {"block": [1, 1]},
        {"name": "another"},
    ],
    ids=str,
)
def test_whatever_a_record_says_a_layer_is_lowered_again_or_not(damage: dict[str, Any]) -> None:
    fields = record()
    layer_of(fields).update(damage)
    site = Site("conv", "Conv", CONV, (9, 7), methods=frozenset(PatchMethod))
    found = lowered_again([site], {"conv": 30}, read(fields))
    assert found["conv"].convolution == CONV
    assert found["conv"].blocks <= 30
