"""`convfc shapes` for people, pages and programs: tables, Markdown, CSV, JSON; order and totals."""

from __future__ import annotations

import csv
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from onnx import helper

import convfc
from convfc import Lowering, UsageError
from convfc.cli.shapes_tables import COLUMNS, shapes_csv, shapes_table
from convfc.core.figures import Order
from convfc.planning import ModelShapes
from tests.onnx_models import integers, save
from tests.program import SAMPLES, Here

SAMPLE = SAMPLES / "mnist_cnn.onnx"
CALCULATED = ("shapes", "--input", "28x28x1", "--kernel", "4", "--stride", "2", "--filters", "128")

Golden = Callable[[str, str], None]


@pytest.fixture(scope="module")
def shapes() -> ModelShapes:
    return convfc.shapes(SAMPLE)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Names that Markdown, CSV and terminals would take for something else; sizes that are open."""
    names = ["a|b*c_d_", 'say "hi", twice', "=1+1", "up\x1b[31m\nline"]
    nodes = [
        helper.make_node("Conv", [f"v{n}", "W"], [f"v{n + 1}"], name)
        for n, name in enumerate(names)
    ]
    shape: list[int | str | None] = ["n", 1, "height", 8]
    path = save(tmp_path / "odd.onnx", nodes, {"v0": shape}, ["v4"], {"W": integers([1, 1, 1, 1])})
    assert [layer.site.name for layer in convfc.shapes(path)] == names
    return path


@pytest.mark.parametrize("layout", ["csv", "markdown"])
@pytest.mark.parametrize(
    ("name", "options"), [("shapes", []), ("shapes_dense", ["--form", "dense", "--sort", "matrix"])]
)
def test_a_model(
    tmp_path: Path,
    golden: Golden,
    here: Here,
    layout: str,
    name: str,
    options: list[str],
) -> None:
    done = here("shapes", SAMPLE, "--format", layout, *options, cwd=tmp_path, COLUMNS="20")
    assert (done.returncode, done.stderr) == (0, "")
    golden(f"{name}_{layout}", done.stdout)


@pytest.mark.parametrize("layout", ["csv", "markdown"])
def test_one_convolution(tmp_path: Path, golden: Golden, layout: str, here: Here) -> None:
    done = here(*CALCULATED, "--format", layout, cwd=tmp_path, COLUMNS="20")
    assert (done.returncode, done.stderr) == (0, "")
    golden(f"calculator_{layout}", done.stdout)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_the_figures_of_the_layers(shapes: ModelShapes) -> None:
    found = rows(shapes_csv(shapes))
    assert tuple(found[0]) == COLUMNS
    assert len(found) == len(shapes)
    for row, layer in zip(found, shapes, strict=True):
        lowering = layer.lowering
        assert lowering is not None
        assert row["layer"] == layer.site.name
        assert int(row["rows"]) == lowering.patch_matrix[0]
        assert (int(row["k"]), int(row["o"])) == lowering.filter_matrix
        assert int(row["patch_bytes"]) == lowering.patch_bytes(4)
        assert int(row["groups"]) == lowering.convolution.groups
        assert row["left"] == ""


def test_odd_names_are_whole_and_mark_nothing_up(odd: Path) -> None:
    shapes = convfc.shapes(odd)
    found = rows(shapes_csv(shapes))
    shown = ["a|b*c_d_", 'say "hi", twice', "=1+1", r"up\x1b[31m\nline"]
    assert [row["layer"] for row in found] == shown
    assert {row["rows"] for row in found} == {""}  # open
    markdown = shapes_table(shapes).markdown()
    assert r"| a\|b\*c_d\_ |" in markdown
    assert r"| up\\x1b\[31m\\nline |" in markdown
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert {line.replace(r"\|", "").count("|") for line in lines} == {10}
    assert len(lines) == 2 + len(shapes) + 1


def test_totals_are_sums_and_unknown_where_a_size_is(shapes: ModelShapes, odd: Path) -> None:
    totals = shapes.totals
    lowerings = [layer.lowering for layer in shapes if layer.lowering is not None]
    assert (totals.layers, totals.left) == (6, 0)
    assert totals.weights == sum(its.convolution.weights for its in lowerings) == 36784
    assert totals.multiply_adds == 5351424
    assert totals.patch_bytes == sum(its.patch_bytes(4) or 0 for its in lowerings)
    assert totals.matrix_bytes is not None
    totals = convfc.shapes(odd).totals
    assert (totals.weights, totals.multiply_adds) == (4, None)
    text = shapes_table(convfc.shapes(odd)).markdown()
    assert text.splitlines()[-3] == "| total | 4 of 4 layers |  |  |  | 4 | ? |  | 0 B |"


def test_totals_are_of_what_can_be_converted(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "W"], ["a"], "one"),
        helper.make_node("Conv", ["a", "V"], ["y"], "two", auto_pad="NOTSET", pads=[0, 0, 1, 1]),
    ]
    inputs: dict[str, list[int | str | None]] = {"x": [1, 1, 3, 3], "V": [1, 1, "k", "k"]}
    path = save(tmp_path / "m.onnx", nodes, inputs, ["y"], {"W": integers([1, 1, 2, 2])})
    shapes = convfc.shapes(path)
    assert (shapes.totals.layers, shapes.totals.left, shapes.totals.weights) == (1, 1, 4)
    (row,) = [row for row in rows(shapes_csv(shapes)) if row["layer"] == "two"]
    assert row["left"] == shapes[1].reason
    assert "| total | 1 of 2 layers |" in shapes_table(shapes).markdown()


@pytest.mark.parametrize("order", [order for order in Order if order is not Order.LAYER])
def test_sorted_largest_first(shapes: ModelShapes, order: Order) -> None:
    column = {
        Order.WEIGHTS: "weights",
        Order.MULTIPLY_ADDS: "multiply_adds",
        Order.INPUT: "input_bytes",
        Order.PATCHES: "patch_bytes",
        Order.MATRIX: "matrix_bytes",
    }[order]
    numbers = [int(row[column]) for row in rows(shapes_csv(shapes.sorted(order)))]
    assert numbers == sorted(numbers, reverse=True)
    assert numbers != [int(row[column]) for row in rows(shapes_csv(shapes))]


def test_sorted_by_name_and_what_is_unknown_comes_last(shapes: ModelShapes, odd: Path) -> None:
    names = [layer.site.name for layer in shapes.sorted("layer")]
    assert names == sorted(names) != [layer.site.name for layer in shapes]
    found = convfc.shapes(odd)
    mixed = ModelShapes([*found, *shapes], odd, found.form).sorted("multiply-adds")
    assert [layer.site.name for layer in mixed[-4:]] == [layer.site.name for layer in found]
    with pytest.raises(UsageError, match="order is 'size': it takes layer, weights"):
        shapes.sorted("size")


def test_shapes_are_a_tuple_that_can_be_sent_elsewhere(shapes: ModelShapes) -> None:
    assert isinstance(shapes, tuple)
    sent = pickle.loads(pickle.dumps(shapes))  # noqa: S301 - our own
    assert (sent, sent.model, sent.form) == (shapes, SAMPLE, shapes.form)


def test_json_is_one_of_the_formats_and_has_the_totals(tmp_path: Path, here: Here) -> None:
    first = here("shapes", SAMPLE, "--json", "--sort", "weights", cwd=tmp_path)
    second = here("shapes", SAMPLE, "--format", "json", "--sort", "weights", cwd=tmp_path)
    assert first.stdout == second.stdout
    document = json.loads(first.stdout)
    assert document["totals"]["weights"] == 36784
    assert document["layers"][0]["name"] == "conv_strided"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--json", "--format", "csv"], "--json does not go with --format csv"),
        (["--input", "3x1", "--kernel", "2", "--sort", "layer"], "--sort is for the layers"),
    ],
)
def test_what_does_not_go_together(
    tmp_path: Path, arguments: list[str], words: str, here: Here
) -> None:
    done = here("shapes", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_window_that_no_model_would_get(tmp_path: Path, here: Here) -> None:
    done = here(
        "shapes", "--input", "9999x9999x3", "--kernel", "999", "--format", "csv", cwd=tmp_path
    )
    (row,) = rows(done.stdout)
    found = convfc.lower(convfc.convolution([999] * 2, channels=3, filters=1), (9999, 9999))
    assert not isinstance(found, Lowering)
    assert row["left"] == found.reason
