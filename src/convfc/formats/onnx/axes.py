"""Changes of axes in the dense form: other rows of the next matrix, or no change of the numbers.

Each rule writes a node, or the one that reads it, otherwise, and says whether it could.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from convfc.core.arrays import to_first
from convfc.core.geometry import Window
from convfc.formats.onnx.image_windows import settings_of, windows_of
from convfc.formats.onnx.known_values import Known
from convfc.formats.onnx.operators import DOMAINS

_MOST_AXES = 2
"""Spatial axes of a convolution that gets one more: runtimes have three."""


def reshaped(known: Known, node: ir.Node) -> bool:
    """What leaves samples and the order of their numbers alone: a Reshape to known sizes."""
    x, before, after = node.inputs[0], known.row(node.inputs[0]), known.row(node.outputs[0])
    if x is None or before is None or after is None or math.prod(before) != math.prod(after):
        return False
    given = known.given(node, 1) if node.op_type == "Reshape" else None
    if given is not None and given[0] in (0, -1) and (given[1:] > 0).all():
        return False  # as it is
    return known.become(node, "Reshape", [x, known.shape([-1, *after])])


def transposed(known: Known, node: ir.Node) -> bool:
    """Transpose: of axes of one number alone; before a fully connected layer or a convolution."""
    row, perm = known.row(node.inputs[0]), node.attributes.get_ints("perm")
    if row is None or perm is None or perm[0] != 0 or len(perm) != len(row) + 1:
        return False
    if not (min(row) > 0 and (moved := [axis for axis in perm[1:] if row[axis - 1] > 1])):
        return False
    if moved == sorted(moved):
        return reshaped(known, node)
    return _rows_reordered(known, node, perm) or _channels_last(known, node, perm)


def _rows_reordered(known: Known, node: ir.Node, perm: Sequence[int]) -> bool:
    """Transpose, Flatten and a fully connected layer: other rows of that, and no Transpose."""
    x, row = node.inputs[0], known.row(node.inputs[0]) or ()
    flatten = known.only_reader(node.outputs[0])
    if flatten is None or flatten.domain not in DOMAINS or len(flatten.outputs) != 1:
        return False
    if flatten.op_type not in ("Flatten", "Reshape"):
        return False
    if known.row(flatten.outputs[0]) != (math.prod(row),):
        return False
    dense = known.only_reader(flatten.outputs[0])
    if dense is None or dense.op_type not in ("MatMul", "Gemm") or dense.domain not in DOMAINS:
        return False
    weights, axis = known.given(dense, 1), dense.attributes.get_int("transB") or 0
    if weights is None or weights.ndim != 2 or dense.attributes.get_int("transA", 0) != 0:
        return False
    order = np.arange(math.prod(row)).reshape(row).transpose([one - 1 for one in perm[1:]])
    if weights.shape[axis] != order.size:
        return False
    name = dense.inputs[1].name if dense.inputs[1] is not None else ""
    back = np.argsort(order.reshape(-1))
    made = known.constants(
        {f"{name}/reordered": weights.take(back, axis)}, node.inputs[0] or dense.outputs[0]
    )
    if made is None:
        return False
    known.replaced |= {v for v in dense.inputs if v is not None}
    dense.replace_input_with(1, made[0])
    flatten.replace_input_with(0, x)
    known.remove(node)
    return True


def _channels_last(known: Known, node: ir.Node, perm: Sequence[int]) -> bool:
    """Before a convolution of all channels: one of a single channel, with an axis more.

    Its window is as long there as there are channels, so it has one position: (N, H, W, C) is read
    as (N, 1, H, W, C), and a kernel (O, C, h, w) as (O, 1, h, w, C).
    """
    x, row, conv = node.inputs[0], known.row(node.inputs[0]), known.only_reader(node.outputs[0])
    rank = len(perm) - 2
    if x is None or row is None or conv is None or list(perm) != to_first(rank + 2):
        return False
    made, kernel = known.image(conv.outputs[0]), known.given(conv, 1)
    if conv.op_type != "Conv" or conv.domain not in DOMAINS or made is None or kernel is None:
        return False
    windows = windows_of(conv, kernel.shape[2:], row[:-1])
    if windows is None or kernel.shape[1:2] != row[-1:] or rank > _MOST_AXES:
        return False
    given = settings_of([*windows, Window(row[-1])])
    name = conv.inputs[1].name if conv.inputs[1] is not None else ""
    found = known.constants({f"{name}/last": np.moveaxis(kernel, 1, -1)[:, np.newaxis]}, x)
    if found is None:
        return False
    known.become(node, "Reshape", [x, known.shape([-1, 1, *row])])
    wide = known.before(conv, "Conv", [node.outputs[0], *found, *conv.inputs[2:]], given)
    maker = wide.producer()
    if maker is not None:
        maker.name, conv.name = conv.name, maker.name
    return known.become(conv, "Reshape", [wide, known.shape([-1, *made])])
