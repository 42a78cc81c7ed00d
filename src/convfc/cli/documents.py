"""Results as JSON types, for programs: every figure of the tables, and more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from convfc.core.lowering import Lowering
from convfc.core.whole import Whole
from convfc.formats.provenance import LayerRecord

if TYPE_CHECKING:  # who calculates one layer's sizes need not wait for the rest
    from convfc.clients import Client
    from convfc.conversion import Conversion
    from convfc.formats.shapes import Shapes
    from convfc.planning import Layer
    from convfc.reversion import Reversion, RevertedLayer
    from convfc.verification.differences import Distance, OutputDifference, Witness
    from convfc.verification.parting import Parting
    from convfc.verification.proof import LayerProof
    from convfc.verification.verify import Verification


def conversion_json(conversion: Conversion) -> dict[str, Any]:
    """Everything in `conversion_table`, and more, as JSON types."""
    more = {
        "form": conversion.form.value,
        "client": conversion.client,
        "shapes": _shapes_json(conversion.shapes),
    }
    return _job_json(conversion, [layer_json(layer) for layer in conversion.layers], more)


def reversion_json(reversion: Reversion) -> dict[str, Any]:
    """Everything in `reversion_table`, and more, as JSON types."""
    return _job_json(reversion, [reverted_json(layer) for layer in reversion.layers], {})


def _job_json(
    job: Conversion | Reversion, layers: Sequence[Mapping[str, Any]], more: Mapping[str, Any]
) -> dict[str, Any]:
    """What was read and written, what became of the layers, and what was seen of it."""
    checked = job.verification
    return {
        "source": str(job.source),
        "out": str(job.out),
        "written": job.written,
        "complete": job.complete,
        "layers": layers,
        "notes": list(job.notes),
        **more,
        "verification": None if checked is None else verification_json(checked),
        "look": None if job.look is None else asdict(job.look),
    }


def reverted_json(layer: RevertedLayer) -> dict[str, Any]:
    """One layer that was converted as JSON types."""
    way = layer.way
    return {
        "name": way.site.name,
        "kind": way.site.kind,
        "fate": layer.fate.value,
        "changed": None if way.refusal is not None else way.change.value,
        "reason": way.reason,
        "code": None if way.refusal is None else way.refusal.code.value,
        "dtype": way.site.dtype,
        "bias": way.site.bias,
        "lowering": None
        if way.lowering is None
        else lowering_json(way.lowering, way.site.itemsize),
    }


def clients_json(clients: Iterable[Client]) -> list[dict[str, Any]]:
    """What each client needs, as JSON types."""
    return [
        {
            "name": client.name,
            "who": client.who,
            "sets": list(client.sets),
            "forms": list(client.forms.names),
            "fixed": client.fixed,
            "form": client.form,
            "flat_io": client.flat_io,
            "max_pool": client.max_pool,
            "why": client.why,
        }
        for client in clients
    ]


def _shapes_json(shapes: Shapes) -> dict[str, list[int]]:
    return {name: list(sizes) for name, sizes in shapes.items()}


def layer_json(layer: Layer) -> dict[str, Any]:
    """One convolution as JSON types."""
    site = layer.site
    return {
        "name": site.name,
        "kind": site.kind,
        "fate": layer.fate.value,
        "reason": layer.reason,
        "code": None if layer.refusal is None else layer.refusal.code.value,
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
        "blocks": lowering.blocks,
        "block_bytes": lowering.block_bytes(itemsize),
        "form": lowering.form.value,
        "dense": None if lowering.whole is None else _whole_json(lowering.whole, itemsize),
    }


def _whole_json(whole: Whole, itemsize: int) -> dict[str, Any]:
    return {
        "matrix": list(whole.shape),
        "bytes": whole.bytes(itemsize),
        "weights": whole.weights,
    }


def verification_json(verification: Verification) -> dict[str, Any]:
    """Everything in `proof_table` and `differences_table`, and more, as JSON types."""
    return {
        "original": str(verification.original),
        "converted": str(verification.converted),
        "verdict": verification.verdict.value,
        "reason": verification.reason,
        "shapes": _shapes_json(verification.shapes),
        "proved": verification.proved,
        "quick": verification.quick,
        "layers": [_proof_json(proof) for proof in verification.layers],
        "samples": verification.samples,
        "float64_samples": verification.float64_samples,
        "float64_missing": verification.float64_missing,
        "fed": list(verification.fed),
        "notes": list(verification.notes),
        "outputs": [_difference_json(out) for out in verification.outputs],
        "differences": list(verification.differences),
        "parting": None if verification.parting is None else _parting_json(verification.parting),
    }


def _parting_json(parting: Parting) -> dict[str, Any]:
    first = parting.first
    return {
        "first": None if first is None else first.tensor.name,
        "samples": list(parting.samples),
        "tensors": [
            {
                "layer": one.tensor.maker,
                "kind": one.tensor.kind,
                "other": one.other.name,
                **_difference_json(one.difference),
            }
            for one in parting.compared
        ],
        "alone": list(parting.alone),
    }


def _proof_json(proof: LayerProof) -> dict[str, Any]:
    return {
        "name": proof.name,
        "kind": proof.kind,
        "equivalent": proof.reason is None and proof.unchecked is None,
        "reason": proof.reason,
        "unchecked": proof.unchecked,
        "parameters_equal": proof.parameters_equal,
        "structure": proof.structure,
        "draws": proof.draws,
        "chance": proof.chance,
        "inexact": list(proof.inexact),
        "share_of_bound": proof.share,
        "on_random": proof.on_random,
        "witness": _witness_json(proof.witness),
    }


def _difference_json(out: OutputDifference) -> dict[str, Any]:
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
        "witness": _witness_json(out.witness),
        "original_error": _distance_json(out.original_error),
        "converted_error": _distance_json(out.converted_error),
    }


def _distance_json(distance: Distance | None) -> dict[str, float] | None:
    if distance is None:
        return None
    return {"max_abs": distance.max_abs, "max_rel": distance.max_rel}


def _witness_json(witness: Witness | None) -> dict[str, Any] | None:
    if witness is None:
        return None
    return {
        "sample": witness.sample,
        "position": list(witness.position),
        "original": witness.original,
        "converted": witness.converted,
    }
