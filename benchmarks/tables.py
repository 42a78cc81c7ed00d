"""Tables of figures: for people and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

Row = dict[str, float | str | None]
"""Figures by column; ``None`` where there is none."""


@dataclass
class Table:
    """Figures of several things.

    Attributes:
        title: what was measured.
        columns: in order; a row may lack some.
        rows: one for each thing.
        notes: what to know about them, a line each.
    """

    title: str
    columns: list[str]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add_mean(self, columns: Sequence[str]) -> None:
        """Add a row with the geometric means of columns in which no row is empty."""
        mean: Row = {self.columns[0]: "geometric mean"}
        for column in columns:
            found = [row.get(column) for row in self.rows]
            numbers = [number for number in found if isinstance(number, float)]
            if len(numbers) == len(found) > 1:
                mean[column] = math.exp(sum(map(math.log, numbers)) / len(numbers))
        if len(mean) > 1:
            self.rows.append(mean)

    def print(self, console: Console) -> None:
        """Print it in Markdown's form, so that it can be put into a text as it is."""
        shown = RichTable(box=box.MARKDOWN)
        for number, column in enumerate(self.columns):
            shown.add_column(column, justify="right" if number else "left", no_wrap=True)
        for row in self.rows:
            shown.add_row(*(_text(row.get(column)) for column in self.columns))
        console.print(f"## {self.title}", style="bold", highlight=False)
        console.print(shown)
        for note in self.notes:
            console.print(f"- {note}", highlight=False, markup=False, soft_wrap=True)
        console.print()

    def to_json(self) -> dict[str, Any]:
        """The same as data."""
        return {"title": self.title, "rows": self.rows, "notes": self.notes}


def _text(figure: float | str | None) -> str:
    if isinstance(figure, float):
        return f"{figure:.1f}" if figure >= 100 else f"{figure:.2f}"
    return "-" if figure is None else figure
