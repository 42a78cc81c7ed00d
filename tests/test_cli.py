"""The program at a terminal and in a script: tables, JSON, streams, exit codes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from onnx import helper

from convfc import Look, convolution
from convfc.cli.tables import look_line
from convfc.formats.onnx import filter_matrix
from tests.onnx_models import conv_file, integers, save
from tests.program import SAMPLES, Here, cli, exit_code, without_figures


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """One convolution with a name."""
    return conv_file(
        tmp_path / "net.onnx",
        convolution([3, 2], channels=4, filters=6, strides=[1, 2], padding="same", groups=2),
        (None, 8),
    )


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("calculator", "shapes --input 28x28x1 --kernel 4 --stride 2 --filters 128"),
        (
            "calculator_all",
            "shapes --input 9x20x3 --kernel 3x5 --stride 2x1 --dilation 1x2 --padding 0,1,2,3",
        ),
        ("calculator_3d", "shapes --input 8x9x10x2 --kernel 2 --padding full --filters 5"),
    ],
)
def test_the_calculator(
    tmp_path: Path, golden: Callable[[str, str], None], name: str, arguments: str
) -> None:
    done = cli(*arguments.split(), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    golden(name, done.stdout)


def test_shapes_convert_and_verify_a_sample(
    tmp_path: Path, golden: Callable[[str, str], None]
) -> None:
    sample = SAMPLES / "mnist_cnn.onnx"
    runs: list[tuple[str, list[str | Path]]] = [
        ("shapes", ["shapes", sample]),
        ("convert", ["convert", sample, "-o", "."]),
        ("verify", ["verify", sample, "mnist_cnn_fc.onnx", "--samples", "64"]),
    ]
    for name, arguments in runs:
        done = cli(*arguments, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        text = done.stdout.replace(f"{SAMPLES}/", "")
        text = re.sub(r"(checked on .* difference) .*", r"\1 #", text)
        golden(name, without_figures(text) if name == "verify" else text)


def test_a_new_column_of_figures_gets_into_no_golden_file() -> None:
    table = "┃ layer ┃  new ┃\n│ conv  │ 1.5% │\n"
    assert without_figures(table) == "| layer | new |\n| conv | # |\n"


def test_exit_code_1_says_what_was_left_and_why(
    model: Path, golden: Callable[[str, str], None], here: Here
) -> None:
    done = here("convert", model.name, "--patches", "reshape", cwd=model.parent)
    assert (done.returncode, done.stderr) == (1, "")
    golden("left", done.stdout)
    assert [file.name for file in model.parent.iterdir()] == ["net.onnx"]
    done = here("convert", model.name, "--patches", "reshape", "--partial", cwd=model.parent)
    assert done.returncode == 1
    assert (model.parent / "net_fc.onnx").exists()


def test_not_equivalent_is_exit_code_1(model: Path, here: Here) -> None:
    other = conv_file(
        model.parent / "b.onnx", convolution([1, 1], channels=4, filters=6), (None, 8)
    )
    done = here("verify", model.name, other.name, cwd=model.parent)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith(
        "NOT EQUIVALENT: b.onnx and net.onnx: output 'y'"
    )


def test_verify_with_no_file_does_the_folder(model: Path, here: Here) -> None:
    assert here("verify", cwd=model.parent).returncode == 2
    assert here("convert", model, cwd=model.parent).returncode == 0
    done = here("verify", cwd=model.parent)
    assert done.returncode == 0
    assert "EQUIVALENT: net_fc.onnx and net.onnx" in done.stdout
    assert done.stdout.endswith("\n1 of 1 equivalent\n")
    (model.parent / "broken.onnx").write_bytes(b"no model")
    done = here("verify", ".", cwd=model.parent)
    assert done.returncode == 2
    assert "COULD NOT CHECK: broken.onnx" in done.stdout
    assert "EQUIVALENT: net_fc.onnx" in done.stdout
    assert done.stdout.endswith("\n1 of 2 equivalent\n")


@pytest.mark.parametrize("option", ["--input", "--kernel", "--stride", "--dilation"])
def test_a_size_that_is_none_is_named_by_its_option(option: str, tmp_path: Path) -> None:
    given = {"--input": "28x28x1", "--kernel": "4", option: "0"}
    done = cli("shapes", *chain.from_iterable(given.items()), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"convfc: {option} 0: write")


def test_signs_that_a_locale_lacks_have_others_in_their_places(tmp_path: Path) -> None:
    given = ("shapes", "--input", "28x28x1", "--kernel", "4")
    done = cli(*given, cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert "[(28 + 0 + 0 - 4) / 1] + 1" in done.stdout
    assert "(25 * 25) x (4 * 4 * 1)" in done.stdout
    assert "?" not in done.stdout


def test_json_is_one_document_with_every_figure(model: Path, here: Here) -> None:
    def document(*arguments: str) -> dict[str, Any]:
        done = here(*arguments, "--json", cwd=model.parent)
        assert done.stderr == ""
        loaded: dict[str, Any] = json.loads(done.stdout)
        return loaded

    made = document("convert", "net.onnx", "--verify")
    assert made["complete"]
    assert made["out"] == "net_fc.onnx"
    layer = made["layers"][0]
    assert (layer["name"], layer["fate"], layer["reason"]) == ("conv", "converted", None)
    assert layer["lowering"]["kernel"] == [3, 2]
    assert layer["lowering"]["output"] == [None, 4]
    assert layer["lowering"]["padding"] == ["same", "same"]
    assert made["verification"]["verdict"] == "equivalent"
    assert made["verification"]["converted"] == "net_fc.onnx"
    assert made["look"] is None
    look = document("convert", "net.onnx")["look"]
    assert (look["samples"], look["reason"], look["problem"]) == (1, None, None)
    assert 0 <= look["difference"] < 1e-3
    assert document("convert", "net.onnx", "--no-check")["look"] is None
    shapes = document("shapes", "net.onnx")
    assert layer["output"] == {"name": "y", "layout": "own"}
    assert shapes["layers"] == [{**layer, "output": None}]  # which only a converted file has
    checked = document("verify", "net.onnx")
    assert checked["verdict"] == "equivalent"
    assert checked["proved"]
    assert checked["layers"][0]["parameters_equal"]
    assert 0 <= checked["outputs"][0]["max_abs"] < 1e-3
    assert document("verify")["verifications"] == [checked]
    calculated = document("shapes", "--input", "28x28x1", "--kernel", "4", "--stride", "2")
    assert calculated["patch_matrix"] == [169, 16]


def test_numbers_that_json_lacks_become_text(tmp_path: Path, here: Here) -> None:
    for name, op in (("a", "Identity"), ("b", "Log")):
        node = helper.make_node(op, ["x"], ["y"])
        save(tmp_path / f"{name}.onnx", [node], {"x": [None, 3]}, ["y"], {})
    done = here("verify", "a.onnx", "b.onnx", "--input", "x=0", "--json", cwd=tmp_path)
    assert done.returncode == 1
    witness = json.loads(done.stdout)["outputs"][0]["witness"]
    assert witness["converted"] == "-inf"


def test_a_wrong_file_is_exit_code_2_and_is_not_there(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = filter_matrix._laid_out
    monkeypatch.setattr(filter_matrix, "_laid_out", lambda *given: right(*given)[::-1].copy())
    monkeypatch.chdir(model.parent)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = exit_code(monkeypatch, "convert", "net.onnx", *arguments)
        return code, *capsys.readouterr()

    code, output, error = run()
    assert (code, output) == (2, "")
    assert "net.onnx: nothing written" in error
    assert "layer 'conv'" in error
    assert "--no-check" in error
    assert len(error.splitlines()) == 2
    assert not Path("net_fc.onnx").exists()
    code, output, error = run("--no-check")
    assert (code, error) == (0, "")
    assert "checked" not in output
    assert Path("net_fc.onnx").exists()


@pytest.mark.parametrize(
    ("look", "line"),
    [
        (
            Look(samples=1, difference=1.25e-7),
            "checked on one sample: largest difference 1.2e-07",
        ),
        (Look(samples=8, difference=0), "checked on 8 samples: largest difference 0.0e+00"),
        (
            Look(reason="it is large", layers=3, share=0.07),
            "checked layer by layer (it is large): 3 agree, at most 0.07 of what rounding may do",
        ),
        (
            Look(reason="it is large", layers=1, unseen=2),
            "checked layer by layer (it is large): 1 agrees; 2 could not be checked",
        ),
        (Look(reason="it is large", unseen=2), "not checked: it is large"),
    ],
)
def test_what_is_said_of_a_look(look: Look, line: str) -> None:
    assert look_line(look) == line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("convert none.onnx", "none.onnx: no such file"),
        ("convert empty.onnx", "empty.onnx: the file is empty"),
        ("convert cut.onnx", "cut.onnx: not an ONNX file"),
        ("convert text.onnx", "text.onnx: not an ONNX file"),
        ("convert text.txt", "text.txt: not a model file that convfc knows"),
        ("convert .", ".: is a folder"),
        ("convert saved", "saved: a TensorFlow SavedModel"),
        ("convert net.onnx -o text.onnx", "--force"),
        ("convert net.onnx -o /proc/x.onnx", "/proc/x.onnx: cannot be written"),
        ("convert net.onnx --only nothing", "'nothing'; there are: conv"),
        ("verify net.onnx", "convert it first"),
        ("verify net.onnx net.onnx --shape x", "--shape x: write it as NAME=DIMS"),
        ("verify net.onnx net.onnx --shape x=1xb", "1xb: write sizes as positive numbers"),
        ("verify net.onnx net.onnx --shape z=1", "no input 'z'"),
        ("verify net.onnx net.onnx --input x=none.npy", "none.npy"),
        ("verify net.onnx net.onnx --data none.npz", "none.npz"),
        ("shapes", "give a model"),
        ("shapes net.onnx --kernel 3", "not both"),
        ("shapes --input 28x28x1", "give a model"),
        ("shapes --input 28 --kernel 2", "like 28x28x1"),
        ("shapes --input 28x28x1 --kernel 2x2x2", "2 spatial axes"),
        ("shapes --input 28x28x1 --kernel 30", "spans 30"),
        ("shapes --input 28x28x1 --kernel 3 --padding most", "unknown padding 'most'"),
        ("shapes --input 28x28x1 --kernel 3 --padding 1,2", "T,B,L,R"),
    ],
)
def test_errors_are_two_lines_at_most(
    model: Path,
    arguments: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = model.parent
    (folder / "empty.onnx").touch()
    (folder / "cut.onnx").write_bytes(model.read_bytes()[:-9])
    for name in ("text.onnx", "text.txt"):
        (folder / name).write_text("Dear reader, this is no model.\n")
    (folder / "saved").mkdir()
    (folder / "saved" / "saved_model.pb").touch()
    before = sorted(folder.iterdir())
    monkeypatch.chdir(folder)
    code = exit_code(monkeypatch, *arguments.split())
    output, error = capsys.readouterr()
    assert (code, output) == (2, "")
    assert error.startswith("convfc: ")
    assert words in error
    assert len(error.splitlines()) <= 2
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    "arguments", ["convert", "convert a b", "convert x --patches some", "nonsense", "--what"]
)
def test_bad_usage_is_exit_code_2(tmp_path: Path, arguments: str) -> None:
    done = cli(*arguments.split(), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: " in done.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = cli("convert", "none.onnx", "--debug", cwd=tmp_path)
    assert "Traceback" in done.stderr
    assert "FileError: none.onnx: no such file" in done.stderr


def test_a_pipe_gets_whole_lines_and_no_escape_codes(tmp_path: Path) -> None:
    long = "a_layer_with_a_name_that_is_far_longer_than_any_terminal_line_would_be_" * 3
    node = helper.make_node("Conv", ["x", "W"], ["y"], name=long)
    weights = {"W": integers([1, 1, 1, 1])}
    path = save(tmp_path / "m.onnx", [node], {"x": [1, 1, 2, 2]}, ["y"], weights)
    done = cli("convert", path, cwd=tmp_path, COLUMNS="40")
    assert long in done.stdout
    assert "\x1b" not in done.stdout
    done = cli("convert", path, "--force", cwd=tmp_path, COLUMNS="40", FORCE_COLOR="1")
    assert long in done.stdout  # in colours, as a log may have them
    assert "\x1b" in done.stdout


def test_an_ascii_terminal_gets_no_traceback(model: Path) -> None:
    done = cli("shapes", model.name, cwd=model.parent, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert "conv" in done.stdout


def test_a_closed_pipe_is_no_traceback(model: Path) -> None:
    command = f"'{sys.executable}' -m convfc shapes {model.name} --json | true"
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=model.parent, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
