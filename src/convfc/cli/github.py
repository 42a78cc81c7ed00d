"""What went wrong as annotations of GitHub: lines that its runner turns into marks on a commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from convfc.text.visible import visible

if TYPE_CHECKING:
    from convfc.verification.verify import Verification


def marks(verifications: Iterable[Verification]) -> Iterator[str]:
    """A line for each verdict, an error unless it is EQUIVALENT, and for each layer at fault."""
    from convfc.cli.verification_tables import verification_summary

    for verification in verifications:
        file = str(verification.converted)
        level = "notice" if verification.equivalent else "error"
        verdict = verification.verdict.value
        yield annotation(level, verification_summary(verification), title=verdict, file=file)
        for layer in verification.layers:
            why = layer.reason or layer.unchecked
            if why is not None:
                yield annotation("error", why, title=f"layer {layer.name}", file=file)


def annotation(level: str, message: str, **properties: str) -> str:
    r"""One line for the runner.

    >>> print(annotation("error", "100 % wrong\nreally", file="a,b.onnx", title="conv:1"))
    ::error file=a%2Cb.onnx,title=conv%3A1::100 %25 wrong%0Areally
    """
    told = ",".join(
        f"{name}={_escaped(value).replace(':', '%3A').replace(',', '%2C')}"
        for name, value in properties.items()
    )
    return f"::{level} {told}::{_escaped(message)}"


def _escaped(text: str) -> str:
    """A text on one line, as the runner reads it; see `visible` for the rest."""
    lines = text.replace("%", "%25").replace("\r", "%0D").split("\n")
    return "%0A".join(map(visible, lines))
