"""What `revert` did as a table and a line, for people."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from convfc.cli.tables import described, matrices_text
from convfc.text.words import Words, words

if TYPE_CHECKING:  # as in `tables`
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


def reversion_summary(reversion: Reversion) -> str:
    """One line that says what was done."""
    count = Counter(layer.fate.value for layer in reversion.layers)
    what = "reverted" if reversion.written else "can be reverted"
    text = f"{count['reverted']} of {len(reversion.layers)} layers {what}"
    if not reversion.layers:
        text = "nothing in the model is converted: the copy is the same network"
    if count["left"]:
        text += f", {count['left']} left"
    if count["skipped"]:
        text += f", {count['skipped']} not asked for"
    if reversion.written:
        return f"{text}; wrote {reversion.out}"
    if reversion.verification is not None:
        return f"{text}, but the result is not equivalent; nothing written"
    hint = " (--partial reverts the others)" if count["reverted"] else ""
    return f"{text}; nothing written{hint}"
