"""A converted model with everything in the form of its original: all ways back in their order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import onnx_ir as ir

from convfc.core.geometry import Sizes
from convfc.core.whole import Form
from convfc.formats.forms import DEFAULT, Forms
from convfc.formats.onnx.emitter import LOOKED_UP
from convfc.formats.onnx.moving import reshaped_to
from convfc.formats.onnx.optimized import unmerged
from convfc.formats.onnx.own_layout import in_own_layout
from convfc.formats.onnx.reshaping import is_mixed
from convfc.formats.onnx.sites import Place
from convfc.formats.onnx.unflattened import in_own_axes
from convfc.formats.provenance import Provenance


def in_own_form(
    converted: ir.Model,
    original: ir.Model,
    outputs: Mapping[str, Sizes],
    record: Provenance | None,
    *,
    optimized: bool = True,
) -> ir.Model:
    """What was moved by convfc, or merged by optimizers, in its own layout and on its own axes.

    Args:
        converted: any model; it stays as it is.
        original: what it is going to be compared with.
        outputs: sizes, the batch apart, of what the original's convolutions make, by name.
        record: of the converted model.
        optimized: whether optimizers may have been there.
    """
    dense = record is not None and any(layer.form == Form.DENSE for layer in record.layers)
    apart = unmerged(converted, original, outputs) if optimized else converted
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
