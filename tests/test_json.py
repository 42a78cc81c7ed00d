"""What `--json` prints: one document, by a schema that is published, errors included."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from onnx import helper

from convfc import Code, convolution
from convfc.cli import documents, program
from convfc.cli.main import app
from convfc.reproduction.results import experiment_json
from tests import schemas
from tests.onnx_models import conv_file, integers
from tests.onnx_models import save as save_onnx
from tests.program import SAMPLES, exit_code

Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the program in an empty folder: exit code, the document, and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, Any, str]:
        code = exit_code(monkeypatch, *arguments)
        output, error = capsys.readouterr()
        return code, json.loads(output), error

    return run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Two convolutions, of which one reads a kernel that the caller gives."""
    nodes = [
        helper.make_node("Conv", ["x", "W"], ["a"], "one"),
        helper.make_node("ConvTranspose", ["a", "W"], ["b"], "two", strides=[2, 2]),
        helper.make_node("Conv", ["b", "V"], ["y"], "three"),
    ]
    inputs: dict[str, list[int | str | None]] = {
        "x": ["n", 2, 5, "width"],
        "V": [1, 2, "height", "width2"],
    }
    return save_onnx(tmp_path / "m.onnx", nodes, inputs, ["y"], {"W": integers([2, 2, 3, 2])})


@pytest.mark.parametrize("name", schemas.names())
def test_a_schema_is_one(name: str) -> None:
    found = schemas.schema(name)
    Draft202012Validator.check_schema(found)
    assert found["$id"] == f"{name}.json"
    assert found["properties"]["schema"] == {"const": name}
    assert re.fullmatch(r"[a-z]+-\d+", name)


def test_documents_of_a_model_s_way(run: Run, tmp_path: Path) -> None:
    conv = convolution([3, 2], channels=4, filters=6, padding="same", groups=2)
    conv_file(tmp_path / "net.onnx", conv, (None, 8))
    conv_file(tmp_path / "plain.onnx", convolution([2, 2], channels=1, filters=3), (5, 5))
    found = [
        run("shapes", "net.onnx", "--json"),
        run("convert", "net.onnx", "--dry-run", "--json"),
        run("convert", "net.onnx", "--json"),
        run("convert", "net.onnx", "--verify", "--json"),
        run("verify", "net.onnx", "--json", "--samples", "2", "--layers"),
        run("verify", "--json", "--samples", "2"),
        run("verify", "net.onnx", "--json", "--samples", "2", "--layers"),
        run("revert", "net_fc.onnx", "--json"),
        run("explain", "--input", "5x5x2", "--kernel", "2", "--json"),
        run("explain", "plain.onnx", "--json"),
    ]
    assert [(code, error) for code, _, error in found] == [(0, "")] * len(found)
    names = [document["schema"] for _, document, _ in found]
    assert names == [
        *("shapes-1", "conversion-1", "conversion-1", "conversion-1"),
        *("verification-1", "verifications-1", "verification-1", "reversion-1"),
        *("explanation-1", "explanation-1"),
    ]
    assert [schemas.faults(document) for _, document, _ in found] == [[]] * len(found)


def test_documents_without_a_yes(run: Run, model: Path) -> None:
    code, left, _ = run("convert", model.name, "--json")
    assert (code, left["layers"][2]["fate"], schemas.faults(left)) == (1, "left", [])
    code, shapes, _ = run("shapes", model.name, "--json")
    assert (shapes["layers"][1]["lowering"]["transposed"], schemas.faults(shapes)) == (True, [])
    for name, op in (("a", "Identity"), ("b", "Log")):
        node = helper.make_node(op, ["x"], ["y"])
        save_onnx(model.with_name(f"{name}.onnx"), [node], {"x": [None, 3]}, ["y"], {})
    code, unlike, _ = run("verify", "a.onnx", "b.onnx", "--input", "x=0", "--json", "--layers")
    assert (code, unlike["outputs"][0]["witness"]["converted"]) == (1, "-inf")
    assert schemas.faults(unlike) == []


def test_documents_without_a_model(run: Run) -> None:
    _, one, _ = run("shapes", "--input", "28x28x1", "--kernel", "4", "--json")
    _, none, _ = run("shapes", "--input", "9999x9999x3", "--kernel", "999", "--format", "json")
    _, clients, _ = run("convert", "--for", "list", "--json")
    assert [schemas.faults(document) for document in (one, none, clients)] == [[], [], []]
    assert (one["left"], one["patch_matrix"]) == (None, [625, 16])
    assert none["left"]
    assert clients["schema"] == "clients-1"


def test_the_document_of_an_experiment() -> None:
    """That of the paper, whose file is in the repository."""
    stored = json.loads(Path("docs/experiment/result.json").read_text())
    assert schemas.faults({"schema": "experiment-1", **stored}) == []
    assert experiment_json.__module__ == "convfc.reproduction.results"


COMMANDS = sorted(one.callback.__name__ for one in app.registered_commands if one.callback)


@pytest.mark.parametrize(
    "arguments",
    [
        *((command, "none.onnx", "--json") for command in COMMANDS if command != "experiment"),
        *((command, "--nonsense", "--json") for command in COMMANDS),
        ("experiment", "--images", "99999", "--json"),
        ("shapes", "none.onnx", "--format", "json"),
        ("shapes", "none.onnx", "--format=json"),
        ("shapes", "--json"),
        ("nonsense", "--json"),
        ("--json",),
    ],
    ids=" ".join,
)
def test_an_error_is_a_document_too(run: Run, arguments: Sequence[str]) -> None:
    code, document, error = run(*arguments)
    assert (code, document["schema"], schemas.faults(document)) == (2, "error-1", [])
    assert document["error"]["code"] in list(Code)
    assert document["error"]["message"].splitlines()[0] in error


def test_an_error_says_what_helps_and_what_it_is_about(run: Run, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()
    _, document, _ = run("convert", "m.onnx", "--json")
    error = document["error"]
    assert (error["path"], error["layer"], error["code"]) == ("m.onnx", None, "no-model")
    assert error["remedy"] == Code.NO_MODEL.remedy


def test_what_nobody_foresaw_is_a_document(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "shapes_json", lambda _: 1 / 0)
    code, document, error = run("shapes", str(SAMPLES / "mnist_cnn.onnx"), "--json")
    assert (code, schemas.faults(document)) == (2, [])
    assert (document["error"]["kind"], document["error"]["code"]) == ("ZeroDivisionError", None)
    assert "unforeseen" in error


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"totals": None}, "$.totals: None is not of type 'object'"),
        ({"more": 1}, "$.more: unknown"),
        ({"form": "other"}, "$.form: 'other' is not one of"),
        ({"schema": "shapes-0"}, "no schema 'shapes-0'"),
        ({"layers": [{}]}, "$.layers[0]: 'name' is a required property"),
    ],
)
def test_a_wrong_document_is_found(
    run: Run, model: Path, change: dict[str, Any], words: str
) -> None:
    _, document, _ = run("shapes", model.name, "--json")
    assert schemas.faults(document) == []
    assert schemas.faults({**document, **change})[0].startswith(words)


def test_an_unknown_member_deep_inside_is_found(run: Run, model: Path) -> None:
    _, document, _ = run("shapes", model.name, "--json")
    document["layers"][0]["lowering"]["more"] = 1
    assert schemas.faults(document) == ["$.layers[0].lowering.more: unknown"]


def test_json_is_asked_for_in_each_of_these_ways() -> None:
    assert program._asks_for("json", ["shapes", "--format", "json"])
    assert not program._asks_for("json", ["shapes", "--format", "csv", "json"])
