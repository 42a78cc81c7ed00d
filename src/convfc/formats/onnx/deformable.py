"""Deformable convolutions, told as a sampling of their input and a convolution of what it gives.

Each tap of each output reads the input at a place of its own, between four numbers. These places
move with the data, but once they are read, what follows is a product with the kernel as ever: of a
map with a field of its own for each output, a field as large as the kernel, and a stride likewise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from convfc.core.arrays import Array
from convfc.formats.onnx.operators import DOMAINS, known_shape
from convfc.formats.onnx.protos import fresh_names
from convfc.formats.onnx.replacing import replaced
from convfc.formats.onnx.sites import Place

_BEYOND = 2
"""Zeros around the input: where both numbers of a pair lie outside, neither is one of its own."""
_LONGEST = 2**20
"""Places along an axis that are written into the file: 4 MB."""
_TYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE)


@dataclass(frozen=True)
class _Sampling:
    """What sampling depends on.

    Attributes:
        sizes: height and width of the input.
        outputs: those of the output.
        taps: those of the kernel.
        strides, dilations, begins: for each of the two; `begins` are pads before the input.
        channels: of the input.
        groups: how many groups of channels have offsets of their own.
        dtype: of all numbers.
    """

    sizes: tuple[int, int]
    outputs: tuple[int, int]
    taps: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    begins: tuple[int, int]
    channels: int
    groups: int
    dtype: np.dtype[np.floating]

    def undeformed(self, axis: int) -> Array:
        """Where taps read along an axis with offsets of zero, (k1, k2, o1, o2) or a one."""
        outputs = np.arange(self.outputs[axis]) * self.strides[axis] - self.begins[axis]
        taps = np.arange(self.taps[axis]) * self.dilations[axis]
        at = np.add.outer(taps, outputs).astype(self.dtype)  # (k, o) of this axis
        return at[:, None, :, None] if axis == 0 else at[None, :, None, :]


def is_deformable(node: ir.Node) -> bool:
    """Whether a node is a deformable convolution."""
    return node.domain in DOMAINS and node.op_type == "DeformConv"


def sampled(proto: onnx.ModelProto, inferred: ir.Model) -> tuple[onnx.ModelProto, int]:
    """A copy of a model with samplings and convolutions in the places of deformable ones.

    Those remain as they are whose sizes are unknown, that have other than two axes, are of another
    type than float32 and float64, or stand in a function.

    Args:
        proto: the model.
        inferred: it with its shapes.

    Returns:
        The copy, and how many are sampled now.
    """
    newer = onnx.ModelProto()
    newer.CopyFrom(proto)
    fresh = fresh_names(newer)
    count = replaced(newer, inferred, _sampling, lambda node, known: _parts(node, known, fresh))
    return newer, count


def _sampling(place: Place) -> _Sampling | None:
    """What sampling for a node depends on, where that is known and its parts fit together."""
    node = place.node
    if not is_deformable(node) or not isinstance(place.body, ir.Graph):
        return None
    given = [*node.inputs, None, None][:5]
    x, kernel, offset, mask = (_sizes(given[at]) for at in (0, 1, 2, 4))
    types = {value.dtype for value in given if value is not None}
    dtype = next(iter(types), None)
    if x is None or kernel is None or offset is None or len(types) > 1 or dtype not in _TYPES:
        return None
    settings = node.attributes
    taps, sizes = kernel[2:], x[2:]
    strides = settings.get_ints("strides", [1, 1])
    dilations = settings.get_ints("dilations", [1, 1])
    pads = settings.get_ints("pads", [0] * 4)
    stated = settings.get_ints("kernel_shape", taps)
    groups, kernels = settings.get_int("offset_group", 1), settings.get_int("group", 1)
    if not len(strides) == len(dilations) == len(pads) / 2 == 2 or tuple(stated) != taps:
        return None
    if min(*strides, *dilations, groups, kernels, *taps) < 1 or min(pads) < 0:
        return None
    outputs = []
    for axis, size in enumerate(sizes):
        reach = (taps[axis] - 1) * dilations[axis] + 1
        outputs.append((size + pads[axis] + pads[axis + 2] - reach) // strides[axis] + 1)
    rows = groups * math.prod(taps)
    fits = offset[1:] == (2 * rows, *outputs) and min(outputs) > 0
    fits &= given[4] is None or (mask is not None and mask[1:] == (rows, *outputs))
    fits &= max(math.prod(pair) for pair in zip(taps, outputs, strict=True)) <= _LONGEST
    if not fits or x[1] % groups or x[1] != kernel[1] * kernels or kernel[0] % kernels:
        return None
    return _Sampling(
        sizes=_pair(sizes),
        outputs=_pair(outputs),
        taps=_pair(taps),
        strides=_pair(strides),
        dilations=_pair(dilations),
        begins=_pair(pads),
        channels=x[1],
        groups=groups,
        dtype=np.dtype(np.float32 if dtype is ir.DataType.FLOAT else np.float64),
    )


def _sizes(value: ir.Value | None) -> tuple[int, ...] | None:
    """All four sizes of a tensor, of which the first may be open: then it is 0."""
    shape = known_shape(value)
    if shape is None or len(shape) != 4 or None in shape[1:]:
        return None
    return tuple(size or 0 for size in shape)


def _pair(numbers: Sequence[int]) -> tuple[int, int]:
    first, second = numbers[:2]
    return int(first), int(second)


def _parts(
    node: onnx.NodeProto, known: _Sampling, fresh: Callable[[str], str]
) -> list[onnx.NodeProto]:
    """Standard operators that read the samples, and the convolution of them.

    Axes are named n (samples), g (groups of offsets), k1, k2 (taps), o1, o2 (outputs), p1, p2 (the
    two numbers of a pair) and c (channels of a group).
    """
    x, kernel, offset, bias, mask = [*node.input, "", ""][:5]
    nodes: list[onnx.NodeProto] = []

    def emit(kind: str, inputs: Sequence[str], what: str, **settings: Any) -> str:  # noqa: ANN401 - make_node's
        name = fresh(f"{node.output[0]}/{what}")
        nodes.append(helper.make_node(kind, inputs, [name], **settings))
        return name

    def constant(array: Array, what: str) -> str:
        return emit("Constant", [], what, value=numpy_helper.from_array(array))

    def ints(*numbers: int) -> str:
        return constant(np.array(numbers, np.int64), "sizes")

    def real(number: int, what: str) -> str:
        return constant(np.array(number, known.dtype), what)

    (k1, k2), (o1, o2), g = known.taps, known.outputs, known.groups
    height, width = (size + 2 * _BEYOND for size in known.sizes)
    one, pair = real(1, "one"), ints(0, 1)
    moved = emit("Reshape", [offset, ints(0, g, k1, k2, 2, o1, o2)], "offsets")
    places, shares = [], []
    for axis, word in enumerate(("row", "column")):
        mine = emit("Gather", [moved, constant(np.array(axis), "axis")], f"{word}_offset", axis=4)
        at = emit("Add", [mine, constant(known.undeformed(axis), "undeformed")], word)
        limits = [real(-_BEYOND, "lowest"), real(known.sizes[axis], "highest")]
        at = emit("Clip", [at, *limits], f"{word}_inside")
        low = emit("Floor", [at], f"{word}_before")
        second = emit("Sub", [at, low], f"{word}_share")
        first = emit("Sub", [one, second], f"{word}_rest")
        last = ints(-1)
        both = [emit("Unsqueeze", [share, last], "share") for share in (first, second)]
        shares.append(emit("Concat", both, f"{word}_shares", axis=-1))  # n g k1 k2 o1 o2 p
        whole = emit("Cast", [low], f"{word}_number", to=onnx.TensorProto.INT64)
        begin = emit("Add", [whole, ints(_BEYOND)], f"{word}_begin")
        places.append(emit("Add", [emit("Unsqueeze", [begin, last], "begin"), pair], f"{word}s"))
    rows = emit("Mul", [emit("Unsqueeze", [places[0], ints(-1)], "row"), ints(width)], "rows")
    columns = emit("Unsqueeze", [places[1], ints(-2)], "columns")
    flat = emit("Add", [rows, columns], "places")  # n g k1 k2 o1 o2 p1 p2
    index = emit("Unsqueeze", [flat, ints(-1)], "index")
    share = emit(
        "Mul",
        [
            emit("Unsqueeze", [shares[0], ints(-1)], "row"),
            emit("Unsqueeze", [shares[1], ints(-2)], "column"),
        ],
        "shares",
    )
    beyond = [0, 0, _BEYOND, _BEYOND]
    around = emit("Pad", [x, ints(*beyond, *beyond)], "padded")
    shape = ints(0, g, known.channels // g, height * width)
    read = emit(
        "Transpose", [emit("Reshape", [around, shape], "flat")], "pixels", perm=[0, 1, 3, 2]
    )
    found = emit("GatherND", [read, index], "found", batch_dims=2)
    weighed = emit("Mul", [found, emit("Unsqueeze", [share, ints(-1)], "share")], "weighed")
    samples = emit("ReduceSum", [weighed, ints(6, 7)], "between", keepdims=0)  # n g k1 k2 o1 o2 c
    if mask:
        each = emit("Reshape", [mask, ints(0, g, k1, k2, o1, o2, 1)], "mask")
        samples = emit("Mul", [samples, each], "masked")
    fields = emit("Transpose", [samples], "fields", perm=[0, 1, 6, 4, 2, 5, 3])
    image = emit("Reshape", [fields, ints(0, known.channels, o1 * k1, o2 * k2)], "sampled")
    group = [entry for entry in node.attribute if entry.name == "group"]
    last_node = helper.make_node(
        "Conv",
        [image, kernel, *([bias] if bias else [])],
        node.output,
        name=node.name,
        kernel_shape=known.taps,
        strides=known.taps,
    )
    last_node.attribute.extend(group)
    return [*nodes, last_node]
