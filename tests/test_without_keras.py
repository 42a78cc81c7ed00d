"""Where Keras and TensorFlow are not installed, ONNX files are as welcome as ever."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from convfc import Code, convolution
from tests.onnx_models import conv_file
from tests.program import SAMPLES

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "install.md"
KERAS = {"h5py", "keras", "tensorflow"}

FORBIDDEN = f"""
import sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {KERAS}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Forbidden())
"""


def run(script: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FORBIDDEN + script],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def commands(*lines: str) -> str:
    """A script that runs command lines one after another and prints their exit codes."""
    return f"""
from convfc.cli.main import main

for line in {[shlex.split(line) for line in lines]}:
    sys.argv = ["convfc", *line]
    try:
        main()
    except SystemExit as end:
        print("exit code", end.code)
"""


def codes(done: subprocess.CompletedProcess[str]) -> list[int]:
    return [int(code) for code in re.findall(r"^exit code (\d)$", done.stdout, re.MULTILINE)]


def test_the_packages_cannot_be_imported(tmp_path: Path) -> None:
    """Or the tests below say nothing."""
    for package in KERAS:
        done = run(f"import {package}", tmp_path)
        assert f"No module named '{package}'" in done.stderr


def test_all_commands_work_on_onnx_files(tmp_path: Path) -> None:
    conv = convolution([3, 3], channels=1, filters=2)
    conv_file(tmp_path / "m.onnx", conv, (6, 6))
    done = run(
        commands(
            "shapes m.onnx",
            "convert m.onnx",
            "convert m.onnx --dry-run",
            "verify m.onnx --samples 2",
            "explain m.onnx",
            "revert m_fc.onnx",
            "matrix m.onnx",
        ),
        tmp_path,
    )
    assert (codes(done), done.stderr) == ([0] * 7, "")
    assert "EQUIVALENT: m_fc.onnx and m.onnx" in done.stdout


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_keras_file_gets_one_line_that_says_what_to_install(tmp_path: Path, suffix: str) -> None:
    name = f"m{suffix}"
    shutil.copy(SAMPLES / f"mnist_cnn{suffix}", tmp_path / name)
    lines = [
        *(f"{verb} {name}" for verb in ("shapes", "convert", "explain", "revert", "matrix")),
        f"verify {name} {name}",
    ]
    done = run(commands(*lines), tmp_path)
    assert codes(done) == [2] * len(lines)
    said = done.stderr.splitlines()
    assert len(said) == len(lines)
    for line in said:
        assert line.startswith(f"convfc: {name}: a Keras file needs h5py")
        assert line.endswith(f"; {Code.NO_KERAS.remedy} [no-keras]")
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_the_experiment_says_so_too(tmp_path: Path) -> None:
    done = run(commands("experiment --epochs 1"), tmp_path)
    assert codes(done) == [2]
    assert done.stderr.startswith("convfc: a network in Keras needs h5py, keras, tensorflow, which")


def test_the_lists_are_what_convfc_depends_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split("[<>=]", one)[0]: one for one in project["dependencies"]}
    others = r"^    pip install (?!convfc|'?\.|--no-deps)(.+)$"
    alone, keras = re.findall(others, PAGE.read_text(), re.M)
    assert {re.split("[<>=]", one)[0] for one in shlex.split(alone)} == needed.keys() - KERAS
    pinned = {name: one for name, one in needed.items() if "<" in one}
    assert pinned["typer"] in shlex.split(alone)
    assert shlex.split(keras) == shlex.split(Code.NO_KERAS.remedy)[2:]
    assert pinned["keras"] in shlex.split(keras)
    assert {re.split("[<>=]", one)[0] for one in shlex.split(keras)} == KERAS
