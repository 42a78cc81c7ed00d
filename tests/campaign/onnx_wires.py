"""The wires of an ONNX model, those in subgraphs and functions included, and what to put on one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import onnx

from tests.campaign.onnx_running import Known
from tests.campaign.onnx_snippets import SNIPPETS


@dataclass
class Wire:
    """One input of a node.

    Attributes:
        nodes: the list that the node is in.
        node: the node.
        place: which of its inputs.
    """

    nodes: Any
    node: onnx.NodeProto
    place: int

    @property
    def name(self) -> str:
        """Of the value."""
        return str(self.node.input[self.place])


def node_lists(model: onnx.ModelProto) -> Iterator[Any]:
    """The nodes of the graph, of its subgraphs, and of the functions, a list each."""

    def visit(nodes: Any) -> Iterator[Any]:
        yield nodes
        for node in nodes:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    yield from visit(attribute.g.node)

    yield from visit(model.graph.node)
    for function in model.functions:
        yield from visit(function.node)


def all_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Every node, wherever it is."""
    return [node for nodes in node_lists(model) for node in nodes]


def wires(model: onnx.ModelProto) -> list[Wire]:
    """Every input of every node that is connected."""
    return [
        Wire(nodes, node, place)
        for nodes in node_lists(model)
        for node in nodes
        for place, name in enumerate(node.input)
        if name
    ]


def fresh(model: onnx.ModelProto, stem: str) -> str:
    """A name that no value and no node has."""
    taken = {name for node in all_nodes(model) for name in (*node.output, node.name)}
    taken |= {tensor.name for tensor in model.graph.initializer}
    return next(name for n in range(10**6) if (name := f"{stem}{n}") not in taken)


def splice(
    model: onnx.ModelProto, kind: str, values: Mapping[str, Known], random: Random
) -> str | None:
    """Put a snippet on a wire: on one end of it, or on the value itself; says what and where.

    On the value itself, the last node of the snippet may take the name of the node that made it,
    so that it stands where a converted layer ends.
    """
    what = random.choice(sorted(SNIPPETS[kind]))
    if random.random() < 0.5:
        wire = random.choice(wires(model))
        at = next(i for i, node in enumerate(wire.nodes) if node is wire.node)
        given, made = wire.name, fresh(model, "spliced")
        wire.node.input[wire.place] = made
        where = f"into {wire.node.op_type} '{wire.node.name}' at {wire.place}"
        name = ""
    else:
        nodes = random.choice([nodes for nodes in node_lists(model) if len(nodes)])
        at = random.randrange(len(nodes))
        node = nodes[at]
        wire = Wire(nodes, node, 0)
        slot = random.randrange(len(node.output))
        made, given = node.output[slot], fresh(model, "spliced")
        node.output[slot] = given
        where = f"behind {node.op_type} '{node.name}'"
        at, name = at + 1, ""
        if random.random() < 0.5:
            name, node.name = node.name, fresh(model, "node")
    known = values.get(made) or values.get(given) or Known("float")
    try:
        added = snippet(model, SNIPPETS[kind][what], known, given, made)
    except onnx.parser.ParseError:  # its numbers are none of the type of this wire
        return None
    added[-1].name = name
    tail = [onnx.NodeProto.FromString(n.SerializeToString()) for n in wire.nodes[at:]]
    del wire.nodes[at:]
    wire.nodes.extend([*added, *tail])
    return f"{what}, {where}"


def snippet(
    model: onnx.ModelProto, text: str, of: Known, given: str, made: str
) -> list[onnx.NodeProto]:
    """The nodes of a snippet, its wires connected; imports the domains that it needs."""
    typed = re.sub(r"\bK\b", str(of.last or 1), re.sub(r"\bT\b", of.dtype, text))
    if "int" in of.dtype:
        typed = re.sub(r"(\d+)\.0\b", r"\1", typed)
    graph = onnx.parser.parse_graph(f"g (float v, float x) => (float o) {{ {typed} }}")
    first = model.graph.input[0].name if model.graph.input else given
    stem = fresh(model, "w")
    known = {"v": given, "o": made, "x": first, "": ""}

    def rename(nodes: Any) -> None:
        for node in nodes:
            for names in (node.input, node.output):
                for place, name in enumerate(names):
                    names[place] = known.get(name, f"{stem}_{name}")
            for attribute in node.attribute:
                for ports in (attribute.g.input, attribute.g.output):
                    for port in ports:
                        port.name = known.get(port.name, f"{stem}_{port.name}")
                rename(attribute.g.node)

    rename(graph.node)
    imported = {entry.domain for entry in model.opset_import}
    for domain in {node.domain for node in graph.node} - imported:
        model.opset_import.add(domain=domain, version=3 if domain == "ai.onnx.ml" else 1)
    return list(graph.node)
