"""The command line: arguments in, tables or JSON out, an exit code.

Exit codes: 0 yes (all converted, equivalent), 1 no, 2 could not. Results go to stdout, errors and
progress to stderr. What costs time to import is imported by the command that needs it.
"""

from __future__ import annotations

import contextlib
import functools
import io
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from convfc.cli import program, terminal
from convfc.cli.experiment import experiment
from convfc.cli.explain import explain
from convfc.cli.matrix import matrix
from convfc.cli.options import (
    MODEL,
    Architecture,
    Clients,
    Data,
    Debug,
    DenseLimit,
    FlatIo,
    Force,
    Imports,
    Json,
    Mean,
    Patches,
    PatchMemory,
    Report,
    Scale,
    Shapes,
    Std,
    Verified,
    WantedForm,
    WantedMaxPool,
)
from convfc.cli.program import COULD_NOT, NO, YES, CommandLineError
from convfc.cli.revert import revert
from convfc.cli.shapes import shapes
from convfc.core.lowering import PatchMethod
from convfc.system import streams
from convfc.system.signals import Stopped
from convfc.text.jsontext import json_text

_UsageError: Any = typer.BadParameter.__base__  # of all that it may find; it has no public name

app = typer.Typer(
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
    model: Annotated[Path | None, typer.Argument(metavar="MODEL", help=MODEL)] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help="File to write; MODEL with _fc in its name by default.",
        ),
    ] = None,
    form: WantedForm = None,
    dense_limit: DenseLimit = None,
    max_pool: WantedMaxPool = None,
    flat_io: FlatIo = False,
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
    shape: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIMS", help="Fix open sizes, like x=1x3x64x64; repeatable."),
    ] = None,
    clients: Clients = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Write OUT even if some convolutions must be left.")
    ] = False,
    force: Force = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing; show layers, size and operators.")
    ] = False,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Do not run a sample through both files first.")
    ] = False,
    verify: Verified = False,
    freeze_weights: Annotated[
        bool,
        typer.Option("--freeze-weights", help="ONNX: turn weights that are inputs into constants."),
    ] = False,
    keep_keras2_numbers: Annotated[
        bool,
        typer.Option("--keep-keras2-numbers", help="Keras: keep the hard_sigmoid of Keras 2."),
    ] = False,
    architecture: Architecture = None,
    imports: Imports = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Rewrite the convolutions of MODEL as patches + Dense.

    Before the new file appears, one sample is run through both (--no-check leaves that out).

    Exit code 0: everything that was asked for was converted. 1: some convolutions were left, each
    with its reason, and nothing was written unless --partial. 2: an error, or the check found
    another function. --dry-run ends with the same code, as far as it is known without the file.
    """
    del debug  # `program` looks at it
    from convfc.cli import documents, jobs, parsing

    client = parsing.one("--for", clients)
    if client == "list":
        _clients(as_json)
        return
    from convfc.conversion import converting

    if model is None:
        raise _UsageError("Missing argument 'MODEL'.")

    conversion = functools.partial(
        converting,
        model,
        out,
        form=form,
        dense_limit=parsing.memory(dense_limit, "--dense-limit"),
        max_pool=max_pool,
        flat_io=flat_io,
        patches=patches,
        patch_memory=parsing.memory(patch_memory),
        only=only or (),
        skip=skip or (),
        shapes=parsing.shapes(shape),
        client=client,
        partial=partial,
        force=force,
        check=not no_check,
        verify=verify,
        freeze_weights=freeze_weights,
        keep_keras2_numbers=keep_keras2_numbers,
        architecture=architecture,
        imports=imports or (),
        dry_run=dry_run,
    )
    document = documents.conversion_json if as_json else None
    jobs.carry_out(f"converting {model.name}", conversion, document, jobs.conversion_parts)


def _clients(as_json: bool) -> None:
    from convfc.cli import documents, tables
    from convfc.clients import CLIENTS

    if as_json:
        terminal.show(json_text(documents.clients_json(CLIENTS.values())))
    else:
        terminal.show(terminal.rendered([tables.clients_table(CLIENTS.values())]))


app.command()(revert)


@app.command()
def verify(
    original: Annotated[
        Path | None,
        typer.Argument(
            metavar="ORIGINAL",
            help="The original. Alone: either file, or a folder; by default this one.",
        ),
    ] = None,
    converted: Annotated[
        Path | None,
        typer.Argument(
            metavar="CONVERTED",
            help="The file made from it; by default the one beside the original.",
        ),
    ] = None,
    data: Data = "mnist",
    scale: Scale = 1.0,
    mean: Mean = None,
    std: Std = None,
    samples: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="How many samples; by default 100, or what fits in 10 seconds."
        ),
    ] = None,
    shape: Shapes = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=FILE|VALUE", help="Feed an input; repeatable."),
    ] = None,
    rtol: Annotated[
        float | None,
        typer.Option(
            metavar="X", min=0, help="Tolerated relative difference; by element type by default."
        ),
    ] = None,
    atol: Annotated[
        float | None,
        typer.Option(
            metavar="X", min=0, help="Tolerated absolute difference; rtol * max|a| by default."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out the random integers: no proof.")
    ] = False,
    layers: Annotated[
        bool,
        typer.Option("--layers", help="Compare the layers' outputs: where do the models part?"),
    ] = False,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the random integers.")] = 0,
    report: Annotated[
        Path | None,
        typer.Option("--junit", metavar="FILE", help="Also write a JUnit XML report."),
    ] = None,
    architecture: Architecture = None,
    imports: Imports = None,
    layout: Annotated[
        Report | None,
        typer.Option("--format", help="github: the tables, and annotations for GitHub."),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Prove that CONVERTED is the same function as ORIGINAL.

    Layers are proved one by one, and samples are run through both files. With --rtol or --atol, or
    for files that convfc did not make, the outputs are only compared, which proves nothing.

    Exit code 0: equivalent. 1: not equivalent. 2: could not check.
    """
    del debug  # `program` looks at it
    import convfc
    from convfc.cli import documents, github, junit, parsing
    from convfc.errors import FileError

    as_document = parsing.wants_json(as_json, layout)
    subject = str(converted or original or ".")
    named = Path() if original is None else original
    # A SavedModel is a folder, and no file that convfc made.
    is_model = (named / "saved_model.pb").exists()
    is_folder = converted is None and named.is_dir() and not is_model
    with contextlib.nullcontext() if report is None else junit.failing(report, subject):
        options: dict[str, Any] = {
            "data": data,
            "samples": samples,
            "shapes": parsing.shapes(shape),
            "inputs": dict(parsing.pairs("--input", inputs)),
            "rtol": rtol,
            "atol": atol,
            "quick": quick,
            "layers": layers,
            "scale": scale,
            "mean": parsing.numbers("--mean", mean, 0.0),
            "std": parsing.numbers("--std", std, 1.0),
            "seed": seed,
            "architecture": architecture,
            "imports": imports or (),
        }
        with terminal.working("verifying") as progress:
            if is_folder:
                results = convfc.verify_folder(named, progress=progress, **options)
            else:
                results = [convfc.verify(named, converted, progress=progress, **options)]
    if as_document:
        told = json_text(
            documents.verifications_json(results)
            if is_folder
            else documents.verification_json(results[0])
        )
    else:
        parts = list(chain.from_iterable(map(terminal.verification_parts, results)))
        if is_folder:
            equal = sum(result.equivalent for result in results)
            parts.append(f"{equal} of {len(results)} equivalent")
        told = terminal.rendered(parts)
    terminal.show(told)
    if layout is Report.GITHUB:
        terminal.show("".join(f"{line}\n" for line in github.marks(results)))
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
            streams.say(program.line(error))
            code = COULD_NOT
    raise typer.Exit(code)


app.command()(matrix)
app.command()(shapes)
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
    except Stopped:
        raise
    except SystemExit as end:  # of what completes command lines, in typer
        return COULD_NOT if end.code else YES
    except _UsageError as error:
        shown = io.StringIO()
        error.show(shown)
        raise CommandLineError(error.format_message(), shown.getvalue().rstrip()) from error


def main() -> None:
    """The program `convfc`, for those who have imported this already."""
    program.run(command)
