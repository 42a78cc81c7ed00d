"""Results as rich tables for people and as JSON for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from convfc.convert import Conversion
from convfc.differences import OutputDifference
from convfc.geometry import AnyConvolution, Same
from convfc.lowering import Lowering
from convfc.planning import Fate, Layer
from convfc.provenance import LayerRecord
from convfc.transposed import TransposedWindow
from convfc.verify import Verdict, Verification

_STYLES = {
    Fate.CONVERTED: "green",
    Fate.LEFT: "red",
    Fate.SKIPPED: "dim",
    Verdict.EQUIVALENT: "green",
    Verdict.NOT_EQUIVALENT: "red",
    Verdict.COULD_NOT_CHECK: "yellow",
}


# -- tables ---------------------------------------------------------------------------------------


def conversion_table(conversion: Conversion) -> Table:
    """A row per convolution: what it is, what it became."""
    table = _table(f"{conversion.source.name} → {conversion.out.name}")
    for name in ("layer", "convolution", "input → output", "patches", "P · F", "result"):
        table.add_column(name)
    for layer in conversion.layers:
        result = Text(layer.fate.value, _STYLES[layer.fate])
        if layer.reason is not None:
            result.append(f": {layer.reason}")
        patches, matrices = "", ""
        if layer.lowering is not None:
            patches, matrices = layer.lowering.method.value, _matrices(layer.lowering)
        table.add_row(*_geometry_cells(layer), patches, matrices, result)
    return table


def shapes_table(path: Path, layers: Sequence[Layer]) -> Table:
    """A row per convolution: sizes, costs, memory."""
    table = _table(path.name)
    for name in ("layer", "convolution", "input → output", "patches", "P · F"):
        table.add_column(name)
    for name in ("weights", "multiply-adds", "input", "patch matrix"):
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


def verification_table(verification: Verification) -> Table:
    """A row per output: how far the two models are apart."""
    table = _table(f"{verification.original.name} ≟ {verification.converted.name}")
    table.add_column("output")
    table.add_column("shape")
    for name in ("max |a-b|", "mean |a-b|", "max rel", "mean ‖a-b‖F", "top-1", "tolerance"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for out in verification.outputs:
        verdict = Verdict.EQUIVALENT if out.equivalent else Verdict.NOT_EQUIVALENT
        agreement = "" if out.top1_agreement is None else f"{out.top1_agreement:.2%}"
        table.add_row(
            out.name,
            f"{_sizes(out.shape)} {out.dtype}",
            f"{out.max_abs:.3g}",
            f"{out.mean_abs:.3g}",
            f"{out.max_rel:.3g}",
            f"{out.mean_frobenius:.3g}",
            agreement,
            f"{out.atol:.2g} + {out.rtol:g}·|a|",
            Text(verdict.value, _STYLES[verdict]),
        )
    return table


def conversion_summary(conversion: Conversion) -> str:
    """One line that says what was done."""
    layers = conversion.layers
    done = sum(layer.fate is Fate.CONVERTED for layer in layers)
    left = sum(layer.fate is Fate.LEFT for layer in layers)
    skipped = sum(layer.fate is Fate.SKIPPED for layer in layers)
    parts = [f"{done} of {len(layers)} convolutions converted"]
    if not layers:
        parts = ["no convolution in the model: the copy is the same network"]
    if left:
        parts.append(f"{left} left")
    if skipped:
        parts.append(f"{skipped} not asked for")
    text = ", ".join(parts)
    if conversion.written:
        return f"{text}; wrote {conversion.out}"
    if conversion.verification is not None:
        return f"{text}, but the result is not equivalent; nothing written"
    return f"{text}; nothing written (--partial converts the others)".replace(
        f"{done} of {len(layers)} convolutions converted",
        f"{done} of {len(layers)} can be converted",
    )


def verification_summary(verification: Verification) -> str:
    """One line that a person or a script can read alone."""
    verdict = verification.verdict.value.upper()
    names = f"{verification.converted} and {verification.original}"
    if verification.equivalent:
        worst = max((out.max_abs for out in verification.outputs), default=0.0)
        return (
            f"{verdict}: {names} agree on {verification.samples} samples, "
            f"largest difference {worst:.3g}"
        )
    return f"{verdict}: {names}: {verification.reason}{_witness(verification)}"


def _witness(verification: Verification) -> str:
    found = next((out.witness for out in verification.outputs if out.witness is not None), None)
    if found is None:
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
        ends = [*(pads[0] for pads in explicit), *(pads[1] for pads in explicit)]
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
    blocks = len(lowering.blocks)
    if not blocks:
        return whole
    return f"{whole}, in {blocks} blocks of {_bytes(lowering.block_bytes(itemsize))}"


def _bytes(number: int | None) -> str:
    if number is None:
        return "?"
    value = float(number)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{number} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


# -- JSON -----------------------------------------------------------------------------------------


def conversion_json(conversion: Conversion) -> dict[str, Any]:
    """Everything in `conversion_table`, and more, as JSON types."""
    checked = conversion.verification
    return {
        "source": str(conversion.source),
        "out": str(conversion.out),
        "written": conversion.written,
        "complete": conversion.complete,
        "layers": [layer_json(layer) for layer in conversion.layers],
        "notes": list(conversion.notes),
        "verification": None if checked is None else verification_json(checked),
    }


def layer_json(layer: Layer) -> dict[str, Any]:
    """One convolution as JSON types."""
    site = layer.site
    return {
        "name": site.name,
        "kind": site.kind,
        "fate": layer.fate.value,
        "reason": layer.reason,
        "dtype": site.dtype,
        "bias": site.bias,
        "lowering": None
        if layer.lowering is None
        else lowering_json(layer.lowering, site.itemsize),
    }


def lowering_json(lowering: Lowering, itemsize: int) -> dict[str, Any]:
    """Geometry, sizes and costs as JSON types."""
    conv = lowering.convolution
    return {
        **LayerRecord.of("", lowering).geometry,
        "pads": None if lowering.pads is None else [list(pads) for pads in lowering.pads],
        "output": list(lowering.output),
        "patches": lowering.method.value,
        "patch_matrix": list(lowering.patch_matrix),
        "filter_matrix": list(lowering.filter_matrix),
        "weights": conv.weights,
        "multiply_adds": conv.multiply_adds(lowering.sizes),
        "input_bytes": lowering.input_bytes(itemsize),
        "patch_bytes": lowering.patch_bytes(itemsize),
        "blocks": len(lowering.blocks) or 1,
        "block_bytes": lowering.block_bytes(itemsize),
    }


def verification_json(verification: Verification) -> dict[str, Any]:
    """Everything in `verification_table`, and more, as JSON types."""
    return {
        "original": str(verification.original),
        "converted": str(verification.converted),
        "verdict": verification.verdict.value,
        "reason": verification.reason,
        "samples": verification.samples,
        "fed": list(verification.fed),
        "notes": list(verification.notes),
        "outputs": [_difference_json(out) for out in verification.outputs],
    }


def _difference_json(out: OutputDifference) -> dict[str, Any]:
    witness = out.witness
    return {
        "name": out.name,
        "shape": list(out.shape),
        "dtype": out.dtype,
        "equivalent": out.equivalent,
        "reason": out.reason,
        "max_abs": out.max_abs,
        "mean_abs": out.mean_abs,
        "max_rel": out.max_rel,
        "mean_frobenius": out.mean_frobenius,
        "top1_agreement": out.top1_agreement,
        "rtol": out.rtol,
        "atol": out.atol,
        "witness": None
        if witness is None
        else {
            "sample": witness.sample,
            "position": list(witness.position),
            "original": _number(witness.original),
            "converted": _number(witness.converted),
        },
    }


def _number(value: float) -> float | str:
    """JSON has no NaN and no infinity: they become text."""
    return value if math.isfinite(value) else str(value)
