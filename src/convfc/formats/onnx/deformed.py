"""DeformConv in other operators: what it samples, side by side, and a convolution of that.

Each tap of each output position reads the image at a place of its own, between four pixels. With
all that they read laid out in blocks of the kernel's size, a Conv whose stride is its kernel's size
computes the same sums; it is converted as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from convfc.formats.onnx.protos import settings

_ONE = {"group", "offset_group"}
_TWO = {"kernel_shape", "strides", "dilations"}
_NAMES = {*_ONE, *_TWO, "pads"}


@dataclass
class _Chain:
    """Nodes in the making; what they make has names that nothing else in the model has."""

    prefix: str
    fresh: Callable[[str], str]
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:  # noqa: ANN401
        name = self.fresh(f"{self.prefix}/{operator.lower()}")
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def integers(self, numbers: Sequence[Any] | int) -> str:
        """A constant; a scalar of a number, a vector of several, a matrix of lists of them."""
        tensor = numpy_helper.from_array(np.array(numbers, np.int64))
        return self("Constant", value=tensor)


def undeformed(
    node: onnx.NodeProto, shapes: Mapping[str, Sequence[int]], fresh: Callable[[str], str]
) -> list[onnx.NodeProto] | None:
    """The nodes that compute what a DeformConv does; ``None`` of an unknown kernel.

    Args:
        node: the DeformConv.
        shapes: those of constants and inputs, by their names.
        fresh: makes a name that nothing has.
    """
    given = settings(node)
    x, kernel, offset, bias, mask = (*node.input, "", "", "", "", "")[:5]
    shape = shapes.get(kernel, ())
    if not (x and offset) or len(shape) != 4 or not given.keys() <= _NAMES:
        return None
    taps = list(shape[2:])
    group, blocks = (given.get(name, 1) for name in ("group", "offset_group"))
    steps, spread = (given.get(name, [1, 1]) for name in ("strides", "dilations"))
    pads = given.get("pads", [0] * 4)
    fits = list(given.get("kernel_shape", taps)) == taps
    if not fits or len(steps) != 2 or len(spread) != 2 or len(pads) != 4:
        return None
    channels = shape[1] * group
    if min(group, blocks, *shape) < 1 or channels % blocks:
        return None
    add = _Chain(node.output[0], fresh)
    sizes = add("Shape", x, start=2)
    counts = add("Shape", offset, start=2)
    # Places of the taps: (2, n, blocks, rows, taps, columns, taps).
    split = add("Concat", add.integers([0, blocks, *taps, 2]), counts, axis=0)
    moves = add("Transpose", add("Reshape", offset, split), perm=[4, 0, 1, 5, 2, 6, 3])
    ends = []
    for axis in (0, 1):
        zero, one = add.integers(0), add.integers(1)
        count, size = (add("Gather", of, add.integers(axis)) for of in (counts, sizes))
        outputs = add("Mul", add("Range", zero, count, one), add.integers(steps[axis]))
        within = np.arange(taps[axis]) * spread[axis] - pads[axis]
        grid = add("Add", add("Unsqueeze", outputs, add.integers([1])), add.integers([*within]))
        if axis == 0:
            grid = add("Unsqueeze", grid, add.integers([2, 3]))
        move = add("Gather", moves, add.integers(axis), axis=0)
        place = add("Add", move, add("CastLike", grid, move))
        ends.append(_ends(add, place, size))
    blocked = add("Reshape", x, add.integers([0, blocks, channels // blocks, -1]))
    pixels = add("Transpose", blocked, perm=[0, 1, 3, 2])
    width = add("Gather", sizes, add.integers(1))
    last = add.integers([-1])
    sampled = ""
    for row, down in ends[0]:
        for column, right in ends[1]:
            at = add("Unsqueeze", add("Add", add("Mul", row, width), column), last)
            share = add("Unsqueeze", add("Mul", down, right), last)
            part = add("Mul", add("GatherND", pixels, at, batch_dims=2), share)
            sampled = add("Add", sampled, part) if sampled else part
    if mask:
        split = add("Concat", add.integers([0, blocks, *taps]), counts, axis=0)
        scale = add("Transpose", add("Reshape", mask, split), perm=[0, 1, 4, 2, 5, 3])
        sampled = add("Mul", sampled, add("Unsqueeze", scale, last))
    first = add("Transpose", sampled, perm=[0, 1, 6, 2, 3, 4, 5])
    lengths = add("Mul", counts, add.integers(taps))
    image = add("Reshape", first, add("Concat", add.integers([0, channels]), lengths, axis=0))
    inputs = [image, kernel, bias] if bias else [image, kernel]
    add.nodes.append(
        helper.make_node(
            "Conv",
            inputs,
            node.output,
            name=node.name,
            group=group,
            kernel_shape=taps,
            strides=taps,
        )
    )
    return add.nodes


def _ends(add: _Chain, place: str, size: str) -> list[tuple[str, str]]:
    """The two pixels that a place lies between, and how much of each is in what is read there.

    Nothing is of what lies outside.
    """
    zero, one = add.integers(0), add.integers(1)
    low = add("Floor", place)
    after = add("Sub", place, low)
    before = add("Sub", add("CastLike", one, place), after)
    first = add("Cast", low, to=onnx.TensorProto.INT64)
    found = []
    for pixel, share in ((first, before), (add("Add", first, one), after)):
        held = add("Max", add("Min", pixel, add("Sub", size, one)), zero)
        inside = add("Equal", held, pixel)
        found.append((held, add("Where", inside, share, add("CastLike", zero, place))))
    return found
