"""The command `shapes`: sizes of a model's convolutions, or of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convfc.cli import terminal
from convfc.cli.options import (
    MODEL,
    Debug,
    Dilation,
    Imports,
    Json,
    Kernel,
    Padding,
    PatchMemory,
    Stride,
)
from convfc.core.figures import Order
from convfc.core.lowering import PatchMethod
from convfc.core.whole import Form
from convfc.text.jsontext import json_text
from convfc.text.visible import visible

if TYPE_CHECKING:
    from convfc.core.geometry import Convolution, Sizes
    from convfc.text.words import Words


class Layout(StrEnum):
    """How sizes are printed."""

    TABLE = "table"
    CSV = "csv"
    MARKDOWN = "markdown"
    JSON = "json"


def shapes(
    model: Annotated[
        Path | None,
        typer.Argument(metavar="MODEL", help=MODEL),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--input", metavar="HxWxC", help="Input size, channels last: 28x28x1."),
    ] = None,
    kernel: Kernel = None,
    stride: Stride = "1",
    dilation: Dilation = "1",
    padding: Padding = "valid",
    filters: Annotated[int, typer.Option(metavar="N", min=1, help="Number of filters.")] = 1,
    patch_memory: PatchMemory = None,
    form: Annotated[
        Form, typer.Option(help="With MODEL: sizes as patches, or as one matrix each.")
    ] = Form.PATCHES,
    sort: Annotated[
        Order | None,
        typer.Option(help="With MODEL: by name, or largest first (patches: by memory)."),
    ] = None,
    layout: Annotated[
        Layout | None,
        typer.Option("--format", help="csv: a line per layer, no totals."),
    ] = None,
    imports: Imports = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Sizes and memory of every convolution in MODEL, or of one.

    One needs no MODEL, as in the paper: convfc shapes --input 28x28x1 --kernel 4 --stride 2
    --filters 128
    """
    del debug  # `program` looks at it
    from convfc.cli import parsing
    from convfc.errors import UsageError

    layout = Layout.JSON if parsing.wants_json(as_json, layout) else layout or Layout.TABLE
    memory = parsing.memory(patch_memory)
    if model is not None and (size is not None or kernel is not None):
        raise UsageError("give a model, or --input and --kernel, not both")
    if model is not None:
        _model_shapes(model, memory, form, imports or (), sort, layout)
    elif size is not None and kernel is not None:
        if sort is not None:
            raise UsageError("--sort is for the layers of a model")
        conv, sizes = parsing.single(size, kernel, stride, dilation, padding, filters)
        _calculate(conv, sizes, memory, layout)
    else:
        raise UsageError(
            "give a model, or --input and --kernel (such as --input 28x28x1 --kernel 4)"
        )


def _model_shapes(
    model: Path,
    memory: int | None,
    form: Form,
    imports: Sequence[str],
    sort: Order | None,
    layout: Layout,
) -> None:
    import convfc
    from convfc.cli import documents, shapes_tables

    with terminal.working(f"reading {model.name}"):
        layers = convfc.shapes(model, form=form, patch_memory=memory, imports=imports)
    if sort is not None:
        layers = layers.sorted(sort)
    if layout is Layout.JSON:
        terminal.show(json_text(documents.shapes_json(layers)))
    elif layout is Layout.CSV:
        terminal.show(shapes_tables.shapes_csv(layers))
    elif layers:
        _show(shapes_tables.shapes_parts(layers), layout)
    else:
        _show([f"{visible(str(model))}: no convolution in it"], layout)


def _calculate(conv: Convolution, sizes: Sizes, memory: int | None, layout: Layout) -> None:
    from convfc.cli import documents, shapes_tables, tables
    from convfc.core.lowering import Lowering, lower
    from convfc.refusals import Refusal

    found = lower(conv, sizes, memory=memory)
    refused = found.reason if isinstance(found, Refusal) else None
    lowering = Lowering(conv, sizes, PatchMethod.SLICE) if isinstance(found, Refusal) else found
    if layout is Layout.JSON:
        terminal.show(json_text(documents.calculation_json(lowering, refused)))
    elif layout is Layout.CSV:
        terminal.show(shapes_tables.lowering_csv(lowering, refused))
    else:
        said = [] if refused is None else [f"no model would get it: {refused}"]
        _show([tables.calculator_table(lowering, built=refused is None), *said], layout)


def _show(parts: Iterable[Words | str], layout: Layout) -> None:
    """Print a table and lines, in either way."""
    if layout is Layout.TABLE:
        terminal.show(terminal.rendered(parts))
    else:
        texts = (part if isinstance(part, str) else part.markdown() for part in parts)
        terminal.show("\n\n".join(texts) + "\n")
