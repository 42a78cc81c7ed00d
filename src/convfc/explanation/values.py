"""An explanation in numbers: one window and filter, Algorithm 1, equation 8."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from convfc.core.arrays import Array
from convfc.core.geometry import Window
from convfc.explanation.numbers import Explanation
from convfc.explanation.pieces import (
    COLUMNS,
    ROWS,
    WIDTH,
    channel,
    heading,
    line,
    matrix,
    part,
    short,
    where,
)
from convfc.explanation.wording import (
    agreement_text,
    batch_text,
    product_name,
    rounding_text,
    sum_text,
)
from convfc.system.surroundings import undisturbed
from convfc.text.sizes import sizes_text

_GAP = 3
_WHOLE = 9
"""A sum of so many products is written down whole."""


@undisturbed()
def value_lines(explained: Explanation) -> list[Text | Table]:
    """What happens to the numbers, step by step.

    Two sections follow a window and a filter through what layers compute and through what
    mathematics calls convolution; two build the patch matrix, once by copying windows (Algorithm 1)
    and once by an index map (equation 8).
    """
    window, _ = explained.most_telling
    first = min(window, max(len(explained.patches) - ROWS, 0))
    said = [
        *explained.remarks,
        batch_text(explained),
        rounding_text(explained, "3 or 4"),
        agreement_text(explained),
    ]
    return [
        *_both_ways(explained, window),
        *_algorithm(explained, first),
        *_index_map(explained, first),
        *map(line, filter(None, said)),
        line(f"input: {explained.description}"),
    ]


def _both_ways(explained: Explanation, window: int) -> list[Text | Table]:
    """A window, a filter and the filter flipped; what both make of it (equations 1 to 3)."""
    kernel, flipped = explained.convolution.kernel, explained.flipped
    ends = [f"{taps - 1} - {tap}" for taps, tap in zip(kernel, "ij", strict=True)]
    # One that is not its own mirror image, if there is one.
    number = int((explained.filters != flipped.filters).any(axis=0).argmax())
    count = _WHOLE if len(explained.filters) <= _WHOLE else 3
    outputs = sizes_text(explained.outputs, "×")
    name = product_name(explained)
    return [
        heading(
            f"One window, one filter: {sizes_text(kernel, '×')} taps (figure 2)",
            channel(explained.depth),
        ),
        _side_by_side(
            {
                f"window at {where(explained, window)}": explained.patch_image(window),
                f"filter {number}": explained.filter_image(number),
                "flipped": flipped.filter_image(number),
            }
        ),
        line(
            f"u, v: {outputs} places of the output; i, j: {sizes_text(kernel, '×')} taps"
            + f"; c: {explained.depth:,} channels" * (explained.depth > 1)
        ),
        heading("What layers compute: a cross-correlation (equation 3)"),
        line(f"  {_sum(explained, 'ij')}"),
        *(line(f"  {text}") for text in sum_text(explained, window, number, count)),
        heading("What mathematics calls convolution: the filter is flipped first"),
        line("(equation 2; equation 1 is the same with an integral)"),
        line(f"  {_sum(explained, ends)}"),
        *(line(f"  {text}") for text in sum_text(flipped, window, number, count)),
        heading(f"Both, for all windows: {name}, filter {number}, {outputs}"),
        _side_by_side(
            {
                "what layers compute": explained.output_image(number),
                "with the flipped filter": flipped.output_image(number),
            }
        ),
        line("a layer with its filters flipped would compute the other"),
    ]


def _sum(explained: Explanation, tap: Iterable[str]) -> str:
    """The sum that makes a number of the output, with the layer's own sizes."""
    c = [] if explained.depth == 1 else ["c"]
    x, w = ", ".join([*_places(explained, "uv", "ij"), *c]), ", ".join([*tap, *c])
    return f"y[u, v] = sum of x[{x}] · w[{w}]" + " + b" * (explained.bias is not None)


def _places(explained: Explanation, outputs: str, taps: str) -> list[str]:
    """Along each axis, what a tap sees at a place of the output: `2u + 3i - 1`."""
    axes = zip(outputs, taps, explained.convolution.windows, explained.pads, strict=True)
    return [_place(output, tap, window, before) for output, tap, window, (before, _) in axes]


def _place(output: str, tap: str, window: Window, before: int) -> str:
    text = f"{_times(window.stride, output)} + {_times(window.dilation, tap)}"
    return f"{text} - {before}" if before else text


def _times(factor: int, name: str) -> str:
    return name if factor == 1 else f"{factor}{name}"


def _algorithm(explained: Explanation, first: int) -> list[Text | Table]:
    """How P comes about, a window at a time."""
    conv, outputs = explained.convolution, explained.outputs
    positions, length = explained.patches.shape
    shown = range(first, min(first + ROWS, positions))
    height, width, _ = explained.image.shape
    padded = [size + sum(pads) for size, pads in zip((height, width), explained.pads, strict=True)]
    zeros = "no zeros around it"
    if any(map(any, explained.pads)):
        (top, bottom), (left, right) = explained.pads
        zeros = (
            f"rows of zeros: {top} above, {bottom} below; columns: {left} left, {right} right; "
            f"that makes {sizes_text(padded, '×')}"
        )
    strides = sizes_text([window.stride for window in conv.windows], "×")
    channels = "" if explained.depth == 1 else f", at each its {explained.depth:,} channels"
    table = Table(title_justify="left")
    for name in ("row of P", "output at", "window: rows", "columns", "written"):
        table.add_column(name, justify="right" if name == "row of P" else "left")
    for position in shown:
        numbers = [short(value) for value in explained.patches[position][:COLUMNS]]
        seen = [
            _seen(start, window)
            for start, window in zip(explained.corner(position), conv.windows, strict=True)
        ]
        at = ", ".join(map(str, divmod(position, outputs[1])))
        table.add_row(f"{position:,}", at, *seen, _as_fit(numbers, length))
    return [
        heading(
            f"Algorithm 1: the patch matrix P, {positions:,}×{length:,}, window by window",
            part(positions, ROWS, "rows", start=first),
        ),
        line(f"  1. the image, {height}×{width}: {zeros}"),
        line(
            f"  2. a window of {sizes_text(conv.kernel, '×')} taps goes over it, row by row, in "
            f"steps of {strides}: {sizes_text(outputs, '×')} places"
        ),
        line(f"  3. at each, its taps are read row by row{channels}: {length:,} numbers"),
        line("  4. they are written down as the next row of P"),
        table,
    ]


def _seen(start: int, window: Window) -> str:
    """What a window sees of an axis; a number below 0 is in the padding."""
    if window.kernel == 1:
        return str(start)
    steps = f" by {window.dilation}" if window.dilation > 1 else ""
    return f"{start} to {start + window.extent - 1}{steps}"


def _as_fit(numbers: Sequence[str], length: int) -> str:
    """The first numbers of a row of P."""
    fitting, room = [], 22
    for text in numbers:
        room -= len(text) + 1
        if room < 0:
            break
        fitting.append(text)
    return " ".join([*fitting, *(["…"] if len(fitting) < length else [])])


def _index_map(explained: Explanation, first: int) -> list[Text | Table]:
    """Where each number of P is found in the flattened image."""
    conv, positions = explained.convolution, len(explained.patches)
    shown = range(first, min(first + ROWS, positions))
    _, width, channels = explained.image.shape
    row, column = _places(explained, "uv", "ij")
    place, tap = f"({row}) · {width} + {column}", _times_of(conv.kernel[1], "i", "j")
    if channels > 1:
        place = f"({place}) · {channels}"
    if explained.depth > 1:
        place, tap = f"{place} + c", f"({tap}) · {explained.depth} + c"
    return [
        heading(
            "Equation 8, the index map: P[r, k] = x[I(r, k)], x being the flattened image",
            part(positions, ROWS, "rows", start=first),
        ),
        line(f"  r = {_times_of(explained.outputs[1], 'u', 'v')},  k = {tap}"),
        line(f"  I(r, k) = {place}"),
        *(
            [line("  pad: the place is outside of the image, the number is 0")]
            if any(map(any, explained.pads))
            else []
        ),
        matrix(
            explained.index_map[shown.start : shown.stop],
            [f"{position:,}" for position in shown],
            "row of P",
            text=_index,
        ),
    ]


def _times_of(size: int, outer: str, inner: str) -> str:
    return f"{outer} · {size} + {inner}"


def _index(value: Any) -> str:  # noqa: ANN401 - a number of any type
    return "pad" if value < 0 else f"{value:,}"


def _side_by_side(blocks: dict[str, Array]) -> Table:
    """Arrays of numbers, each below its name; of large ones the corner."""
    room = (WIDTH - _GAP * (len(blocks) - 1)) // len(blocks)
    grid = Table.grid(padding=(0, _GAP))
    grid.add_row(*(_block(name, values, room) for name, values in blocks.items()))
    return grid


def _block(name: str, values: Array, room: int) -> Text:
    height, width = values.shape
    texts = [[short(value) for value in row[:COLUMNS]] for row in values[:ROWS]]
    cell = max(len(text) for row in texts for text in row) + 1
    fitting = max(min(width, COLUMNS, (room - 2 * (width > COLUMNS)) // cell), 1)
    if fitting < width:
        fitting = max(min(fitting, (room - 2) // cell), 1)
    rows = ["".join(f"{text:>{cell}}" for text in row[:fitting]) for row in texts]
    more = " …" if fitting < width else ""
    said = [name, *(f"{row}{more}" for row in rows)]
    if more or height > len(rows):
        said.append(f"({len(rows)}×{fitting} of {height}×{width})")
    return Text("\n".join(said))
