"""The command `experiment`: the paper's, repeated and drawn."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from convfc.cli import terminal
from convfc.cli.options import Debug, Json
from convfc.system.signals import Stopped
from convfc.text.jsontext import json_text

PAPER_EPOCHS, PAPER_FILTERS = 400, 128
SHORT_EPOCHS, SHORT_FILTERS = 100, 16


class Optimizer(StrEnum):
    """The values of --optimizer."""

    sgd = "sgd"
    adam = "adam"
    both = "both"


def experiment(
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", metavar="FOLDER", help="Folder for figures, numbers and states."
        ),
    ] = Path("convfc_experiment"),
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help=f"As the paper: {PAPER_EPOCHS} epochs and {PAPER_FILTERS} filters. "
            "Takes about an hour on 2 cores.",
        ),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the experiment in OUT, same options.")
    ] = False,
    optimizer: Annotated[Optimizer, typer.Option(help="What to train with.")] = Optimizer.both,
    epochs: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help=f"Passes over the images; {SHORT_EPOCHS}."),
    ] = None,
    filters: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help=f"Filters of the convolution; {SHORT_FILTERS}."),
    ] = None,
    images: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="How many to train on; as many others to validate on."
        ),
    ] = 1000,
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Images per step.")] = 128,
    learning_rate: Annotated[
        float | None, typer.Option(metavar="X", help="Of the optimizers; Keras' own by default.")
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Of the weights and the images' order.")
    ] = 0,
    data: Annotated[
        str,
        typer.Option(
            metavar="PATH", help="mnist, or images: .npz, IDX (.gz too), a folder of images."
        ),
    ] = "mnist",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a CNN and its fully connected twins, as in the paper.

    Writes the paper's figures (7 to 10) as PNG and SVG and the numbers as CSV and JSON into OUT.
    Interrupted, it goes on where it was with --resume.

    Exit code 0: done. 2: an error.
    """
    del debug  # `program` looks at it
    import convfc

    options: dict[str, Any] = {
        "optimizers": ("sgd", "adam") if optimizer is Optimizer.both else (optimizer.value,),
        "epochs": epochs or (PAPER_EPOCHS if full else SHORT_EPOCHS),
        "filters": filters or (PAPER_FILTERS if full else SHORT_FILTERS),
        "images": images,
        "batch": batch,
        "learning_rate": learning_rate,
        "seed": seed,
        "data": data,
        "resume": resume,
    }
    try:
        with terminal.working("experiment") as progress:
            found = convfc.experiment(out, progress=progress, **options)
    except Stopped as stopped:
        stopped.said += f"; the same command with --resume goes on in {out}"
        raise
    if as_json:
        from convfc.reproduction.results import experiment_json

        terminal.show(json_text({"schema": "experiment-1", **experiment_json(found)}))
    else:
        from convfc.cli import tables

        lines = tables.experiment_lines(found)
        terminal.show(terminal.rendered([tables.experiment_table(found), *lines]))
