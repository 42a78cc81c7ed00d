"""An explanation as a file: a picture, a page or its arrays, by the name."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from convfc import plotting
from convfc.analysis.files import ARCHIVE, save_arrays
from convfc.core.arrays import Array
from convfc.errors import UsageError
from convfc.explanation import batch_picture, page, picture
from convfc.explanation.numbers import Explanation
from convfc.system import replacing
from convfc.system.replacing import Kind, xml
from convfc.system.surroundings import undisturbed

_KINDS = {
    ".png": Kind("PNG picture", re.compile(rb"\x89PNG\r\n")),
    ".svg": xml("SVG picture", "svg"),
    ".html": xml("HTML page", "html"),
    ".npz": ARCHIVE,
}


def check(path: Path) -> None:
    """See that a file of this name can be drawn, before anything else is done.

    Raises:
        UsageError: another suffix than .png, .svg, .html and .npz; or matplotlib is not installed.
        FileError: it cannot be written there, or is something else already.
    """
    if path.suffix not in _KINDS:
        raise UsageError(
            f"{path}: give it a name that ends in .png, .svg or .html, or in .npz for the arrays"
        )
    if path.suffix in (".png", ".svg"):
        plotting.require_matplotlib()
    replacing.check(path, _KINDS[path.suffix])


@undisturbed()
def draw(explained: Explanation, path: str | Path) -> Path:
    """Write an explanation as .png or .svg, as a page (.html) to step through, or as .npz.

    The arrays of an .npz are x, the image, P, F, b, y = P F + b, and own, what the layer itself
    computes; of a batch, P, y and own are those of its images, one below the other, and x is
    (images, height, width, channels). `index_map` is where each number of P is in one flattened
    image, -1 in the padding.

    Raises:
        UsageError: see `check`.
        FileError: the file cannot be written.
    """
    path = Path(path)
    check(path)
    if path.suffix == ".npz":
        save_arrays(path, _arrays(explained))
        return path
    with replacing.replacing(path, _KINDS[path.suffix]) as stage:
        if path.suffix == ".html":
            stage.write_text(page.text(explained), "utf-8")
        else:
            drawn = batch_picture if explained.others else picture
            with plotting.styled():
                plotting.write_figure(drawn.picture(explained), stage)
    return path


def _arrays(explained: Explanation) -> dict[str, Array]:
    images = explained.batch
    found = {
        "x": explained.image if len(images) == 1 else np.stack([one.image for one in images]),
        "P": np.concatenate([one.patches for one in images]),
        "F": explained.filters,
        "b": explained.bias,
        "y": np.concatenate([one.output for one in images]),
        "own": None,
        "index_map": explained.index_map,
    }
    if explained.own is not None:
        found["own"] = np.concatenate([one.own for one in images if one.own is not None])
    return {name: array for name, array in found.items() if array is not None}
