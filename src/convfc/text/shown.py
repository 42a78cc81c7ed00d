"""What results have in common: a line for people, a table for notebooks, JSON for programs."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PRESENTATION = "convfc.cli.presentation"


class Shown:
    """A result that shows itself.

    How it looks is decided where tables and documents are made, floors above. That is imported
    when somebody looks: whoever has a result need not have a terminal.
    """

    def to_dict(self) -> dict[str, Any]:
        """What `--json` prints of it, as JSON types; docs/schema has the schema that it names."""
        found: dict[str, Any] = import_module(_PRESENTATION).document_of(self)
        return found

    def _repr_html_(self) -> str:
        """What a notebook shows of it: that which the program prints."""
        html: str = import_module(_PRESENTATION).html_of(self)
        return html

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {import_module(_PRESENTATION).line_of(self)}>"
