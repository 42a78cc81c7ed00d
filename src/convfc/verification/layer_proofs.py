"""Every converted layer of a model, proved one after another."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convfc.errors import UnsupportedModelError
from convfc.formats.protocols import Alignment, LayerPair, Model
from convfc.gates import gate
from convfc.samples.batches import BATCH_BYTES, Feeds
from convfc.verification.end_to_end import FEW
from convfc.verification.proof import LayerProof, prove


def prove_layers(
    a: Model,
    b: Model,
    feeds: Feeds,
    random: np.random.Generator,
    quick: bool,
    progress: Callable[[str], None],
) -> tuple[Alignment, tuple[LayerProof, ...], list[str]]:
    """What is outside the converted layers, what is known about each of these, and notes.

    Args:
        a: the original.
        b: the converted model.
        feeds: the samples; what the original feeds its layers on a few of them is what these are
            measured on.
        random: where the draws come from.
        quick: see `prove`.
        progress: called with a few words for every layer.

    Raises:
        DataError: the samples cannot be read or do not fit.
    """
    progress("comparing what was not converted")
    alignment = a.align(b)
    pairs = list(alignment.pairs)
    alignment = replace(alignment, pairs=())  # those that are proved may go, weights and all
    notes: list[str] = []
    few, rows = feeds.few(FEW)
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
            progress(f"layer {len(layers) + 1} of {count}: {name}")
            began = perf_counter()
            with gate(b.path, name):
                proof = prove(pair, activations.get(name), random, quick=quick)
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
