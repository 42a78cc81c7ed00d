"""`convert --dry-run`: what would be written, and not a byte of it."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

import convfc
from convfc import UsageError
from convfc.formats.keras.drafting import operators_of
from tests.onnx_models import conv_file, integers, save
from tests.program import SAMPLES, Here, exit_code
from tests.thinned import thinned

CONV = convfc.convolution([3, 3], channels=2, filters=4)


def kinds(path: Path) -> Mapping[str, int]:
    """How many operators of each kind a file has, counted from the file."""
    if path.suffix != ".onnx":
        return operators_of(path)
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("suffix", thinned([".onnx", ".keras", ".h5"]))
@pytest.mark.parametrize("options", [{}, {"only": "conv_s*"}])
def test_it_says_what_a_conversion_writes(
    tmp_path: Path, suffix: str, options: Mapping[str, Any]
) -> None:
    shutil.copy(SAMPLES / f"mnist_cnn{suffix}", model := tmp_path / f"m{suffix}")
    dry = convfc.convert(model, dry_run=True, **options)
    assert [file.name for file in tmp_path.iterdir()] == [model.name]
    done = convfc.convert(model, check=False, **options)
    assert (dry.written, dry.complete, dry.layers) == (False, True, done.layers)
    assert (dry.out, dry.notes) == (done.out, done.notes)
    assert dry.draft is not None
    assert dry.draft.size_before == model.stat().st_size
    # The names inside a file of Keras are those of the moment.
    assert abs(dry.draft.size - done.out.stat().st_size) <= (64 if suffix != ".onnx" else 0)
    assert dry.draft.operators_before == kinds(model)
    assert dry.draft.operators == kinds(done.out)
    assert done.draft is None


def pooled(path: Path) -> Path:
    """A convolution and an average, which the dense form reads as one more."""
    nodes = [
        helper.make_node("Conv", ["x", "W"], ["c"], "conv"),
        helper.make_node("AveragePool", ["c"], ["y"], "pool", kernel_shape=[2, 2]),
    ]
    return save(path, nodes, {"x": ["n", 2, 6, 6]}, ["y"], {"W": integers([4, 2, 3, 3])})


def test_the_dense_form_counts_the_operators_of_the_file(tmp_path: Path, here: Here) -> None:
    """Not those that are read of it: there, what is affine is a convolution already."""
    model = pooled(tmp_path / "m.onnx")
    done = here("convert", model, "--form", "dense", "--dry-run", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    dry = json.loads(done.stdout)
    assert (dry["written"], dry["complete"]) == (False, True)
    assert dry["draft"]["operators_before"] == {"Conv": 1, "AveragePool": 1} == kinds(model)
    written = convfc.convert(model, form="dense", check=False).out
    assert dry["draft"]["operators"] == kinds(written)
    assert dry["draft"]["size"] == written.stat().st_size > dry["draft"]["size_before"]


def test_weights_that_lie_beside_the_file_count(tmp_path: Path) -> None:
    model = conv_file(tmp_path / "m.onnx", CONV, (6, 6))
    proto = onnx.load(model)
    onnx.save(proto, model, save_as_external_data=True, location="m.data", size_threshold=0)
    dry = convfc.convert(model, dry_run=True).draft
    assert dry is not None
    assert dry.size_before == sum(file.stat().st_size for file in tmp_path.iterdir())
    before = {file.name for file in tmp_path.iterdir()}
    convfc.convert(model, check=False)
    made = [file for file in tmp_path.iterdir() if file.name not in before]
    written = sum(file.stat().st_size for file in made)
    assert abs(written - dry.size) < 200


def code_of(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    return exit_code(monkeypatch, "convert", *arguments, "--no-check")


def test_exit_codes_are_those_of_a_conversion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = conv_file(tmp_path / "m.onnx", CONV, (6, 6))
    for options, code in (([], 0), (["--patches", "reshape"], 1), (["-o", model], 2)):
        assert code_of(monkeypatch, model, *options, "--dry-run") == code
        assert [*tmp_path.iterdir()] == [model]
        assert code_of(monkeypatch, model, *options) == code
        (tmp_path / "m_fc.onnx").unlink(missing_ok=True)
    other = conv_file(tmp_path / "m_fc.onnx", CONV, (6, 6)).read_bytes()
    assert code_of(monkeypatch, model, "--dry-run") == 2
    assert "exists and was not made by convfc" in capsys.readouterr().err
    assert (tmp_path / "m_fc.onnx").read_bytes() == other


def test_what_is_printed(tmp_path: Path, golden: Callable[[str, str], None], here: Here) -> None:
    shutil.copy(SAMPLES / "mnist_cnn.onnx", tmp_path)
    done = here("convert", "mnist_cnn.onnx", "--dry-run", "--skip", "depthwise", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    golden("dry_run", done.stdout)


def test_left_layers_are_told_and_the_rest_is_sized(tmp_path: Path, here: Here) -> None:
    model = conv_file(tmp_path / "m.onnx", CONV, (6, 6))
    done = here("convert", model, "--patches", "reshape", "--dry-run", cwd=tmp_path)
    assert done.stdout.endswith(
        "0 of 1 convolutions can be converted, 1 left; nothing written, as this is a dry run\n"
    )
    assert "operators: 1 → 1 (none changes)" in done.stdout


def test_a_dry_run_proves_nothing(tmp_path: Path) -> None:
    model = conv_file(tmp_path / "m.onnx", CONV, (6, 6))
    with pytest.raises(UsageError, match="--dry-run does not go with --verify"):
        convfc.convert(model, dry_run=True, verify=True)


def test_progress_tells_what_begins(tmp_path: Path) -> None:
    model = conv_file(tmp_path / "m.onnx", CONV, (6, 6))
    said: list[str] = []
    convfc.convert(model, progress=said.append)
    assert said == [
        "reading",
        "rewriting 1 of 1 convolutions",
        "checking on one sample",
    ]
    convfc.convert(model, verify=True, progress=said.append)
    assert said[3:6] == ["reading", "rewriting 1 of 1 convolutions", "verifying"]
    assert len(said) > 6
