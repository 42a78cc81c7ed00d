"""CausalConvWithState in other operators: what came before is joined on, and a Conv of that.

Language models call it once per token, with the last inputs of the call before as their state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from convfc.formats.onnx.operators import DOMAINS
from convfc.formats.onnx.protos import settings

_THE_END = 2**63 - 1


def unrolled(
    node: onnx.NodeProto, shapes: Mapping[str, Sequence[int]], fresh: Callable[[str], str]
) -> list[onnx.NodeProto] | None:
    """The nodes that compute what a CausalConvWithState does; ``None`` of an unknown kernel.

    Args:
        node: the operator, of ONNX or of onnxruntime.
        shapes: those of constants and inputs, by their names.
        fresh: makes a name that nothing has.
    """
    given = settings(node)
    activation = given.pop("activation", b"none")
    x, kernel, bias, past = (*node.input, "", "", "", "")[:4]
    y, present = (*node.output, "")[:2]
    shape = shapes.get(kernel, ())
    if given.pop("ndim", 1) != 1 or given or activation not in (b"none", b"silu", b"swish"):
        return None
    if not (x and y) or len(shape) != 3 or shape[1] != 1 or min(shape) < 1:
        return None
    channels, _, taps = shape
    nodes = []

    def constant(numbers: Sequence[int]) -> str:
        name = fresh(f"{y}/constant")
        tensor = numpy_helper.from_array(np.array(numbers, np.int64))
        nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    joined = fresh(f"{y}/joined")
    if past:
        nodes.append(helper.make_node("Concat", [past, x], [joined], axis=2))
    else:
        before = constant([0, 0, taps - 1, 0, 0, 0])
        nodes.append(helper.make_node("Pad", [x, before], [joined]))
    inputs = [joined, kernel, bias] if bias else [joined, kernel]
    made = y if activation == b"none" else fresh(f"{y}/conv")
    nodes.append(
        helper.make_node(
            "Conv", inputs, [made], name=node.name, group=channels, kernel_shape=[taps]
        )
    )
    if made != y:
        wide, gate, wide_y = (fresh(f"{y}/{name}") for name in ("wide", "gate", "gated"))
        plain = node.domain not in DOMAINS  # ONNX has float16 gated in float32
        gating = [
            helper.make_node("Cast", [made], [wide], to=onnx.TensorProto.FLOAT),
            helper.make_node("Sigmoid", [made if plain else wide], [gate]),
            helper.make_node("Mul", [made if plain else wide, gate], [y if plain else wide_y]),
            helper.make_node("CastLike", [wide_y, made], [y]),
        ]
        nodes += gating[1:3] if plain else gating
    if present:
        ends = [constant([number]) for number in (1 - taps or _THE_END, _THE_END, 2)]
        nodes.append(helper.make_node("Slice", [joined, *ends], [present]))
    return nodes
