"""An explanation on the terminal: images in half blocks, matrices as tables."""

from __future__ import annotations

import numpy as np
from rich.table import Table
from rich.text import Text

from convfc.explanation.numbers import Explanation
from convfc.explanation.pieces import (
    COLUMNS,
    IMAGES,
    ROWS,
    beside,
    channel,
    first_with_ink,
    fitting,
    heading,
    image_text,
    line,
    matrix,
    part,
    tap,
    where,
)
from convfc.explanation.wording import agreement_text, product_name, rounding_text, sum_text
from convfc.system.surroundings import undisturbed


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
    first = first_with_ink(explained)
    shown = range(first, min(first + ROWS, positions))
    windows = [explained.patch_image(n) for n in range(min(positions, IMAGES))]
    kernels = [explained.filter_image(n) for n in range(min(filters, IMAGES))]
    results = [explained.output_image(n) for n in range(min(filters, IMAGES))]
    told: list[Text | Table] = [
        *map(line, explained.remarks),
        line(rounding_text(explained, "3 or 4")),
        heading(
            f"The input, height × width × channels: {height}×{width}×{channels}",
            channel(channels),
        ),
        image_text(explained.image[..., 0], colour),
        heading(
            f"{positions:,} windows, in order",
            part(positions, fitting(windows), "windows"),
            channel(explained.depth),
        ),
        beside(windows, colour),
        heading(
            f"The patch matrix P, {positions:,}×{length:,}: a window, at its first tap, is a row",
            part(positions, ROWS, "rows", start=first),
        ),
        matrix(
            explained.patches[shown.start : shown.stop],
            [where(explained, n) for n in shown],
            "window at",
        ),
        heading(
            f"The filter matrix F, {length:,}×{filters:,}: a filter is a column",
            part(filters, fitting(kernels), "filters"),
            channel(explained.depth),
        ),
        beside(kernels, colour),
        matrix(
            explained.filters[:ROWS],
            [tap(explained, n) for n in range(min(ROWS, length))],
            "tap" if explained.depth == 1 else "tap, channel",
        ),
        heading(product_name(explained), part(positions, ROWS, "rows", start=first)),
        line(f"window at {where(explained, first)} and filter 0:"),
        *(line(f"  {text}") for text in sum_text(explained, first, 0, 3)),
        matrix(
            explained.output[shown.start : shown.stop],
            [where(explained, n) for n in shown],
            "window at",
        ),
        heading(
            f"Each column of it, reshaped: {outputs[0]}×{outputs[1]}",
            part(filters, fitting(results), "filters"),
        ),
        beside(results, colour),
        *_fully_connected(explained),
        *_batch(explained, first, colour),
        line(f"input: {explained.description}"),
    ]
    agreed = agreement_text(explained)
    return [*told, line(agreed)] if agreed else told


def _fully_connected(explained: Explanation) -> list[Text | Table]:
    """The layer as figure 1 has it: the whole image is one row, and one matrix makes the output."""
    pixels, outputs = explained.image.size, explained.output.size
    if explained.patches.shape == (1, pixels):
        return [
            heading("One window is the whole image: this is a fully connected layer (figure 1)"),
            line(f"P is the image as one row, 1×{pixels:,}, and F has a column for each output"),
        ]
    width = explained.filters.shape[1]
    rows, columns = range(min(ROWS, pixels)), range(min(COLUMNS, outputs))
    shape = explained.image.shape[: 3 if explained.image.shape[2] > 1 else 2]
    places = [np.unravel_index(pixel, shape) for pixel in rows]
    name = product_name(explained).replace("P · F", "x · M")
    return [
        heading(f"The same as one fully connected layer (figure 1): {name}, 1×{outputs:,}"),
        line(
            f"x is the image as one row, 1×{pixels:,}; M, {pixels:,}×{outputs:,}, has a column for "
            "each window/filter: the filter where the window lies, 0 elsewhere"
        ),
        matrix(
            explained.dense_part(rows, columns),
            [", ".join(map(str, place)) for place in places],
            ", ".join(["row", "column", "channel"][: len(shape)]),
            columns=outputs,
            heads=[f"{column // width}/{column % width}" for column in columns],
        ),
    ]


def _batch(explained: Explanation, first: int, colour: bool) -> list[Text | Table]:
    """Several images: each has a block of rows, and all meet the same F (figure 5)."""
    count, (positions, length) = len(explained.batch), explained.patches.shape
    if count == 1:
        return []
    filters = explained.filters.shape[1]
    shown = explained.batch[:ROWS]
    names = [f"{n}, {n * positions + first:,}" for n in range(len(shown))]
    images = [one.image[..., 0] for one in shown]
    return [
        heading(
            f"A batch of {count:,} images (figure 5): {positions:,} rows of P for each",
            part(count, fitting(images), "images"),
            channel(explained.image.shape[2]),
        ),
        beside(images, colour),
        heading(f"Its P, {count * positions:,}×{length:,}", part(count, len(shown), "images")),
        matrix(np.stack([one.patches[first] for one in shown]), names, "image, row"),
        heading(f"{product_name(explained)}, {count * positions:,}×{filters:,}, with the same F"),
        matrix(np.stack([one.output[first] for one in shown]), names, "image, row"),
    ]
