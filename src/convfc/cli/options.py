"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convfc.core.lowering import PatchMethod
from convfc.core.whole import Form, MaxPool
from convfc.formats.suffixes import SUFFIXES

if TYPE_CHECKING:  # mypy knows no enumerations that are computed
    _Patches = PatchMethod
else:
    _Patches = StrEnum(
        "_Patches",
        {one.name: one.value for one in PatchMethod if one is not PatchMethod.NONE},
    )

MODEL = f"A {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file."
"""What is said of the argument."""
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Imports = Annotated[
    list[str] | None,
    typer.Option(
        "--import", metavar="MODULE", help="Import a module with custom Keras classes; repeatable."
    ),
]
Architecture = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Keras: the model's to_json, if MODEL holds weights alone."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Patches = Annotated[_Patches, typer.Option(help="How patches are built; auto decides per layer.")]
PatchMemory = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Limit for a layer's patches, like 8MiB; above, in blocks."),
]
WantedForm = Annotated[
    Form | None,
    typer.Option(help="patches + Dense (default), or dense: one matrix per layer."),
]
DenseLimit = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Dense form: limit for all matrices; 1GiB by default."),
]
WantedMaxPool = Annotated[
    MaxPool | None,
    typer.Option("--max-pool", help="Dense form: relu writes MaxPool as Dense and ReLU."),
]
FlatIo = Annotated[
    bool,
    typer.Option("--flat-io", help="Dense form: rows (N, n) in and out instead of images."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace OUT even if convfc did not make it.")]
Verified = Annotated[
    bool, typer.Option("--verify", help="Verify the result; write it only if it is equivalent.")
]
Data = Annotated[
    str,
    typer.Option(
        metavar="PATH", help="mnist, or samples: .npz, .npy, IDX (.gz too), a folder of images."
    ),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        "--shape", metavar="NAME=DIMS", help="Shape of an input, like x=1x3x64x64; repeatable."
    ),
]
Scale = Annotated[
    float, typer.Option(metavar="X", help="Images: feed (pixel * X - mean) / std, pixels 0..1.")
]
Mean = Annotated[
    str | None, typer.Option(metavar="X,..", help="One number, or one per channel: R,G,B.")
]
Std = Annotated[str | None, typer.Option(metavar="X,..", help="Like --mean.")]
Kernel = Annotated[str | None, typer.Option(metavar="N|HxW", help="Kernel size.")]
Stride = Annotated[str, typer.Option(metavar="N|HxW", help="Stride.")]
Dilation = Annotated[str, typer.Option(metavar="N|HxW", help="Dilation.")]
Padding = Annotated[
    str,
    typer.Option(metavar="PADS", help="valid, same, same_lower, causal, half, full, N or T,B,L,R."),
]


class Report(StrEnum):
    """How a verification is printed."""

    TABLE = "table"
    JSON = "json"
    GITHUB = "github"


def _completed_client(begun: str) -> list[tuple[str, str]]:
    """What `--for` may go on with, and which programs are meant."""
    from convfc.clients import CLIENTS

    known = {**{client.name: client.who for client in CLIENTS.values()}, "list": "show all"}
    return [(name, who) for name, who in known.items() if name.startswith(begun)]


Clients = Annotated[
    list[str] | None,
    typer.Option(
        "--for",
        metavar="CLIENT",
        help="Set what CLIENT needs; 'list' shows all.",
        autocompletion=_completed_client,
    ),
]
