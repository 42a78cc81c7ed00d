"""The small ONNX models to convert and to spoil, by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx

from tests.campaign.onnx_building import Weights
from tests.campaign.onnx_graphs import (
    branches,
    computed,
    function,
    half,
    integers,
    loop,
    old,
    overridable,
    quantized,
)
from tests.campaign.onnx_optimized import channels_last, fused
from tests.campaign.onnx_plain import (
    bare,
    chain,
    fork,
    groups,
    line,
    open_sizes,
    open_transposed,
    residual,
    tiles,
    transposed,
    volume,
)

SEEDS: Mapping[str, Callable[[Weights], onnx.ModelProto]] = {
    made.__name__: made
    for made in (
        *(
            chain,
            residual,
            bare,
            open_sizes,
            open_transposed,
            transposed,
            groups,
            fork,
            line,
            volume,
            tiles,
        ),
        *(branches, loop, function, quantized, integers, overridable, old, computed, half),
        *(fused, channels_last),
    )
}
"""By name."""


def seed(name: str) -> onnx.ModelProto:
    """One of the models, the same in every process."""
    return SEEDS[name](Weights(name))
