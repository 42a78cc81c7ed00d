"""What `revert` did as a table and a line, for people."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from convfc.cli.jobs import parts_of, summary_of
from convfc.cli.tables import described, matrices_text
from convfc.text.words import Words, words

if TYPE_CHECKING:  # as in `tables`
    from convfc.cli.terminal import Part
    from convfc.formats.reverted import WayBack
    from convfc.reversion import Reversion

_STYLES = {"reverted": "green", "left": "red", "skipped": "dim"}


def reversion_table(reversion: Reversion) -> Words:
    """A row per converted layer: what it is, what it becomes, what has changed since."""
    table = Words(f"{reversion.source.name} → {reversion.out.name}")
    for name in ("layer", "patches", "P · F", "convolution", "changed", "result"):
        table.add_column(name)
    for layer in reversion.layers:
        way = layer.way
        reason = "" if way.reason is None else f": {way.reason}"
        result = words(f"{layer.fate.value}{reason}", _STYLES[layer.fate.value])
        changed = "" if way.refusal is not None else way.change.value
        table.add_row(way.site.name, *_now(way), _was(way), changed, result)
    return table


def _now(way: WayBack) -> tuple[str, str]:
    if way.lowering is None:
        return "", ""
    if way.lowering.whole is not None and way.lowering.form.value == "dense":
        rows, columns = way.lowering.whole.shape
        return "dense", f"{rows}×{columns}"
    return way.lowering.method.value, matrices_text(way.lowering)


def _was(way: WayBack) -> str:
    conv = way.site.convolution
    return way.site.kind if conv is None else f"{way.site.kind} {described(conv)}"


def reversion_parts(reversion: Reversion) -> Iterator[Part]:
    """A reversion's table, remarks, and what was done as the last line."""
    summary = summary_of(
        reversion,
        ("reverted", "reverts", "layers"),
        "nothing in the model is converted: the copy is the same network",
    )
    refusals = (layer.way.refusal for layer in reversion.layers)
    return parts_of(reversion, partial(reversion_table, reversion), refusals, summary)
