"""The command `matrix`: a model's convolutions as matrices, measured or written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from convfc.analysis.kinds import Kind
from convfc.cli import terminal
from convfc.cli.options import MODEL, Data, Debug, Imports, Json, Shapes
from convfc.text.jsontext import json_text


def matrix(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=MODEL)],
    layer: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Only layers with such names; repeatable."),
    ] = None,
    kind: Annotated[
        Kind,
        typer.Option(help="With -o: F and b; a sample's patches; or the whole layer, sparse."),
    ] = Kind.FILTER,
    sample: Annotated[
        int, typer.Option(metavar="N", min=0, help="For patches: which sample, from 0.")
    ] = 0,
    data: Data = "mnist",
    entries: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Largest whole matrix, in non-zeros; 2^28 by default."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="FILE.npz|FOLDER", help="Write the matrices instead of a table."
        ),
    ] = None,
    shape: Shapes = None,
    imports: Imports = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure or export the convolutions of MODEL as matrices.

    MODEL is an original or a converted file. Without -o: a table with the rank and singular values
    of each filter matrix F, and each layer's spectral norm (Lipschitz constant).

    Exit code 0: shown or written. 2: an error.
    """
    del debug  # `program` looks at it
    import convfc
    from convfc.cli import matrix_tables, parsing

    options: dict[str, Any] = {
        "layers": layer or (),
        "shapes": parsing.shapes(shape),
        "imports": imports or (),
    }
    if out is not None:
        if entries is not None:
            options["entries"] = entries
        with terminal.working(f"reading {model.name}"):
            files = convfc.save_matrices(model, out, kind=kind, sample=sample, data=data, **options)
        told = {"schema": "matrixfiles-1", "model": str(model), "files": [*map(str, files)]}
        lines = [f"wrote {file}" for file in files]
        terminal.show(json_text(told) if as_json else terminal.rendered(lines))
        return
    with terminal.working(f"measuring {model.name}"):
        found = convfc.measure(model, **options)
    if as_json:
        terminal.show(json_text(matrix_tables.measurement_json(found)))
    else:
        terminal.show(terminal.rendered(matrix_tables.measurement_parts(found)))
