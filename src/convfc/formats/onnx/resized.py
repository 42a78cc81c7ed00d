"""Layers that have more or fewer filters than they had, and read more or fewer channels.

Somebody has pruned filters, or made a net wider. The matrices of a file tell how many there are;
the outline gets kernels of these shapes, and then everything else has to agree with that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from convfc.core.arrangement import LayOut
from convfc.formats.onnx.computed_weights import shape_of
from convfc.formats.onnx.emitter import constant_of
from convfc.formats.onnx.laid_out import Weight, laid_out
from convfc.formats.onnx.operators import operands
from convfc.formats.onnx.outline import Outline, put_zeros


@dataclass(frozen=True)
class Resized:
    """How large a kernel has become.

    Attributes:
        shape: of the kernel.
        groups: of the convolution.
    """

    shape: Sequence[int]
    groups: int


def resized(node: ir.Node, weight: Weight) -> Resized | None:
    """The size of a kernel in a file, if it is not what it was.

    Args:
        node: the convolution in the outline.
        weight: its kernel in the file.
    """
    stored = constant_of(operands(node)["kernel"])
    found = shape_of(weight.value)
    if stored is None or found is None or node.op_type != "Conv" or stored.size == 0:
        return None
    shape, groups = list(stored.shape.numpy()), node.attributes.get_int("group", 1)
    return _resized(shape, groups, laid_out(weight), [size or 0 for size in found])


def _resized(
    shape: Sequence[int], groups: int, lay_out: LayOut, found: Sequence[int]
) -> Resized | None:
    """See `resized`.

    Each axis of the matrix has filters, channels of a group, groups, or several of these; those
    that vary along an axis have become more or fewer as it has become longer or shorter.
    """
    filters, width, *kernel = shape
    places = lay_out(np.arange(math.prod(shape)).reshape(shape))
    if places.ndim != len(found) or list(places.shape) == list(found):
        return None
    filter_of = places // (width * math.prod(kernel))
    of = {
        "filters": filter_of,
        "width": places // math.prod(kernel) % width,
        "groups": filter_of // (filters // groups),
    }
    counts = {"filters": filters, "width": width, "groups": groups}
    for axis, (before, after) in enumerate(zip(places.shape, found, strict=True)):
        for what, numbers in of.items():
            if before != after and (np.diff(numbers, axis=axis) != 0).any():
                counts[what], rest = divmod(counts[what] * after, before)
                if rest:
                    return None
    return Resized([counts["filters"], counts["width"], *kernel], counts["groups"])


def resize(outline: Outline, sizes: Mapping[str, Resized], model: ir.Model) -> None:
    """Give kernels and biases of an outline other sizes, and forget those of other values.

    Args:
        outline: changed in place.
        sizes: by the names of layers.
        model: the file, which tells the sizes of its outputs.
    """
    for name, size in sizes.items():
        node = outline.places[name].node
        given = operands(node)
        put_zeros(given["kernel"], size.shape)
        if "bias" in given and constant_of(given["bias"]) is not None:
            put_zeros(given["bias"], size.shape[:1])
        if size.groups != node.attributes.get_int("group", 1):
            node.attributes["group"] = ir.AttrInt64("group", size.groups)
    if not sizes:
        return
    stated = {value.name: value.shape for value in model.graph.outputs}
    for graph in outline.model.graphs():
        for value in (value for node in graph for value in node.outputs):
            if not value.is_graph_output():
                value.shape = None
    for value in outline.model.graph.outputs:
        value.shape = stated.get(value.name, value.shape)
