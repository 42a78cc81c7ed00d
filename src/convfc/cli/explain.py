"""The command `explain`: one convolution, with every number filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from convfc.cli import terminal
from convfc.cli.options import (
    MODEL,
    Data,
    Debug,
    Dilation,
    Imports,
    Json,
    Kernel,
    Padding,
    Stride,
)
from convfc.text.jsontext import json_text


def explain(
    model: Annotated[Path | None, typer.Argument(help=MODEL)] = None,
    layer: Annotated[
        str | None, typer.Option(help="Name of a convolution in MODEL; the first by default.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--input", metavar="HxWxC", help="Without MODEL: input size, like 28x28x1."),
    ] = None,
    kernel: Kernel = None,
    stride: Stride = "1",
    dilation: Dilation = "1",
    padding: Padding = "valid",
    filters: Annotated[int, typer.Option(min=1, help="Number of filters.")] = 4,
    sample: Annotated[
        int | None, typer.Option(min=0, help="Which sample of the data; 0 by default.")
    ] = None,
    digit: Annotated[
        int | None, typer.Option(min=0, help="Instead: the first sample with this label.")
    ] = None,
    data: Data = "mnist",
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Write a .png, .svg or an interactive .html instead."),
    ] = None,
    imports: Imports = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show one convolution as patches + Dense, number by number.

    The example of the paper: convfc explain --input 28x28x1 --kernel 14 --stride 14 --digit 7

    Exit code 0: shown. 2: an error.
    """
    del debug  # `program` looks at it
    import convfc
    from convfc.cli import parsing
    from convfc.errors import UsageError

    which: dict[str, Any] = {"sample": sample, "digit": digit, "data": data}
    if out is not None and as_json:
        raise UsageError("--json does not go with --out")
    if out is not None:
        from convfc.explanation import drawing

        drawing.check(out)
    with terminal.working("explaining"):
        if model is not None and size is None and kernel is None:
            explained = convfc.explain_model(model, layer, imports=imports or (), **which)
        elif model is None and layer is None and size is not None and kernel is not None:
            conv, sizes = parsing.single(size, kernel, stride, dilation, padding, filters)
            explained = convfc.explain_convolution(conv, sizes, **which)
        else:
            raise UsageError(
                "give a model and perhaps --layer, or --input and --kernel "
                "(such as --input 28x28x1 --kernel 14)"
            )
    if out is not None:
        drawing.draw(explained, out)
        terminal.show(terminal.rendered([f"wrote {out}"]))
        return
    if as_json:
        from convfc.cli import documents

        terminal.show(json_text(documents.explanation_json(explained)))
        return
    from convfc.cli import tables
    from convfc.explanation.lines import explanation_lines

    lowering, colours = explained.lowering, terminal.console().color_system is not None
    sizes_ = tables.calculator_table(lowering, explained.dtype, explained.itemsize, built=False)
    told = explanation_lines(explained, colours)
    terminal.show(terminal.rendered([*filter(None, [explained.title]), sizes_, *told]))
