"""An explanation as a file: a picture or a page, by the name."""

from __future__ import annotations

import re
from pathlib import Path

from convfc.errors import UsageError
from convfc.explanation import page, picture
from convfc.explanation.numbers import Explanation
from convfc.plotting import require_matplotlib
from convfc.system import replacing
from convfc.system.replacing import Kind, xml
from convfc.system.surroundings import undisturbed

_KINDS = {
    ".png": Kind("PNG picture", re.compile(rb"\x89PNG\r\n")),
    ".svg": xml("SVG picture", "svg"),
    ".html": xml("HTML page", "html"),
}


def check(path: Path) -> None:
    """See that a file of this name can be drawn, before anything else is done.

    Raises:
        UsageError: another suffix than .png, .svg and .html; or matplotlib is not installed.
        FileError: it cannot be written there, or is something else already.
    """
    if path.suffix not in _KINDS:
        raise UsageError(f"{path}: give it a name that ends in .png, .svg or .html")
    if path.suffix != ".html":
        require_matplotlib()
    replacing.check(path, _KINDS[path.suffix])


@undisturbed()
def draw(explained: Explanation, path: str | Path) -> Path:
    """Write an explanation as .png or .svg, or as a page (.html) to step through.

    Raises:
        UsageError: see `check`.
        FileError: the file cannot be written.
    """
    path = Path(path)
    check(path)
    with replacing.replacing(path, _KINDS[path.suffix]) as stage:
        if path.suffix == ".html":
            stage.write_text(page.text(explained), "utf-8")
        else:
            picture.draw(explained, stage)
    return path
