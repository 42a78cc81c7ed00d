"""An explanation as a page to step through: one file, which needs nothing from anywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from convfc.core.arrays import Array
from convfc.explanation.numbers import Explanation
from convfc.explanation.wording import (
    agreement_text,
    batch_text,
    heading,
    product_name,
    rounding_text,
)

CELLS = 150_000
"""Numbers of P, of F and of the image, each, that a page holds; what is more is left out."""


def text(explained: Explanation) -> str:
    """The page."""
    template = (resources.files("convfc") / "explanation" / "page.html").read_text("utf-8")
    # In a script element, no text may look like the end of it.
    data = json.dumps(contents(explained), allow_nan=False).replace("<", "\\u003c")
    return template.replace("__DATA__", data)


def contents(explained: Explanation) -> dict[str, Any]:
    """What the page shows, as JSON types: P, F and P F + b with as many rows and columns as fit."""
    conv = explained.convolution
    positions, length = explained.patches.shape
    filters = explained.filters.shape[1]
    height, width, channels = explained.image.shape
    depth = explained.depth
    rows = min(positions, max(CELLS // length, 1))
    columns = min(filters, max(CELLS // max(length, rows), 1))
    position, number = explained.most_telling
    axes = zip(conv.windows, explained.pads, strict=True)
    parts = []
    if rows < positions:
        parts.append(f"the first {rows:,} of {positions:,} windows")
    if columns < filters:
        parts.append(f"the first {columns:,} of {filters:,} filters")
    return {
        "title": explained.title or "A convolution is patches + Dense",
        "formula": heading(explained),
        "said": f"Input: {explained.description}.",
        "remarks": _sentences(
            [
                *explained.remarks,
                batch_text(explained),
                rounding_text(explained, "4"),
                agreement_text(explained),
            ]
        ),
        "name": product_name(explained),
        "integral": explained.integral,
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
            "values": _numbers(explained.image[..., :depth].reshape(-1)),
        },
        "patches": _numbers(explained.patches[:rows]),
        "filters": _numbers(explained.filters[:, :columns]),
        "bias": None if explained.bias is None else _numbers(explained.bias[:columns]),
        "products": _numbers(explained.output[:rows, :columns]),
        "scaling": _scaling(explained, rows, columns),
    }


def _scaling(explained: Explanation, rows: int, columns: int) -> dict[str, Any] | None:
    """What a quantized layer makes of its sums."""
    scaling, own = explained.scaling, explained.own
    if scaling is None or own is None:
        return None
    return {
        "input": scaling.x_scale,
        "kernel": scaling.kernel_scales[:columns].astype(float).tolist(),
        "output": scaling.y_scale,
        "zero": scaling.y_zero,
        "limits": list(scaling.limits),
        "results": _numbers(own[:rows, :columns]),
    }


def _sentences(said: Sequence[str]) -> str:
    return " ".join(f"{text[:1].upper()}{text[1:]}." for text in said if text)


def _numbers(values: Array) -> Any:  # noqa: ANN401 - lists of numbers, as deep as the array
    """As many digits as tell a number of float32 from all others; ``None`` if it is not finite."""
    if values.ndim > 1:
        return [_numbers(row) for row in values]
    if values.dtype.kind in "iu":
        return values.tolist()
    return [float(f"{value:.9g}") if np.isfinite(value) else None for value in values]
