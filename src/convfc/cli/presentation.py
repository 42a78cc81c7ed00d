"""How results show themselves outside of the program: `convfc.text.shown` asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any, NamedTuple

from convfc.cli import documents, jobs, tables
from convfc.cli.matrix_tables import measurement_json, measurement_parts
from convfc.cli.reversion_tables import reversion_parts
from convfc.cli.shapes_tables import shapes_parts
from convfc.cli.terminal import Part, verification_parts
from convfc.text.visible import visible
from convfc.text.words import Words

if TYPE_CHECKING:
    from convfc.analysis.reading import Measurement
    from convfc.explanation.numbers import Explanation
    from convfc.planning import ModelShapes

_WIDTH = 120
"""Characters of a line that is no cell of a table."""


def document_of(result: object) -> dict[str, Any]:
    """A result as JSON types."""
    return _way(result).document(result)


def html_of(result: object) -> str:
    """A result as HTML that needs no style and no script."""
    return "\n".join(_html(part) for part in _way(result).parts(result))


def line_of(result: object) -> str:
    """A result in one line: the last one that the program prints of it."""
    *_, last = _way(result).parts(result)
    return visible(str(last))


def _shapes_parts(shapes: ModelShapes) -> Iterable[Part]:
    yield from shapes_parts(shapes)
    totals = shapes.totals
    yield f"{shapes.model}: {len(shapes)} convolutions, {totals.weights:,} weights"


def _measurement_parts(measurement: Measurement) -> Iterable[Part]:
    yield from measurement_parts(measurement)
    yield f"{measurement.model}: {len(measurement.matrices)} matrices"


def _explanation_parts(explained: Explanation) -> Iterable[Part]:
    from convfc.explanation.lines import explanation_lines

    yield tables.calculator_table(
        explained.lowering, explained.dtype, explained.itemsize, built=False
    )
    yield from explanation_lines(explained, colour=False)
    yield f"{explained.title or 'a convolution'} on {explained.description}"


class _Way(NamedTuple):
    """How results of a class show themselves.

    Attributes:
        document: as JSON types.
        parts: as what is printed, a line as the last.
    """

    document: Callable[[Any], dict[str, Any]]
    parts: Callable[[Any], Iterable[Part]]


_WAYS = {
    "Conversion": _Way(documents.conversion_json, jobs.conversion_parts),
    "Explanation": _Way(documents.explanation_json, _explanation_parts),
    "Measurement": _Way(measurement_json, _measurement_parts),
    "ModelShapes": _Way(documents.shapes_json, _shapes_parts),
    "Reversion": _Way(documents.reversion_json, reversion_parts),
    "Verification": _Way(documents.verification_json, verification_parts),
}


def _way(result: object) -> _Way:
    return next(_WAYS[kind.__name__] for kind in type(result).__mro__ if kind.__name__ in _WAYS)


def _html(part: Part) -> str:
    if isinstance(part, Words):
        return part.html()
    if isinstance(part, str):
        return f"<div>{escape(visible(part))}</div>"
    from rich.console import Console

    console = Console(file=StringIO(), width=_WIDTH, highlight=False, color_system=None)
    console.print(part)
    assert isinstance(console.file, StringIO)  # noqa: S101 - made above
    return f"<pre>{escape(console.file.getvalue())}</pre>"
