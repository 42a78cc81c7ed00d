"""A converted model with everything in the form of its original: all ways back in their order.

What others made of it is undone first, if that is asked for. Operators that they fused are taken
apart: a Gemm is MatMul and Add, a MatMulNBits is MatMul with a matrix behind DequantizeLinear, both
by definition. And what is rounded again to a grid on which it is (`grids`) is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import onnx_ir as ir

from convfc.core.geometry import Sizes
from convfc.core.whole import Form
from convfc.formats.forms import DEFAULT, Forms
from convfc.formats.onnx.emitter import LOOKED_UP
from convfc.formats.onnx.few_bits import is_packed, unpack_products
from convfc.formats.onnx.gemm import gemms_apart, is_gemm
from convfc.formats.onnx.grids import rounded_once
from convfc.formats.onnx.late_rounding import rounded_late, with_pairs
from convfc.formats.onnx.moving import reshaped_to
from convfc.formats.onnx.optimized import unmerged
from convfc.formats.onnx.own_layout import in_own_layout
from convfc.formats.onnx.reshaping import is_mixed
from convfc.formats.onnx.sites import Place, places
from convfc.formats.onnx.unflattened import in_own_axes
from convfc.formats.provenance import Provenance


def in_own_form(
    converted: ir.Model,
    original: ir.Model,
    outputs: Mapping[str, Sizes],
    record: Provenance | None,
    *,
    optimized: bool = True,
    fused: bool = False,
) -> ir.Model:
    """What was moved by convfc, or merged by optimizers, in its own layout and on its own axes.

    Args:
        converted: any model; it stays as it is.
        original: what it is going to be compared with.
        outputs: sizes, the batch apart, of what the original's convolutions make, by name.
        record: of the converted model.
        optimized: whether optimizers may have been there.
        fused: whether what others fused is taken apart, and what is rounded twice is rounded once.
    """
    dense = record is not None and any(layer.form == Form.DENSE for layer in record.layers)
    apart, original = _plain(converted, original) if fused else (converted, original)
    apart = unmerged(apart, original, outputs) if optimized else apart
    unflattened = in_own_axes(apart, original, outputs, moved=dense)
    ranks = {name: len(sizes) + 1 for name, sizes in outputs.items()}
    return in_own_layout(unflattened, original, ranks)


def forms_of(record: Provenance | None, layers: Iterable[tuple[Place, Sequence[ir.Node]]]) -> Forms:
    """How the products of a converted model are written, by its record and what is there.

    Args:
        record: of the converted model.
        layers: where each was, and its nodes.
    """
    forms = DEFAULT if record is None else record.forms
    newer = (nodes for place, nodes in layers if place.opset >= LOOKED_UP)
    shapes = (reshaped_to(node) for nodes in newer for node in nodes)
    zeros = any(shape is not None and is_mixed(shape) for shape in shapes)
    return replace(forms, zeros=zeros)


def _plain(converted: ir.Model, original: ir.Model) -> tuple[ir.Model, ir.Model]:
    """A model without what others fused, or rounded twice, but for what the original has, too.

    And the original, with what else is rounded there.
    """
    nodes = [place.node for place in places(converted)]
    if not any(is_gemm(node) or is_packed(node) or _rounds(node) for node in nodes):
        return converted, original
    made = {v.name: place.node for place in places(original) for v in place.node.outputs}
    copy = converted.clone()
    gemms_apart(copy, made.keys())
    unpack_products(copy, made.keys())
    rounded_once(copy, made)
    rounded = rounded_late(copy, made)
    return copy, with_pairs(original, rounded) if rounded else original


def _rounds(node: ir.Node) -> bool:
    return node.op_type == "QuantizeLinear"
