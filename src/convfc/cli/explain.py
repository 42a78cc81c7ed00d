"""The command `explain`: one convolution, with every number filled in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convfc.cli import terminal
from convfc.cli.options import MODEL, Data, Debug, Dilation, Imports, Json, Padding, Stride
from convfc.text.jsontext import json_text
from convfc.text.sizes import sizes_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convfc.core.geometry import Convolution


def explain(
    model: Annotated[Path | None, typer.Argument(metavar="MODEL", help=MODEL)] = None,
    layer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of a convolution in MODEL; the first by default."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="HxWxC|NUMBERS",
            help='Without MODEL: input size, like 28x28x1, or the image itself, like "1 2; 3 4".',
        ),
    ] = None,
    kernel: Annotated[
        str | None,
        typer.Option(metavar="N|HxW|NUMBERS", help='Kernel size, or one filter, like "1 0; 0 -1".'),
    ] = None,
    stride: Stride = "1",
    dilation: Dilation = "1",
    padding: Padding = "valid",
    filters: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Number of filters; 4 by default.")
    ] = None,
    sample: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Which sample of the data; 0 by default.")
    ] = None,
    digit: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Instead: the first sample with this label."),
    ] = None,
    data: Data = "mnist",
    batch: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="So many samples, from that one on: P has a block for each."
        ),
    ] = 1,
    values: Annotated[
        bool,
        typer.Option(
            "--values", help="In numbers: a window, the flipped filter, Algorithm 1, eq. 8."
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help="Write a .png, .svg, an interactive .html or the arrays (.npz).",
        ),
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
    from convfc.errors import UsageError

    which: dict[str, Any] = {"sample": sample, "digit": digit, "data": data, "batch": batch}
    if out is not None and as_json:
        raise UsageError("--json does not go with --out")
    if values and (out is not None or as_json):
        raise UsageError("--values is for the terminal: --json and an .npz have the numbers anyway")
    if out is not None:
        from convfc.explanation import drawing

        drawing.check(out)
    with terminal.working("explaining"):
        if model is not None and size is None and kernel is None:
            explained = convfc.explain_model(model, layer, imports=imports or (), **which)
        elif model is None and layer is None and size is not None and kernel is not None:
            conv, sizes, given = _alone(size, kernel, stride, dilation, padding, filters)
            if given["x"] is not None and (sample, digit, batch) != (None, None, 1):
                raise UsageError(
                    "--sample, --digit and --batch choose images: --input gives one already"
                )
            explained = convfc.explain_convolution(conv, sizes, **given, **which)
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
    from convfc.explanation.lines import explanation_lines
    from convfc.explanation.values import value_lines

    title = [*filter(None, [explained.title])]
    if values:
        terminal.show(terminal.rendered([*title, *value_lines(explained)]))
        return
    from convfc.cli import tables

    lowering, colours = explained.lowering, terminal.console().color_system is not None
    sizes_ = tables.calculator_table(lowering, explained.dtype, explained.itemsize, built=False)
    told = explanation_lines(explained, colours)
    terminal.show(terminal.rendered([*title, sizes_, *told]))


def _alone(
    size: str, kernel: str, stride: str, dilation: str, padding: str, filters: int | None
) -> tuple[Convolution, tuple[int, ...], dict[str, Any]]:
    """A convolution without a model, its input's sizes, and the numbers that are given.

    Raises:
        UsageError: texts that are neither sizes nor numbers, or do not go together.
        GeometryError: they describe no convolution.
    """
    from convfc.cli import parsing
    from convfc.errors import UsageError

    given = {"x": _numbers("--input", size), "kernel": _numbers("--kernel", kernel)}
    if given["x"] is not None:
        size = f"{sizes_text(given['x'].shape)}x1"
    if given["kernel"] is not None:
        if filters not in (None, 1):
            raise UsageError(f"--filters {filters}: the numbers of --kernel are one filter")
        kernel, filters = sizes_text(given["kernel"].shape), 1
    conv, sizes = parsing.single(size, kernel, stride, dilation, padding, filters or 4)
    if given["kernel"] is not None and (conv.rank, conv.channels) != (2, 1):
        raise UsageError(f"--input {size}: with the numbers of a filter, give HxWx1")
    return conv, sizes, given


def _numbers(option: str, text: str) -> NDArray[Any] | None:
    """What a text holds that is rows of numbers, "1 2; 3 4"; ``None`` if it is a size.

    Raises:
        UsageError: rows of different lengths, or something else than numbers.
    """
    if ";" not in text and (len(text.split()) < 2 or set(text.lower()) & {"x", ","}):
        return None
    import numpy as np

    from convfc.errors import UsageError

    rows = [row.replace(",", " ").split() for row in text.strip().strip(";").split(";")]
    try:
        array = np.array([[float(number) for number in row] for row in rows])
    except ValueError:
        array = np.array(np.nan)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise UsageError(f'{option} {text}: write rows of equally many numbers, like "1 2; 3 4"')
    whole = (array == array.round()) & (abs(array) < 2**53)
    return array.astype(np.int64) if whole.all() else array
