"""Examples in docstrings are Python, not quotations in Markdown."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe


class Doctests(griffe.Extension):
    """Puts a fence around each example."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of what was read."""
        if obj.docstring is not None:
            text = obj.docstring.value
            obj.docstring.value = re.sub(r"(?m)^( *)>>> .*(?:\n\1.+)*", _fenced, text)


def _fenced(match: re.Match[str]) -> str:
    """An example; in the text, not in a list of arguments, it may be indented."""
    lines = f"```pycon\n{textwrap.dedent(match[0])}\n```"
    return textwrap.indent(lines, "" if len(match[1]) == 4 else match[1])
