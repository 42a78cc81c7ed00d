"""The command `shapes`: sizes of a model's convolutions, or of one."""

from __future__ import annotations

from collections.abc import Sequence
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
from convfc.core.lowering import PatchMethod
from convfc.core.whole import Form
from convfc.text.jsontext import json_text

if TYPE_CHECKING:
    from convfc.core.geometry import Convolution, Sizes


def shapes(
    model: Annotated[
        Path | None,
        typer.Argument(help=MODEL),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--input", metavar="HxWxC", help="Input size, channels last: 28x28x1."),
    ] = None,
    kernel: Kernel = None,
    stride: Stride = "1",
    dilation: Dilation = "1",
    padding: Padding = "valid",
    filters: Annotated[int, typer.Option(min=1, help="Number of filters.")] = 1,
    patch_memory: PatchMemory = None,
    form: Annotated[
        Form, typer.Option(help="Of MODEL: sizes of the patches form, or beside P those of dense.")
    ] = Form.PATCHES,
    imports: Imports = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Sizes of every convolution in MODEL; or of one, from --input and --kernel.

    The example of the paper: convfc shapes --input 28x28x1 --kernel 4 --stride 2 --filters 128
    """
    del debug  # `program` looks at it
    from convfc.cli import parsing
    from convfc.errors import UsageError

    memory = parsing.memory(patch_memory)
    if model is not None and (size is not None or kernel is not None):
        raise UsageError("give a model, or --input and --kernel, not both")
    if model is not None:
        _model_shapes(model, memory, form, imports or (), as_json)
    elif size is not None and kernel is not None:
        conv, sizes = parsing.single(size, kernel, stride, dilation, padding, filters)
        _calculate(conv, sizes, memory, as_json)
    else:
        raise UsageError(
            "give a model, or --input and --kernel (such as --input 28x28x1 --kernel 4)"
        )


def _model_shapes(
    model: Path, memory: int | None, form: Form, imports: Sequence[str], as_json: bool
) -> None:
    import convfc
    from convfc.cli import documents, tables

    with terminal.working(f"reading {model.name}"):
        layers = convfc.shapes(model, form=form, patch_memory=memory, imports=imports)
    if as_json:
        found = [documents.layer_json(layer) for layer in layers]
        terminal.show(json_text({"model": str(model), "layers": found}))
    elif layers:
        table = tables.dense_table if form is Form.DENSE else tables.shapes_table
        left = tables.left_lines(layer.refusal for layer in layers)
        parts: list[terminal.Part] = [table(model, layers), *left]
        terminal.show(terminal.rendered(parts))
    else:
        terminal.show(terminal.rendered([f"{model}: no convolution in it"]))


def _calculate(conv: Convolution, sizes: Sizes, memory: int | None, as_json: bool) -> None:
    from convfc.core.lowering import Lowering, lower
    from convfc.refusals import Refusal

    found = lower(conv, sizes, memory=memory)
    refused = found.reason if isinstance(found, Refusal) else None
    lowering = Lowering(conv, sizes, PatchMethod.SLICE) if isinstance(found, Refusal) else found
    from convfc.cli import documents, tables

    if as_json:
        told = documents.lowering_json(lowering, itemsize=4)
        terminal.show(json_text(told if refused is None else {**told, "left": refused}))
    else:
        said = [] if refused is None else [f"no model would get it: {refused}"]
        table = tables.calculator_table(lowering, built=refused is None)
        terminal.show(terminal.rendered([table, *said]))
