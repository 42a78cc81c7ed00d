"""Two converted files of which neither was made from the other: what they were converted from.

Each is reverted, and proved against that; then the two originals are compared, in which no layer is
converted. It does not matter which layers of a file were converted, nor how. What the way back
makes is trusted in nothing: where a file is not proved to be its original's function, nothing is
said of the pair.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from convfc.errors import ConvfcError
from convfc.formats.protocols import Alignment, Model
from convfc.formats.registry import open_model, open_reverting
from convfc.system.workfolders import work_folder
from convfc.verification.layer_proofs import Found, Means, prove_layers
from convfc.verification.pairing import are_siblings
from convfc.verification.proof import LayerProof
from convfc.verification.rebuilding import by_way_back, differs, is_shown


def prove_pair(a: Model, b: Model, by: Means) -> Found:
    """What `prove_layers` says of an original and what was made from it, and of two siblings.

    The names of layers of siblings begin with that of their file.
    """
    if not are_siblings(a, b.provenance):
        direct = prove_layers(a, b, by)
        if is_shown(*direct[:2]) or differs(*direct[:2]) or direct[0].stated:
            return direct
        again = by_way_back(a, b, by)
        return direct if again is None else again
    by.progress("comparing what was not converted")
    alike = a.align(b)
    if not (alike.pairs or alike.differences or alike.unknown):  # they are one, node by node
        return alike, (), []
    records = [model.provenance for model in (a, b)]
    readings = [record.reading() for record in records if record is not None]
    if readings[0] != readings[1]:
        said = "their originals were read in two ways (sizes, affine operators, flat inputs)"
        return Alignment((), unknown=(said,)), (), []
    layers: list[LayerProof] = []
    notes: list[str] = []
    unknown: list[str] = []
    originals: list[Model] = []
    with work_folder() as folder:
        for number, model in enumerate((a, b)):
            path = folder.files / f"{number}_{model.path.name}"
            try:
                missing = _write_original(model, path)
                originals += [] if missing else [open_model(path, by.imports)]
            except ConvfcError as error:
                missing = str(error)
            if missing:
                said = f"what '{model.path.name}' was converted from cannot be told: {missing}"
                return Alignment((), unknown=(said,)), (), []
            found, proofs, said_too = prove_layers(originals[-1], model, by)
            where = f"'{model.path.name}' and what it was converted from: "
            unknown += [f"{where}{said}" for said in (*found.differences, *found.unknown)]
            layers += [_of_file(model, proof) for proof in proofs]
            notes += said_too
        compared = originals[0].align(originals[1])
    sure = not unknown and not any(layer.unchecked for layer in layers)
    differences = compared.differences if sure else ()
    unknown += [*compared.unknown, *(() if sure else compared.differences)]
    unknown += [f"layer '{pair.site.name}' is no convolution in one" for pair in compared.pairs]
    return Alignment((), differences, tuple(unknown), compared.remarks), tuple(layers), notes


def _write_original(model: Model, path: Path) -> str | None:
    """Revert all layers of a file; why that cannot be, if it cannot."""
    record = model.provenance
    assert record is not None  # noqa: S101 - it is a converted file
    opened = open_reverting(model.path, record)
    left = next((way for way in opened.layers if way.refusal is not None), None)
    if left is not None:
        return f"layer '{left.site.name}': {left.reason}"
    said = replace(record, layers=(), outline="", reverted=True).to_json()
    opened.save(path, {way.site.name for way in opened.layers}, said)
    return None


def _of_file(model: Model, proof: LayerProof) -> LayerProof:
    """A proof as one about a file: where it fails, the way back may be what is wrong."""
    name = f"{model.path.name}: {proof.name}"
    return replace(proof, name=name, reason=None, unchecked=proof.unchecked or proof.reason)
