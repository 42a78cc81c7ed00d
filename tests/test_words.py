"""Tables of texts: laid out as rich does it, without the time that rich takes for it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from convfc.words import Words, words

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
        made.add_row(name, figure, words(name or "left", "red"), end_section=number != 1)
    return made


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("width", [20, 40, 58, 59, 60, 61, 1000])
@pytest.mark.parametrize("kind", [{}, {"force_terminal": True}, {"legacy_windows": True}])
def test_a_table_looks_as_rich_has_it(
    rows: list[list[str]], width: int, kind: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def printed() -> str:
        console = Console(file=io.StringIO(), width=width, color_system="standard", **kind)
        console.print(table(rows))
        return console.file.getvalue()

    ours = printed()
    monkeypatch.setattr(Words, "__rich_console__", Table.__rich_console__)
    assert ours == printed()
