"""What CI systems read: actions, hooks and the examples of docs/ci.md are YAML that runs convfc."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from convfc import Verdict, Verification
from convfc.cli.github import annotation, marks
from convfc.cli.main import app
from convfc.verification.proof import LayerProof
from tests.onnx_models import conv_file
from tests.program import SAMPLES, Here
from tests.schemas import FOLDER

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "ci.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
FILES = {
    "action.yml": ROOT / "action.yml",
    "hooks": ROOT / ".pre-commit-hooks.yaml",
    **{path.name: path for path in (ROOT / ".github" / "workflows").iterdir()},
}
DOCUMENTS = {name: path.read_text() for name, path in FILES.items()}
DOCUMENTS |= {f"example {number}": text for number, text in enumerate(EXAMPLES)}

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def lines_of(value: Any) -> Iterator[str]:
    """Every line of every text in a document."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("args", "description"):
                continue
            yield from lines_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from lines_of(inner)
    elif isinstance(value, str):
        yield from value.splitlines()


def calls(line: str) -> list[list[str]]:
    """The words of each call on a line of a shell; `;` and `|` in quotes part nothing."""
    read = shlex.shlex(line, posix=True, punctuation_chars="&|;")
    read.whitespace_split = True
    parted = groupby(read, lambda word: bool(re.fullmatch("[&|;]+", word)))
    return [[*words] for between, words in parted if not between]


def wrong(line: str) -> list[str]:
    """What in the calls of convfc on a line it does not know."""
    found = []
    for call in re.findall(r"(?:^|[ /])convfc ((?:[a-z-]+).*)$", line.split(" #")[0]):
        for words in calls(f"convfc {call}"):
            if Path(words[0]).name != "convfc" or words[1].startswith("-"):
                continue
            if words[1] not in COMMANDS:
                found.append(words[1])
                continue
            known = {name for one in COMMANDS[words[1]].params for name in one.opts}
            found += [word for word in words if re.match(r"--?[a-z]", word) and word not in known]
    return found


@pytest.mark.parametrize("name", DOCUMENTS)
def test_it_is_yaml_that_runs_what_there_is(name: str) -> None:
    document = yaml.safe_load(DOCUMENTS[name])
    found = [line for line in lines_of(document) if re.search(r"(^|[ /])convfc [a-z]", line)]
    assert found or name in ("test.yml", "example 0", "example 3")
    assert [fault for line in found for fault in wrong(line)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_lines_of_pages_are_commands_that_there_are(page: Path) -> None:
    lines = re.findall(r"^(?: {4}|\$ )(convfc .*)$", page.read_text(), re.MULTILINE)
    assert lines or page.name not in ("ci.md", "converting.md", "howto.md", "README.md")
    assert [fault for line in lines for fault in wrong(line)] == []


def test_an_unknown_command_or_option_is_found() -> None:
    assert wrong("convfc converts m.onnx") == ["converts"]
    assert wrong("convfc convert m.onnx && bin/convfc verify m.onnx --juni x") == ["--juni"]
    assert wrong("pip install convfc") == []
    assert wrong("convfc explain --input '1 2; 3 4' --kernl 1 | tail -n 1") == ["--kernl"]


def test_the_action_is_called_with_what_it_takes() -> None:
    action = yaml.safe_load(FILES["action.yml"].read_text())
    (job,) = yaml.safe_load(EXAMPLES[0])["jobs"].values()
    given = next(step["with"] for step in job["steps"] if "convfc@" in step.get("uses", ""))
    assert given.keys() <= action["inputs"].keys()
    needed = {name for name, one in action["inputs"].items() if one.get("required")}
    assert needed <= given.keys()
    *_, run = action["runs"]["steps"]
    assert set(re.findall(r"inputs\.([\w-]+)", json.dumps(run["env"]))) == action["inputs"].keys()
    assert "${{" not in run["run"]  # or a caller's text would be a script
    for name, command in (("convert-options", "convert"), ("verify-options", "verify")):
        assert wrong(f"convfc {command} {given[name]}") == []


def test_the_example_names_a_hook_that_there_is() -> None:
    (hook,) = yaml.safe_load(FILES["hooks"].read_text())
    used = yaml.safe_load(EXAMPLES[-1])["repos"][0]["hooks"]
    assert [one["id"] for one in used] == [hook["id"]]
    assert {"id", "name", "entry", "language"} <= hook.keys()
    assert re.search(hook["files"], "models/net_fc.onnx")
    assert not re.search(hook["files"], "README.md")


def test_the_lists_of_packages_are_those_of_the_page_on_installing() -> None:
    short = r"pip(?:\")? install (numpy .+)$"
    (listed,) = re.findall(short, (ROOT / "docs" / "install.md").read_text(), re.MULTILINE)
    assert re.findall(short, FILES["dist.yml"].read_text(), re.MULTILINE) == [listed]


def test_every_schema_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"schema/([\w-]+)\.json", PAGE.read_text()))
    assert named
    assert {name for name in named if not (FOLDER / f"{name}.json").exists()} == set()


def proof(name: str, reason: str | None) -> LayerProof:
    return LayerProof(name, "Conv", reason=reason)


def test_annotations_name_what_is_wrong() -> None:
    names = Path("m.onnx"), Path("m_fc.onnx")
    layers = (proof("a", None), proof("b:1", "100 % wrong,\nreally"))
    bad = Verification(*names, Verdict.NOT_EQUIVALENT, "layer 'b' differs", layers=layers)
    assert list(marks([bad])) == [
        "::error title=not equivalent,file=m_fc.onnx::"
        "NOT EQUIVALENT: m_fc.onnx and m.onnx: layer 'b' differs",
        "::error title=layer b%3A1,file=m_fc.onnx::100 %25 wrong,%0Areally",
    ]
    good = Verification(*names, Verdict.EQUIVALENT, proved=True, layers=layers[:1])
    (line,) = marks([good])
    assert line.startswith("::notice title=equivalent,file=m_fc.onnx::EQUIVALENT: ")
    assert annotation("error", "\x1b[31m") == r"::error ::\x1b[31m"


def test_verify_prints_them_below_its_tables(tmp_path: Path, here: Here) -> None:
    from convfc import convert, convolution

    model = conv_file(tmp_path / "m.onnx", convolution([2, 2], channels=1, filters=1), (4, 4))
    convert(model, check=False)
    done = here("verify", model.name, "--format", "github", "--samples", "2", cwd=tmp_path)
    assert done.returncode == 0
    *_, summary, line = done.stdout.splitlines()
    assert line == f"::notice title=equivalent,file=m_fc.onnx::{summary}"
    done = here("verify", "none.onnx", "--format", "github", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == "::error title=convfc::none.onnx: no such file\n"
    first = here("verify", model.name, "--format", "json", "--samples", "2", cwd=tmp_path)
    assert json.loads(first.stdout)["schema"] == "verification-1"
    done = here("verify", SAMPLES, "--json", "--format", "table", cwd=tmp_path)
    assert "--json does not go with --format table" in done.stderr
