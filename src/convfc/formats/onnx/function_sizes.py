"""How many nodes a model has once its functions stand in the places of their calls: counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import onnx

MOST_UNFOLDED = 2**20
"""Nodes that functions may unfold to: runtimes and shape inference go through each of them."""

_Key = tuple[str, str, str]


def unfolds(proto: onnx.ModelProto) -> bool:
    """Whether a model's functions unfold to more than `MOST_UNFOLDED` nodes, or for ever.

    Each function is counted once, however often it is called.
    """
    bodies = {(f.domain, f.name, f.overload): _calls(f.node) for f in proto.functions}
    if not bodies:
        return False
    counts: dict[_Key, int] = {}
    todo, open_ = [*bodies], set[_Key]()
    while todo:
        key = todo[-1]
        called = [other for other in bodies[key] if other in bodies]
        waiting = [other for other in called if other not in counts]
        if key in counts or not waiting:
            open_.discard(key)
            counts.setdefault(key, _total(bodies[key], counts))
            todo.pop()
        elif key in open_:
            return True  # it calls itself, in some roundabout way
        else:
            open_.add(key)
            todo += waiting
    return _total(_calls(proto.graph.node), counts) > MOST_UNFOLDED


def _total(calls: Counter[_Key], counts: dict[_Key, int]) -> int:
    return sum(times * counts.get(key, 1) for key, times in calls.items())


def _calls(nodes: object) -> Counter[_Key]:
    """What nodes call, at any depth, and how often."""
    return Counter((node.domain, node.op_type, node.overload) for node in _nodes(nodes))


def _nodes(nodes: object) -> Iterator[onnx.NodeProto]:
    todo = [nodes]
    while todo:
        for node in todo.pop():  # type: ignore[attr-defined] # protobuf has no type for it
            yield node
            for attribute in node.attribute:
                todo += [graph.node for graph in (attribute.g, *attribute.graphs)]
