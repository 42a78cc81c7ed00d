"""The proof that a converted layer is its convolution, without a tolerance that somebody guessed.

**The same function.** For each layer: the numbers in its filter matrix are the kernel's, bit for
bit; and with random small integers as input, kernel and bias, for which no sum of products rounds
in any order, the original's runtime and the converted one's agree bit for bit. Both compute a
polynomial of degree 2 in those numbers (3 for two products in a row). If the polynomials differ,
they agree on a draw from n numbers each with probability at most 2 / n (Schwartz, 1980; Zippel,
1979); several draws multiply.

**Only rounding.** On real activations the two may differ by the rounding of a sum in another
order. Whatever the order, a sum of n products is off by at most gamma_n = n u / (1 - n u) times
the sum of their magnitudes (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed.,
section 3.1), on each side; what is denormal may be flushed to zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convfc.differences import Witness
from convfc.errors import ConvfcError
from convfc.model import Twin

Array = NDArray[Any]

_DIGITS = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}
_TINY = {"float64": 2.0**-1022, "float16": 2.0**-14}
_LARGEST_INTEGER = 31
_CHANCE = 1e-6
"""How likely a wrong layer may pass; draws are added until it is below."""


@dataclass(frozen=True)
class LayerProof:
    """What is known about one converted layer.

    Attributes:
        name: the site's name.
        kind: the format's word for it.
        parameters_equal: whether its numbers are the kernel's and the bias's, bit for bit.
        draws: random integer inputs on which both sides agreed bit for bit.
        chance: that a wrong layer passes all of them; ``None`` for quantized layers, which are
            compared on random integers with their own parameters.
        share: largest difference on real activations, as a share of what rounding may do at most;
            ``None`` if there were none, or for a layer that computes with integers.
        reason: why it is not the same function, else ``None``.
        unchecked: why it could not be checked, else ``None``.
        witness: where the two sides differ, if they do.
    """

    name: str
    kind: str
    parameters_equal: bool = False
    draws: int = 0
    chance: float | None = None
    share: float | None = None
    reason: str | None = None
    unchecked: str | None = None
    witness: Witness | None = None


def prove(
    twin: Twin, activations: Array | None, random: np.random.Generator, *, quick: bool = False
) -> LayerProof:
    """Check one layer.

    Args:
        twin: the layer, twice.
        activations: what the original model feeds it on some samples, samples along axis 0;
            ``None`` if that cannot be had.
        random: where the draws come from.
        quick: leave out the draws.
    """
    site = twin.site
    try:
        if twin.problem is not None:
            return LayerProof(site.name, site.kind, reason=twin.problem)
        proof = LayerProof(site.name, site.kind, parameters_equal=True)
        if not quick:
            proof = _draw(twin, activations, random, proof)
        if proof.reason is None and activations is not None and site.dtype in _DIGITS:
            proof = _measure(twin, activations, random, proof)
    except ConvfcError as error:
        return LayerProof(site.name, site.kind, unchecked=str(error))
    return proof


def _draw(
    twin: Twin, activations: Array | None, random: np.random.Generator, proof: LayerProof
) -> LayerProof:
    """Compare both sides on random integers."""
    site = twin.site
    shape = _shape(twin, activations)
    if site.dtype not in _DIGITS:
        return _draw_integers(twin, shape, random, proof)
    largest = _largest_exact(twin.stages, site.dtype)
    if largest < 1:
        reason = f"not even ones add up exactly in {site.dtype} over sums of {max(twin.stages)}"
        return replace(proof, unchecked=reason)
    degree = len(twin.stages) + 1
    chance_once = degree / (2 * largest + 1)
    if chance_once >= 1:
        reason = f"the integers that are exact in {site.dtype} are too few for a proof"
        return replace(proof, unchecked=reason)
    draws = math.ceil(math.log(_CHANCE) / math.log(chance_once))
    for draw in range(draws):

        def integers(shape: Sequence[int]) -> Array:
            numbers = random.integers(-largest, largest + 1, tuple(shape))
            return numbers.astype(_dtype(site.dtype))

        parameters = {name: integers(twin.parameter_shape(name)) for name in twin.parameters}
        # What is unknown is of another size at each draw: some layers do arithmetic with it.
        sizes = zip(shape, twin.input_shape, strict=True)
        x = integers([n + draw * (i > 0 and size is None) for i, (n, size) in enumerate(sizes)])
        witness = _unequal(*twin.run(x, parameters))
        if witness is not None:
            reason = "it differs from the convolution on integers, where nothing rounds"
            return replace(proof, draws=draw, reason=reason, witness=witness)
    return replace(proof, draws=draws, chance=chance_once**draws)


def _draw_integers(
    twin: Twin,
    shape: tuple[int, ...],
    random: np.random.Generator,
    proof: LayerProof,
    draws: int = 4,
) -> LayerProof:
    site = twin.site
    limits = np.iinfo(site.dtype)
    for draw in range(draws):
        x = random.integers(limits.min, limits.max + 1, shape).astype(site.dtype)
        witness = _unequal(*twin.run(x, {}))
        if witness is not None:
            reason = "it differs from the convolution on integers"
            return replace(proof, draws=draw, reason=reason, witness=witness)
    return replace(proof, draws=draws)


def _measure(
    twin: Twin, activations: Array, random: np.random.Generator, proof: LayerProof
) -> LayerProof:
    """Compare both sides on real numbers with what rounding may do."""
    site = twin.site
    dtype = _dtype(site.dtype)
    drawn = {
        name: random.normal(size=twin.parameter_shape(name)).astype(dtype)
        for name, value in twin.parameters.items()
        if value is None
    }
    a, b = (np.asarray(y, np.float64) for y in twin.run(activations, drawn))
    parameters = {
        name: abs(drawn[name] if value is None else value)
        for name, value in twin.parameters.items()
    }
    magnitude = np.asarray(twin.original(abs(activations), parameters), np.float64)
    n, unit = sum(twin.stages) + len(twin.stages), 2.0 ** -_DIGITS[site.dtype]
    gamma = n * unit / (1 - n * unit) if n * unit < 1 else math.inf
    with np.errstate(invalid="ignore", over="ignore"):
        # The magnitude itself was summed with rounding: the true one is this much larger at most.
        bound = 2 * gamma * magnitude * (1 + 2 * gamma)
        bound = bound + 2 * n * _TINY.get(site.dtype, 2.0**-126)
        gap = abs(a - b)
        # An infinite or undefined bound promises nothing: sums of such numbers depend on the order.
        free = ~np.isfinite(bound) | (a == b)
        share = np.where(free, 0.0, gap / bound)
    share = np.where(np.isnan(share), np.inf, share)
    worst = float(share.max(initial=0.0))
    if worst <= 1:
        return replace(proof, share=worst)
    place = int(share.argmax())
    return replace(
        proof,
        share=worst,
        reason="it differs from the convolution by more than rounding can explain",
        witness=_witness(a, b, place),
    )


def _shape(twin: Twin, activations: Array | None) -> tuple[int, ...]:
    """One sample of the layer's own sizes; where they are unknown, those of the activations."""
    seen: Sequence[int | None] = (
        [None] * len(twin.input_shape) if activations is None else activations.shape
    )
    smallest = twin.smallest_shape
    sizes = zip(twin.input_shape[1:], seen[1:], smallest[1:], strict=True)
    return (1, *(size or found or least for size, found, least in sizes))


def _largest_exact(stages: Sequence[int], dtype: str) -> int:
    """The largest integer from which sums of products, bias included, are exact in any order."""
    sums = math.prod(terms + 1 for terms in stages)
    limit = 2 ** _DIGITS[dtype]
    fits = (r for r in range(_LARGEST_INTEGER, 0, -1) if sums * r ** (len(stages) + 1) <= limit)
    return next(fits, 0)


def _unequal(a: Array, b: Array) -> Witness | None:
    """The first place where two arrays differ."""
    if a.shape != b.shape:
        return Witness(0, (), float(a.size), float(b.size))
    differs = a != b
    return _witness(a, b, int(differs.argmax())) if differs.any() else None


def _witness(a: Array, b: Array, flat: int) -> Witness:
    row, *position = (int(i) for i in np.unravel_index(flat, a.shape))
    return Witness(row, tuple(position), float(a.flat[flat]), float(b.flat[flat]))


def _dtype(name: str) -> Any:  # noqa: ANN401 - numpy's name for a type of any kind
    import ml_dtypes

    return ml_dtypes.bfloat16 if name == "bfloat16" else np.dtype(name)
