"""Weights that are inputs as well, which callers may override, and what freezing them does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc import Verdict
from convfc.formats.onnx.frozen import FROZEN
from tests.onnx_models import Array, integers, model, run, save, value
from tests.program import Here
from tests.thinned import thinned

X = integers([2, 3, 6, 5])
WEIGHTS = {"W": integers([4, 3, 3, 2], 1), "B": integers([4], 2), "s": integers([1, 4, 1, 1], 3)}
_CONV: dict[str, Any] = {"name": "conv", "strides": [2, 1], "pads": [0, 1, 1, 0]}
NODES = [
    helper.make_node("Conv", ["x", "W", "B"], ["c"], **_CONV),
    helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[1, 1]),  # what is behind it stays there
    helper.make_node("Mul", ["p", "s"], ["y"], name="scaled"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    shape: dict[str, list[int | str | None]] = {"x": ["n", 3, 6, 5]}
    return save(tmp_path / "m.onnx", NODES, shape, ["y"], WEIGHTS, overridable=True)


def constants(out: Path) -> set[str]:
    graph = onnx.load(out).graph
    return {tensor.name for tensor in graph.initializer} - {value.name for value in graph.input}


def test_it_is_said_that_no_filter_matrix_is_a_constant(path: Path) -> None:
    done = convfc.convert(path)
    assert [note for note in done.notes if "of 1 of 1 convolutions are inputs as well" in note]
    assert "conv/filter_matrix" not in constants(done.out)
    other = integers([4, 3, 3, 2], 9)
    assert np.array_equal(run(path, x=X, W=other)[0], run(done.out, x=X, W=other)[0])
    assert convfc.verify(path).equivalent


def test_frozen_they_are_constants(path: Path) -> None:
    done = convfc.convert(path, freeze_weights=True)
    assert done.complete
    assert any("could override, now constants: 3" in note for note in done.notes)
    assert not any("--freeze-weights" in note for note in done.notes)
    assert constants(done.out) >= {"conv/filter_matrix", "B", "s"}
    graph = onnx.load(done.out).graph
    assert [value.name for value in graph.input] == ["x"]
    assert np.array_equal(run(path, x=X)[0], run(done.out, x=X)[0])
    found = convfc.verify(path, samples=3)
    assert found.verdict is Verdict.EQUIVALENT
    assert any("callers of 'm.onnx' may override" in note for note in found.notes), found.notes


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("name", ["conv/filter_matrix", "B", "s"])
def test_a_frozen_number_that_is_not_the_default(path: Path, name: str, quick: bool) -> None:
    out = convfc.convert(path, freeze_weights=True).out
    model = onnx.load(out)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    numbers = numpy_helper.to_array(tensor).copy()
    numbers.flat[-1] += 1
    tensor.CopyFrom(numpy_helper.from_array(numbers, name))
    onnx.save(model, out)
    assert convfc.verify(path, out, samples=2, quick=quick).verdict is Verdict.NOT_EQUIVALENT


def test_a_file_that_does_not_say_so_has_other_inputs(path: Path) -> None:
    """As after a simplifier; and one that names fewer than it took."""
    out = convfc.convert(path, freeze_weights=True).out
    model = onnx.load(out)
    (entry,) = (entry for entry in model.metadata_props if entry.key == FROZEN)
    assert sorted(json.loads(entry.value)) == sorted(WEIGHTS)
    for text in ('["W", "B"]', "[1, {}]", "{}", "no", "[" * 100_000):
        entry.value = text
        onnx.save(model, out)
        assert convfc.verify(path, out, samples=2).verdict is not Verdict.EQUIVALENT


def test_what_has_no_such_weights_is_as_it_was(tmp_path: Path) -> None:
    shape: dict[str, list[int | str | None]] = {"x": ["n", 3, 6, 5]}
    plain = save(tmp_path / "m.onnx", NODES, shape, ["y"], WEIGHTS)
    before = convfc.convert(plain, tmp_path / "a.onnx")
    after = convfc.convert(plain, tmp_path / "b.onnx", freeze_weights=True)
    assert before.notes == after.notes == ()
    assert before.out.read_bytes() == after.out.read_bytes()


def test_the_option(path: Path, here: Here) -> None:
    done = here("convert", path.name, "--freeze-weights", "--verify", cwd=path.parent)
    assert done.returncode == 0, done.stderr
    assert "now constants: 3" in done.stdout


@pytest.mark.parametrize("side", thinned([1, 2]))
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_onnxruntime_loads_what_lays_a_kernel_of_halves_out(
    tmp_path: Path, op: str, side: int
) -> None:
    """Its optimizer dies of a product of float16 that reads a Transpose of axis 0."""

    def halves(shape: list[int], seed: int) -> Array:
        """So small that all sums are exact."""
        return (integers(shape, seed) % 5).astype(np.float16)

    kernel = halves([4, 2, side, side], 1)
    nodes = [
        helper.make_node(op, ["x", "W"], ["c"], name="conv", group=2),
        helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[1, 1]),
        helper.make_node("Mul", ["p", "s"], ["y"]),
    ]
    shapes = {"x": ["n", 4, 5, 6], "W": [4, 2, side, side], "y": [None] * 4}
    x, w, y = (value(name, dims, TensorProto.FLOAT16) for name, dims in shapes.items())
    held = [
        numpy_helper.from_array(kernel, "W"),
        numpy_helper.from_array(halves([4, 1, 1], 2), "s"),
    ]
    path = model(tmp_path / "m.onnx", helper.make_graph(nodes, "net", [x, w], [y], held))
    out = convfc.convert(path).out
    program = "import onnxruntime, sys; onnxruntime.InferenceSession(sys.argv[1])"
    for file in (path, out):
        assert not subprocess.run([sys.executable, "-c", program, file], check=False).returncode
    feed = {"x": halves([2, 4, 5, 6], 3), "W": halves([4, 2, side, side], 4)}
    assert np.array_equal(run(path, **feed)[0], run(out, **feed)[0])
