"""Results as rich tables and lines of text, for people."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from convfc.core.geometry import AnyConvolution, Same
from convfc.core.lowering import Lowering
from convfc.core.transposed import TransposedWindow
from convfc.core.whole import Form, Whole
from convfc.text.sizes import bytes_text, sizes_text
from convfc.text.words import Words, words

if TYPE_CHECKING:  # who calculates one layer's sizes need not wait for the rest
    from convfc.clients import Client
    from convfc.conversion import Conversion
    from convfc.planning import Layer
    from convfc.refusals import Refusal
    from convfc.reproduction.results import Experiment
    from convfc.verification.inspection import Look


_STYLES = {
    "converted": "green",
    "left": "red",
    "skipped": "dim",
}


PATCHES_LEGEND = (
    "patches: how the patch matrix P is built; P · F: rows × columns of P and of the filter matrix "
    "F; patch memory: what P takes for a sample",
)
DENSE_LEGEND = (
    "M: rows × columns of the one matrix that takes a sample's inputs to all its outputs; "
    "non-zero: how much of it is no zero",
)


def conversion_table(conversion: Conversion) -> Words:
    """A row per convolution: what it is, what it became."""
    dense = conversion.form is Form.DENSE
    names = f"{conversion.source.name} → {conversion.out.name}"
    table = Words(names, DENSE_LEGEND if dense else PATCHES_LEGEND)
    for name in ("layer", "convolution", "input → output"):
        table.add_column(name)
    for name in DENSE if dense else ("patches", "P · F"):
        table.add_column(name)
    if not dense:
        table.add_column("patch memory", justify="right")
    table.add_column("result")
    for layer in conversion.layers:
        reason = "" if layer.reason is None else f": {layer.reason}"
        result = words(f"{layer.fate.value}{reason}", _STYLES[layer.fate.value])
        cells = ["", "", ""]
        if layer.lowering is not None and dense:
            cells = dense_cells(layer)
        elif layer.lowering is not None:
            memory = patch_memory(layer.lowering, layer.site.itemsize)
            cells = [layer.lowering.method.value, matrices_text(layer.lowering), memory]
        table.add_row(*geometry_cells(layer), *cells, result)
    return table


def draft_lines(conversion: Conversion) -> list[str]:
    """Of a dry run, what the file would be and take; else none."""
    draft = conversion.draft
    if draft is None:
        return []
    before, after = draft.operators_before.values(), draft.operators.values()
    changes = (f"{kind} {old} → {new}" for kind, (old, new) in draft.changes.items())
    told = ", ".join(changes) or "none changes"
    lines = [
        f"file: {bytes_text(draft.size_before)} → {bytes_text(draft.size)}",
        f"operators: {sum(before):,} → {sum(after):,} ({told})",
    ]
    blocks = {
        layer.site.name: layer.lowering.block_bytes(layer.site.itemsize)
        for layer in conversion.layers
        if layer.lowering is not None and layer.fate.value == "converted"
    }
    if conversion.form is Form.PATCHES and blocks:
        unknown = (name for name, size in blocks.items() if size is None)
        name = next(unknown, max(blocks, key=lambda name: blocks[name] or 0))
        lines.append(f"largest patches: {memory_text(blocks[name])} at once, in {name}")
    return lines


def left_lines(refusals: Iterable[Refusal | None]) -> list[str]:
    """What helps layers that were left, a line for each code."""
    codes = Counter(refusal.code for refusal in refusals if refusal is not None)
    return [f"{count} left [{code}]: {code.remedy}" for code, count in codes.items()]


def clients_table(clients: Iterable[Client]) -> Words:
    """A row per thing that a client sets."""
    table = Words("convfc convert --for CLIENT")
    for name in ("client", "for", "sets"):
        table.add_column(name)
    for client in clients:
        first, *more = client.sets
        table.add_row(client.name, client.who, first, end_section=not more)
        for number, one in enumerate(more, 1):
            table.add_row("", "", one, end_section=number == len(more))
    return table


DENSE = ("M", "memory", "non-zero")
"""Columns that tell of the dense form."""


def dense_cells(layer: Layer) -> list[str]:
    """The matrix of a layer, what it takes and how much of it is no zero."""
    whole = None if layer.lowering is None else layer.lowering.whole
    if whole is None:
        return ["?", "?", "?"]
    rows, columns = whole.shape
    return [f"{rows}×{columns}", memory_text(whole.bytes(layer.site.itemsize)), _share(whole)]


def _share(whole: Whole) -> str:
    """How much of a matrix is no zero.

    >>> from convfc.core.builders import convolution
    >>> _share(Whole(convolution([3], channels=1, filters=1), (16,)))
    '19 %'
    """
    return "?" if whole.share is None else f"{100 * whole.share:.2g} %"


def experiment_table(found: Experiment) -> Words:
    """A row per optimizer and network: losses, and distances from the CNN."""
    from convfc.reproduction.settings import NETWORKS

    settings = found.settings
    epochs, filters = settings.epochs, settings.filters
    counts = f"{epochs} epoch{'s' * (epochs != 1)}, {filters} filter{'s' * (filters != 1)}"
    table = Words(f"{counts}: distance from the CNN")
    for name in ("optimizer", "network"):
        table.add_column(name)
    for name in ("training loss", "validation loss", "curves", "‖ΔW‖F", "mean ‖ΔY‖F"):
        table.add_column(name, justify="right")
    for one in found.comparisons:
        distances = (one.curve_distance, one.weight_distance, one.output_distance)
        table.add_row(
            one.optimizer,
            NETWORKS[one.network],
            f"{one.training_loss:.6f}",
            f"{one.validation_loss:.6f}",
            *("" if one.network == "cnn" else f"{distance:.2e}" for distance in distances),
            end_section=one.network == "again",
        )
    return table


def experiment_lines(found: Experiment) -> list[str]:
    """What the table's columns mean, what the networks saw, and where the figures are."""
    folder = found.files[0].parent
    scale = "; ".join(
        f"{one.optimizer} ‖W‖F {one.weight_norm:.4g}, mean ‖Y‖F {one.output_norm:.4g}"
        for one in found.comparisons
        if one.network == "cnn"
    )
    return [
        "curves: largest |difference| of a training or validation loss at any epoch",
        "‖ΔW‖F: Frobenius norm of the difference of the first layers' weights",
        "mean ‖ΔY‖F: the same of the first layers' outputs, mean over the new images",
        f"the CNN's own, for scale: {scale}",
        "batches backwards: the CNN again, sums over a batch in reverse: what rounding alone does",
        f"images: {found.images}",
        f"wrote {len(found.files)} files into {folder}",
    ]


def calculator_table(
    lowering: Lowering, dtype: str = "float32", itemsize: int = 4, *, built: bool = True
) -> Words:
    """One convolution, with every formula filled in (equations 5 to 7 of Ma & Lu, 2017).

    Args:
        lowering: the convolution on its sizes.
        dtype: the element type of input and patches.
        itemsize: bytes of such a number.
        built: whether to say how the patch matrix is built.
    """
    conv = lowering.convolution
    table = Words(described(conv))
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
    rows_ = lowering.patch_matrix[0]
    length, width = lowering.filter_matrix
    outputs = " · ".join(map(str, lowering.output))
    kernel = " · ".join(map(str, (*conv.kernel, conv.channels // conv.groups)))
    each, times = ("", "") if conv.groups == 1 else (" of a block", f"{conv.groups} · ")
    table.add_row(f"patch matrix P{each}", f"({outputs}) × ({kernel})", f"{rows_} × {length}")
    table.add_row(f"filter matrix F{each}", f"({kernel}) × {width}", f"{length} × {width}")
    table.add_row("weights", f"{times}{length} · {width}", f"{conv.weights:,}")
    table.add_row(
        "multiply-adds",
        f"{times}{rows_} · {length} · {width}",
        count_text(conv.multiply_adds(lowering.sizes)),
    )
    if built:
        table.add_row("built by", "--patches auto", lowering.method.value)
    table.add_row("input memory", dtype, memory_text(lowering.input_bytes(itemsize)))
    if built:
        table.add_row("patch matrix memory", dtype, patch_memory(lowering, itemsize))
    whole = lowering.whole
    if whole is not None:
        length, width = whole.shape
        inputs = " · ".join(map(str, (*lowering.sizes, conv.channels)))
        how = f"({inputs}) × ({outputs} · {conv.filters})"
        table.add_row("dense matrix M", how, f"{length} × {width}")
        what = f"{dtype}, {_share(whole)} non-zero"
        table.add_row("dense matrix memory", what, memory_text(whole.bytes(itemsize)))
    return table


def look_line(look: Look) -> str:
    """One line that says what was seen of a converted file before it was published."""
    if look.reason is None:
        samples = "one sample" if look.samples == 1 else f"{look.samples} samples"
        return f"checked on {samples}: largest difference {look.difference:.1e}"
    if not look.layers:
        return f"not checked: {look.reason}"
    text = f"checked layer by layer ({look.reason}): {look.layers} agree{'s' * (look.layers == 1)}"
    if look.share is not None:
        text += f", at most {look.share:.2g} of what rounding may do"
    return f"{text}; {look.unseen} could not be checked" if look.unseen else text


def geometry_cells(layer: Layer) -> tuple[str, str, str]:
    """A layer's name, what it is, and the sizes that it takes and makes."""
    site, conv = layer.site, layer.site.convolution
    if conv is None:
        return site.name, site.kind, ""
    flow = sizes_text((*site.sizes, conv.channels))
    if layer.lowering is not None:
        flow += f" → {sizes_text((*layer.lowering.output, conv.filters))}"
    return site.name, f"{site.kind} {described(conv)}", flow


def described(conv: AnyConvolution) -> str:
    """Kernel, and whatever is not the default: `3x5, stride 2x1, dilation 2, same`."""
    parts = [sizes_text(conv.kernel)]
    for name, values in (
        ("stride", [window.stride for window in conv.windows]),
        ("dilation", [window.dilation for window in conv.windows]),
    ):
        if set(values) != {1}:
            parts.append(f"{name} {values[0] if len(set(values)) == 1 else sizes_text(values)}")
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
        parts.append(f"output padding {sizes_text(added)}")
    if conv.groups > 1:
        parts.append("depthwise" if conv.groups == conv.channels else f"{conv.groups} groups")
    return ", ".join(parts)


def matrices_text(lowering: Lowering) -> str:
    """Sizes of the patch matrix and the filter matrix, and how many blocks of them there are."""
    rows, columns = lowering.patch_matrix
    groups = lowering.convolution.groups
    blocks = f"{groups} blocks of " if groups > 1 else ""
    left = f"{count_text(rows)}×{columns // groups}"
    return f"{blocks}{left} · {lowering.filter_matrix[0]}×{lowering.filter_matrix[1]}"


def count_text(number: int | None) -> str:
    """A number as people write it; a sign where it is unknown."""
    return "?" if number is None else f"{number:,}"


def patch_memory(lowering: Lowering, itemsize: int) -> str:
    """What a patch matrix takes, whole and in pieces."""
    whole = memory_text(lowering.patch_bytes(itemsize))
    blocks = lowering.blocks
    if blocks == 1:
        return whole
    if lowering.bands > 1:
        return f"{whole} in {blocks} bands"
    return f"{whole} in {blocks} blocks of {memory_text(lowering.block_bytes(itemsize))}"


def memory_text(number: int | None) -> str:
    """Bytes in a unit that people read; a sign where they are unknown."""
    return "?" if number is None else bytes_text(number)
