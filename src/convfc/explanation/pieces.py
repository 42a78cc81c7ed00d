"""What an explanation on the terminal is made of: images in half blocks, tables, headings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from convfc.core.arrays import Array
from convfc.explanation.numbers import Explanation
from convfc.explanation.wording import number

ROWS, COLUMNS = 6, 8
"""How much of a matrix is printed."""
IMAGES = 4
"""How many images are printed side by side, at most."""
WIDTH = 80
"""Columns of the narrowest terminal that shows all of it."""
PIXELS = 56
"""The longest side of an image that is printed whole."""

LABEL = 36
"""Columns of what is said below an image of which not every pixel is printed."""

_SHADES = " ░▒▓█"
_EVEN = (0.15, 0.85)
"""The shades of an image without any contrast: in black or white, a terminal of that colour would
hide it."""
_GAP = 3


def image_text(pixels: Array, colour: bool, limits: tuple[float, float] | None = None) -> Text:
    """An image in characters, two pixels high each.

    Args:
        pixels: (height, width).
        colour: in shades of grey; else in five characters that are more or less black.
        limits: the values that are darkest and brightest; the image's own if left out.
    """
    height, width = pixels.shape
    step = _step(pixels)
    shown = _scaled(pixels[::step, ::step], limits or _limits(pixels))
    if colour and np.ptp(shown) == 0:
        shown = shown.clip(*_EVEN)
    if len(shown) % 2:
        shown = np.concatenate([shown, shown[-1:]])
    text = Text()
    for upper, lower in zip(shown[::2], shown[1::2], strict=True):
        for top, bottom in zip(upper, lower, strict=True):
            if colour:
                text.append("▀", f"{_grey(top)} on {_grey(bottom)}")
            else:
                text.append(_SHADES[round((top + bottom) / 2 * (len(_SHADES) - 1))])
        text.append("\n")
    if step > 1:
        text.append(f"({height}×{width}, one row and column in {step})\n")
    return text


def _step(pixels: Array) -> int:
    return -(-int(max(pixels.shape)) // PIXELS)


def _limits(pixels: Array) -> tuple[float, float]:
    finite = pixels[np.isfinite(pixels)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _scaled(pixels: Array, limits: tuple[float, float]) -> Array:
    """From 0 to 1."""
    low, high = limits
    if low == high:
        low -= 1  # all alike: bright, unless it is nothing at all
        if not high:
            return np.zeros(pixels.shape)
    return np.clip(np.nan_to_num((pixels.astype(np.float64) - low) / (high - low)), 0, 1)


def _grey(value: float) -> str:
    level = round(value * 255)
    return f"rgb({level},{level},{level})"


def fitting(images: Sequence[Array]) -> int:
    """How many of some images, of one size, stand side by side."""
    step = _step(images[0])
    width = -(-int(images[0].shape[1]) // step)
    if step > 1:
        width = max(width, LABEL)
    return max(min(len(images), (WIDTH + _GAP) // (width + _GAP)), 1)


def beside(images: Sequence[Array], colour: bool) -> Table:
    """As many images as fit, scaled alike."""
    images = images[: fitting(images)]
    limits = _limits(np.stack(images))
    grid = Table.grid(padding=(0, _GAP))
    grid.add_row(*(image_text(image, colour, limits) for image in images))
    return grid


def short(value: Any) -> str:  # noqa: ANN401 - a number of any type
    """A number, as tables have it."""
    return number(value, 3)


def matrix(
    rows: Array,
    names: Sequence[str],
    title: str,
    *,
    columns: int = 0,
    heads: Sequence[str] = (),
    text: Callable[[Any], str] = short,
) -> Table:
    """The first numbers of some rows, as many as fit.

    Args:
        rows: of a matrix.
        names: of the rows.
        title: what the names are.
        columns: how many there are, if `rows` has not all of them.
        heads: of the columns; their numbers if left out.
        text: how a number is written.
    """
    columns = columns or rows.shape[1]
    texts = [[text(value) for value in row[:COLUMNS]] for row in rows]
    heads = heads or [str(column) for column in range(len(texts[0]))]
    widths = [max(map(len, column)) for column in zip(heads, *texts, strict=True)]
    more = f"… {columns:,}"
    left = WIDTH - (max(map(len, [title, *names])) + 4) - (len(more) + 3)
    fitting = int(np.searchsorted(np.cumsum(np.array(widths) + 3), left, side="right"))
    table = Table(title_justify="left")
    table.add_column(title)
    for head in heads[:fitting]:
        table.add_column(head, justify="right")
    if columns > fitting:
        table.add_column(more, justify="right")
    rest = ["…"] if columns > fitting else []
    for name, row in zip(names, texts, strict=True):
        table.add_row(name, *row[:fitting], *rest)
    return table


def first_with_ink(explained: Explanation) -> int:
    """The first window that is not all alike: black corners teach nothing."""
    varied = np.ptp(explained.patches, axis=1) > 0
    return int(varied.argmax())


def where(explained: Explanation, position: int) -> str:
    """Row and column of a window's first tap."""
    row, column = explained.corner(position)
    return f"{row}, {column}"


def tap(explained: Explanation, row: int) -> str:
    """What a row of F belongs to: row and column of its tap in the window, and its channel."""
    tap, channel = divmod(row, explained.depth)
    place = divmod(tap, explained.convolution.kernel[1])
    return ", ".join(map(str, place if explained.depth == 1 else (*place, channel)))


def part(total: int, shown: int, what: str, start: int = 0) -> str:
    """What is said where not all is shown."""
    if total <= shown:
        return ""
    if start:
        return f"({what} {start:,} to {min(start + shown, total) - 1:,} of {total:,})"
    return f"(the first {f'{shown} ' * (shown > 1)}of {total:,} {what})"


def channel(channels: int) -> str:
    """What is said where one of several channels is shown."""
    return f"(the first of {channels:,} channels)" if channels > 1 else ""


def heading(text: str, *remarks: str) -> Text:
    """The beginning of a section."""
    return Text.assemble((text, "bold"), *(f" {remark}" for remark in remarks if remark))


def line(text: str) -> Text:
    """A text as it is."""
    return Text(text)
