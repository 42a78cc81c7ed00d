"""A batch as one picture: each image has a block of rows in P and in the output (figure 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from convfc import plotting
from convfc.explanation.numbers import Explanation
from convfc.explanation.picture import (
    COLUMNS,
    DASHED,
    GREY,
    ROWS,
    frame,
    largest_of,
    new_axes,
    outline,
    part,
    range_around,
    show_signed,
    write_words,
)
from convfc.explanation.wording import product_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES = 4
"""How many images are drawn, at most."""

_BOTTOM, _HEIGHT = 0.14, 0.66
_P = (0.34, _BOTTOM, 0.27, _HEIGHT)
_F = (0.665, 0.3, 0.115, 0.4)
_Y = (0.85, _BOTTOM, 0.115, _HEIGHT)
_COLOURS = (plotting.RED, plotting.BLUE, plotting.GREEN, plotting.ORANGE)


def picture(explained: Explanation) -> Figure:
    """The images, their P, F and the output: of large ones as many rows of each as fit."""
    from matplotlib.patches import ConnectionPatch

    figure = plotting.new_figure(12, 8)
    figure.set_layout_engine("none")
    batch = explained.batch
    shown, count = batch[:IMAGES], len(batch)
    positions, length = explained.patches.shape
    filters = explained.filters.shape[1]
    position, _ = explained.most_telling
    rows = range_around(position, positions, ROWS // len(shown))
    columns, width = min(length, COLUMNS), min(filters, COLUMNS)
    remark = part(rows, positions, "of each, rows")
    name = product_name(explained)

    p = new_axes(figure, _P, f"P, {count * positions:,}×{length:,}", remark)
    blocks = [one.patches[rows.start : rows.stop, :columns] for one in shown]
    p.imshow(np.concatenate(blocks), **GREY, aspect="auto")
    f = new_axes(figure, _F, f"F, {length:,}×{filters:,}, the same for all")
    show_signed(f, explained.filters[:columns, :width], largest_of(explained.filters))
    y = new_axes(figure, _Y, f"{name}, {count * positions:,}×{filters:,}")
    outputs = np.concatenate([one.output[rows.start : rows.stop, :width] for one in shown])
    show_signed(y, outputs, largest_of(outputs))
    for left, right, sign in ((_P, _F, "·"), (_F, _Y, "=" if explained.bias is None else "+ b =")):
        middle = (left[0] + left[2] + right[0]) / 2
        figure.text(middle, 0.5, sign, ha="center", va="center", fontsize=20)

    high = _HEIGHT / len(shown)
    for number, (one, colour) in enumerate(zip(shown, _COLOURS, strict=False)):
        bottom = _BOTTOM + _HEIGHT - (number + 1) * high
        image = new_axes(figure, (0.03, bottom + 0.045, 0.24, high - 0.06))
        image.imshow(one.image[..., 0], **GREY)
        first = number * positions
        image.set_xlabel(
            f"image {number}: rows {first:,} to {first + positions - 1:,}", fontsize=11
        )
        outline(image, colour)
        top = number * len(rows) - 0.5
        for axes, across in ((p, columns), (y, width)):
            frame(axes, -0.5, top, across, len(rows), colour)
        figure.add_artist(
            ConnectionPatch(
                (1, 0.5),
                (-0.5, top + len(rows) / 2),
                "axes fraction",
                "data",
                axesA=image,
                axesB=p,
                color=colour,
                **DASHED,
            )
        )
    channels = explained.image.shape[2]
    left_out = [f"the first {len(shown)} of {count:,} images"] if count > len(shown) else []
    left_out += [f"channel 0 of {channels:,}"] if channels > 1 else []
    figure.text(0.15, 0.1, ", ".join(left_out), ha="center", fontsize=11)
    write_words(figure, explained)
    return figure
