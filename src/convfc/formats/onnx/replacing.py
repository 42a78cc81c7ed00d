"""Putting several nodes of a message in the place of one, of which the shapes are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import onnx
import onnx_ir as ir

from convfc.formats.onnx.protos import graphs_of
from convfc.formats.onnx.sites import Place, places

T = TypeVar("T")


def replaced(
    proto: onnx.ModelProto,
    inferred: ir.Model,
    known_of: Callable[[Place], T | None],
    parts_of: Callable[[onnx.NodeProto, T], list[onnx.NodeProto]],
) -> int:
    """Replace nodes of the graphs of a model; nothing is inferred in its functions.

    Args:
        proto: the model, which is changed.
        inferred: it with its shapes.
        known_of: what is known of a node that is to be replaced; ``None``: it remains.
        parts_of: what comes into its place.

    Returns:
        How many nodes it were.
    """
    all_places = list(places(inferred))
    makers = Counter(value.name for place in all_places for value in place.node.outputs)
    found: dict[str, T] = {}
    for place in all_places:
        # A node is found again by what it makes, of which sibling subgraphs may have two.
        name = next((value.name for value in place.node.outputs if value.name), "")
        known = known_of(place) if makers[name] == 1 else None
        if known is not None:
            found[name] = known
    count = 0
    # Outermost last: what is replaced is copied, with the graphs in it.
    for graph in reversed([*graphs_of(proto.graph)]):
        names = [next(filter(None, node.output), "") for node in graph.node]
        pairs = list(zip(graph.node, names, strict=True))
        if found.keys() & {*names}:
            count += sum(name in found for name in names)
            nodes = [
                part
                for node, name in pairs
                for part in (parts_of(node, found[name]) if name in found else [node])
            ]
            copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
            del graph.node[:]
            graph.node.extend(copies)
    return count
