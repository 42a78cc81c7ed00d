"""Calls of TensorFlow functions in Keras 2 graphs, once Keras has built what stands for them.

Only then are the types and ranks known on which that computes something else: TensorFlow divides
integers as integers and lets them wrap around, and has the last axes of two tensors meet, where
Keras makes real numbers of integers, and has the first axes meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any

from convfc.errors import UnsupportedModelError
from convfc.formats.keras.internals import calls_to
from convfc.formats.keras.sites import graph_of, is_graph
from convfc.formats.keras.upgrades.graphs import graphs
from convfc.formats.keras.upgrades.operations import CALLED
from convfc.refusals import Code

_MOVE_ONLY = frozenset(
    (
        *("Cast", "Concatenate", "ExpandDims", "Flip", "GetItem", "Identity", "Permute", "Reshape"),
        *("Roll", "Split", "Squeeze", "Stack", "Take", "Tile", "Unstack"),
    )
)
"""What leaves numbers as they are, or says into which type they are brought."""


def replaced_calls(config: dict[str, Any]) -> frozenset[str]:
    """Names that layers of TensorFlow functions have once Keras has built the model.

    Args:
        config: the model's, as the file has it.
    """
    found = (layer for graph in graphs(config) for layer in graph["layers"])
    names = (layer["name"] for layer in found if layer["class_name"] in CALLED)
    return frozenset(name.replace("/", "_") for name in names)


def refuse_other_meanings(path: Path, model: Any, names: Set[str]) -> None:
    """Refuse a model in which what stands for a TensorFlow function computes something else.

    Args:
        path: the file, for the message.
        model: as Keras has built it.
        names: see `replaced_calls`.

    Raises:
        UnsupportedModelError: it names the layer.
    """
    for operation in _operations(model) if names else ():
        if names.isdisjoint((operation.name, operation.name.rstrip("_"))):
            continue
        tensors = [x for call in calls_to(operation) for x in call.input_tensors]
        why = None
        if type(operation).__name__ not in _MOVE_ONLY:
            if any("int" in x.dtype for x in tensors):
                why = "computes with integers, for which Keras 3 has other rules"
            elif len({len(x.shape) for x in tensors}) > 1:
                why = "works on tensors of unlike rank, which Keras 3 aligns otherwise"
            elif type(operation).__name__ == "Add" and len(tensors) == 2:
                x, y = (tuple(tensor.shape) for tensor in tensors)
                why = "adds what Keras 3 takes for a bias of another axis" if _turns(x, y) else None
        if why is not None:
            raise UnsupportedModelError(
                f"{path}: layer {operation.name!r} was a TensorFlow function and {why}",
                remedy="build the model with stock layers and save it again",
                code=Code.OLD_KERAS,
            )


def _turns(x: Sequence[int | None], y: Sequence[int | None]) -> bool:
    """Whether the sum of two, of one rank, has the second on another axis than its own.

    TensorFlow's Keras adds what is one vector, but for axes of size one, to the last axis of its
    length, or else to the second.
    """
    wide = [axis for axis, size in enumerate(y) if size != 1]
    size = y[wide[0]] if len(wide) == 1 else None
    if size is None or len(x) < 2 or size not in (x[1], x[-1]):
        return False
    return wide[0] != (len(x) - 1 if size == x[-1] else 1)


def _operations(model: Any) -> Iterator[Any]:
    """Every operation of a graph and of the graphs in it."""
    for operation in graph_of(model).operations if is_graph(model) else ():
        yield operation
        yield from _operations(operation)
