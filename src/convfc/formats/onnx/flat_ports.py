"""Inputs and outputs of a model as rows: (N, n) instead of (N, C, H, W), in the same order."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from convfc.core.geometry import Sizes
from convfc.formats.onnx.emitter import Names, constant_value
from convfc.formats.onnx.operators import known_shape
from convfc.formats.protocols import Feed


def flatten_ports(shell: ir.Model, inferred: ir.Model) -> dict[str, Sizes]:
    """Let a model take and make rows, by a Reshape each.

    Args:
        shell: the model, changed in place; it need not have its weights.
        inferred: the same, with every shape that can be inferred.

    Returns:
        By the name of what is flat now, the shape that it had.
    """
    graph, names, flat = shell.graph, Names(shell), dict[str, Sizes]()
    ends = {value.name: value for value in inferred.graph.outputs}

    def reshape(value: ir.Value, made: ir.Value, sizes: list[int]) -> ir.Node:
        shape = constant_value(names.fresh("shape"), ir.Tensor(np.array([-1, *sizes], np.int64)))
        graph.register_initializer(shape)
        name = names.fresh(f"{value.name}/Reshape")
        return ir.Node("", "Reshape", [value, shape], outputs=[made], name=name)

    for value in graph.inputs:
        sizes = _row(value)
        if sizes is None or value.is_initializer() or value.is_graph_output() or not value.uses():
            continue
        flat[value.name or ""] = known_shape(value) or ()
        image = ir.Value(
            name=names.fresh(f"{value.name}/image"), type=value.type, shape=value.shape
        )
        value.replace_all_uses_with(image)
        graph.insert_before(graph[0], reshape(value, image, sizes))
        value.shape = _rows(value.shape, sizes)
    for place, value in enumerate(graph.outputs):
        shaped = ends.get(value.name)
        sizes = _row(shaped)
        single = sum(value is other for other in graph.outputs) == 1
        if sizes is None or shaped is None or not single or value.producer() is None:
            continue
        flat[value.name or ""] = known_shape(shaped) or ()
        rows = ir.Value(name=value.name, type=value.type, shape=_rows(shaped.shape, sizes))
        value.name = names.fresh(f"{value.name}/image")
        graph.append(reshape(value, rows, [math.prod(sizes)]))
        graph.outputs[place] = rows
    return flat


def in_rows(arrays: Feed, flat: Collection[str | None]) -> dict[str, NDArray[Any]]:
    """Arrays, of which those of such names are rows."""
    return {
        name: x.reshape(len(x), -1) if name in flat and x.ndim > 2 else x
        for name, x in arrays.items()
    }


def _row(value: ir.Value | None) -> list[int] | None:
    """Sizes of a tensor of more than two axes without its first one, if they are known."""
    shape = known_shape(value)
    if shape is None or len(shape) < 3 or None in shape[1:]:
        return None
    return [size for size in shape[1:] if size is not None]


def _rows(shape: ir.Shape | None, sizes: list[int]) -> ir.Shape:
    first = None if shape is None else shape[0]
    return ir.Shape([first, math.prod(sizes)])
