"""The proof that a converted layer is its convolution, without a tolerance that somebody guessed.

**Theorem.** If `prove` finds neither a `reason` nor anything `unchecked`, then the converted layer
and the convolution are the same function of input, kernel and bias, rounding apart: for every size
and batch where `structure` is ``None``, else for the sizes that the file fixes.

*By construction.* `LayerPair.structure` asks the emitter again and compares operator by operator,
attribute by attribute, wire by wire, and constant by constant, bit for bit. Where nothing differs,
the layer is what the method says. That the method is right for every size is arithmetic, proved
with the sizes as symbols (tests/test_all_sizes.py).

*By draws.* With small random integers as input, kernel and bias, for which no sum of products
rounds in any order, both runtimes must agree bit for bit (`_draw`), with batches of 1 and 3. For
the structure above that checks the emitter and the runtime; where a run takes seconds, with fewer
draws, and the chance that these leave. For another one, of an older version or a simplifier, it is
the proof, if every operation is on a written list of those that are linear or move elements
(`LayerPair.unshown` is ``None``): then both sides are polynomials of degree 2 in those numbers (3
for two products in a row), and if they differ, they agree on a draw from n numbers each with
probability at most 2 / n (Schwartz, 1980; Zippel, 1979); several draws multiply. It does not hold
for quantized layers that round the sums to 8 bits, which hides some.

*By the way back.* A file that others have given another form is written with its layers reverted
whose form has changed, and that is proved as above (`rebuilding.by_way_back`). Each of these layers
was found step by step (`formats.onnx.matching`); what comes back and what the file has agree on
integers, bit for bit. That proves polynomials; where rows are rounded to grids, as quantizers do,
it checks what was written, and the steps that were found are the proof.

*Only rounding.* On real activations the two may differ by the rounding of a sum in another order
(`_measure`). Whatever the order, a sum of n products is off by at most gamma_n times the sum of
their magnitudes (`core.rounding.gamma`), on each side; what is denormal may be flushed to zero.

**Assumed**: the runtime computes each operator as its definition says; integers that both runtimes
get wrong in the same way are not seen. Some runtimes compute with integers, but not exactly:
Winograd's products, TF32, 8-bit sums that saturate. Where the two sides differ on integers, both
are computed again without short cuts (`LayerPair.exact`), and a difference counts only if it is
still there. In half precision, sums of many products are exact for too few integers: there, both
sides are computed in a wider type from the start. And numbers are finite: in the dense form, and
between the phases of a transposed convolution, inputs that meet no weight are multiplied by zero,
which is not a number if they are infinite; a convolution does not look at them.

What is checked where:

- operators, attributes, wires, constants of a layer: `LayerPair.structure`, which is
  `formats.onnx.structure.first_difference` and `formats.keras.lockstep.lockstep`
- the numbers of kernel and bias: `LayerPair.problem`, from the same walk
- whether draws prove anything of another structure: `LayerPair.unshown`, which is
  `formats.onnx.polynomial.why_not_polynomial` and `formats.keras.linear.unshown`
- that both sides agree on integers: `_draw`, on the shapes and numbers of `verification.draws`
- that only rounding is between them: `_measure`, within the bound of `verification.rounding`
- everything outside of the layers: `Model.align`, which is `alignment.cut` of either format
- what a file says twice, or says of sizes without a ground: `formats.onnx.ambiguity.ambiguities`,
  `formats.onnx.shape_inference.unfounded`
- that the samples do not contradict all this: `verdict.contradiction`
- the verdict, of all that: `verdict.conclude`; docs/verdicts.md has a line per kind of change
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from convfc.core.arrays import DIGITS, Array, numpy_type, place_of
from convfc.errors import ConvfcError
from convfc.formats.demand import too_much
from convfc.formats.protocols import LayerPair
from convfc.text.sizes import sizes_text
from convfc.verification.differences import Witness
from convfc.verification.draws import (
    distribution,
    draws_worth_waiting_for,
    remainder_shapes,
    runnable_part,
    sample_shape,
)
from convfc.verification.rounding import rounding_share

_WIDER = {"bfloat16": "float32", "float16": "float32", "float32": "float64"}
"""What `LayerPair.exact` computes in."""
_CHANCE = 1e-6
"""How likely a wrong layer may pass; draws are added until it is below."""
_MOST = 0.5
"""How likely it may pass one draw, or there would be too many draws: a wider type has more."""
_BATCHES = (1, 3)
"""Of the draws, where the batch is open: a layer must not mix its samples."""
_ROUNDED_DRAWS = 8
"""Draws where it cannot be told how likely that is."""


@dataclass(frozen=True)
class LayerProof:
    """What is known about one converted layer.

    Attributes:
        name: the site's name.
        kind: the format's word for it.
        parameters_equal: whether its numbers are the kernel's and the bias's, bit for bit.
        draws: random integer inputs on which both sides agreed bit for bit.
        chance: that a wrong layer passes all of them; ``None`` where that cannot be told, because
            the layer rounds its sums to 8 bits, or because they may wrap around.
        inexact: "original" or "converted" or both: whose runtime does not compute exactly with
            integers. What is said here was found by computing these in float64 instead.
        share: largest difference on activations, as a share of what rounding may do at most;
            ``None`` for a layer that computes with integers, whose outputs must be equal.
        on_random: whether the activations were random, as the real ones cannot be seen.
        structure: the first thing that is not as convfc emits it; ``None`` if all of it is.
        reason: why it is not the same function, else ``None``.
        unchecked: why it could not be checked, else ``None``.
        witness: where the two sides differ, if they do.
        seconds: what it took to find out.
    """

    name: str
    kind: str
    parameters_equal: bool = False
    draws: int = 0
    chance: float | None = None
    inexact: tuple[str, ...] = ()
    share: float | None = None
    on_random: bool = False
    structure: str | None = None
    reason: str | None = None
    unchecked: str | None = None
    witness: Witness | None = None
    seconds: float = field(default=0.0, compare=False)


def prove(
    pair: LayerPair, activations: Array | None, random: np.random.Generator, *, quick: bool = False
) -> LayerProof:
    """Check one layer.

    Args:
        pair: the layer, twice.
        activations: what the original model feeds it on some samples, samples along axis 0;
            ``None`` if that cannot be seen: then normally distributed numbers stand for it.
        random: where the draws come from.
        quick: leave out the draws of layers that are built as convfc builds them, unless the
            rounding is suspicious.
    """
    site = pair.site
    proof = LayerProof(site.name, site.kind)
    try:
        if pair.problem is not None:
            return replace(proof, reason=pair.problem)
        structure = pair.structure
        unshown = None if structure is None else pair.unshown
        proof = replace(proof, structure=structure, parameters_equal=unshown is None)
        activations = runnable_part(pair, activations)
        shape = sample_shape(pair, activations)
        drawn = [] if quick and structure is None else remainder_shapes(pair, shape)
        seen = [] if activations is None else [activations.shape]
        for why in filter(None, (too_much(pair, one) for one in (shape, *drawn, *seen))):
            return replace(proof, unchecked=f"it is not run: {why}")
        if not quick or structure is not None:  # another structure has no proof but the draws
            proof = _draw(pair, activations, random, proof)
        if proof.reason is None and proof.unchecked is None:
            measured = _measure(pair, activations, random, proof)
            if quick and measured.reason is not None:
                # Perhaps the runtime rounds more than it should; integers tell.
                proof = _draw(pair, activations, random, proof)
                measured = _measure(pair, activations, random, proof) if proof.inexact else measured
            proof = measured
    except ConvfcError as error:
        return replace(proof, unchecked=str(error))
    if unshown is not None and proof.reason is None and proof.unchecked is None:
        agrees = "what was tried agrees"
        return replace(proof, unchecked=f"it is built otherwise: {structure}; {unshown}; {agrees}")
    return proof


def _draw(
    pair: LayerPair, activations: Array | None, random: np.random.Generator, proof: LayerProof
) -> LayerProof:
    """Compare both sides on random integers.

    Where they differ, they are computed again without short cuts: only if the difference is still
    there, it is one of the function; and so it is where nothing else can run the layer.
    """
    site = pair.site
    shape = sample_shape(pair, activations)
    chance_once, range_of = distribution(pair, site.dtype)
    narrow = chance_once is not None and chance_once >= _MOST
    if narrow:
        chance_once, range_of = distribution(pair, _WIDER.get(site.dtype, site.dtype))
    if chance_once is not None and chance_once >= _MOST:
        return replace(proof, unchecked="its sums are too long to be exact in any type")
    draws = math.ceil(math.log(_CHANCE) / math.log(chance_once)) if chance_once else _ROUNDED_DRAWS
    if proof.structure is None:
        draws = draws_worth_waiting_for(pair, draws)

    def integers(shape: Sequence[int], dtype: str) -> Array:
        low, high = range_of(dtype)
        short = np.int8 if high <= np.iinfo(np.int8).max else np.int64  # several times as fast
        return random.integers(low, high + 1, tuple(shape), short).astype(numpy_type(dtype))

    def parameter(name: str) -> Array:
        own = pair.parameters[name]
        if own is None or not pair.rounds_to_integers:
            return integers(pair.parameter_shape(name), pair.parameter_dtype(name))
        # Its scales are made for numbers like its own: others would end in the type's limits.
        return random.permutation(own.reshape(-1)).reshape(own.shape)

    inexact: set[str] = set()
    shapes = [shape] * draws + remainder_shapes(pair, shape)
    for draw, drawn in enumerate(shapes):
        parameters = {name: parameter(name) for name in pair.parameters}
        # Of the emitter's own structure it is known how it treats a batch; larger ones take longer.
        batch = _BATCHES[draw == 1 if proof.structure is None else draw % 2]
        x = integers((pair.input_shape[0] or batch, *drawn[1:]), site.dtype)
        a, b = pair.exact(x, parameters) if narrow else pair.run(x, parameters)
        if a.shape != b.shape:
            return replace(proof, draws=draw, unchecked=_of_another_shape(a, b))
        witness = _unequal(a, b)
        if witness is None:
            continue
        exact = _exact(pair, x, parameters)
        if exact is not None:
            exact_a, exact_b = exact
            witness = _unequal(exact_a, exact_b)
            inexact |= {"original"} if _unequal(a, exact_a) else set()
            inexact |= {"converted"} if _unequal(b, exact_b) else set()
        if witness is not None:
            reason = "it differs from the convolution on integers, where nothing rounds"
            return replace(proof, draws=draw, reason=reason, witness=witness)
    chance = None if chance_once is None else chance_once**draws
    sides = tuple(sorted(inexact, reverse=True))
    return replace(proof, draws=len(shapes), chance=chance, inexact=sides)


def _exact(
    pair: LayerPair, x: Array, parameters: Mapping[str, Array]
) -> tuple[Array, Array] | None:
    """Both outputs as integers, or ``None`` where only the runtime itself can run the layer."""
    try:
        a, b = pair.exact(x, parameters)
    except ConvfcError:
        return None
    return np.rint(a), np.rint(b)


def _measure(
    pair: LayerPair, activations: Array | None, random: np.random.Generator, proof: LayerProof
) -> LayerProof:
    """Compare both sides on real activations: numbers with what rounding may do, integers as such.

    A side whose runtime is not exact on integers is computed in float64 instead.
    """
    site = pair.site
    real = site.dtype in DIGITS
    if activations is None and not real:
        return proof
    seen = activations is not None
    x = random.normal(size=sample_shape(pair, None)) if activations is None else activations
    x = x.astype(numpy_type(site.dtype), copy=False)
    drawn = {
        name: random.normal(size=pair.parameter_shape(name)).astype(
            numpy_type(pair.parameter_dtype(name))
        )
        for name, value in pair.parameters.items()
        if value is None
    }
    a, b = (np.asarray(y, np.float64) for y in pair.run(x, drawn))
    if proof.inexact:
        exact_a, exact_b = pair.exact(x, drawn)
        a = exact_a if "original" in proof.inexact else a
        b = exact_b if "converted" in proof.inexact else b
    if a.shape != b.shape:
        return replace(proof, unchecked=_of_another_shape(a, b))
    if not real:
        witness = _unequal(a, b)
        reason = None if witness is None else "it differs from the convolution on its activations"
        return replace(proof, reason=reason, witness=witness)
    if len(proof.inexact) == 2:
        return proof  # nothing is left whose rounding could be measured
    parameters = {
        name: abs(drawn[name] if value is None else value)
        for name, value in pair.parameters.items()
    }
    rigorous = "original" not in proof.inexact
    largest = pair.original(abs(x), parameters) if rigorous else pair.exact(abs(x), parameters)[0]
    share = rounding_share(a, b, np.asarray(largest, np.float64), pair.stages, site.dtype)
    worst = float(share.max(initial=0.0))
    proof = replace(proof, share=worst, on_random=not seen)
    if worst <= 1:
        return proof
    return replace(
        proof,
        reason="it differs from the convolution by more than rounding can explain",
        witness=_witness(a, b, int(share.argmax())),
    )


def _of_another_shape(a: Array, b: Array) -> str:
    """Why both cannot be compared: perhaps a value has its name in another layout."""
    sizes = sizes_text(b.shape), sizes_text(a.shape)
    return "its output is {}, that of the convolution {}".format(*sizes)


def _unequal(a: Array, b: Array) -> Witness | None:
    """The first place where two arrays of one shape differ."""
    differs = a != b
    return _witness(a, b, int(differs.argmax())) if differs.any() else None


def _witness(a: Array, b: Array, flat: int) -> Witness:
    row, *position = place_of(flat, a.shape)
    values = float(a.reshape(-1)[flat]), float(b.reshape(-1)[flat])
    return Witness(row, tuple(position), *values)
