"""Pairs of converted files of which neither was made from the other."""

from __future__ import annotations

from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import numpy_helper

import convfc
from convfc import Verdict
from tests.test_revert import changed, network, with_dropout
from tests.thinned import thinned


def made(path: Path, name: str, **options: Any) -> Path:
    done = convfc.convert(path, path.with_name(name), check=False, **options)
    assert done.written
    return done.out


def test_whatever_layers_are_converted_and_however(tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx")
    whole = made(path, "whole.onnx")
    files = [
        whole,
        made(path, "one.onnx", only="first", patches="gather"),
        made(path, "other.onnx", only="second"),
        convfc.revert(whole, tmp_path / "half.onnx", skip="second").out,
    ]
    for pair in combinations(files, 2):
        found = convfc.verify(*pair)
        assert found.verdict is Verdict.EQUIVALENT, (pair, found.reason)
        assert found.layers


def test_a_file_and_its_copy(tmp_path: Path) -> None:
    fc = made(network(tmp_path / "m.onnx"), "fc.onnx")
    changed(fc, with_dropout)  # what has no way back is the same all the same
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(fc.read_bytes())
    assert convfc.verify(fc, copy).verdict is Verdict.EQUIVALENT


@pytest.mark.parametrize("name", thinned(["first/filter_matrix", "scale", "W2"]))
def test_a_number_that_differs(tmp_path: Path, name: str) -> None:
    path = network(tmp_path / "m.onnx")
    whole, half = made(path, "whole.onnx"), made(path, "half.onnx", only="first")

    def nudge(model: onnx.ModelProto) -> None:
        (tensor,) = [t for t in model.graph.initializer if name in t.name]
        numbers = numpy_helper.to_array(tensor).copy()
        numbers.flat[0] *= 1 + 2**-20
        tensor.CopyFrom(numpy_helper.from_array(numbers, tensor.name))

    changed(half, nudge)
    for pair in permutations([whole, half], 2):
        found = convfc.verify(*pair)
        assert found.verdict is Verdict.NOT_EQUIVALENT, found.reason


def test_what_has_no_way_back_is_not_told(tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx")
    whole, half = made(path, "whole.onnx"), made(path, "half.onnx", only="first")
    changed(whole, with_dropout)
    found = convfc.verify(whole, half, inputs={"x": 0.0})
    assert found.verdict is Verdict.COULD_NOT_CHECK
    assert "'noise' is a Sqrt" in str(found.reason)
    assert convfc.verify(whole, half).verdict is Verdict.NOT_EQUIVALENT


def test_originals_that_were_read_in_two_ways(tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx")
    whole, fixed = made(path, "whole.onnx"), tmp_path / "fixed.onnx"
    convfc.convert(path, fixed, shapes={"x": [1, 4, 5, 6]})
    found = convfc.verify(whole, fixed)
    assert found.verdict is Verdict.COULD_NOT_CHECK
    assert "read in two ways" in str(found.reason)
