"""The sizes of a model's convolutions: as a table for people, as rows for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from convfc.cli.tables import (
    DENSE,
    DENSE_LEGEND,
    PATCHES_LEGEND,
    count_text,
    dense_cells,
    geometry_cells,
    left_lines,
    matrices_text,
    memory_text,
    patch_memory,
)
from convfc.core.geometry import AnyConvolution, Same
from convfc.core.lowering import Lowering
from convfc.core.whole import Form
from convfc.text.sizes import sizes_text
from convfc.text.visible import visible
from convfc.text.words import Words, words

if TYPE_CHECKING:  # who calculates one layer's sizes need not wait for the rest
    from rich.text import Text

    from convfc.planning import Layer, ModelShapes, Totals


def shapes_parts(shapes: ModelShapes) -> Iterator[Words | str]:
    """The table, and why layers are left."""
    yield shapes_table(shapes)
    yield from left_lines(layer.refusal for layer in shapes)


def shapes_table(shapes: ModelShapes) -> Words:
    """A row per convolution, and one of the totals: what both forms take, or sizes and costs."""
    return _dense_table(shapes) if shapes.form is Form.DENSE else _patches_table(shapes)


def _patches_table(shapes: ModelShapes) -> Words:
    table = Words(shapes.model.name, PATCHES_LEGEND)
    for name in ("layer", "convolution", "input → output", "patches", "P · F"):
        table.add_column(name)
    for name in ("weights", "multiply-adds", "input", "patch memory"):
        table.add_column(name, justify="right")
    for layer, last in _with_end(shapes):
        conv, lowering = layer.site.convolution, layer.lowering
        if conv is None or lowering is None:
            table.add_row(*_left(layer), end_section=last)
            continue
        table.add_row(
            *geometry_cells(layer),
            lowering.method.value,
            matrices_text(lowering),
            f"{conv.weights:,}",
            count_text(conv.multiply_adds(lowering.sizes)),
            memory_text(lowering.input_bytes(layer.site.itemsize)),
            patch_memory(lowering, layer.site.itemsize),
            end_section=last,
        )
    totals = shapes.totals
    weights, products = f"{totals.weights:,}", count_text(totals.multiply_adds)
    empty = [""] * 3
    table.add_row(*_total(totals), *empty, weights, products, "", memory_text(totals.patch_bytes))
    return table


def _dense_table(shapes: ModelShapes) -> Words:
    table = Words(shapes.model.name, DENSE_LEGEND)
    for name in ("layer", "convolution", "input → output", "P", *DENSE):
        table.add_column(name)
    for layer, last in _with_end(shapes):
        if layer.lowering is None:
            table.add_row(*_left(layer), end_section=last)
            continue
        rows, columns = layer.lowering.patch_matrix
        rows_ = f"{count_text(rows)}×{columns}"
        table.add_row(*geometry_cells(layer), rows_, *dense_cells(layer), end_section=last)
    totals = shapes.totals
    table.add_row(*_total(totals), "", "", "", memory_text(totals.matrix_bytes))
    return table


def _with_end(shapes: ModelShapes) -> Iterable[tuple[Layer, bool]]:
    """Each layer, and whether it is the last one."""
    return ((layer, number == len(shapes)) for number, layer in enumerate(shapes, 1))


def _left(layer: Layer) -> tuple[str | Text, ...]:
    return *geometry_cells(layer), words(f"left: {layer.reason}", "red")


def _total(totals: Totals) -> tuple[str, str]:
    """The total's own cells: what it is of."""
    return "total", f"{totals.layers} of {totals.layers + totals.left} layers"


COLUMNS = (
    *("layer", "kind", "dtype", "kernel", "stride", "dilation", "padding", "groups"),
    *("input", "channels", "output", "filters", "patches", "rows", "k", "o"),
    *("weights", "multiply_adds", "input_bytes", "patch_bytes", "block_bytes"),
    *("matrix_rows", "matrix_columns", "matrix_bytes", "matrix_nonzero", "left"),
)
"""Of the rows for programs; new ones come behind these."""


def shapes_csv(shapes: Iterable[Layer]) -> str:
    """A line per convolution, for programs; totals are theirs to find.

    What is unknown is empty. P is rows x k (of each group), F k x o.
    """
    return _csv(_layer_row(layer) for layer in shapes)


def lowering_csv(lowering: Lowering, left: str | None) -> str:
    """The same of one convolution without a model, in float32.

    Args:
        lowering: how it would be converted.
        left: why no model would get it.
    """
    cells = _lowering_cells(lowering, itemsize=4)
    return _csv([{"dtype": "float32", **cells, "left": left or ""}])


def _csv(rows: Iterable[Mapping[str, object]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _layer_row(layer: Layer) -> Mapping[str, object]:
    site = layer.site
    row: dict[str, object] = {
        "layer": visible(site.name),
        "kind": site.kind,
        "dtype": site.dtype,
        "left": visible(layer.reason or ""),
    }
    if layer.lowering is not None:
        return row | _lowering_cells(layer.lowering, site.itemsize)
    if site.convolution is not None:
        row |= {**_geometry(site.convolution), "input": sizes_text(site.sizes)}
    return row


def _lowering_cells(lowering: Lowering, itemsize: int) -> dict[str, object]:
    conv, whole = lowering.convolution, lowering.whole
    rows, columns = lowering.patch_matrix
    cells: dict[str, object] = {
        **_geometry(conv),
        "input": sizes_text(lowering.sizes),
        "output": sizes_text(lowering.output),
        "patches": lowering.method.value,
        "rows": rows,
        "k": columns // lowering.inner.groups,
        "o": lowering.filter_matrix[1],
        "weights": conv.weights,
        "multiply_adds": conv.multiply_adds(lowering.sizes),
        "input_bytes": lowering.input_bytes(itemsize),
        "patch_bytes": lowering.patch_bytes(itemsize),
        "block_bytes": lowering.block_bytes(itemsize),
    }
    if whole is not None:
        cells["matrix_rows"], cells["matrix_columns"] = whole.shape
        cells["matrix_bytes"], cells["matrix_nonzero"] = whole.bytes(itemsize), whole.weights
    return cells


def _geometry(conv: AnyConvolution) -> dict[str, object]:
    """What a convolution is, each part as its option takes it."""
    pads = [window.padding for window in conv.windows]
    ends = [str(end) for pad in pads if not isinstance(pad, Same) for end in pad]
    rules = [pad.value for pad in pads if isinstance(pad, Same)]
    return {
        "kernel": sizes_text(conv.kernel),
        "stride": sizes_text([window.stride for window in conv.windows]),
        "dilation": sizes_text([window.dilation for window in conv.windows]),
        "padding": rules[0] if rules else ",".join(ends),
        "groups": conv.groups,
        "channels": conv.channels,
        "filters": conv.filters,
    }
