"""Every converted layer of a model, proved one after another."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convfc.errors import UnsupportedModelError
from convfc.formats.protocols import Alignment, LayerPair, Model
from convfc.gates import gate
from convfc.samples.batches import BATCH_BYTES, Feeds
from convfc.verification.end_to_end import FEW
from convfc.verification.proof import LayerProof, prove

Found: TypeAlias = "tuple[Alignment, tuple[LayerProof, ...], list[str]]"
"""What is outside the converted layers, what is known about each of these, and notes."""


@dataclass(frozen=True)
class Means:
    """What a pair of models is proved with.

    Attributes:
        feeds: the samples; what the original feeds its layers on a few of them is what these are
            measured on.
        random: where the draws come from.
        quick: see `prove`.
        progress: called with a few words for every layer.
        imports: modules that register custom Keras classes.
    """

    feeds: Feeds
    random: np.random.Generator
    quick: bool
    progress: Callable[[str], None]
    imports: Sequence[str] = ()


def prove_layers(a: Model, b: Model, by: Means) -> Found:
    """Prove what is outside the converted layers, and each of these.

    Args:
        a: the original.
        b: the converted model.
        by: what it is proved with.

    Raises:
        DataError: the samples cannot be read or do not fit.
    """
    by.progress("comparing what was not converted")
    alignment = a.align(b)
    pairs = list(alignment.pairs)
    alignment = replace(alignment, pairs=())  # those that are proved may go, weights and all
    notes: list[str] = []
    few, rows = by.feeds.few(FEW)
    count = len(pairs)
    layers: list[LayerProof] = []
    runs = True
    while pairs:
        group = [pairs.pop(0) for _ in range(_fitting(pairs, rows))]
        activations: Mapping[str, NDArray[Any]] = {}
        try:
            if runs:
                activations = a.activations(few, [pair.site.name for pair in group])
        except UnsupportedModelError as error:
            runs = False
            notes.append(f"The original cannot run as a whole, so it fed no layers: {error}")
        while group:
            pair = group.pop(0)
            name = pair.site.name
            by.progress(f"layer {len(layers) + 1} of {count}: {name}")
            began = perf_counter()
            with gate(b.path, name):
                proof = prove(pair, activations.get(name), by.random, quick=by.quick)
            layers.append(replace(proof, seconds=perf_counter() - began))
    return alignment, tuple(layers), notes


def _fitting(pairs: Sequence[LayerPair], rows: int) -> int:
    """How many of the layers, one at least, may have their activations in memory at once."""
    total = 0
    for number, pair in enumerate(pairs):
        # Sizes that are not known are not counted.
        total += math.prod(size or 1 for size in pair.input_shape) * rows * pair.site.itemsize
        if total > BATCH_BYTES:
            return max(number, 1)
    return len(pairs)
