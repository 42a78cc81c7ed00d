"""Tables of texts that come from files: as they are, and by the thousand."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from rich.box import HEAVY_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from convfc.text.visible import visible


def words(text: str, style: str = "") -> Text:
    """A text as it is, in a colour."""
    return Text(visible(text), style)


class Words(Table):
    """A table of texts as they are: no name in it marks anything up or steers the terminal."""

    def __init__(self, title: str) -> None:
        super().__init__(title=words(title, "bold"), title_justify="left", box=HEAVY_HEAD)

    def add_row(self, *cells: str | Text, end_section: bool = False) -> None:  # type: ignore[override]  # fewer kinds of cells
        """Add a row; a cell that is no `words` becomes such, and those that are left out empty."""
        rest = [""] * (len(self.columns) - len(cells))
        texts = (cell if isinstance(cell, Text) else words(cell) for cell in (*cells, *rest))
        super().add_row(*texts, end_section=end_section)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As rich does it, but row by row where nothing wraps: it takes a millisecond for each."""
        cells = [cast(list[Text], list(column.cells)) for column in self.columns]
        widths = [
            max(cell_len(str(column.header)), *(cell_len(text.plain) for text in texts), 0)
            for column, texts in zip(self.columns, cells, strict=True)
        ]
        if sum(widths) + 3 * len(widths) + 1 > options.max_width:
            yield from super().__rich_console__(console, options)
            return
        frame = Table(title=self.title, title_justify="left", box=HEAVY_HEAD)
        for column, width in zip(self.columns, widths, strict=True):
            frame.columns.append(replace(column, _cells=[], min_width=width))
        *head, bottom, end = frame.__rich_console__(console, options)
        yield from head
        box = HEAVY_HEAD.substitute(options, safe=console.safe_box)
        section = box.get_row([width + 2 for width in widths], "row")
        for number, texts in enumerate(zip(*cells, strict=True), 1):
            before = f"{box.mid_left} "
            for text, width, column in zip(texts, widths, self.columns, strict=True):
                rest = " " * (width - cell_len(text.plain))
                padded = rest + text.plain if column.justify == "right" else text.plain + rest
                if text.style:
                    yield Segment(before)
                    yield Segment(padded, console.get_style(text.style))
                    before = ""
                else:
                    before += padded
                before += f" {box.mid_vertical} "
            yield Segment(f"{before[: -len(box.mid_vertical) - 1]}{box.mid_right}\n")
            if self.rows[number - 1].end_section and number < len(self.rows):
                yield Segment(f"{section}\n")
        yield bottom
        yield end
