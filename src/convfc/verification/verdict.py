"""The verdict: what proof and samples say together. Nothing is run here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from convfc.formats.protocols import Alignment
from convfc.verification.differences import OutputDifference, Witness
from convfc.verification.proof import LayerProof
from convfc.verification.rounding import FAR, FLOOR

_TIMES, _ANY_TIMES = 100, 3
"""How far one side may be from float64, in distances of the other: while it is near, and ever."""
_QUANTIZED = ("int8", "uint8")
_STEPS = 0.05
"""Share of the magnitude that a few steps of 8 bits make, where there is no yardstick."""
_FEW, _FEW_INTEGERS = 1e-3, 1e-2
"""Share of the elements that ties may move, in a model that has steps."""
_MEAN = 2e-3
"""Mean difference that ties may make, as a share of the magnitude: half a step of 8 bits."""


class Verdict(StrEnum):
    """What a verification found."""

    EQUIVALENT = "equivalent"
    NOT_EQUIVALENT = "not equivalent"
    COULD_NOT_CHECK = "could not check"


@dataclass(frozen=True)
class Contradiction:
    """What speaks against two models being the same function.

    Attributes:
        output: the output's name.
        what: how it differs, in words.
        certain: whether it is the converted model that is wrong; else it may be either runtime.
        witness: where.
    """

    output: str
    what: str
    certain: bool
    witness: Witness | None


def _coarser(table: Mapping[str, float], *dtypes: str) -> float:
    """The share of the coarsest of some types; none for integers."""
    return max(table.get(dtype, 0.0) for dtype in dtypes)


def limit(out: OutputDifference, precision: str = "float64") -> float:
    """The difference up to which one may take it for rounding.

    Two distances from float64 are alike where nothing but rounding is behind them: the larger may
    be 100 times the smaller as long as it is no considerable share of the output, 3 times it in
    networks that blow up any rounding.

    Args:
        out: the difference.
        precision: the coarsest type that the model computes in, whatever that of the output is.
    """
    types = (out.dtype, precision) if out.dtype in FAR else (out.dtype,)
    far = _coarser(FAR, *types) * out.evidence.largest
    if out.original_error is None or out.converted_error is None:
        return far
    smaller = min(out.original_error.max_abs, out.converted_error.max_abs)
    floor = _coarser(FLOOR, *types) * out.evidence.largest
    return max(_ANY_TIMES * smaller, min(_TIMES * smaller, far)) + floor


def contradiction(
    out: OutputDifference, *, steps: bool, precision: str = "float64"
) -> Contradiction | None:
    """Why an output cannot be that of the same function up to rounding; ``None`` if it can.

    - Another shape or type, another text: certain; but where the data decide how long an output is,
      rounding may, too, and so may it where a model that has steps chooses or writes a text.
    - NaN or an infinity on one side only: certain if the converted model has it, and the original
      is near its own float64 run; else it may be rounding, next to a pole or the root of zero.
    - Integers: any difference. In a model that has steps a tie may go either way: there, 1% of
      them may differ.
    - Real numbers: any difference beyond `limit`. It is certain if the original is near its own
      float64 run and the converted model is not. In a model that has steps 0.1% of the numbers
      may be beyond, and the mean must be less than half a step of 8 bits; or both are no more
      than what the original makes of input that moves by a fraction of such a step.

    Args:
        out: the difference; its errors, if there are any, are those of the batch with the largest.
        steps: whether something in the model moves in steps: quantizers, comparisons, choices.
        precision: see `limit`.
    """
    if out.reason is not None:
        chosen = out.evidence.data_sized or (steps and out.dtype.startswith(("str", "object")))
        endless = out.max_abs == math.inf
        certain = not steps and _made_endless(out) if endless else not chosen
        return Contradiction(out.name, out.reason, certain, out.witness)
    evidence, bound = out.evidence, limit(out, precision)
    if not steps:
        differs = out.max_abs > bound
    elif "float" in out.dtype or out.dtype in _QUANTIZED:
        if out.original_error is None:
            bound = max(bound, _STEPS * evidence.largest)
        mean = max(bound * _FEW, _MEAN * evidence.largest)
        differs = evidence.beyond(bound) > _FEW or out.mean_abs > mean
        if evidence.sway is not None:
            largest, mean = evidence.sway
            differs = differs and (out.max_abs > largest or out.mean_abs > mean)
    else:
        differs = evidence.beyond(bound) > _FEW_INTEGERS
    if not differs:
        return None
    what = f"it differs by up to {out.max_abs:.3g}, and rounding explains {bound:.2g}"
    return Contradiction(out.name, what, not steps and _converted_is_off(out), evidence.worst)


def _converted_is_off(out: OutputDifference) -> bool:
    """Whether the original is near float64 and the converted model is not."""
    if out.original_error is None or out.converted_error is None:
        return False
    near = out.original_error.max_abs
    return near < out.converted_error.max_abs and near <= FAR[out.dtype] * out.evidence.largest


def _made_endless(out: OutputDifference) -> bool:
    """Whether the converted model is NaN or infinite where the original is not."""
    found = out.witness
    return found is not None and math.isfinite(found.original) and _converted_is_off(out)


def conclude(
    alignment: Alignment,
    layers: Sequence[LayerProof],
    seen: Sequence[Contradiction],
    agreement: str,
    refused: str | None,
) -> tuple[Verdict, str | None]:
    """The verdict on two models, and why it is not "equivalent".

    What was seen to differ decides; then what nobody can tell; what is proved comes last. A value
    that is another one than that of its name is evidence where all around is built alike: in a
    graph that is built otherwise, tools may have given its name to something else.

    Args:
        alignment: what is different outside of the converted layers.
        layers: what is known about each of those.
        seen: what the samples contradict.
        agreement: how well they agree otherwise, in words.
        refused: what the runtime says if it runs the original, and not the converted model.
    """
    for layer in layers:
        if layer.reason is not None:
            return Verdict.NOT_EQUIVALENT, f"layer '{layer.name}': {layer.reason}"
    if alignment.differences and not alignment.unknown:
        return (
            Verdict.NOT_EQUIVALENT,
            f"outside the converted layers: {_all(alignment.differences)}",
        )
    unchecked = next((layer for layer in layers if layer.unchecked is not None), None)
    shown = unchecked is None and not alignment.unknown
    for one in sorted(seen, key=lambda one: not one.certain):
        if one.certain or not shown:
            built = f"; {_all(alignment.unknown)}" if alignment.unknown else ""
            return Verdict.NOT_EQUIVALENT, f"output '{one.output}': {one.what}{built}"
        return Verdict.COULD_NOT_CHECK, (
            f"the files say the same, but not the samples: output '{one.output}': {one.what}; "
            "one of the two runtimes computes something else"
        )
    if alignment.unknown:
        otherwise = (*alignment.unknown, *alignment.differences)
        why = f"its structure is not known: {_all(otherwise)}; {agreement}"
        return Verdict.COULD_NOT_CHECK, why
    if unchecked is not None:
        return Verdict.COULD_NOT_CHECK, f"layer '{unchecked.name}': {unchecked.unchecked}"
    if refused is not None:
        return Verdict.COULD_NOT_CHECK, f"only the original runs: {refused}"
    return Verdict.EQUIVALENT, None


def _all(sentences: Sequence[str]) -> str:
    more = f" (and {len(sentences) - 1} more)" if len(sentences) > 1 else ""
    return f"{sentences[0]}{more}"


def within_tolerance(outputs: Sequence[OutputDifference]) -> tuple[Verdict, str | None]:
    """The verdict of a comparison, and why it is not "equivalent"."""
    wrong = next((out for out in outputs if out.reason is not None), None)
    if wrong is not None:
        return Verdict.NOT_EQUIVALENT, f"output '{wrong.name}': {wrong.reason}"
    if not any(out.evidence.finite for out in outputs):
        return Verdict.COULD_NOT_CHECK, "no output of the original has a number on these samples"
    return Verdict.EQUIVALENT, None


def telling_nothing(outputs: Sequence[OutputDifference]) -> Sequence[str]:
    """A remark on each output that is the same everywhere."""
    return [
        f"output '{out.name}' is the same everywhere, which tells little: --data and --input "
        "feed other samples"
        for out in outputs
        if out.evidence.elements > 1 and not out.evidence.varies
    ]
