"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Imports = Annotated[
    list[str] | None,
    typer.Option(
        "--import", metavar="MODULE", help="Import what registers custom Keras classes; repeatable."
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
PatchMemory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE", help="Memory for a layer's patches, like 8MiB; more is cut into blocks."
    ),
]
