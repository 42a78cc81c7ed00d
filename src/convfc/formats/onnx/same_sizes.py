"""Sizes of transposed convolutions with SAME, as runtimes make them, while onnx infers shapes.

onnx adds output_padding to the size of SAME; onnxruntime, as our geometry, has it within that size.
Of the same pads, written out, both make the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import onnx_ir as ir

from convfc.core.transposed import TransposedWindow
from convfc.errors import GeometryError
from convfc.formats.onnx.operators import geometry, identifier


@contextmanager
def as_run(nodes: Iterable[ir.Node]) -> Iterator[int]:
    """Let such layers have their pads written out for a while.

    Of a kernel of unknown size they are unknown: then nothing is inferred of the layer.

    Args:
        nodes: any.

    Yields:
        How many layers have unknown pads.
    """
    found = [node for node in nodes if _is_ambiguous(node)]
    before = [dict(node.attributes) for node in found]
    pads = [_pads(node) for node in found]
    for node, written in zip(found, pads, strict=True):
        if written is None:
            node.op_type = "Unknown"
        else:
            del node.attributes["auto_pad"]
            node.attributes["pads"] = ir.AttrInt64s("pads", written)
    try:
        yield pads.count(None)
    finally:
        for node, attributes in zip(found, before, strict=True):
            node.op_type = "ConvTranspose"
            node.attributes.clear()
            node.attributes.update(attributes)


def _is_ambiguous(node: ir.Node) -> bool:
    attributes = node.attributes
    return (
        identifier(node) == ("", "ConvTranspose")
        and {"auto_pad", "output_padding"} <= attributes.keys()
        and "output_shape" not in attributes
        and not attributes["auto_pad"].is_ref()
        and attributes.get_string("auto_pad", "").startswith("SAME")
    )


def _pads(node: ir.Node) -> list[int] | None:
    try:
        windows = geometry(node)[0].windows
    except GeometryError:
        return None
    before, after = [], []
    for window in windows:
        pads = window.pads(None) if isinstance(window, TransposedWindow) else None
        if not isinstance(window, TransposedWindow) or pads is None:
            return None
        before.append(pads[0])
        after.append(pads[1] + window.output_padding)
    return [*before, *after]
