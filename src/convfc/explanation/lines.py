"""An explanation on the terminal: images in half blocks, matrices as tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.table import Table
from rich.text import Text

from convfc.core.arrays import Array
from convfc.explanation.numbers import Explanation
from convfc.explanation.wording import (
    agreement_text,
    number,
    product_name,
    rounding_text,
    sum_text,
)
from convfc.system.surroundings import undisturbed

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
_GAP = 3


@undisturbed()
def explanation_lines(explained: Explanation, colour: bool) -> list[Text | Table]:
    """The parts of an explanation, in the order in which one would tell it.

    Args:
        explained: the numbers.
        colour: whether the terminal has colours; images are shaded with characters if not.
    """
    outputs = explained.outputs
    positions, length = explained.patches.shape
    height, width, channels = explained.image.shape
    filters = explained.filters.shape[1]
    first = _first_with_ink(explained)
    shown = range(first, min(first + ROWS, positions))
    windows = [explained.patch_image(n) for n in range(min(positions, IMAGES))]
    kernels = [explained.filter_image(n) for n in range(min(filters, IMAGES))]
    results = [explained.output_image(n) for n in range(min(filters, IMAGES))]
    told: list[Text | Table] = [
        *map(_line, explained.remarks),
        _line(rounding_text(explained, "3 or 4")),
        _heading(
            f"The input, height × width × channels: {height}×{width}×{channels}",
            _channel(channels),
        ),
        image_text(explained.image[..., 0], colour),
        _heading(
            f"{positions:,} windows, in order",
            _part(positions, _fitting(windows), "windows"),
            _channel(explained.depth),
        ),
        _beside(windows, colour),
        _heading(
            f"The patch matrix P, {positions:,}×{length:,}: a window, at its first tap, is a row",
            _part(positions, ROWS, "rows", start=first),
        ),
        _matrix(
            explained.patches[shown.start : shown.stop],
            [_where(explained, n) for n in shown],
            "window at",
        ),
        _heading(
            f"The filter matrix F, {length:,}×{filters:,}: a filter is a column",
            _part(filters, _fitting(kernels), "filters"),
            _channel(explained.depth),
        ),
        _beside(kernels, colour),
        _matrix(
            explained.filters[:ROWS],
            [_tap(explained, n) for n in range(min(ROWS, length))],
            "tap" if explained.depth == 1 else "tap, channel",
        ),
        _heading(product_name(explained), _part(positions, ROWS, "rows", start=first)),
        _line(f"window at {_where(explained, first)} and filter 0:"),
        *(_line(f"  {line}") for line in sum_text(explained, first, 0, 3)),
        _matrix(
            explained.output[shown.start : shown.stop],
            [_where(explained, n) for n in shown],
            "window at",
        ),
        _heading(
            f"Each column of it, reshaped: {outputs[0]}×{outputs[1]}",
            _part(filters, _fitting(results), "filters"),
        ),
        _beside(results, colour),
        _line(f"input: {explained.description}"),
    ]
    agreed = agreement_text(explained)
    return [*told, _line(agreed)] if agreed else told


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


def _fitting(images: Sequence[Array]) -> int:
    """How many of some images, of one size, stand side by side."""
    step = _step(images[0])
    width = -(-int(images[0].shape[1]) // step)
    if step > 1:
        width = max(width, LABEL)
    return max(min(len(images), (WIDTH + _GAP) // (width + _GAP)), 1)


def _beside(images: Sequence[Array], colour: bool) -> Table:
    """As many images as fit, scaled alike."""
    images = images[: _fitting(images)]
    limits = _limits(np.stack(images))
    grid = Table.grid(padding=(0, _GAP))
    grid.add_row(*(image_text(image, colour, limits) for image in images))
    return grid


def _matrix(rows: Array, names: Sequence[str], title: str) -> Table:
    """The first numbers of some rows, as many as fit."""
    columns = rows.shape[1]
    texts = [[number(value, 3) for value in row[:COLUMNS]] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    more = f"… {columns:,}"
    left = WIDTH - (max(map(len, [title, *names])) + 4) - (len(more) + 3)
    fitting = int(np.searchsorted(np.cumsum(np.array(widths) + 3), left, side="right"))
    table = Table(title_justify="left")
    table.add_column(title)
    for column in range(min(fitting, columns)):
        table.add_column(str(column), justify="right")
    if columns > fitting:
        table.add_column(more, justify="right")
    rest = ["…"] if columns > fitting else []
    for name, row in zip(names, texts, strict=True):
        table.add_row(name, *row[:fitting], *rest)
    return table


def _first_with_ink(explained: Explanation) -> int:
    """The first window that is not all alike: black corners teach nothing."""
    varied = np.ptp(explained.patches, axis=1) > 0
    return int(varied.argmax())


def _where(explained: Explanation, position: int) -> str:
    row, column = explained.corner(position)
    return f"{row}, {column}"


def _tap(explained: Explanation, row: int) -> str:
    """What a row of F belongs to: row and column of its tap in the window, and its channel."""
    tap, channel = divmod(row, explained.depth)
    place = divmod(tap, explained.convolution.kernel[1])
    return ", ".join(map(str, place if explained.depth == 1 else (*place, channel)))


def _part(total: int, shown: int, what: str, start: int = 0) -> str:
    if total <= shown:
        return ""
    if start:
        return f"({what} {start:,} to {min(start + shown, total) - 1:,} of {total:,})"
    return f"(the first {f'{shown} ' * (shown > 1)}of {total:,} {what})"


def _channel(channels: int) -> str:
    return f"(the first of {channels:,} channels)" if channels > 1 else ""


def _heading(text: str, *remarks: str) -> Text:
    return Text.assemble((text, "bold"), *(f" {remark}" for remark in remarks if remark))


def _line(text: str) -> Text:
    return Text(text)
