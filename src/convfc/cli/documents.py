"""Results as JSON types, for programs: every figure of the tables, and more.

Each document begins with the name and version of its schema, which is a file in docs/schema. A
member that is new leaves the version as it is; one that goes, or means something else, raises it.
"""

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
    from convfc.explanation.numbers import Explanation
    from convfc.formats.draft import Draft
    from convfc.formats.shapes import Shapes
    from convfc.planning import Layer, ModelShapes
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
        "draft": _draft_json(conversion.draft),
    }
    return _job_json(
        "conversion-1", conversion, [layer_json(layer) for layer in conversion.layers], more
    )


def _draft_json(draft: Draft | None) -> dict[str, Any] | None:
    if draft is None:
        return None
    return {
        "size_before": draft.size_before,
        "size": draft.size,
        "operators_before": dict(draft.operators_before),
        "operators": dict(draft.operators),
    }


def reversion_json(reversion: Reversion) -> dict[str, Any]:
    """Everything in `reversion_table`, and more, as JSON types."""
    return _job_json(
        "reversion-1", reversion, [reverted_json(layer) for layer in reversion.layers], {}
    )


def _job_json(
    schema: str,
    job: Conversion | Reversion,
    layers: Sequence[Mapping[str, Any]],
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """What was read and written, what became of the layers, and what was seen of it."""
    checked = job.verification
    return {
        "schema": schema,
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


def clients_json(clients: Iterable[Client]) -> dict[str, Any]:
    """What each client needs, as JSON types."""
    found = [
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
    return {"schema": "clients-1", "clients": found}


def _shapes_json(shapes: Shapes) -> dict[str, list[int]]:
    return {name: list(sizes) for name, sizes in shapes.items()}


def shapes_json(shapes: ModelShapes) -> dict[str, Any]:
    """Everything in `shapes_table`, and more, as JSON types."""
    return {
        "schema": "shapes-1",
        "model": str(shapes.model),
        "form": shapes.form.value,
        "layers": [layer_json(layer) for layer in shapes],
        "totals": asdict(shapes.totals),
    }


def calculation_json(lowering: Lowering, left: str | None) -> dict[str, Any]:
    """Everything in `calculator_table`, and more, as JSON types.

    Args:
        lowering: how the convolution would be converted.
        left: why no model would get it.
    """
    told = lowering_json(lowering, itemsize=4)
    return {"schema": "calculation-1", **told, "left": left}


def explanation_json(explained: Explanation) -> dict[str, Any]:
    """The numbers of one layer on one sample, all of them, as JSON types."""
    scaling, near, flipped = explained.scaling, explained.agreement, explained.flipped
    return {
        "schema": "explanation-1",
        "title": explained.title,
        "description": explained.description,
        "remarks": list(explained.remarks),
        "dtype": explained.dtype,
        "lowering": lowering_json(explained.lowering, explained.itemsize),
        "image": explained.image.tolist(),
        "patches": explained.patches.tolist(),
        "filters": explained.filters.tolist(),
        "bias": None if explained.bias is None else explained.bias.tolist(),
        "output": explained.output.tolist(),
        "own": None if explained.own is None else explained.own.tolist(),
        "agreement": None if near is None else asdict(near),
        "scaling": None
        if scaling is None
        else {**asdict(scaling), "kernel_scales": scaling.kernel_scales.tolist()},
        "index_map": explained.index_map.tolist(),
        "flipped": {"filters": flipped.filters.tolist(), "output": flipped.output.tolist()},
        "others": [
            {
                "description": one.description,
                "image": one.image.tolist(),
                "patches": one.patches.tolist(),
                "output": one.output.tolist(),
                "own": None if one.own is None else one.own.tolist(),
            }
            for one in explained.others
        ],
    }


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
        "output": None if layer.output is None else asdict(layer.output),
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
        "schema": "verification-1",
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
                "name": one.tensor.name,
                "layer": one.tensor.maker,
                "kind": one.tensor.kind,
                "other": one.other.name,
                "difference": _difference_json(one.difference),
            }
            for one in parting.compared
        ],
        "alone": list(parting.alone),
    }


def verifications_json(verifications: Iterable[Verification]) -> dict[str, Any]:
    """The verifications of a folder's files."""
    found = [verification_json(one) for one in verifications]
    return {"schema": "verifications-1", "verifications": found}


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
