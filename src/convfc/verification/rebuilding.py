"""A converted file that others have given another form, by what its layers come back as.

Files are proved directly where they are what convfc emits. Another form is taken apart first: the
layers whose form has changed are reverted in a work folder, and what comes of that is proved
directly against the other side, node by node and number by number. The way back is not trusted: it
finds a chain of nodes step by step, by what they are, and what it writes for that is run beside it
on integers, bit for bit (`Rebuilt`). What is not shown so stays what it was, COULD NOT CHECK.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from convfc.errors import ConvfcError
from convfc.formats.protocols import Alignment, Model
from convfc.formats.registry import open_model, open_reverting
from convfc.formats.reverted import Rebuilt
from convfc.system.workfolders import work_folder
from convfc.verification.layer_proofs import Found, Means, prove_layers
from convfc.verification.proof import LayerProof

_CHANCE = 1e-6
"""How likely a wrong layer may pass, where that can be told."""
_DRAWS = 8
"""Draws where it cannot."""
_BATCHES = (1, 3)


def is_shown(alignment: Alignment, layers: Sequence[LayerProof]) -> bool:
    """Whether nothing is left that could be shown."""
    open_ones = [layer for layer in layers if layer.unchecked or layer.reason]
    return not (alignment.differences or alignment.unknown or alignment.pairs or open_ones)


def differs(alignment: Alignment, layers: Sequence[LayerProof]) -> bool:
    """Whether anything is known to differ, in a graph that is built alike."""
    certain = alignment.differences and not alignment.unknown
    return bool(certain) or any(layer.reason for layer in layers)


def by_way_back(a: Model, b: Model, by: Means) -> Found | None:
    """The proof of a pair, with all layers of the second one back whose form has changed.

    Args:
        a: the original, or the reverted file.
        b: the converted one.
        by: what it is proved with; the draws of layers that come back are no fewer where it is
            quick, as they are all the proof that there is.

    Returns:
        ``None`` unless all of it is shown.
    """
    record = b.provenance
    if record is None:
        return None
    try:
        opened = open_reverting(b.path, record)
        proofs = [_drawn(one, by.random) for one in opened.rebuilt]
        if any(proof.unchecked for proof in proofs):
            return None
        names = {proof.name for proof in proofs}
        rest = tuple(layer for layer in record.layers if layer.name not in names)
        said = replace(record, layers=rest, reverted=not rest).to_json()
        with work_folder() as folder:
            path = folder.files / b.path.name
            opened.save(path, names, said)
            half = open_model(path, by.imports, b.reading)
            alignment, layers, notes = prove_layers(a, half, by)
    except ConvfcError:  # which the direct proof tells, or the way back has no way
        return None
    found = alignment, (*proofs, *layers), notes
    return found if is_shown(*found[:2]) else None


def _drawn(one: Rebuilt, random: np.random.Generator) -> LayerProof:
    """What the file has in a layer's place beside what comes back, on random integers."""
    site = one.site
    proof = LayerProof(site.name, site.kind, parameters_equal=True, structure=one.what)
    if one.unshown is not None:
        return replace(proof, unchecked=one.unshown)
    once = one.chance
    draws = _DRAWS if once is None else math.ceil(math.log(_CHANCE) / math.log(once))
    for draw in range(draws):
        a, b = one.draw(random, _BATCHES[draw % len(_BATCHES)])
        if a.shape != b.shape or a.tobytes() != b.tobytes():
            return replace(proof, unchecked="what comes back is another function")
    return replace(proof, draws=draws, chance=None if once is None else once**draws)
