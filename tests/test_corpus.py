"""The corpus: one file right, and each thing that it calls wrong."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper
from rich.console import Console

import convfc
from tests import corpus, stock
from tests.corpus import Found, examine, show, wrongs
from tests.onnx_models import conv_file

CONV = convfc.convolution([3, 2], channels=2, filters=3, strides=[1, 2])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (folder := tmp_path / "out").mkdir()
    return folder


def test_a_file_is_converted_verified_and_compared(tmp_path: Path, folder: Path) -> None:
    found = examine(conv_file(tmp_path / "m.onnx", CONV, (6, 5)), folder)
    assert (found.fates, found.verdict, found.wrong) == ({"converted": 1}, "equivalent", [])
    assert float(found.apart) < 1e-5


def test_what_is_refused_is_counted_by_its_code(tmp_path: Path, folder: Path) -> None:
    (path := tmp_path / "m.onnx").write_bytes(b"no protobuf")
    found = examine(path, folder)
    assert (found.refused, found.wrong) == ("damaged", [])
    with (tmp_path / "said").open("w+") as said:
        show([found], Console(file=said, width=80))
        said.seek(0)
        assert "files refused: 1 damaged" in said.read()


def test_another_function_is_apart(tmp_path: Path) -> None:
    path = conv_file(tmp_path / "m.onnx", CONV, (6, 5))
    other = shutil.copy(path, tmp_path / "other.onnx")
    model = onnx.load(other)
    kernel = next(one for one in model.graph.initializer if len(one.dims) == 4)
    array = numpy_helper.to_array(kernel).copy()
    array.flat[0] += 1
    kernel.CopyFrom(numpy_helper.from_array(array, kernel.name))
    onnx.save(model, other)
    assert stock.compare(path, path) == 0
    assert stock.compare(path, Path(other)) > corpus.TELLING


def test_maps_are_compared_by_their_numbers() -> None:
    a, b = [{1: 0.5, 2: 1.0}], [{2: 1.0, 1: 0.25}]
    assert [*stock.differences([a, a], [a, b])] == [0, 0.25]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Found(Path(__file__), verdict="equivalent", apart="0.5"), "EQUIVALENT, but 0.5 apart"),
        (Found(Path(__file__), verdict="equivalent", apart="inf"), "EQUIVALENT, but inf apart"),
        (Found(Path(__file__), verdict="not equivalent", apart="0"), "verdict: not equivalent"),
        (Found(Path(__file__), verdict="equivalent", apart="0", seconds=99), "99 s"),
        (Found(Path(__file__), verdict="equivalent", apart="0", peak=2 << 30), "2048 MiB"),
    ],
)
def test_what_should_not_be_is_called_wrong(found: Found, words: str) -> None:
    assert wrongs(found) == [words]
    right = Found(Path(__file__), Counter(converted=1), verdict="equivalent", apart="1e-07")
    assert wrongs(right) == []
