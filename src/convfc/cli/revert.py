"""The command `revert`: converted layers become convolutions again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convfc.cli.options import Debug, Force, Imports, Json, Verified


def revert(
    model: Annotated[Path, typer.Argument(metavar="MODEL_FC", help="A file that convert wrote.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help="File to write; _conv for _fc in its name by default.",
        ),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="ORIGINAL", help="The original, if the record is lost (Keras saved it) or old."
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Revert only layers with such names; repeatable."),
    ] = None,
    skip: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Leave layers with such names as they are; repeatable."),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Write OUT even if some layers must be left.")
    ] = False,
    force: Force = False,
    verify: Verified = False,
    imports: Imports = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Turn converted layers back into convolutions.

    They keep the numbers that are in MODEL_FC now, trained or quantized as they may be.

    Exit code 0: everything that was asked for is a convolution again. 1: some layers were left,
    each with its reason, and nothing was written unless --partial. 2: an error, or the check found
    another function.
    """
    del debug  # `program` looks at it
    from convfc.cli import documents, jobs, reversion_tables
    from convfc.reversion import reverting

    reversion = reverting(
        model,
        out,
        like=like,
        only=only or (),
        skip=skip or (),
        partial=partial,
        force=force,
        verify=verify,
        imports=imports or (),
    )
    document = documents.reversion_json if as_json else None
    parts = reversion_tables.reversion_parts
    jobs.carry_out(f"reverting {model.name}", lambda progress: reversion, document, parts)  # noqa: ARG005
