"""The command line: arguments in, tables or JSON out, an exit code.

Exit codes: 0 yes (all converted, equivalent), 1 no, 2 could not. Results go to stdout, errors and
progress to stderr. What costs time to import is imported by the command that needs it.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convfc.cli import program, terminal
from convfc.cli.experiment import experiment
from convfc.cli.explain import explain
from convfc.cli.options import (
    MODEL,
    Data,
    Debug,
    Dilation,
    Imports,
    Json,
    Kernel,
    Padding,
    Patches,
    PatchMemory,
    Stride,
)
from convfc.cli.program import COULD_NOT, NO, YES, CommandLineError
from convfc.core.lowering import PatchMethod
from convfc.system import streams
from convfc.text.jsontext import json_text

if TYPE_CHECKING:
    from convfc.core.geometry import Convolution, Sizes

_UsageError: Any = typer.BadParameter.__base__  # of all that it may find; it has no public name

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        from convfc._version import __version__

        typer.echo(f"convfc {__version__}")
        raise typer.Exit


@app.callback()
def convfc(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Rewrite every convolution of a Keras or ONNX model as patches + Dense, and verify it.

    Exit codes: 0 yes (all converted, equivalent), 1 no, 2 could not.
    """


@app.command()
def convert(
    model: Annotated[Path, typer.Argument(help=MODEL)],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="File to write; MODEL with _fc in its name by default."),
    ] = None,
    patches: Patches = PatchMethod.AUTO,
    patch_memory: PatchMemory = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Convert only layers with such names; repeatable."),
    ] = None,
    skip: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Leave layers with such names alone; repeatable."),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Write OUT even if some convolutions must be left.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace OUT even if convfc did not make it.")
    ] = False,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Write OUT without a look at what it computes.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Verify the result; write nothing if it differs.")
    ] = False,
    freeze_weights: Annotated[
        bool,
        typer.Option("--freeze-weights", help="ONNX: make constants of weights that are inputs."),
    ] = False,
    imports: Imports = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Rewrite the convolutions of MODEL as patches + Dense and save the result.

    Exit code 0: everything that was asked for was converted. 1: some convolutions were left, each
    with its reason, and nothing was written unless --partial. 2: it could not be done or checked,
    or one sample, run through both files, shows that they are not the same function.
    """
    del debug  # `program` looks at it
    from convfc.cli import documents, parsing
    from convfc.conversion import converting
    from convfc.verification.verdict import Verdict

    conversion = converting(
        model,
        out,
        patches=patches,
        patch_memory=parsing.memory(patch_memory),
        only=only or (),
        skip=skip or (),
        partial=partial,
        force=force,
        check=not no_check,
        verify=verify,
        freeze_weights=freeze_weights,
        imports=imports or (),
    )
    with terminal.working(f"converting {model.name}"), conversion as done:
        # What is said of it is there before the file is: if that fails, nothing appears.
        if as_json:
            told = json_text(documents.conversion_json(done))
        else:
            told = terminal.rendered(terminal.conversion_parts(done))
    terminal.show(told)
    seen = done.verification
    if seen is not None and seen.verdict is Verdict.COULD_NOT_CHECK:
        raise typer.Exit(COULD_NOT)
    raise typer.Exit(YES if done.complete else NO)


@app.command()
def verify(
    original: Annotated[
        Path | None,
        typer.Argument(help="The original; or, alone, either file. None: all of this folder."),
    ] = None,
    converted: Annotated[
        Path | None,
        typer.Argument(help="The file made from it; found by itself if left out."),
    ] = None,
    data: Data = "mnist",
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="How many samples, at most; 100, or what takes 10 seconds."),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIMS", help="Shape of an input, like x=1x3x64x64; repeatable."),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=FILE|VALUE", help="Feed an input; repeatable."),
    ] = None,
    rtol: Annotated[
        float | None,
        typer.Option(min=0, help="Tolerated relative difference; by element type by default."),
    ] = None,
    atol: Annotated[
        float | None,
        typer.Option(min=0, help="Tolerated absolute difference; rtol * max|a| by default."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A look: leave out the random integers, the proof.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random integers.")] = 0,
    report: Annotated[
        Path | None,
        typer.Option(
            "--junit", metavar="FILE", help="Write a JUnit XML report for CI dashboards as well."
        ),
    ] = None,
    imports: Imports = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Prove that CONVERTED is the same function as ORIGINAL, and run samples through both.

    With --rtol or --atol, or for files that convfc did not make, the outputs are only compared.

    Exit code 0: equivalent. 1: not equivalent. 2: could not check.
    """
    del debug  # `program` looks at it
    import convfc
    from convfc.cli import documents, junit, parsing
    from convfc.errors import FileError

    subject = str(converted or original or ".")
    with contextlib.nullcontext() if report is None else junit.failing(report, subject):
        options: dict[str, Any] = {
            "data": data,
            "samples": samples,
            "shapes": {name: parsing.dims(text) for name, text in parsing.pairs("--shape", shape)},
            "inputs": dict(parsing.pairs("--input", inputs)),
            "rtol": rtol,
            "atol": atol,
            "quick": quick,
            "seed": seed,
            "imports": imports or (),
        }
        with terminal.working("verifying") as progress:
            if original is None:
                results = convfc.verify_folder(progress=progress, **options)
            else:
                results = [convfc.verify(original, converted, progress=progress, **options)]
    if as_json:
        found = [documents.verification_json(result) for result in results]
        told = json_text(found[0] if original is not None else {"verifications": found})
    else:
        told = terminal.rendered(chain.from_iterable(map(terminal.verification_parts, results)))
    terminal.show(told)
    codes = {
        convfc.Verdict.EQUIVALENT: YES,
        convfc.Verdict.NOT_EQUIVALENT: NO,
        convfc.Verdict.COULD_NOT_CHECK: COULD_NOT,
    }
    code = max(codes[result.verdict] for result in results)
    if report is not None:
        try:
            junit.write(report, results)
        except FileError as error:  # the verdict is told all the same
            streams.say(f"convfc: {error}")
            code = COULD_NOT
    raise typer.Exit(code)


@app.command()
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
        _model_shapes(model, memory, imports or (), as_json)
    elif size is not None and kernel is not None:
        conv, sizes = parsing.single(size, kernel, stride, dilation, padding, filters)
        _calculate(conv, sizes, memory, as_json)
    else:
        raise UsageError(
            "give a model, or --input and --kernel (such as --input 28x28x1 --kernel 4)"
        )


def _model_shapes(model: Path, memory: int | None, imports: Sequence[str], as_json: bool) -> None:
    import convfc
    from convfc.cli import documents, tables

    with terminal.working(f"reading {model.name}"):
        layers = convfc.shapes(model, patch_memory=memory, imports=imports)
    if as_json:
        found = [documents.layer_json(layer) for layer in layers]
        terminal.show(json_text({"model": str(model), "layers": found}))
    elif layers:
        terminal.show(terminal.rendered([tables.shapes_table(model, layers)]))
    else:
        terminal.show(terminal.rendered([f"{model}: no convolution in it"]))


def _calculate(conv: Convolution, sizes: Sizes, memory: int | None, as_json: bool) -> None:
    from convfc.core.lowering import Lowering, Refusal, lower

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


app.command()(experiment)
app.command()(explain)


def command() -> int:
    """Run what the command line asks for, and give the exit code.

    Raises:
        CommandLineError: it is none.
        ConvfcError: it could not be done.
    """
    try:
        return app(standalone_mode=False) or YES
    except _UsageError as error:
        shown = io.StringIO()
        error.show(shown)
        raise CommandLineError(error.format_message(), shown.getvalue().rstrip()) from error


def main() -> None:
    """The program `convfc`, for those who have imported this already."""
    program.run(command)
