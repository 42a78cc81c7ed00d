"""Tables of texts that come from files: as they are, and by the thousand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from html import escape
from typing import cast

from rich.box import HEAVY_HEAD, SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from convfc.text.visible import visible

_GAP = 2
"""Cells between columns that have no lines between them."""


def words(text: str, style: str = "") -> Text:
    """A text as it is, in a colour."""
    return Text(visible(text), style)


class Words(Table):
    """A table of texts as they are: no name in it marks anything up or steers the terminal.

    Nothing of it is ever cut. Where the terminal is too narrow for its lines, cells are folded
    between words; where it is too narrow for the words, each row is a block of lines.

    Attributes:
        legend: what columns mean, a line each, shown below.
    """

    def __init__(self, title: str, legend: Sequence[str] = ()) -> None:
        super().__init__(title=words(title, "bold"), title_justify="left", box=HEAVY_HEAD)
        self.legend = legend

    def add_row(self, *cells: str | Text, end_section: bool = False) -> None:  # type: ignore[override]  # fewer kinds of cells
        """Add a row; a cell that is no `words` becomes such, and those that are left out empty."""
        rest = [""] * (len(self.columns) - len(cells))
        texts = (cell if isinstance(cell, Text) else words(cell) for cell in (*cells, *rest))
        super().add_row(*texts, end_section=end_section)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table and its legend."""
        yield from self._laid_out(console, options)
        yield from (words(line, "dim") for line in self.legend)

    def _laid_out(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As rich does it, but row by row where nothing wraps: it takes a millisecond for each."""
        cells = [cast(list[Text], list(column.cells)) for column in self.columns]
        widths = [
            max(cell_len(str(column.header)), *(cell_len(text.plain) for text in texts), 0)
            for column, texts in zip(self.columns, cells, strict=True)
        ]
        if sum(widths) + 3 * len(widths) + 1 > options.max_width:
            pairs = zip(self.columns, cells, strict=True)
            longest = [_longest_word(column, texts) for column, texts in pairs]
            spare = options.max_width - sum(longest) - _GAP * (len(longest) - 1)
            yield from self._blocks(cells) if spare < 0 else self._folded(longest, widths, spare)
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

    def markdown(self) -> str:
        """As a table of GitHub's Markdown, below its title and above its legend."""
        heads = [_escaped(str(column.header)) for column in self.columns]
        lines = ["---:" if column.justify == "right" else "---" for column in self.columns]
        rows = [heads, lines, *([_escaped(text) for text in row] for row in self._texts())]
        title = f"**{_escaped(str(self.title))}**\n\n" if self.title else ""
        legend = "".join(f"\n\n{_escaped(line)}" for line in self.legend)
        return title + "\n".join(f"| {' | '.join(row)} |" for row in rows) + legend

    def html(self) -> str:
        """As a table of HTML, below its title and above its legend."""
        sides = ["right" if column.justify == "right" else "left" for column in self.columns]
        heads = (escape(str(column.header)) for column in self.columns)
        lines = [_row("th", heads, sides)]
        lines += [_row("td", map(escape, row), sides) for row in self._texts()]
        title = f"<caption>{escape(str(self.title))}</caption>" if self.title else ""
        legend = (f"<div>{escape(line)}</div>" for line in self.legend)
        return "\n".join([f"<table>{title}", *lines, "</table>", *legend])

    def _texts(self) -> Iterator[tuple[str, ...]]:
        """The cells, row by row."""
        columns = (cast(list[Text], list(column.cells)) for column in self.columns)
        return (tuple(text.plain for text in row) for row in zip(*columns, strict=True))

    def _folded(self, longest: Sequence[int], widths: Sequence[int], spare: int) -> RenderResult:
        """Without lines between the columns, and each cell on as many lines as it takes.

        What is to `spare` beside the longest words goes to the columns that want more.
        """
        folded = Table(title=self.title, title_justify="left", box=SIMPLE_HEAD)
        folded.show_edge, folded.pad_edge, folded.padding = False, False, (0, 1, 0, 0)
        wanted = [width - least for width, least in zip(widths, longest, strict=True)]
        all_of_them = sum(wanted) or 1  # none, if each cell is one word
        for column, least, more in zip(self.columns, longest, wanted, strict=True):
            folded.columns.append(replace(column, width=least + spare * more // all_of_them))
        folded.rows = self.rows
        yield folded

    def _blocks(self, cells: Sequence[Sequence[Text]]) -> RenderResult:
        """Each row as a line of its first cell, and one for each other that is not empty."""
        heads = [str(column.header) for column in self.columns[1:]]
        if self.title:
            yield Text.assemble(self.title)
        for first, *others in zip(*cells, strict=True):
            yield Text(first.plain, "bold", overflow="fold")
            block = Table.grid(padding=(0, 2))
            block.add_column(no_wrap=True, min_width=max(map(cell_len, heads)) + 2)
            block.add_column(overflow="fold")
            for head, text in zip(heads, others, strict=True):
                if text.plain:
                    block.add_row(f"  {head}", text)
            yield block


def _longest_word(column: Column, texts: Sequence[Text]) -> int:
    """Cells that the longest word of a column takes, its header's among them."""
    lines = (str(column.header), *(text.plain for text in texts))
    return max((cell_len(word) for line in lines for word in line.split()), default=0)


_MARKS = re.compile(r"[\\`*\[\]<>|~&$]|(?<!\w)_|_(?!\w)")


def _escaped(text: str) -> str:
    r"""A text in which nothing marks up Markdown, or ends a cell.

    >>> print(_escaped("a|b*, _c_ and d_e"))
    a\|b\*, \_c\_ and d_e
    """
    return _MARKS.sub(r"\\\g<0>", text)


def _row(tag: str, cells: Iterable[str], sides: Iterable[str]) -> str:
    pairs = zip(cells, sides, strict=True)
    told = (f'<{tag} style="text-align: {side}">{cell}</{tag}>' for cell, side in pairs)
    return f"<tr>{''.join(told)}</tr>"
