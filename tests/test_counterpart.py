"""The same net in both formats: which input is which, and how its axes lie, is found out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import convfc
from convfc import Verdict
from tests.program import SAMPLES

ONNX, KERAS = SAMPLES / "paper_autoencoder.onnx", SAMPLES / "paper_autoencoder.keras"


@pytest.mark.parametrize("files", [(ONNX, KERAS), (KERAS, ONNX)], ids=["onnx", "keras"])
def test_a_net_in_both_formats_is_compared(files: tuple[Path, Path]) -> None:
    found = convfc.verify(*files, samples=3)
    assert found.verdict is Verdict.EQUIVALENT
    assert not found.proved
    where = "last" if files[1] is KERAS else "first"
    name = files[1].name
    assert f"'image' of '{name}' has its channels {where}" in found.notes
    assert f"'reconstruction' of '{name}' has its channels {where}" in found.notes


def edited(folder: Path, weight: float, name: str = "image") -> Path:
    model = onnx.load(ONNX)
    (kernel,) = (one for one in model.graph.initializer if len(one.dims) == 4)
    array = numpy_helper.to_array(kernel) * np.float32(weight)
    kernel.CopyFrom(numpy_helper.from_array(array, kernel.name))
    model.graph.input[0].name = model.graph.node[0].input[0] = name
    onnx.save(model, folder / "other.onnx")
    return folder / "other.onnx"


def test_another_net_is_another(tmp_path: Path) -> None:
    found = convfc.verify(KERAS, edited(tmp_path, 1.1), samples=3)
    assert found.verdict is Verdict.NOT_EQUIVALENT


def test_ports_of_other_names_are_those_of_the_same_place(tmp_path: Path) -> None:
    found = convfc.verify(KERAS, edited(tmp_path, 1, "input_1:0"), samples=3)
    assert found.verdict is Verdict.EQUIVALENT
    assert "'image' is 'input_1:0' in 'other.onnx'" in found.notes


def test_ports_that_do_not_fit_are_named() -> None:
    found = convfc.verify(SAMPLES / "mnist_cnn.onnx", KERAS)
    assert found.verdict is Verdict.NOT_EQUIVALENT
    assert found.reason == "output 'scores' has other sizes than 'reconstruction'"
