"""Results as JSON types, for programs: every figure of the tables, and more."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from convfc.lowering import Lowering
from convfc.provenance import LayerRecord

if TYPE_CHECKING:  # who calculates one layer's sizes need not wait for the rest
    from convfc.conversion import Conversion
    from convfc.differences import OutputDifference
    from convfc.planning import Layer
    from convfc.verification import Verification


def conversion_json(conversion: Conversion) -> dict[str, Any]:
    """Everything in `conversion_table`, and more, as JSON types."""
    checked = conversion.verification
    return {
        "source": str(conversion.source),
        "out": str(conversion.out),
        "written": conversion.written,
        "complete": conversion.complete,
        "layers": [layer_json(layer) for layer in conversion.layers],
        "notes": list(conversion.notes),
        "verification": None if checked is None else verification_json(checked),
    }


def layer_json(layer: Layer) -> dict[str, Any]:
    """One convolution as JSON types."""
    site = layer.site
    return {
        "name": site.name,
        "kind": site.kind,
        "fate": layer.fate.value,
        "reason": layer.reason,
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
        "blocks": len(lowering.blocks) or 1,
        "block_bytes": lowering.block_bytes(itemsize),
    }


def verification_json(verification: Verification) -> dict[str, Any]:
    """Everything in `verification_table`, and more, as JSON types."""
    return {
        "original": str(verification.original),
        "converted": str(verification.converted),
        "verdict": verification.verdict.value,
        "reason": verification.reason,
        "samples": verification.samples,
        "fed": list(verification.fed),
        "notes": list(verification.notes),
        "outputs": [_difference_json(out) for out in verification.outputs],
    }


def _difference_json(out: OutputDifference) -> dict[str, Any]:
    witness = out.witness
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
        "witness": None
        if witness is None
        else {
            "sample": witness.sample,
            "position": list(witness.position),
            "original": _number(witness.original),
            "converted": _number(witness.converted),
        },
    }


def _number(value: float) -> float | str:
    """JSON has no NaN and no infinity: they become text."""
    return value if math.isfinite(value) else str(value)
