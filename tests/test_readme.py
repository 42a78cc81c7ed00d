"""The README and the pages of docs: their tables, their lines of Python, links and widths."""

from __future__ import annotations

import io
import json
import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from mypy import api
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

import convfc
from convfc import Fate
from convfc.cli.tables import experiment_table
from convfc.formats.keras.quiet import importing, overheard
from convfc.planning import Layer
from convfc.reproduction.results import Comparison
from convfc.reproduction.settings import Settings

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
SUPPORTED, PAPER, PYTHON = DOCS / "supported.md", DOCS / "paper.md", DOCS / "python.md"


def promises(heading: str) -> Iterator[tuple[str, str]]:
    """The names in a table's first column and what its second says of them."""
    table = SUPPORTED.read_text().split(f"| {heading} |")[1].split("\n\n")[0]
    for row in table.splitlines():
        names = re.findall(r"`(\w+)`", row)
        for name in names:
            yield name, row.split("|")[2].strip()


def assert_kept(layer: Layer, promise: str) -> None:
    if promise == "converted":
        assert layer.fate is Fate.CONVERTED, layer.reason
    else:
        assert layer.fate is Fate.LEFT
        assert promise.removeprefix("left: ") in str(layer.reason)


@pytest.mark.parametrize(("kind", "promise"), [*promises("ONNX operator")])
def test_onnx_operators(tmp_path: Path, kind: str, promise: str) -> None:
    integer = "Integer" in kind or "Linear" in kind
    number = np.uint8 if integer else np.float32
    inputs = {
        "Conv": ["x", "W"],
        "ConvTranspose": ["x", "W"],
        "ConvInteger": ["x", "W"],
        "QLinearConv": ["x", "s", "z", "W", "s", "z", "s", "z"],
        "DeformConv": ["x", "W", "offset"],
    }[kind]
    weights = {
        "W": np.ones((2, 2, 2, 2), number),
        "s": np.ones((), np.float32),
        "z": np.zeros((), np.uint8),
        "offset": np.zeros((1, 8, 3, 3), np.float32),
    }
    of_x = TensorProto.UINT8 if integer else TensorProto.FLOAT
    of_y = {"ConvInteger": TensorProto.INT32}.get(kind, of_x)
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, ["y"], name="it")],
        "net",
        [helper.make_tensor_value_info("x", of_x, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("y", of_y, [1, 2, None, None])],
        [numpy_helper.from_array(weights[n], n) for n in dict.fromkeys(inputs[1:])],
    )
    path = tmp_path / "m.onnx"
    opset = helper.make_opsetid("", 19)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    (layer,) = convfc.convert(path).layers
    assert_kept(layer, promise)


@pytest.mark.parametrize(("kind", "promise"), [*promises("Keras layer")])
def test_keras_layers(tmp_path: Path, kind: str, promise: str) -> None:
    with importing():
        import keras
    rank = int(re.findall(r"(\d)D", kind)[0])
    recurrent = [3] if "LSTM" in kind else []
    given = {} if "Depthwise" in kind else {"filters": 2}
    layer = getattr(keras.layers, kind)(kernel_size=2, name="it", **given)
    path = tmp_path / "m.keras"
    with overheard():
        keras.Sequential([keras.Input((*recurrent, *[4] * rank, 2)), layer]).save(path)
    (found,) = convfc.convert(path).layers
    assert found.site.name == "it"
    assert_kept(found, promise)


def test_the_experiments_table_is_what_its_numbers_say() -> None:
    """The page shows the run whose result is in docs/experiment."""
    held = json.loads((DOCS / "experiment/result.json").read_text())
    chosen = held["settings"] | {"optimizers": tuple(held["settings"]["optimizers"])}
    rows = tuple(Comparison(**row) for row in held["comparisons"])
    settings = Settings(**chosen)
    found = convfc.Experiment(settings, held["images"], (), rows, held["environment"], ())
    console = Console(file=io.StringIO(), width=200)
    console.print(experiment_table(found))
    printed = [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert "\n".join(printed) in PAPER.read_text()


def python_lines() -> str:
    """The indented lines of the page."""
    section = PYTHON.read_text()
    return textwrap.dedent("\n".join(re.findall(r"^    .*|^$", section, re.MULTILINE)))


def test_the_lines_of_python_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = ROOT / "sample_models/mnist_cnn.onnx"
    shutil.copy(sample, tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(python_lines(), names)  # noqa: S102 - they are ours
    assert (names["rows"], names["columns"]) == (900, 27)
    assert (tmp_path / "model_fc.onnx").exists()


def test_the_lines_of_python_have_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # where mypy finds its settings
    written = tmp_path / "lines.py"
    written.write_text(python_lines())
    assert api.run(["--strict", str(written)])[::2] == (
        "Success: no issues found in 1 source file\n",
        0,
    )
    written.write_text(python_lines() + "done.nothing_such\n")
    assert "nothing_such" in api.run(["--strict", str(written)])[0]


def test_links_lead_somewhere() -> None:
    pages = [README, *DOCS.rglob("*.md")]
    links = [
        (page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    ]
    assert len(links) > 40
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached, left = {README}, [README]
    while left:
        page = left.pop()
        for link in re.findall(r"\]\(([^)#:]+\.md)\)", page.read_text()):
            found = (page.parent / link).resolve()
            if found not in reached:
                reached.add(found)
                left.append(found)
    assert {page.resolve() for page in DOCS.glob("*.md")} <= reached


def test_what_the_readme_shows_fits_80_columns() -> None:
    shown = README.read_text().split("```")[1::2]
    assert len(shown) == 2
    assert max(len(line) for block in shown for line in block.splitlines()) <= 80
