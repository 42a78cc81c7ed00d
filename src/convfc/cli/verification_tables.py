"""A verification as rich tables and lines of text, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from convfc.text.sizes import shapes_text, sizes_text
from convfc.text.words import Words, words

if TYPE_CHECKING:
    from convfc.verification.parting import Parting
    from convfc.verification.verify import Verification

_STYLES = {"equivalent": "green", "not equivalent": "red", "could not check": "magenta"}

_INEXACT, _UNKNOWN, _RANDOM, _OTHERWISE = "†", "‡", "*", "§"
"""Marks in the proof's table; see `footnotes`."""


_PROOF = (
    "integer draws: inputs, kernels and biases of random integers on which both made the same "
    "numbers; chance of a miss: that another function would have passed them all",
    "of the rounding bound: the largest difference on what the layer is fed, as a share of what "
    "rounding may do to it",
)
_SAMPLES = (
    "a: the original, b: the converted file; max rel: |a-b| / max(|a|, |b|); ‖a-b‖F: Frobenius "
    "norm of a sample's difference; top-1: samples with the largest score in the same place",
)
_TENSORS = (
    "tensor: what a layer computes; a: the original, b: the other file; apart: further than the "
    "tolerance (--rtol, --atol)",
)


def proof_table(verification: Verification) -> Words:
    """A row per converted layer: is it the same function, and is the rounding only rounding?"""
    between = "≡" if verification.equivalent else "and"
    names = f"{verification.original.name} {between} {verification.converted.name}"
    table = Words(f"{names}: layer by layer", _PROOF)
    table.add_column("layer")
    table.add_column("convolution")
    for name in ("parameters", "integer draws", "chance of a miss", "of the rounding bound"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for layer in verification.layers:
        if layer.reason is not None:
            verdict = words(f"not equivalent: {layer.reason}", _STYLES["not equivalent"])
        elif layer.unchecked is not None:
            verdict = words(f"could not check: {layer.unchecked}", _STYLES["could not check"])
        else:
            seen = "no difference seen" if verification.quick else "equivalent"
            verdict = words(seen, _STYLES["equivalent"])
        table.add_row(
            layer.name,
            layer.kind,
            f"bit for bit{_OTHERWISE * (layer.structure is not None)}"
            if layer.parameters_equal
            else "",
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
    proved = (one for one in layers if one.draws and one.reason is one.unchecked is None)
    shown = next((one for one in proved if one.structure and one.parameters_equal), None)
    if shown is not None:
        how = (
            "of linear operators alone: the draws prove it, for the sizes of the file"
            if shown.chance is not None
            else "and found step by step on both sides, which the draws check"
        )
        lines.append(
            f"{_OTHERWISE} built otherwise than by convfc "
            f"('{shown.name}': {shown.structure}), {how}"
        )
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


def differences_table(verification: Verification) -> Words:
    """A row per output: how far the two models are apart on the samples."""
    names = f"{verification.original.name} - {verification.converted.name}"
    table = Words(f"{names}: on the samples", _SAMPLES)
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
            f"{sizes_text(out.shape)} {out.dtype}",
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
            cells += [f"{out.atol:.2g} + {out.rtol:g}·|a|", words(verdict, _STYLES[verdict])]
        table.add_row(*cells)
    return table


def notes(verification: Verification) -> list[str]:
    """The notes; of those on what no runtime reads, which may be one per node, the first few."""
    left = verification.remarks[_SHOWN:]
    hidden = {*left}
    more = [f"and {len(left)} more of what no runtime reads: --json lists them"] if left else []
    return [one for one in verification.notes if one not in hidden] + more


_SHOWN = 5


def parting_table(verification: Verification, parting: Parting) -> Words:
    """A row per tensor that both models make: does it differ by more than the tolerance?"""
    names = f"{verification.original.name} - {verification.converted.name}"
    table = Words(f"{names}: what the layers make", _TENSORS)
    for name in ("tensor", "made by", "shape"):
        table.add_column(name)
    table.add_column("max |a-b|", justify="right")
    table.add_column("verdict")
    for one in parting.compared:
        out = one.difference
        verdict = words("alike", "green") if out.equivalent else words("apart", "red")
        table.add_row(
            one.tensor.name,
            one.tensor.kind,
            sizes_text(out.shape),
            f"{out.max_abs:.3g}",
            verdict,
        )
    return table


def parting_line(parting: Parting) -> str:
    """Where two models part, with both values."""
    first, before, count = parting.first, parting.before, len(parting.compared)
    samples = len(parting.samples)
    seen = f"{count} tensor{'s' * (count != 1)} on {samples} sample{'s' * (samples != 1)}"
    if parting.alone:
        alone = len(parting.alone)
        seen += f"; {alone} more {'is' if alone == 1 else 'are'} made by the original only"
    if first is None:
        return f"no tensor differs beyond the tolerance: {seen}"
    out, of_layer = first.difference, ""
    if first.tensor.maker != first.tensor.name:
        of_layer = f" '{first.tensor.maker}'"
    text = f"they part at '{first.tensor.name}' ({first.tensor.kind}{of_layer}): {out.reason}"
    if out.witness is not None:
        at = [parting.samples.start + out.witness.sample, *out.witness.position]
        text += f", at {at} {out.witness.original:.9g} became {out.witness.converted:.9g}"
    behind = "" if before is None else f"; '{before.tensor.name}' before it is alike"
    return f"{text}{behind} ({seen})"


def verification_summary(verification: Verification) -> str:
    """One line that a person or a script can read alone."""
    verdict = verification.verdict.value.upper()
    names = f"{verification.converted} and {verification.original}"
    if verification.shapes:
        names += f" for {shapes_text(verification.shapes)}"
    if not verification.equivalent:
        return f"{verdict}: {names}: {verification.reason}{_witness(verification)}"
    worst = max((out.max_abs for out in verification.outputs), default=0.0)
    count = verification.samples
    samples = f"largest difference {worst:.3g} on {count} sample{'s' * (count != 1)}"
    if not verification.samples:
        samples = "but no sample could be run through both"
        if verification.remedies:
            samples += f" (other inputs may do: {verification.remedies})"
    if verification.proved:
        count = len(verification.layers)
        layers = f"{count} layer{'s' * (count != 1)} proved"
        if verification.hidden is not None:
            inside = verification.hidden.tensor.name
            samples += f"; rounding moves '{inside}' inside by more than the tolerance"
        return f"{verdict}: {names} are the same function ({layers}), {samples}"
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
