"""Weights that are inputs as well: from IR version 4 on, callers may override them.

They are no constants then, and nothing that is made of them is one. Frozen, they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import onnx_ir as ir

from convfc.formats.onnx.operators import is_convolution, operands

FROZEN = "convfc_frozen"
"""The metadata property that tells which weights convfc took off the inputs."""


def overridable(model: ir.Model) -> list[str]:
    """Names of the weights that are inputs as well."""
    return [value.name or "" for value in model.graph.inputs if value.is_initializer()]


def freeze(model: ir.Model, names: Iterable[str]) -> None:
    """Take weights off the inputs; what is no weight stays one."""
    gone = {*names}.intersection(overridable(model))
    inputs = model.graph.inputs
    inputs[:] = [value for value in inputs if value.name not in gone]


def record(model: ir.Model, names: list[str]) -> None:
    """Let a model tell which of its weights were frozen."""
    model.metadata_props[FROZEN] = json.dumps(names)


def recorded(model: ir.Model) -> list[str]:
    """What `record` wrote, none if anything else stands there."""
    try:
        names = json.loads(model.metadata_props.get(FROZEN, "[]"))
    except (ValueError, RecursionError):
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def told(model: ir.Model, frozen: list[str]) -> list[str]:
    """What is to be said of the kernels of a model that is yet to be converted.

    Args:
        model: the model.
        frozen: weights that were inputs until now.
    """
    if frozen:
        return [f"Weights that callers could override, now constants: {len(frozen)}."]
    inputs = set(overridable(model))
    nodes = [node for node in model.graph.all_nodes() if is_convolution(node)]
    kernels = [operands(node).get("kernel") for node in nodes]
    count = sum(kernel is not None and kernel.name in inputs for kernel in kernels)
    if not count:
        return []
    return [
        f"The kernels of {count} of {len(nodes)} convolutions are inputs as well, which callers "
        "may override: their filter matrices are computed at run time, and quantizers pass over "
        "them. --freeze-weights makes constants of them."
    ]
