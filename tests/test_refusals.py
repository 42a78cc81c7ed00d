"""Every refusal has a code, what helps, and a row in docs/refusals.md."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import convfc
from convfc import Code
from tests.onnx_models import conv_file
from tests.program import Here
from tests.test_house import files, module

PAGE = Path(__file__).parents[1] / "docs" / "refusals.md"
ROW = re.compile(r"^\| `([\w-]+)` \| (.+) \| (.+) \|$", re.MULTILINE)
TELLING = {"FileError", "UnsupportedModelError"}
"""Those whose kind alone tells too little."""


def calls(tree: ast.AST, names: set[str]) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            yield node


@pytest.mark.parametrize("path", files(), ids=module)
def test_who_refuses_a_file_or_model_says_the_code(path: Path) -> None:
    for call in calls(ast.parse(path.read_text()), TELLING):
        given = [keyword.arg for keyword in call.keywords]
        assert "code" in given, f"{path}:{call.lineno}"


def test_a_refusal_without_a_code_would_be_seen() -> None:
    tree = ast.parse("raise FileError('m.h5: is cut short', path=path)")
    assert [[k.arg for k in call.keywords] for call in calls(tree, TELLING)] == [["path"]]


def test_the_page_has_a_row_for_each_code_with_what_helps() -> None:
    rows = {code: (why, remedy) for code, why, remedy in ROW.findall(PAGE.read_text())}
    assert rows.keys() == {code.value for code in Code}
    assert {code: remedy for code, (_, remedy) in rows.items()} == {
        code.value: code.remedy for code in Code
    }
    assert len({why for why, _ in rows.values()}) == len(rows)


def test_each_code_is_used() -> None:
    text = "".join(path.read_text() for path in files() if path.name != "refusals.py")
    unused = [code.name for code in Code if f"Code.{code.name}" not in text]
    assert not unused


def convfc_says(*arguments: object) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "convfc", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_an_error_ends_with_its_code(tmp_path: Path) -> None:
    missing = tmp_path / "m.onnx"
    assert convfc_says("shapes", missing) == (2, "", f"convfc: {missing}: no such file [missing]\n")
    code, out, _ = convfc_says("shapes", missing, "--json")
    error = json.loads(out)["error"]
    assert (code, error["code"], error["kind"]) == (2, "missing", "FileError")
    with pytest.raises(convfc.FileError) as caught:
        convfc.shapes(missing)
    assert caught.value.code is Code.MISSING


def test_a_layer_that_is_left_says_what_helps(tmp_path: Path, here: Here) -> None:
    conv = convfc.convolution([3, 2], channels=2, filters=2, strides=[1, 2])
    path = conv_file(tmp_path / "m.onnx", conv, (6, 5))
    done = here("convert", path, "--patches", "reshape", cwd=tmp_path)
    assert done.returncode == 1
    assert f"1 left [method]: {Code.METHOD.remedy}\n" in done.stdout
    done = here("convert", path, "--patches", "reshape", "--json", cwd=tmp_path)
    assert [layer["code"] for layer in json.loads(done.stdout)["layers"]] == ["method"]
    done = here("convert", path, "--json", cwd=tmp_path)
    assert [layer["code"] for layer in json.loads(done.stdout)["layers"]] == [None]
