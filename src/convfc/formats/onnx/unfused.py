"""Operators that are a convolution and something else, taken apart.

Those are what onnxruntime's optimizer fuses (many people have no other file of a net than the one
that it wrote), DeformConv, and CausalConvWithState.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from convfc.core.arrays import to_first, to_last
from convfc.formats.onnx.causal import unrolled
from convfc.formats.onnx.deformed import undeformed
from convfc.formats.onnx.operators import DOMAINS
from convfc.formats.onnx.protos import fresh_names, graphs_of, settings

DEFORMED = "DeformConv"
CAUSAL = "CausalConvWithState"
_OURS = "com.microsoft"
_CONV = {"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"}


@dataclass(frozen=True)
class _Known:
    """What the parts of a node depend on.

    Attributes:
        opset: version of the standard operators around it.
        dtypes: element types of constants, by their names.
        shapes: theirs, and those of inputs; 0 for a size that is open.
        own: domains and names of the model's functions, which are none of the fused ones.
        fresh: makes a name that nothing has.
    """

    opset: int
    dtypes: dict[str, int]
    shapes: dict[str, tuple[int, ...]]
    own: set[tuple[str, str]]
    fresh: Callable[[str], str]


def unfused(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, Counter[str]]:
    """A copy of a model with plain operators in the places of such ones, and of how many of each.

    Those whose meaning is not known remain as they are.
    """
    newer = onnx.ModelProto()
    newer.CopyFrom(proto)
    fresh, counts = fresh_names(newer), Counter[str]()
    own = {(function.domain, function.name) for function in newer.functions}
    for body in (newer.graph, *newer.functions):
        imports = newer.opset_import if isinstance(body, onnx.GraphProto) else body.opset_import
        opset = next((entry.version for entry in imports if entry.domain in DOMAINS), 1)
        graphs = list(graphs_of(body))
        constants = [tensor for graph in graphs for tensor in graph.initializer]
        dtypes = {tensor.name: tensor.data_type for tensor in constants}
        known = _Known(opset, dtypes, _shapes(body, graphs), own, fresh)
        # Outermost last: what is taken apart is copied, with the graphs in it.
        outer = [body] if isinstance(body, onnx.FunctionProto) else []
        lists: list[onnx.GraphProto | onnx.FunctionProto] = [*reversed(graphs), *outer]
        for one in lists:
            parts = [(node, _parts(node, known)) for node in one.node]
            if any(found is not None for _, found in parts):
                nodes = [part for node, found in parts for part in found or [node]]
                counts.update(node.op_type for node, found in parts if found is not None)
                copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
                del one.node[:]
                one.node.extend(copies)
    return newer, counts


def _shapes(
    body: onnx.GraphProto | onnx.FunctionProto, graphs: Sequence[onnx.GraphProto]
) -> dict[str, tuple[int, ...]]:
    """Those of constants, and of what a graph is fed where it says them."""
    fed = body.input if isinstance(body, onnx.GraphProto) else ()
    sides = {value.name: value.type.tensor_type.shape.dim for value in fed}
    found = {name: tuple(side.dim_value for side in dims) for name, dims in sides.items()}
    nodes = [node for one in (*graphs, body) for node in one.node if node.op_type == "Constant"]
    for node in nodes:
        value = settings(node).get("value")
        if isinstance(value, onnx.TensorProto):
            found |= {name: tuple(value.dims) for name in node.output}
    return found | {t.name: tuple(t.dims) for one in graphs for t in one.initializer}


def is_fused(node: onnx.NodeProto | ir.Node) -> bool:
    """Whether a node is one that `unfused` looks at."""
    domain = "" if node.domain in DOMAINS else node.domain
    return (domain, node.op_type) in _TAKEN_APART


def _parts(node: onnx.NodeProto, known: _Known) -> list[onnx.NodeProto] | None:
    """The standard operators that compute what a node does; ``None`` if that is not known."""
    if not is_fused(node) or (node.domain, node.op_type) in known.own:
        return None
    if known.opset < 7:
        return None
    try:
        return _TAKEN_APART["" if node.domain in DOMAINS else node.domain, node.op_type](
            node, known
        )
    except ValueError:  # of an attribute without a type, or more outputs than there are
        return None


def _fused_conv(node: onnx.NodeProto, known: _Known) -> list[onnx.NodeProto] | None:
    """A Conv, to which a tensor may be added, and an activation."""
    given = settings(node)
    activation = given.pop("activation", None)
    parameters = given.pop("activation_params", ())
    if not given.keys() <= _CONV or not 2 <= len(node.input) <= 4:
        return None
    (y,), more = node.output, node.input[3:]
    steps: list[Callable[[str, str], list[onnx.NodeProto]]] = []
    if more and more[0]:
        steps.append(lambda x, out: [helper.make_node("Add", [x, more[0]], [out])])
    if activation is not None:
        act = _activation(activation, parameters, known, known.dtypes.get(node.input[1]))
        if act is None:
            return None
        steps.append(act)
    names = [*(known.fresh(f"{y}/{'sum' if i else 'conv'}") for i in range(len(steps))), y]
    conv = onnx.NodeProto()
    conv.CopyFrom(node)
    conv.op_type, conv.domain = "Conv", ""
    _keep_settings(conv, _CONV)
    del conv.input[3:]
    conv.output[0] = names[0]
    parts = [conv]
    for step, (x, out) in zip(steps, pairwise(names), strict=True):
        parts += step(x, out)
    return parts


def _activation(
    name: Any,  # noqa: ANN401 - whatever a file has there
    parameters: Any,  # noqa: ANN401 - likewise
    known: _Known,
    dtype: int | None,
) -> Callable[[str, str], list[onnx.NodeProto]] | None:
    """Makes the nodes of an activation of onnxruntime, between two values."""
    word = name.decode(errors="replace") if isinstance(name, bytes) else ""
    wanted = _PARAMETERS.get(word)
    if wanted is None:
        return None
    real = isinstance(parameters, Sequence) and all(isinstance(x, float) for x in parameters)
    if wanted and not (real and len(wanted) == len(parameters)):
        return None
    numbers = dict(zip(wanted, parameters, strict=True)) if wanted else {}
    if word == "HardSwish":
        return partial(_hard_swish, known)
    if word == "Clip" and known.opset >= 11:
        return partial(_clip, known, numbers, dtype) if dtype in _REAL else None
    return lambda x, y: [helper.make_node(word, [x], [y], **numbers)]


def _clip(
    known: _Known, numbers: dict[str, float], dtype: int, x: str, y: str
) -> list[onnx.NodeProto]:
    names = [known.fresh(f"{y}/{what}") for what in numbers]
    element = helper.tensor_dtype_to_np_dtype(dtype)
    tensors = [numpy_helper.from_array(np.array(n, element)) for n in numbers.values()]
    limits = [
        helper.make_node("Constant", [], [name], value=tensor)
        for name, tensor in zip(names, tensors, strict=True)
    ]
    return [*limits, helper.make_node("Clip", [x, *names], [y])]


def _hard_swish(known: _Known, x: str, y: str) -> list[onnx.NodeProto]:
    gate = known.fresh(f"{y}/gate")
    return [
        helper.make_node("HardSigmoid", [x], [gate], alpha=1 / 6, beta=0.5),
        helper.make_node("Mul", [x, gate], [y]),
    ]


_REAL = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "Relu": (),
    "Tanh": (),
    "Sigmoid": (),
    "HardSwish": (),
    "LeakyRelu": ("alpha",),
    "Clip": ("min", "max"),
    "HardSigmoid": ("alpha", "beta"),
}
"""Every activation that onnxruntime fuses, and what its parameters are called."""


def _qlinear_conv(node: onnx.NodeProto, known: _Known) -> list[onnx.NodeProto] | None:
    """A QLinearConv, its channels perhaps last."""
    given = settings(node)
    (y,) = node.output
    last = given.pop("channels_last", 0)
    if not given.keys() <= _CONV or not all(node.input[:8]) or not 8 <= len(node.input) <= 9:
        return None
    plain = onnx.NodeProto()
    plain.CopyFrom(node)
    plain.domain = ""
    _keep_settings(plain, _CONV)
    if not last:
        return [plain]
    rank = len(known.shapes.get(node.input[3], ()))
    if rank < 3:
        return None
    x = node.input[0]
    plain.input[0], plain.output[0] = known.fresh(f"{y}/moved"), known.fresh(f"{y}/conv")
    first = helper.make_node("Transpose", [x], [plain.input[0]], perm=to_first(rank))
    return [first, plain, helper.make_node("Transpose", [plain.output[0]], [y], perm=to_last(rank))]


def _keep_settings(node: onnx.NodeProto, names: set[str]) -> None:
    kept = [entry for entry in node.attribute if entry.name in names]
    del node.attribute[:]
    node.attribute.extend(kept)


def _deform_conv(node: onnx.NodeProto, known: _Known) -> list[onnx.NodeProto] | None:
    """A DeformConv: what it samples, and a Conv of that."""
    return undeformed(node, known.shapes, known.fresh)


def _causal_conv(node: onnx.NodeProto, known: _Known) -> list[onnx.NodeProto] | None:
    """A CausalConvWithState: a Conv of what it joins, and the state that it returns."""
    if known.opset < 11:  # Pad and Slice had other inputs
        return None
    return unrolled(node, known.shapes, known.fresh)


_TAKEN_APART = {
    (_OURS, "FusedConv"): _fused_conv,
    (_OURS, "QLinearConv"): _qlinear_conv,
    ("", DEFORMED): _deform_conv,
    ("", CAUSAL): _causal_conv,
    (_OURS, CAUSAL): _causal_conv,
}
