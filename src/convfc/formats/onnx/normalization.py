"""What becomes part of its neighbour: normalization, and what does nothing at inference.

Each rule writes the neighbour with other numbers, and says whether it could.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from convfc.formats.onnx.known_values import Known
from convfc.formats.onnx.moving import is_read
from convfc.formats.onnx.operators import DOMAINS


def normalize(known: Known, node: ir.Node) -> bool:
    """BatchNormalization: into the convolution before it, or as a product and a sum."""
    x, row = node.inputs[0], known.row(node.inputs[0])
    told = [known.given(node, place) for place in range(1, 5)]
    numbers = [one for one in told if one is not None]
    flag = node.attributes.get_int
    trains = flag("training_mode", 0) or len(node.outputs) != 1 or flag("spatial", 1) != 1
    if x is None or row is None or len(numbers) < 4 or trains:
        return False
    scale, shift, mean, variance = numbers
    with np.errstate(all="ignore"):
        scale = scale / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
        shift = shift - mean * scale
    if _into_convolution(known, node, scale, shift):
        return True
    shape = [len(scale), *[1] * (len(row) - 1)]
    name = node.outputs[0].name
    arrays = {f"{name}/scale": scale.reshape(shape), f"{name}/shift": shift.reshape(shape)}
    made = known.constants(arrays, x)
    if made is None:
        return False
    return known.become(node, "Add", [known.before(node, "Mul", [x, made[0]]), made[1]])


def _into_convolution(
    known: Known, node: ir.Node, scale: NDArray[Any], shift: NDArray[Any]
) -> bool:
    """Give the convolution before a normalization other numbers, and its place."""
    x = node.inputs[0]
    conv = None if x is None else x.producer()
    if (
        x is None
        or conv is None
        or known.only_reader(x) is not node
        or conv.graph is not node.graph
    ):
        return False
    transposed = conv.op_type == "ConvTranspose"
    if conv.domain not in DOMAINS or not (conv.op_type == "Conv" or transposed):
        return False
    kernel, bias = known.given(conv, 1), known.given(conv, 2)
    groups = conv.attributes.get_int("group", 1)
    if kernel is None or (bias is None and len(conv.inputs) > 2):
        return False
    filters = kernel.shape[1] * groups if transposed else kernel.shape[0]
    if filters != len(scale) or kernel.shape[0] % groups:
        return False
    with np.errstate(all="ignore"):
        if transposed:
            parts = kernel.reshape(groups, -1, *kernel.shape[1:])
            ones = [1] * (kernel.ndim - 2)
            kernel = (parts * scale.reshape(groups, 1, -1, *ones)).reshape(kernel.shape)
        else:
            kernel = kernel * scale.reshape(-1, *[1] * (kernel.ndim - 1))
        shift = shift if bias is None else shift + bias * scale
    name = conv.inputs[1].name if conv.inputs[1] is not None else ""
    made = known.constants({f"{name}/normalized": kernel, f"{name}/shift": shift}, x)
    if made is None:
        return False
    attributes = list(conv.attributes.values())
    known.become(node, conv.op_type, [conv.inputs[0], *made])
    node.attributes.update((one.name, one) for one in attributes)
    node.name = conv.name
    known.remove(conv)
    return True


def nothing(known: Known, node: ir.Node) -> bool:
    """Identity and Dropout at inference: what reads them reads what they read."""
    x, y = node.inputs[0], node.outputs[0]
    training = known.given(node, 2)
    may_train = len(node.inputs) > 2 and (training is None or training.any())
    seen = any(map(is_read, node.outputs[1:])) or y.is_graph_output()
    if x is None or may_train or seen:
        return False
    y.replace_all_uses_with(x)
    known.remove(node)
    return True
