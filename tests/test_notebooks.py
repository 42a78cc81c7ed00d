"""Results outside of the program: short reprs, tables in notebooks, documents for programs."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from onnx import helper

import convfc
from convfc import convolution
from convfc.text.shown import Shown
from tests import schemas
from tests.onnx_models import conv_file, integers, save

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebook.ipynb"
CONV = convolution([2, 2], channels=1, filters=3)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shown]:
    """One of each kind, by the name of its class."""
    model = conv_file(tmp_path_factory.mktemp("nb") / "m.onnx", CONV, (5, 5))
    found: list[Shown] = [
        convfc.convert(model),
        convfc.convert(model, dry_run=True),
        convfc.verify(model, samples=2),
        convfc.revert(model.with_name("m_fc.onnx")),
        convfc.shapes(model),
        convfc.explain_model(model),
        convfc.explain_convolution(CONV, (5, 5)),
    ]
    names = ["Conversion", "dry run", "Verification", "Reversion", "ModelShapes", "Explanation"]
    return dict(zip([*names, "without a model"], found, strict=True))


KINDS = ["Conversion", "dry run", "Verification", "Reversion", "ModelShapes", "Explanation"]
KINDS += ["without a model"]


class Reader(HTMLParser):
    """Text of a page, and whether its tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.cells = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - html.parser's
        self.open.append(tag)
        self.cells += tag in ("td", "th")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_notebook_gets_a_table(results: dict[str, Shown], kind: str) -> None:
    page = Reader(results[kind]._repr_html_())
    assert not page.open
    assert page.cells > 6
    assert "script" not in results[kind]._repr_html_()


@pytest.mark.parametrize("kind", KINDS)
def test_its_repr_is_a_line(results: dict[str, Shown], kind: str) -> None:
    text = repr(results[kind])
    assert text.startswith(f"<{type(results[kind]).__name__}: ")
    assert len(text.splitlines()) == 1
    assert len(text) < 250


def test_what_the_reprs_say(results: dict[str, Shown]) -> None:
    assert "1 of 1 convolutions converted; wrote " in repr(results["Conversion"])
    assert "nothing written, as this is a dry run" in repr(results["dry run"])
    assert "EQUIVALENT: " in repr(results["Verification"])
    assert repr(results["ModelShapes"]).endswith("m.onnx: 1 convolutions, 12 weights>")
    assert repr(convfc.shapes(results["Conversion"].source)[0]) == "<Layer 'conv': Conv, converted>"  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS)
def test_its_document_is_that_of_the_program(results: dict[str, Shown], kind: str) -> None:
    assert schemas.faults(results[kind].to_dict()) == []


def test_names_are_text(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "W"], ["y"], "<script>\x1b&")]
    path = save(
        tmp_path / "m.onnx", nodes, {"x": [1, 1, 2, 2]}, ["y"], {"W": integers([1, 1, 1, 1])}
    )
    html = convfc.shapes(path)._repr_html_()
    assert '<td style="text-align: left">&lt;script&gt;\\x1b&amp;</td>' in html


def test_who_has_a_result_need_not_have_a_terminal(tmp_path: Path) -> None:
    model = conv_file(tmp_path / "m.onnx", CONV, (5, 5))
    script = (
        f"import sys, convfc; found = convfc.convert({str(model)!r}, check=False)\n"
        "assert not {'rich', 'typer'} & set(sys.modules)\n"
        "assert 'converted' in repr(found) and 'rich' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_notebook_runs_and_says_what_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(NOTEBOOK.parent)
    document = json.loads(NOTEBOOK.read_text())
    cells = ["".join(one["source"]) for one in document["cells"] if one["cell_type"] == "code"]
    names: dict[str, Any] = {}
    shown = []
    for cell in cells:
        *before, last = ast.parse(cell).body
        exec(compile(ast.Module(before, []), "cell", "exec"), names)  # noqa: S102 - our own
        if isinstance(last, ast.Expr):
            shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), names))  # noqa: S307
        else:
            exec(compile(ast.Module([last], []), "cell", "exec"), names)  # noqa: S102
    tables = [one for one in shown if isinstance(one, Shown)]
    assert [type(one).__name__ for one in tables] == ["ModelShapes", "Conversion", "Verification"]
    same, error = next(one for one in shown if isinstance(one, tuple) and len(one) == 2)
    assert same
    assert error < 1e-5
    assert all("<table>" in one._repr_html_() for one in tables)
    assert "MatMul" in shown[-1]
    assert "Conv" not in shown[-1]
    assert all(one["outputs"] == [] for one in document["cells"] if "outputs" in one)
    shutil.rmtree(names["folder"])
