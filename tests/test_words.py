"""Tables of texts: laid out as rich does it, without the time that rich takes for it."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from convfc.text.words import Words, words

ROWS = [
    [],
    [["a", "1"], ["", ""], ["longer than its heading", "12,345"]],
    [["日本 e\u0301", " 1"], ["[b]\x1b\n", "2"], ["x", "-"]],
]


def table(rows: list[list[str]]) -> Words:
    made = Words("title 日 [i]")
    made.add_column("name")
    made.add_column("number", justify="right")
    made.add_column("result")
    for number, (name, figure) in enumerate(rows):
        result = () if name == "x" else (words(name or "left", "red"),)
        made.add_row(name, figure, *result, end_section=number != 1)
    return made


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("width", [63, 70, 1000])
@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("windows", [False, True])
def test_a_table_that_fits_looks_as_rich_has_it(
    rows: list[list[str]],
    width: int,
    terminal: bool,
    windows: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def printed() -> str:
        file = io.StringIO()
        console = Console(
            file=file,
            width=width,
            color_system="standard",
            force_terminal=terminal,
            legacy_windows=windows,
        )
        console.print(table(rows))
        return file.getvalue()

    ours = printed()
    monkeypatch.setattr(Words, "__rich_console__", Table.__rich_console__)
    assert ours == printed()


TOLD = [
    ["conv_with_a_long_name", "3.58e-07", "not equivalent: it is another function"],
    ["日本", "100.00%", "equivalent"],
    ["c", "", "left: no"],
]


def shown(rows: list[list[str]], width: int) -> list[str]:
    made = Words("a title")
    made.add_column("layer")
    made.add_column("of the bound", justify="right")
    made.add_column("verdict")
    for row in rows:
        made.add_row(*row)
    file = io.StringIO()
    Console(file=file, width=width, force_terminal=True, color_system=None).print(made)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", range(32, 100))
def test_no_word_is_ever_cut(width: int) -> None:
    lines = shown(TOLD, width)
    seen = " ".join(lines).split()
    for row in TOLD:
        assert not {word for cell in row for word in cell.split()} - {*seen}
    assert max(map(cell_len, lines)) <= width


def test_a_narrow_table_is_folded_and_a_narrower_one_in_blocks() -> None:
    assert shown(TOLD[1:], 200)[1].startswith("┏")
    folded = shown(TOLD, 50)
    assert folded[2].split() == ["layer", "bound", "verdict"]
    assert max(map(cell_len, folded)) <= 50
    assert [line.rstrip() for line in shown(TOLD, 30)[1:4]] == [
        "conv_with_a_long_name",
        "  of the bound  3.58e-07",
        "  verdict       not",
    ]


def test_a_table_of_single_words_loses_its_lines_before_anything_is_folded() -> None:
    """There is nothing to fold, and nothing that wants the room that is left."""
    made = Words("title")
    for name in ("one", "two", "three"):
        made.add_column(name)
    made.add_row("1", "22", "333")
    for width, lines in ((21, True), (20, False), (15, False)):
        file = io.StringIO()
        Console(file=file, width=width, color_system=None).print(made)
        told = file.getvalue()
        assert ("┃" in told) is lines
        assert {"one", "two", "three", "1", "22", "333"} <= {
            *told.replace("│", " ").replace("┃", " ").split()
        }
        assert max(map(len, told.splitlines())) <= width
