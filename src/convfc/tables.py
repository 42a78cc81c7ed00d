"""Results as rich tables and lines of text, for people."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from convfc.geometry import AnyConvolution, Same
from convfc.lowering import Lowering
from convfc.transposed import TransposedWindow

if TYPE_CHECKING:  # who calculates one layer's sizes need not wait for the rest
    from convfc.conversion import Conversion
    from convfc.planning import Layer
    from convfc.verification import Verification


_STYLES = {
    "converted": "green",
    "left": "red",
    "skipped": "dim",
    "equivalent": "green",
    "not equivalent": "red",
    "could not check": "yellow",
}

_INEXACT, _UNKNOWN, _RANDOM = "†", "‡", "*"
"""Marks in the proof's table; see `footnotes`."""


def conversion_table(conversion: Conversion) -> Table:
    """A row per convolution: what it is, what it became."""
    table = _table(f"{conversion.source.name} → {conversion.out.name}")
    for name in ("layer", "convolution", "input → output", "patches", "P · F"):
        table.add_column(name)
    table.add_column("patch memory", justify="right")
    table.add_column("result")
    for layer in conversion.layers:
        result = Text(layer.fate.value, _STYLES[layer.fate.value])
        if layer.reason is not None:
            result.append(f": {layer.reason}")
        cells = ["", "", ""]
        if layer.lowering is not None:
            memory = _patch_memory(layer.lowering, layer.site.itemsize)
            cells = [layer.lowering.method.value, _matrices(layer.lowering), memory]
        table.add_row(*_geometry_cells(layer), *cells, result)
    return table


def shapes_table(path: Path, layers: Sequence[Layer]) -> Table:
    """A row per convolution: sizes, costs, memory."""
    table = _table(path.name)
    for name in ("layer", "convolution", "input → output", "patches", "P · F"):
        table.add_column(name)
    for name in ("weights", "multiply-adds", "input", "patch memory"):
        table.add_column(name, justify="right")
    for layer in layers:
        conv, lowering = layer.site.convolution, layer.lowering
        if conv is None or lowering is None:
            table.add_row(*_geometry_cells(layer), Text(f"left: {layer.reason}", "red"))
            continue
        table.add_row(
            *_geometry_cells(layer),
            lowering.method.value,
            _matrices(lowering),
            f"{conv.weights:,}",
            _count(conv.multiply_adds(lowering.sizes)),
            _bytes(lowering.input_bytes(layer.site.itemsize)),
            _patch_memory(lowering, layer.site.itemsize),
        )
    return table


def calculator_table(lowering: Lowering) -> Table:
    """One convolution, with every formula filled in (equations 5 to 7 of Ma & Lu, 2017)."""
    conv = lowering.convolution
    table = _table(_describe(conv))
    for name in ("what", "how", "result"):
        table.add_column(name, justify="right" if name == "result" else "left")
    axes = ["height", "width"] if conv.rank == 2 else [f"axis {i + 1}" for i in range(conv.rank)]
    pads = lowering.pads or ()
    rows = zip(axes, conv.windows, lowering.sizes, pads, lowering.output, strict=True)
    for axis, window, size, (before, after), output in rows:
        extent = str(window.kernel)
        if window.dilation > 1:
            extent = f"({window.dilation}·({window.kernel} - 1) + 1)"
        formula = f"⌊({size} + {before} + {after} - {extent}) / {window.stride}⌋ + 1"
        table.add_row(f"output {axis}", formula, str(output))
    table.add_row("output channels", "filters", str(conv.filters))
    rows_, columns = lowering.patch_matrix
    outputs = " · ".join(map(str, lowering.output))
    kernel = " · ".join(map(str, (*conv.kernel, conv.channels)))
    table.add_row("patch matrix P", f"({outputs}) × ({kernel})", f"{rows_} × {columns}")
    table.add_row(
        "filter matrix F",
        f"({kernel}) × {conv.filters}",
        " × ".join(map(str, lowering.filter_matrix)),
    )
    table.add_row("weights", f"{columns} · {conv.filters}", f"{conv.weights:,}")
    table.add_row(
        "multiply-adds",
        f"{rows_} · {columns} · {conv.filters}",
        _count(conv.multiply_adds(lowering.sizes)),
    )
    table.add_row("built by", "--patches auto", lowering.method.value)
    table.add_row("input memory", "float32", _bytes(lowering.input_bytes(4)))
    table.add_row("patch matrix memory", "float32", _patch_memory(lowering, 4))
    return table


def proof_table(verification: Verification) -> Table:
    """A row per converted layer: is it the same function, and is the rounding only rounding?"""
    table = _table(f"{verification.original.name} ≡ {verification.converted.name}: layer by layer")
    table.add_column("layer")
    table.add_column("convolution")
    for name in ("parameters", "integer draws", "chance of a miss", "of the rounding bound"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for layer in verification.layers:
        if layer.reason is not None:
            verdict = Text(f"not equivalent: {layer.reason}", _STYLES["not equivalent"])
        elif layer.unchecked is not None:
            verdict = Text(f"could not check: {layer.unchecked}", _STYLES["could not check"])
        else:
            verdict = Text("equivalent", _STYLES["equivalent"])
        table.add_row(
            layer.name,
            layer.kind,
            "bit for bit" if layer.parameters_equal else "",
            f"{layer.draws} equal{_INEXACT * bool(layer.inexact)}" if layer.draws else "",
            _UNKNOWN * bool(layer.draws) if layer.chance is None else f"{layer.chance:.0e}",
            "" if layer.share is None else f"{layer.share:.2%}{_RANDOM * layer.on_random}",
            verdict,
        )
    return table


def footnotes(verification: Verification) -> list[str]:
    """What the marks in the tables stand for, and what the last columns are about."""
    layers = verification.layers
    lines = []
    sides = dict.fromkeys(side for layer in layers for side in layer.inexact)
    if sides:
        lines.append(
            f"{_INEXACT} the runtime of the {' and the '.join(sides)} is not exact on integers: "
            "computed in float64 instead"
        )
    if any(layer.draws and layer.chance is None and layer.reason is None for layer in layers):
        lines.append(
            f"{_UNKNOWN} cannot be told: the sums are rounded to 8 bits, or may wrap around"
        )
    if any(layer.on_random for layer in layers):
        lines.append(f"{_RANDOM} on random numbers: what the layer is fed cannot be seen")
    if verification.float64_missing is not None:
        lines.append(f"float64: not to be had: {verification.float64_missing}")
    elif verification.float64_samples:
        count = verification.float64_samples
        lines.append(
            f"float64: the original on {count} of the samples, largest distance (and relative)"
        )
    return lines


def differences_table(verification: Verification) -> Table:
    """A row per output: how far the two models are apart on the samples."""
    table = _table(f"{verification.original.name} - {verification.converted.name}: on the samples")
    table.add_column("output")
    table.add_column("shape")
    for name in ("max |a-b|", "mean |a-b|", "max rel", "mean ‖a-b‖F", "top-1"):
        table.add_column(name, justify="right")
    if verification.float64_samples:
        table.add_column("a - float64", justify="right")
        table.add_column("b - float64", justify="right")
    judged = any(out.atol is not None for out in verification.outputs)
    if judged:
        table.add_column("tolerance", justify="right")
        table.add_column("verdict")
    for out in verification.outputs:
        verdict = "equivalent" if out.equivalent else "not equivalent"
        cells: list[str | Text] = [
            out.name,
            f"{_sizes(out.shape)} {out.dtype}",
            f"{out.max_abs:.3g}",
            f"{out.mean_abs:.3g}",
            f"{out.max_rel:.3g}",
            f"{out.mean_frobenius:.3g}",
            "" if out.top1_agreement is None else f"{out.top1_agreement:.2%}",
        ]
        if verification.float64_samples:
            cells += [
                "" if error is None else f"{error.max_abs:.2g} ({error.max_rel:.1g})"
                for error in (out.original_error, out.converted_error)
            ]
        if judged:
            cells += [f"{out.atol:.2g} + {out.rtol:g}·|a|", Text(verdict, _STYLES[verdict])]
        table.add_row(*cells)
    return table


def conversion_summary(conversion: Conversion) -> str:
    """One line that says what was done."""
    layers = conversion.layers
    count = Counter(layer.fate.value for layer in layers)
    what = "converted" if conversion.written else "can be converted"
    text = f"{count['converted']} of {len(layers)} convolutions {what}"
    if not layers:
        text = "no convolution in the model: the copy is the same network"
    if count["left"]:
        text += f", {count['left']} left"
    if count["skipped"]:
        text += f", {count['skipped']} not asked for"
    if conversion.written:
        return f"{text}; wrote {conversion.out}"
    if conversion.verification is not None:
        return f"{text}, but the result is not equivalent; nothing written"
    hint = " (--partial converts the others)" if count["converted"] else ""
    return f"{text}; nothing written{hint}"


def verification_summary(verification: Verification) -> str:
    """One line that a person or a script can read alone."""
    verdict = verification.verdict.value.upper()
    names = f"{verification.converted} and {verification.original}"
    if not verification.equivalent:
        return f"{verdict}: {names}: {verification.reason}{_witness(verification)}"
    worst = max((out.max_abs for out in verification.outputs), default=0.0)
    samples = f"largest difference {worst:.3g} on {verification.samples} samples"
    if verification.proved:
        layers = len(verification.layers)
        return f"{verdict}: {names} are the same function ({layers} layers proved), {samples}"
    if verification.layers:
        return f"{verdict}: {names}, as far as a quick look tells; {samples}"
    return f"{verdict}: {names} agree within a tolerance, which proves nothing; {samples}"


def _witness(verification: Verification) -> str:
    witnesses = [layer.witness for layer in verification.layers if layer.reason is not None]
    witnesses += [out.witness for out in verification.outputs]
    found = next((witness for witness in witnesses if witness is not None), None)
    if found is None or verification.verdict.value == "could not check":
        return ""
    place = f"sample {found.sample}"
    if found.position:
        place += f", position {found.position}"
    return f" ({place}: {found.original:.9g} became {found.converted:.9g})"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold")


def _geometry_cells(layer: Layer) -> tuple[str, str, str]:
    site, conv = layer.site, layer.site.convolution
    if conv is None:
        return site.name, site.kind, ""
    flow = _sizes((*site.sizes, conv.channels))
    if layer.lowering is not None:
        flow += f" → {_sizes((*layer.lowering.output, conv.filters))}"
    return site.name, f"{site.kind} {_describe(conv)}", flow


def _describe(conv: AnyConvolution) -> str:
    """Kernel, and whatever is not the default: `3x5, stride 2x1, dilation 2, same`."""
    parts = [_sizes(conv.kernel)]
    for name, values in (
        ("stride", [window.stride for window in conv.windows]),
        ("dilation", [window.dilation for window in conv.windows]),
    ):
        if set(values) != {1}:
            parts.append(f"{name} {values[0] if len(set(values)) == 1 else _sizes(values)}")
    paddings = [window.padding for window in conv.windows]
    rule = next((padding for padding in paddings if isinstance(padding, Same)), None)
    explicit = [padding for padding in paddings if not isinstance(padding, Same)]
    if rule is not None:
        parts.append(rule.value)
    elif any(map(any, explicit)):
        ends = list(itertools.chain(*explicit))  # as --padding takes them: T,B,L,R
        same = len(set(ends)) == 1
        parts.append(f"pad {ends[0] if same else ','.join(map(str, ends))}")
    added = [w.output_padding for w in conv.windows if isinstance(w, TransposedWindow)]
    if any(added):
        parts.append(f"output padding {_sizes(added)}")
    if conv.groups > 1:
        parts.append("depthwise" if conv.groups == conv.channels else f"{conv.groups} groups")
    return ", ".join(parts)


def _matrices(lowering: Lowering) -> str:
    rows, columns = lowering.patch_matrix
    groups = lowering.convolution.groups
    blocks = f"{groups} blocks of " if groups > 1 else ""
    left = f"{_count(rows)}×{columns // groups}"
    return f"{blocks}{left} · {lowering.filter_matrix[0]}×{lowering.filter_matrix[1]}"


def _sizes(sizes: Sequence[int | None]) -> str:
    return "x".join("?" if size is None else str(size) for size in sizes)


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _patch_memory(lowering: Lowering, itemsize: int) -> str:
    whole = _bytes(lowering.patch_bytes(itemsize))
    blocks = lowering.blocks
    if blocks == 1:
        return whole
    return f"{whole} in {blocks} blocks of {_bytes(lowering.block_bytes(itemsize))}"


def _bytes(number: int | None) -> str:
    if number is None:
        return "?"
    value = float(number)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{number} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
