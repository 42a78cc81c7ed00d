"""The values between the nodes of a model: which there are, and what they are on a feed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from convfc.formats.inner import LayerOutput, Tensor
from convfc.formats.onnx.emitter import constant_of
from convfc.formats.onnx.flat_forms import FLAT
from convfc.formats.onnx.moving import LAST, ROWS, named
from convfc.formats.onnx.negative_sizes import at_risk
from convfc.formats.onnx.operators import known_shape
from convfc.formats.onnx.runtimes import Session
from convfc.formats.onnx.shape_inference import infer
from convfc.formats.onnx.sites import label, numpy_name
from convfc.formats.onnx.stored_weights import runnable

_LAID_OUT = named(LAST, ROWS, FLAT)
"""How convfc calls values that are not in their own layout."""


def tensors_of(inferred: ir.Model, feed: Mapping[str, NDArray[Any]]) -> list[Tensor]:
    """What the nodes of the main graph make, constants apart, each behind what it is made of.

    Args:
        inferred: the model with all shapes that follow from its file.
        feed: by the names of its inputs.
    """
    copy = inferred.clone()
    copy.graph.sort()  # a file may have nodes in any order
    for value in copy.graph.inputs:
        if value.name is not None and value.name in feed:
            value.shape = ir.Shape(feed[value.name].shape)
    if not at_risk(copy):
        infer(copy)
    values = [value for node in copy.graph for value in node.outputs if value.name]
    return [_tensor(value) for value in values if _is_array(value) and constant_of(value) is None]


def holders(graph: ir.Graph, own: Mapping[str, str], before: Set[str]) -> dict[str, LayerOutput]:
    """The values that hold what layers make, by the layers' names; those that are gone lack.

    Args:
        graph: the converted main graph.
        own: by the name of a layer, what its output was called.
        before: names of all values that the original has.
    """
    values = [value.name or "" for node in graph for value in node.outputs]
    found = {name: LayerOutput(name, "own") for name in values}
    hints = [hint for name in values if name not in before and (hint := _LAID_OUT.fullmatch(name))]
    for form in (LAST, FLAT, ROWS):  # the first one that there is counts
        for hint in (hint for hint in hints if hint[2] == form):
            found.setdefault(hint[1], LayerOutput(hint[0], form[1:]))
    return {layer: found[name] for layer, name in own.items() if name in found}


def values_of(
    proto: onnx.ModelProto,
    path: Path,
    feed: Mapping[str, NDArray[Any]],
    names: Sequence[str],
    seconds: float | None,
) -> dict[str, NDArray[Any]]:
    """Some values of a model on a feed, by their names; those that are no arrays lack.

    Args:
        proto: the model, see `stored_weights.runnable`; it is changed.
        path: its file.
        feed: by the names of its inputs.
        names: of the values.
        seconds: see `Session`.

    Raises:
        UnsupportedModelError: onnxruntime cannot run it.
    """
    visible = {value.name for value in proto.graph.output}
    for name in names:
        if name not in visible:
            proto.graph.output.add(name=name)
    content, folder = runnable(proto, path)
    found = Session(content, str(path), folder, seconds=seconds).run(names, feed)
    pairs = zip(names, found, strict=True)
    return {name: array for name, array in pairs if isinstance(array, np.ndarray)}


def _is_array(value: ir.Value) -> bool:
    return value.type is None or isinstance(value.type, ir.TensorType)


def _tensor(value: ir.Value) -> Tensor:
    node, name = value.producer(), value.name or ""
    assert node is not None, name  # noqa: S101 - it was found there
    own = _LAID_OUT.fullmatch(name)
    return Tensor(
        name,
        label(node),
        node.op_type,
        known_shape(value),
        numpy_name(value.dtype),
        name if own is None else own[1],
    )
