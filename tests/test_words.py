"""Tables of texts: laid out as rich does it, without the time that rich takes for it."""

from __future__ import annotations

import io

import pytest
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
@pytest.mark.parametrize("width", [20, 40, 61, 62, 63, 1000])
@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("windows", [False, True])
def test_a_table_looks_as_rich_has_it(
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
