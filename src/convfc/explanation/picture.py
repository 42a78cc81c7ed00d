"""An explanation as one picture: a window and a filter followed through y = P F (figures 4, 6)."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from convfc import plotting
from convfc.core.arrays import Array
from convfc.explanation.numbers import Explanation
from convfc.explanation.wording import (
    agreement_text,
    heading,
    product_name,
    rounding_text,
    sum_text,
)
from convfc.text.sizes import sizes_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS, COLUMNS = 200, 256
"""How much of a matrix is drawn; a row is then still two pixels high."""

WINDOWS = 1_000
"""How many windows are outlined in the input; more would hide it."""
TITLE = 85
"""How much of a layer's name is drawn."""

# Where things stand: left, bottom, width, height, in parts of the figure.
_TOP, _HIGH = 0.42, 0.41
_LOW, _SMALL = 0.13, 0.21
_INPUT = (0.03, _TOP, 0.24, _HIGH)
_P = (0.345, _TOP, 0.26, _HIGH)
_F = (0.665, _TOP, 0.115, _HIGH)
_Y = (0.85, _TOP, 0.115, _HIGH)
_WINDOW = (0.075, _LOW, 0.15, _SMALL)
_FILTER = (0.6475, _LOW, 0.15, _SMALL)
_OUTPUT = (0.8325, _LOW, 0.15, _SMALL)

_WINDOW_COLOUR, _FILTER_COLOUR, _CELL_COLOUR = plotting.RED, plotting.BLUE, plotting.GREEN
GREY: dict[str, Any] = {"cmap": "gray", "interpolation": "nearest"}
DASHED: dict[str, Any] = {"linewidth": 1.4, "linestyle": (0, (4, 3))}


def picture(explained: Explanation) -> Figure:
    """The input, P, F and the output, and what becomes of one window and one filter."""
    from matplotlib.patches import ConnectionPatch

    figure = plotting.new_figure(12, 8)
    figure.set_layout_engine("none")
    position, number = explained.most_telling
    positions, length = explained.patches.shape
    filters = explained.filters.shape[1]
    rows = range_around(position, positions, ROWS)
    columns = range(min(length, COLUMNS))
    shown = range_around(number, filters, COLUMNS)
    name = product_name(explained)
    padded = " and zeros around" if any(map(any, explained.pads)) else ""
    image = new_axes(figure, _INPUT, f"input {sizes_text(explained.image.shape, '×')}{padded}")
    _show_input(image, explained, position)
    p = new_axes(
        figure, _P, f"patch matrix P, {positions:,}×{length:,}", part(rows, positions, "rows")
    )
    p.imshow(explained.patches[rows.start : rows.stop, : len(columns)], **GREY, aspect="auto")
    f = new_axes(
        figure, _F, f"filter matrix F, {length:,}×{filters:,}", part(shown, filters, "columns")
    )
    largest_weight = largest_of(explained.filters)
    show_signed(f, explained.filters[: len(columns), shown.start : shown.stop], largest_weight)
    y = new_axes(figure, _Y, f"{name}, {positions:,}×{filters:,}", part(rows, positions, "rows"))
    largest = largest_of(explained.output)
    show_signed(y, explained.output[rows.start : rows.stop, shown.start : shown.stop], largest)
    p.set_xlabel(part(columns, length, "columns"), fontsize=10)
    f.set_xlabel(part(columns, length, "rows"), fontsize=10)
    # Away from the dashed line that follows the window's row.
    middle = _TOP + _HIGH * (0.3 if (position - rows.start) * 2 < len(rows) else 0.7)
    figure.text((_P[0] + _P[2] + _F[0]) / 2, middle, "·", ha="center", va="center", fontsize=30)
    equals = "=" if explained.bias is None else "+ b ="
    figure.text((_F[0] + _F[2] + _Y[0]) / 2, middle, equals, ha="center", va="center", fontsize=20)

    row, column = position - rows.start, number - shown.start
    frame(p, -0.5, row - 0.5, len(columns), 1, _WINDOW_COLOUR)
    frame(f, column - 0.5, -0.5, 1, len(columns), _FILTER_COLOUR)
    frame(y, column - 0.5, row - 0.5, 1, 1, _CELL_COLOUR)

    window = new_axes(figure, _WINDOW)
    channel = f"\nchannel 0 of {explained.depth:,}" if explained.depth > 1 else ""
    window.set_xlabel(f"window {position:,}: {_taps(explained)}{channel}", fontsize=11)
    window.imshow(explained.patch_image(position), **GREY)
    kernel = new_axes(figure, _FILTER)
    kernel.set_xlabel(f"filter {number:,}{channel}", fontsize=11)
    show_signed(kernel, explained.filter_image(number), largest_weight, aspect="equal")
    output = new_axes(figure, _OUTPUT)
    output.set_xlabel(
        f"column {number:,} of {name},\nreshaped: {sizes_text(explained.outputs, '×')}", fontsize=11
    )
    show_signed(output, explained.output_image(number), largest, aspect="equal")
    figure.text(
        (_WINDOW[0] + _WINDOW[2] + _FILTER[0]) / 2,
        _LOW + _SMALL / 2,
        _sum(explained, position, number),
        ha="center",
        va="center",
        fontsize=12,
        linespacing=1.5,
    )
    write_words(figure, explained)
    place = divmod(position, explained.outputs[1])
    frame(output, place[1] - 0.5, place[0] - 0.5, 1, 1, _CELL_COLOUR)
    for axes, colour in ((window, _WINDOW_COLOUR), (kernel, _FILTER_COLOUR)):
        outline(axes, colour)

    top, left = explained.corner(position)
    extents = [window_.extent for window_ in explained.convolution.windows]
    beside = (left + extents[1] - 0.5, top + extents[0] / 2 - 0.5)
    below = (left + extents[1] / 2 - 0.5, top + extents[0] - 0.5)
    for start, from_, end, to, colour in (
        (beside, image, (-0.5, row), p, _WINDOW_COLOUR),
        (below, image, (0.5, 1.0), window, _WINDOW_COLOUR),
        ((len(columns) - 0.5, row), p, (column - 0.5, row), y, _WINDOW_COLOUR),
        ((column, len(columns) - 0.5), f, (0.5, 1.0), kernel, _FILTER_COLOUR),
        ((column, row + 0.5), y, place[::-1], output, _CELL_COLOUR),
    ):
        figure.add_artist(
            ConnectionPatch(
                start,
                end,
                "data",
                "axes fraction" if to in (window, kernel) else "data",
                axesA=from_,
                axesB=to,
                color=colour,
                **DASHED,
            )
        )
    return figure


def write_words(figure: Figure, explained: Explanation) -> None:
    """The title, and below the picture what else one must know."""
    conv = explained.convolution
    title = explained.title or f"convolution {sizes_text(conv.kernel, '×')}, {conv.filters} filters"
    title = title if len(title) <= TITLE else f"{title[: TITLE - 1]}…"
    said = [
        f"{'image 0' if explained.others else 'input'}: {explained.description}",
        *explained.remarks,
        *([] if explained.others else [rounding_text(explained, "3 or 4")]),
        agreement_text(explained),
    ]
    foot = textwrap.fill(";  ".join(filter(None, said)), 160)
    for text in (
        figure.text(
            0.5, 0.975, f"{title}\n{heading(explained)}", ha="center", va="top", fontsize=16
        ),
        figure.text(0.5, 0.008, foot, ha="center", va="bottom", fontsize=9),
    ):
        text.set_parse_math(False)  # a $ in a name is a $


def _sum(explained: Explanation, position: int, number_: int) -> str:
    """How the number that is marked comes about."""
    lines = sum_text(explained, position, number_, 2)
    title = f"row {position:,} of P  ·  column {number_:,} of F"
    return "\n".join([title, *(textwrap.fill(line, 56) for line in lines)])


def _show_input(axes: Axes, explained: Explanation, position: int) -> None:
    """The first channel with its padding, all windows faint, unless too many, and one marked."""
    height, width, channels = explained.image.shape
    (top, bottom), (left, right) = explained.pads
    axes.imshow(explained.image[..., 0], **GREY)
    axes.set_xlim(-left - 0.7, width + right - 0.3)
    axes.set_ylim(height + bottom - 0.3, -top - 0.7)
    axes.set_facecolor("#dddddd")
    if channels > 1:
        axes.set_title(f"{axes.get_title()}\nchannel 0 of {channels:,}", fontsize=11)
    rows, columns = (window.extent for window in explained.convolution.windows)
    for n in range(len(explained.patches) if len(explained.patches) <= WINDOWS else 0):
        y, x = explained.corner(n)
        frame(axes, x - 0.5, y - 0.5, columns, rows, plotting.SKY, width=0.5)
    for y in range(0, rows, explained.convolution.windows[0].dilation):
        for x in range(0, columns, explained.convolution.windows[1].dilation):
            corner = explained.corner(position)
            frame(axes, corner[1] + x - 0.5, corner[0] + y - 0.5, 1, 1, _WINDOW_COLOUR, width=0.7)
    y, x = explained.corner(position)
    frame(axes, x - 0.5, y - 0.5, columns, rows, _WINDOW_COLOUR)


def largest_of(values: Array) -> float:
    """The largest magnitude, 1 if all is 0: what colours end at."""
    return float(np.nanmax(np.abs(values), initial=0)) or 1.0


def show_signed(
    axes: Axes, values: Array, largest: float, aspect: Literal["auto", "equal"] = "auto"
) -> None:
    """Zero is white; both signs have hues that colour-blind people can tell apart."""
    axes.imshow(values, "PuOr", vmin=-largest, vmax=largest, aspect=aspect, interpolation="nearest")


def new_axes(
    figure: Figure, where: tuple[float, float, float, float], title: str = "", remark: str = ""
) -> Axes:
    """A place to draw in, with what it is above it."""
    axes = figure.add_axes(where)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(visible=True, color=plotting.PALE)
    axes.set_title(f"{title}\n{remark}" if remark else title, fontsize=11)
    return axes


def outline(axes: Axes, colour: str) -> None:
    """Draw a border around all that is drawn in a place."""
    for spine in axes.spines.values():
        spine.set(visible=True, color=colour, linewidth=2.5)


def frame(
    axes: Axes, x: float, y: float, width_: float, height: float, colour: str, width: float = 2.5
) -> None:
    """Draw a rectangle around a part of what is drawn."""
    from matplotlib.patches import Rectangle

    axes.add_patch(
        Rectangle(
            (x, y), width_, height, fill=False, edgecolor=colour, linewidth=width, clip_on=False
        )
    )


def range_around(around: int, total: int, most: int) -> range:
    """As many as may be drawn, with one of them in it."""
    start = max(0, min(around - most // 2, total - most))
    return range(start, min(start + most, total))


def part(shown: range, total: int, what: str) -> str:
    """What is said where not all is drawn."""
    if len(shown) == total:
        return ""
    return f"{what} {shown.start:,} to {shown.stop - 1:,} of {total:,}"


def _taps(explained: Explanation) -> str:
    conv = explained.convolution
    dilations = tuple(window.dilation for window in conv.windows)
    apart = f", {sizes_text(dilations, '×')} apart" if max(dilations) > 1 else ""
    return f"{sizes_text(conv.kernel, '×')} taps{apart}"
