"""An explanation as a file: a picture or a page, by the name."""

from __future__ import annotations

from pathlib import Path

from convfc.errors import UsageError
from convfc.explanation import page, picture
from convfc.explanation.numbers import Explanation
from convfc.plotting import require_matplotlib
from convfc.surroundings import undisturbed


def check(path: Path) -> None:
    """See that a file of this name can be drawn, before anything else is done.

    Raises:
        UsageError: another suffix than .png, .svg and .html; or matplotlib is not installed.
    """
    if path.suffix not in (".png", ".svg", ".html"):
        raise UsageError(f"{path}: give it a name that ends in .png, .svg or .html")
    if path.suffix != ".html":
        require_matplotlib()


@undisturbed
def draw(explained: Explanation, path: str | Path) -> Path:
    """Write an explanation as .png or .svg, or as a page (.html) to step through.

    Raises:
        UsageError: see `check`.
        FileError: the file cannot be written.
    """
    path = Path(path)
    check(path)
    if path.suffix == ".html":
        return page.draw(explained, path)
    return picture.draw(explained, path)
