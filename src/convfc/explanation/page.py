"""An explanation as a page to step through: one file, which needs nothing from anywhere."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from convfc.explanation.numbers import Array, Explanation, heading
from convfc.writing import staged

CELLS = 150_000
"""Numbers of P, of F and of the image, each, that a page holds; what is more is left out."""


def draw(explained: Explanation, path: Path) -> Path:
    """Write the page.

    Raises:
        FileError: the file cannot be written.
    """
    template = (resources.files("convfc") / "explanation" / "page.html").read_text("utf-8")
    # In a script element, no text may look like the end of it.
    text = json.dumps(contents(explained), allow_nan=False).replace("<", "\\u003c")
    with staged(path) as stage:
        stage.write_text(template.replace("__DATA__", text), "utf-8")
    return path


def contents(explained: Explanation) -> dict[str, Any]:
    """What the page shows, as JSON types: P, F and P F + b with as many rows and columns as fit."""
    conv = explained.convolution
    positions, length = explained.patches.shape
    filters = explained.filters.shape[1]
    height, width, channels = explained.image.shape
    depth = channels // conv.groups
    rows = min(positions, max(CELLS // length, 1))
    columns = min(filters, max(CELLS // max(length, rows), 1))
    position, number = explained.telling
    axes = zip(conv.windows, explained.pads, strict=True)
    parts = []
    if rows < positions:
        parts.append(f"the first {rows:,} of {positions:,} windows")
    if columns < filters:
        parts.append(f"the first {columns:,} of {filters:,} filters")
    if conv.groups > 1:
        parts.append(f"the first of {conv.groups} blocks of channels")
    return {
        "title": explained.title or "A convolution is patches + Dense",
        "formula": heading(explained),
        "said": explained.said[:1].upper() + explained.said[1:] + ".",
        "part": f"A part of it: {', '.join(parts)}." if parts else "",
        "position": min(position, rows - 1),
        "filter": min(number, columns - 1),
        "windows": [
            {
                "kernel": window.kernel,
                "stride": window.stride,
                "dilation": window.dilation,
                "pads": list(pads),
            }
            for window, pads in axes
        ],
        "outputs": list(explained.outputs),
        "positions": positions,
        "filters_in_all": filters,
        "image": {
            "shape": [height, width, depth],
            "all": [height, width, channels],
            "values": _rounded(explained.image[..., :depth].reshape(-1)),
        },
        "patches": _rounded(explained.patches[:rows]),
        "filters": _rounded(explained.filters[:, :columns]),
        "bias": None if explained.bias is None else _rounded(explained.bias[:columns]),
        "products": _rounded(explained.output[:rows, :columns]),
    }


def _rounded(values: Array) -> Any:  # noqa: ANN401 - lists of numbers, as deep as the array
    """Six digits, and ``None`` for what is no finite number."""
    if values.ndim > 1:
        return [_rounded(row) for row in values]
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in values]
