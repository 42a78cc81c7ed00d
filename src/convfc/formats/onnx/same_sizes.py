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
def as_run(layers: Iterable[ir.Node]) -> Iterator[list[ir.Node]]:
    """Let such layers have their pads written out for a while.

    Of a kernel of unknown size they are unknown: then nothing is inferred of the layer.

    Args:
        layers: see `is_ambiguous`.

    Yields:
        Those that have unknown pads.
    """
    before = [(node, dict(node.attributes)) for node in layers]
    unknown = []
    for node, _ in before:
        written = pads_of(node)
        if written is None:
            node.op_type = "Unknown"
            unknown.append(node)
        else:
            del node.attributes["auto_pad"]
            node.attributes["pads"] = ir.AttrInt64s("pads", written)
    try:
        yield unknown
    finally:
        for node, attributes in before:
            node.op_type = "ConvTranspose"
            node.attributes.clear()
            node.attributes.update(attributes)


def is_ambiguous(node: ir.Node) -> bool:
    """Whether it is a transposed convolution that onnx and runtimes make of different sizes."""
    attributes = node.attributes
    return (
        identifier(node) == ("", "ConvTranspose")
        and {"auto_pad", "output_padding"} <= attributes.keys()
        and "output_shape" not in attributes
        and not attributes["auto_pad"].is_ref()
        and attributes.get_string("auto_pad", "").startswith("SAME")
    )


def pads_of(node: ir.Node) -> list[int] | None:
    """The pads of an ambiguous layer, written out; ``None`` while its kernel's size is unknown."""
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
