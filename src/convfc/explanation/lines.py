"""An explanation on the terminal: images in half blocks, matrices as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table
from rich.text import Text

from convfc.explanation.numbers import Array, Explanation

if TYPE_CHECKING:
    from rich.console import RenderableType

ROWS, COLUMNS = 6, 8
"""How much of a matrix is printed."""
PIXELS = 56
"""The longest side of an image that is printed whole."""

_SHADES = " ░▒▓█"


def explanation_lines(explained: Explanation, colour: bool) -> list[RenderableType]:
    """The parts of an explanation, in the order in which one would tell it.

    Args:
        explained: the numbers.
        colour: whether the terminal has colours; images are shaded with characters if not.
    """
    conv, outputs = explained.convolution, explained.outputs
    positions, length = explained.patches.shape
    height, width, channels = explained.image.shape
    filters = explained.filters.shape[1]
    first = _first_with_ink(explained)
    told: list[RenderableType] = []
    if conv.groups > 1:
        told.append(_line(f"{conv.groups} blocks of channels, each on its own: this is the first"))
    told += [
        _heading(f"The input: {height}×{width}×{channels}", _channel(channels)),
        image_text(explained.image[..., 0], colour),
        _heading(f"{positions:,} windows, in order", _part(positions, 4, "windows")),
        _beside([explained.patch_image(n) for n in range(min(positions, 4))], colour),
        _heading(
            f"The patch matrix P, {positions:,}×{length:,}: a window is a row",
            _part(positions, ROWS, "rows", start=first),
        ),
        _matrix(
            explained.patches[first : first + ROWS],
            [_where(explained, first + n) for n in range(min(ROWS, positions - first))],
            "window at",
        ),
        _heading(
            f"The filter matrix F, {length:,}×{filters:,}: a filter is a column",
            _part(filters, 4, "filters"),
        ),
        _beside([explained.filter_image(n) for n in range(min(filters, 4))], colour),
        _matrix(explained.filters[:ROWS], [f"tap {n}" for n in range(min(ROWS, length))], ""),
        _heading("P · F" + (" + b" if explained.bias is not None else ""), ""),
        _line(_sum(explained, first)),
        _matrix(
            explained.output[first : first + ROWS],
            [_where(explained, first + n) for n in range(min(ROWS, positions - first))],
            "window at",
        ),
        _heading(
            f"Each column of it, reshaped: {outputs[0]}×{outputs[1]}", _part(filters, 4, "filters")
        ),
        _beside([explained.output_image(n) for n in range(min(filters, 4))], colour),
        _line(f"image: {explained.said}"),
    ]
    if explained.difference is not None:
        told.append(
            _line(
                "the layer's own output and P · F in double precision differ by at most "
                f"{explained.difference:.1e}"
            )
        )
    return told


def image_text(pixels: Array, colour: bool, limits: tuple[float, float] | None = None) -> Text:
    """An image in characters, two pixels high each.

    Args:
        pixels: (height, width).
        colour: in shades of grey; else in five characters that are more or less black.
        limits: the values that are darkest and brightest; the image's own if left out.
    """
    height, width = pixels.shape
    step = -(-max(height, width) // PIXELS)
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
        text.append(f"(every {step}th pixel of {height}×{width})\n")
    return text


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


def _beside(images: Sequence[Array], colour: bool) -> Table:
    """Images that are scaled alike."""
    limits = _limits(np.stack(images))
    grid = Table.grid(padding=(0, 3))
    grid.add_row(*(image_text(image, colour, limits) for image in images))
    return grid


def _matrix(rows: Array, names: Sequence[str], title: str) -> Table:
    """The first numbers of some rows."""
    columns = rows.shape[1]
    table = Table(title_justify="left")
    table.add_column(title)
    for column in range(min(columns, COLUMNS)):
        table.add_column(str(column), justify="right")
    if columns > COLUMNS:
        table.add_column(f"… {columns:,}", justify="right")
    more = ["…"] if columns > COLUMNS else []
    for name, row in zip(names, rows, strict=True):
        table.add_row(name, *(f"{value:.3g}" for value in row[:COLUMNS]), *more)
    return table


def _sum(explained: Explanation, position: int) -> str:
    """The largest products of one number of the output, and what they add up to."""
    row, column = explained.patches[position], explained.filters[:, 0]
    largest = np.argsort(-np.abs(row * column), kind="stable")[:3]
    products = " + ".join(f"{row[tap]:.3g} · {column[tap]:.3g}" for tap in np.sort(largest))
    rest = " + …" if len(row) > len(largest) else ""
    bias = "" if explained.bias is None else f" + {explained.bias[0]:.3g}"
    return (
        f"window at {_where(explained, position)}, filter 0: "
        f"{products}{rest}{bias} = {explained.output[position, 0]:.4g}"
    )


def _first_with_ink(explained: Explanation) -> int:
    """The first window that is not all alike: black corners teach nothing."""
    varied = np.ptp(explained.patches, axis=1) > 0
    return int(varied.argmax())


def _where(explained: Explanation, position: int) -> str:
    row, column = explained.corner(position)
    return f"{row}, {column}"


def _part(total: int, shown: int, what: str, start: int = 0) -> str:
    if total <= shown:
        return ""
    if start:
        return f"({what} {start:,} to {min(start + shown, total) - 1:,} of {total:,})"
    return f"(the first {shown} of {total:,} {what})"


def _channel(channels: int) -> str:
    return f"(the first of {channels:,} channels)" if channels > 1 else ""


def _heading(text: str, remark: str) -> Text:
    return Text.assemble((text, "bold"), f" {remark}" if remark else "")


def _line(text: str) -> Text:
    return Text(text)
