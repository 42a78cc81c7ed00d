"""What is affine around convolutions, as convolutions: pooling, normalization, padding, upsampling.

In the dense form, whatever maps an image linearly is one matrix. So it is written as a convolution
of known numbers before the model's convolutions are looked for: a depthwise one for pooling,
padding, cropping and upsampling, and for normalization other numbers in the convolution before it,
or a product and a sum. A change of axes in front of a fully connected layer becomes another order
of its rows. Each rule gives the same function; numbers are computed in float64 and rounded once.

    AveragePool 2x2 = Conv of 1/4, 1/4, 1/4, 1/4          Upsample x2 = ConvTranspose of four ones
    BatchNormalization(Conv(x; W, b)) = Conv(x; s W, s (b - mean) + shift), s = scale / deviation

Only the main graph is looked at, only images of real numbers of which all sizes but the batch are
known, and only what depends on nothing that is known at run time alone. All else stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeAlias

import onnx_ir as ir

from convfc.formats.onnx.axes import reshaped, transposed
from convfc.formats.onnx.elementwise import LOWEST_OPSET
from convfc.formats.onnx.known_values import Known
from convfc.formats.onnx.max_pooling import maximum
from convfc.formats.onnx.moving import is_read
from convfc.formats.onnx.normalization import normalize, nothing
from convfc.formats.onnx.operators import DOMAINS
from convfc.formats.onnx.pooling import average, global_average, pad, upsample
from convfc.formats.onnx.sites import opset_of

_Rule: TypeAlias = Callable[[Known, ir.Node], bool]


def as_convolutions(
    shell: ir.Model, model: ir.Model, inferred: ir.Model, *, max_pool: bool = False
) -> Counter[str]:
    """Write affine operators of a model as convolutions; how many there were of each.

    Args:
        shell: the model, changed in place; it need not have its weights.
        model: the same, with all its weights.
        inferred: the same, with every shape that can be inferred.
        max_pool: whether MaxPool becomes convolutions and ReLU, too.
    """
    counts = Counter[str]()
    if opset_of(shell.graph) < LOWEST_OPSET:
        return counts
    known = Known(shell, model, inferred)
    of_max: Mapping[str, _Rule] = {"MaxPool": maximum} if max_pool else {}
    for rules in (_NOTHING, {**_OTHERS, **of_max}, _AXES):  # so that neighbours are seen as such
        for node in list(shell.graph):
            kind, rule = node.op_type, rules.get(node.op_type)
            if rule is not None and node.domain in DOMAINS and node.inputs:
                counts[kind] += rule(known, node)
    for value in list(shell.graph.initializers.values()):
        if not is_read(value) and not value.is_graph_input() and value in known.replaced:
            shell.graph.initializers.pop(value.name or "")
    return +counts


_NOTHING: Mapping[str, _Rule] = {
    "Dropout": nothing,
    "Identity": nothing,
    "Reshape": reshaped,
    "Squeeze": reshaped,
    "Unsqueeze": reshaped,
}
_OTHERS: Mapping[str, _Rule] = {
    "AveragePool": average,
    "BatchNormalization": normalize,
    "GlobalAveragePool": global_average,
    "Pad": pad,
    "ReduceMean": global_average,
    "Resize": upsample,
    "Upsample": upsample,
}
_AXES: Mapping[str, _Rule] = {"Transpose": transposed}
"""What writes each operator otherwise, where it can; whether it did."""
