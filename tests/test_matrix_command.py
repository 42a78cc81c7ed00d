"""`convfc matrix` and the files that it writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

import convfc
from convfc import FileError, UsageError
from convfc.cli.matrix_tables import matrices_table, measurement_parts
from convfc.cli.terminal import rendered
from convfc.text.jsontext import json_text
from tests import schemas
from tests.onnx_models import CONV, conv_file, integers, save
from tests.program import SAMPLES, Here, cli

SAMPLE = SAMPLES / "mnist_cnn.onnx"


PAGE = Path(__file__).parents[1] / "docs" / "matrix.md"


def without_steps(text: str) -> str:
    """How soon a search ends depends on how a machine rounds."""
    return re.sub(r"by .* steps (.*) within \S+ of", r"by # steps \1 within # of", text)


@pytest.fixture(scope="module")
def measured() -> convfc.Measurement:
    return convfc.measure(SAMPLE)


def test_the_table(tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    done = cli("matrix", SAMPLES / "mnist_small.onnx", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    said = without_steps(done.stdout)
    golden("matrix", said)
    assert said in without_steps(PAGE.read_text())


def test_nothing_is_cut_in_80_columns(measured: convfc.Measurement) -> None:
    from rich.console import Console

    console = Console(width=80)
    with console.capture() as captured:
        console.print(matrices_table(measured))
    text = captured.get()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for matrix in measured.matrices.values():
        assert matrix.name in text
        assert matrix.spectrum is not None
        assert f"{matrix.spectrum.smallest:.4g}" in text
        assert matrix.norm is not None
        assert f"{matrix.norm.value:.4g}" in text


def test_what_a_chain_lacks_is_said(measured: convfc.Measurement) -> None:
    text = rendered(measurement_parts(measured))
    assert "no product of ‖M‖, as the layers form no chain: after 'depthwise', 'norm'" in text
    assert re.search(r"‖M‖ by \d+ to \d+ steps of Lanczos' method", text)


def test_layers_without_a_matrix_or_a_norm(tmp_path: Path, here: Here) -> None:
    weights = {"V": integers([2, 2, 3])}
    nodes = [
        helper.make_node("Conv", ["x", "W"], ["a"], "given"),
        helper.make_node("Conv", ["a", "V"], ["y"], "open"),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"x": [1, 2, "n"], "W": [2, 2, 3]}, ["y"], weights)
    text = rendered(measurement_parts(convfc.measure(path)))
    assert "no matrix: its kernel or bias is computed at run time" in text
    assert f"1 left [unknown-kernel]: {convfc.Code.UNKNOWN_KERNEL.remedy}" in text
    assert "1 without ‖M‖, as sizes are open: fix them with --shape NAME=DIMS" in text
    done = here("matrix", path, "--layer", "open", "--shape", "x=1x2x9", cwd=tmp_path)
    assert "without ‖M‖" not in done.stdout
    assert done.returncode == 0


def test_json_has_all_figures_and_only_json(measured: convfc.Measurement) -> None:
    document = json.loads(json_text(measured.to_dict()))
    assert schemas.faults(document) == []
    first = document["layers"][0]
    matrix = measured.matrices["conv_same"]
    assert matrix.spectrum is not None
    assert first["singular_values"] == matrix.spectrum.values.tolist()
    assert (first["rows"], first["columns"], first["groups"]) == (9, 16, 1)
    assert first["axes"]["rows"][2] == {"name": "channel", "size": 1}
    assert document["chain"]["layers"] == ["conv_same", "conv_unequal", "depthwise"]
    assert document["product"] is None


def test_filters_in_one_file_and_in_a_folder(tmp_path: Path) -> None:
    found = convfc.matrices(SAMPLE)
    (file,) = convfc.save_matrices(SAMPLE, tmp_path / "all.npz")
    files = convfc.save_matrices(SAMPLE, tmp_path / "each", layers="conv_*")
    assert [one.name for one in files] == [f"{n}.npz" for n in found if n.startswith("conv_")]
    with np.load(file) as together:
        for name, matrix in found.items():
            assert np.array_equal(together[f"{name}/F"], matrix.F)
            assert (f"{name}/b" in together) == (matrix.b is not None)
        said = str(together["conv_unequal/axes"])
    assert said == "F: rows tap 1 (3), tap 2 (5), channel (16); columns filter (32)"
    with np.load(tmp_path / "each" / "conv_unequal.npz") as alone:
        assert {*alone} == {"F", "b", "axes"}
        assert str(alone["axes"]) == said


def test_patches_of_a_sample(tmp_path: Path, here: Here) -> None:
    done = here(
        *("matrix", SAMPLE, "--kind", "patches", "--sample", "3", "-o", "p.npz"), cwd=tmp_path
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "wrote p.npz\n", "")
    found = convfc.patch_matrices(SAMPLE, sample=3)
    with np.load(tmp_path / "p.npz") as stored:
        for name, patches in found.items():
            assert np.array_equal(stored[f"{name}/P"], patches.P)
        assert str(stored["depthwise/axes"]) == (
            "P: group (32); rows position 1 (26), position 2 (12); "
            "columns tap 1 (3), tap 2 (3), channel (1)"
        )
    other = convfc.patch_matrices(SAMPLE, sample=2)["conv_same"].P
    assert not np.array_equal(found["conv_same"].P, other)


def test_a_whole_matrix_is_as_scipy_writes_it(tmp_path: Path) -> None:
    path = conv_file(tmp_path / "m.onnx", CONV, (5, 6))
    (file,) = convfc.save_matrices(path, tmp_path / "w.npz", kind="whole")
    matrix = convfc.matrices(path)["conv"]
    with np.load(file) as stored:
        assert {*stored} == {"format", "shape", "data", "indices", "indptr", "b"}
        assert stored["format"].item() == b"csr"
        rows = np.repeat(np.arange(stored["shape"][0]), np.diff(stored["indptr"]))
        dense = np.zeros(stored["shape"], np.float32)
        dense[rows, stored["indices"]] = stored["data"]
        assert np.array_equal(dense, matrix.whole().dense())
        assert matrix.b is not None
        assert np.array_equal(stored["b"], np.repeat(matrix.b, dense.shape[1] // 6))


def test_whole_matrices_have_files_of_their_own(tmp_path: Path, here: Here) -> None:
    with pytest.raises(UsageError, match="a whole matrix has a file of its own, and there are 6"):
        convfc.save_matrices(SAMPLE, tmp_path / "w.npz", kind="whole")
    done = here("matrix", SAMPLE, "--kind", "whole", "--entries", "999", "-o", ".", cwd=tmp_path)
    assert done.returncode == 2
    assert "entries that are weights, and 999 is the limit; give --entries more" in done.stderr
    assert list(tmp_path.iterdir()) == []
    files = convfc.save_matrices(SAMPLE, tmp_path / "f", kind="whole", layers=["conv_s*"])
    assert [file.name for file in files] == ["conv_same.npz", "conv_strided.npz"]


def test_only_files_of_its_kind_are_replaced(tmp_path: Path) -> None:
    out = tmp_path / "o.npz"
    out.write_text("notes")
    with pytest.raises(FileError, match=r"exists and is no \.npz file"):
        convfc.save_matrices(SAMPLE, out)
    assert out.read_text() == "notes"
    out.unlink()
    for layer in ("conv_same", "pointwise"):
        convfc.save_matrices(SAMPLE, out, layers=layer)
        with np.load(out) as stored:
            assert f"{layer}/F" in stored


def test_names_of_layers_lead_nowhere(tmp_path: Path) -> None:
    names = ("../a", "a/b", "a.b", "a:b")
    nodes = [
        helper.make_node("Conv", [f"x{i}", "W"], [f"x{i + 1}"], name)
        for i, name in enumerate(names)
    ]
    weights = {"W": integers([1, 1, 1])}
    path = save(tmp_path / "m.onnx", nodes, {"x0": [1, 1, 3]}, ["x4"], weights)
    files = convfc.save_matrices(path, tmp_path / "f")
    assert [file.name for file in files] == [".._a.npz", "a_b.npz", "a.b.npz", "a_b_2.npz"]
    assert sorted(file.name for file in (tmp_path / "f").iterdir()) == sorted(f.name for f in files)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "other"}, "kind is 'other': it takes filter, patches, whole"),
        ({"entries": 0, "kind": "whole"}, "entries is 0: it takes a whole number of at least 1"),
        ({"sample": "3", "kind": "patches"}, "sample is '3': it takes a whole number"),
        ({"layers": 3}, "layers is 3: it takes a text or a list of texts"),
        ({"shapes": [1]}, "shapes is .*: it takes a dictionary"),
        ({"layers": "x"}, ".*no convolution is called 'x'; there are: conv_same"),
    ],
)
def test_wrong_arguments(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=f"^{words}"):
        convfc.save_matrices(SAMPLE, tmp_path / "o.npz", **given)


def test_results_show_themselves(measured: convfc.Measurement) -> None:
    assert repr(measured) == f"<Measurement: {SAMPLE}: 6 matrices>"
    assert ">conv_dilated</td>" in measured._repr_html_()


def test_files_are_a_document_too(tmp_path: Path, here: Here) -> None:
    done = here("matrix", SAMPLE, "--layer", "pointwise", "-o", "m.npz", "--json", cwd=tmp_path)
    document = json.loads(done.stdout)
    assert schemas.faults(document) == []
    assert document["files"] == ["m.npz"]


def test_a_matrix_says_what_it_is(measured: convfc.Measurement) -> None:
    text = repr(measured.matrices["conv_same"])
    assert text == "<Matrix 'conv_same': Conv, F 9x16, with a bias>"
