"""What leads to a node of a graph or a function, what comes of it, and the names there."""

from __future__ import annotations

from collections.abc import Mapping, Set

import onnx_ir as ir

from convfc.formats.onnx.sites import Body


def leading_to(end: ir.Node, known: set[str | None]) -> list[ir.Node]:
    """A node and all before it, back to values that the original has too; it comes last."""
    ordered: dict[ir.Node, None] = {}
    todo = [end]
    while todo:
        node = todo[-1]
        values = (v for v in node.inputs if v is not None and v.name not in known)
        makers = (value.producer() for value in values)
        waiting = [maker for maker in makers if maker is not None and maker not in ordered]
        if waiting and node not in ordered:
            todo += waiting
        else:
            ordered[todo.pop()] = None
    return list(ordered)


def names_in(body: Body) -> set[str | None]:
    """Names of what a graph or function is fed, makes and stores, without what is in its nodes."""
    names: set[str | None] = {value.name for value in body.inputs}
    names.update(value.name for node in body for value in node.outputs)
    names.update(initializers_of(body))
    return names


def initializers_of(body: Body) -> Mapping[str, ir.Value]:
    """What a graph stores; a function stores nothing."""
    return body.initializers if isinstance(body, ir.Graph) else {}


def read_only_by(body: Body, layers: Set[ir.Node]) -> set[ir.Node]:
    """Some layers, and all nodes whose results nobody uses but these."""
    found = set(layers)
    for node in reversed(list(body)):
        readers = [reader for value in node.outputs for reader, _ in value.uses()]
        inner = not any(value.is_graph_output() for value in node.outputs)
        if inner and readers and found.issuperset(readers):
            found.add(node)
    return found
