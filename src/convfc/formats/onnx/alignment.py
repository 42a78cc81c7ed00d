"""Two ONNX models side by side: which nodes replace a convolution, and what else differs.

A converted convolution keeps the name of its output. The nodes that lead there, back to values
that the original has as well, are its replacement. Every other node must be the original's: nodes
go by the names of what they make, for no runtime heeds their own names or their order in the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import onnx_ir as ir

from convfc.formats.onnx.ancestry import initializers_of, leading_to, names_in, read_only_by
from convfc.formats.onnx.emitter import constant_of
from convfc.formats.onnx.frozen import FROZEN
from convfc.formats.onnx.operators import is_convolution, known_shape
from convfc.formats.onnx.sites import Body, Place, label, opset_of, places, subgraphs
from convfc.formats.onnx.structure import operator, same_attribute, same_setting, tensor_difference
from convfc.formats.provenance import KEY


@dataclass(frozen=True)
class Replacement:
    """What stands for one converted convolution.

    Attributes:
        place: the original's node.
        nodes: what replaces it, each behind those that it reads from.
        end: the value that it makes.
    """

    place: Place
    nodes: list[ir.Node]
    end: ir.Value


@dataclass
class Replacements:
    """What replaces the convolutions of a model, and how the rest differs.

    Attributes:
        layers: the converted convolutions, by the identity of the original's node.
        differences: numbers, settings and wires outside that are not as they were; a sentence each.
        unknown: what is built otherwise outside, so that it cannot be told whether it matters.
        stated: those of the unknown that are stated beside the nodes.
        remarks: what is told otherwise, but read by no runtime.
        compared: initializers of graphs that belong together, by which each was compared with.
    """

    layers: dict[ir.Node, Replacement] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    stated: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    compared: dict[ir.Value, ir.Value] = field(default_factory=dict)

    def told(self, what: str, a: object, b: object) -> None:
        """Remark on something that is only told, if it is told otherwise."""
        if (a or None) != (b or None):  # left out and empty are the same to whoever reads it
            self.remarks.append(f"{what} changed")

    def built(self, what: str, a: object, b: object) -> None:
        """Note something that a runtime may heed, if it is not as it was."""
        if (a or None) != (b or None):
            self.states(f"{what} changed")

    def states(self, *what: str) -> None:
        """Note what a file states otherwise beside its nodes."""
        self.unknown += what
        self.stated += what


_READ_BY_RUNTIMES = ("ort_config", "onnxruntime", "ep_compatibility_info.")
"""How keys begin that onnxruntime reads: options of sessions, who takes a compiled model."""


def replacements(original: ir.Model, converted: ir.Model) -> Replacements:
    """Find what replaces each converted convolution, and compare the rest."""
    found = Replacements()
    for what in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
        found.told(f"the model's {what}", getattr(original, what), getattr(converted, what))
    found.told("the device configuration", *_devices(original, converted))
    versions = [max(model.ir_version, 4) for model in (original, converted)]
    found.told("the IR version", original.ir_version, converted.ir_version)
    if versions[0] != versions[1] and min(original.ir_version, converted.ir_version) < 4:
        found.states("what weights are changed with the IR version")
    _compare_opsets(original.graph, converted.graph, "the model", found)
    a, b = original.metadata_props, converted.metadata_props
    changed = [k for k in sorted({*a, *b} - {KEY, FROZEN}) if (a.get(k) or "") != (b.get(k) or "")]
    told = [key for key in changed if not key.startswith(_READ_BY_RUNTIMES)]
    found.states(*(f"the metadata '{key}' changed" for key in changed if key not in told))
    found.remarks += [f"the metadata {', '.join(map(repr, told))} changed"] if told else []
    by_body: dict[Body, list[Place]] = {}
    for place in places(original):
        by_body.setdefault(place.body, []).append(place)
    opset = opset_of(original.graph)
    _compare_bodies(by_body, original.graph, converted.graph, opset, "the graph", found)
    for identifier in sorted(original.functions.keys() ^ converted.functions.keys()):
        found.unknown.append(f"function '{identifier[1]}' is in one of the files only")
    for identifier in (key for key in original.functions if key in converted.functions):
        body, other = original.functions[identifier], converted.functions[identifier]
        where = f"function '{body.name}'"
        _compare_opsets(body, other, where, found)
        for name in sorted(body.attributes.keys() | other.attributes.keys()):
            left, right = body.attributes.get(name), other.attributes.get(name)
            if not _same_formal(left, right):
                found.differences.append(f"{where}: its attribute {name} changed")
        _compare_bodies(by_body, body, other, opset_of(body), where, found)
    return found


def _devices(*models: ir.Model) -> list[str]:
    return [repr(model.device_configurations or "") for model in models]


def _compare_opsets(a: Body, b: Body, where: str, found: Replacements) -> None:
    """Versions of operators; one that nobody uses is nothing to a runtime."""
    if opset_of(a) != opset_of(b):
        found.unknown.append(f"the opset of {where} changed from {opset_of(a)} to {opset_of(b)}")
    used = {operator(node)[0] for node in a.all_nodes()} - {""}
    for domain in sorted(used):
        versions = a.opset_imports.get(domain), b.opset_imports.get(domain)
        found.built(f"the version of '{domain}' in {where}", *versions)


def _same_formal(a: ir.Attr | None, b: ir.Attr | None) -> bool:
    """Whether two attributes of functions are the same; one without a default has no value."""
    if a is None or b is None:
        return a is b
    return (
        same_attribute(a, b) if a.value is not None and b.value is not None else a.value is b.value
    )


def _compare_bodies(
    places_of: Mapping[Body, list[Place]],
    a: Body,
    b: Body,
    opset: int,
    where: str,
    found: Replacements,
) -> None:
    """Find them in one node list and compare the rest, subgraphs included."""
    inside = set(b)
    producers = {value.name: node for node in b for value in node.outputs if value.name}
    known = names_in(a)
    replaced: set[ir.Node] = set()
    new: set[ir.Node] = set()
    for place in places_of.get(a, []):
        node = place.node
        name = next((value.name for value in node.outputs), None) or ""
        end = producers.get(name) if is_convolution(node) else None
        if end is not None and operator(end) != operator(node):
            nodes = [other for other in leading_to(end, known) if other in inside]
            replaced.add(node)
            new.update(nodes)
            value = next(value for value in end.outputs if value.name == name)
            found.layers[node] = Replacement(place, nodes, value)
            found.told(f"the name of '{label(node)}'", node.name, end.name)
            found.told(f"the metadata of '{label(node)}'", node.metadata_props, end.metadata_props)
    _compare_interfaces(a, b, where, found)
    matched: set[ir.Node] = set()
    bodies = (a, b, opset)
    unread = read_only_by(a, replaced)
    for node in (node for node in a if node not in replaced and not _is_constant(node)):
        name = next((value.name for value in node.outputs if value.name), "")
        other = producers.get(name)
        if other is None or other in new or _is_constant(other):
            if node in unread:
                continue
            found.unknown.append(f"{where}: node '{label(node)}' is in the original only")
            continue
        matched.add(other)
        _compare_nodes(places_of, node, other, bodies, where, found)
    for node in (node for node in b if node not in new | matched and not _is_constant(node)):
        found.unknown.append(f"{where}: node '{label(node)}' is in the converted model only")


def _is_constant(node: ir.Node) -> bool:
    """Whether its output is a constant, which is compared where it is read."""
    return len(node.outputs) == 1 and constant_of(node.outputs[0]) is not None


def _compare_interfaces(a: Body, b: Body, where: str, found: Replacements) -> None:
    """Inputs, outputs, and initializers of the same name."""
    names = [[value.name for value in body.inputs] for body in (a, b)]
    if names[0] != names[1]:
        found.differences.append(f"{where} has other inputs")
    else:
        for value, other in zip(a.inputs, b.inputs, strict=True):
            _compare_described(value, other, where, found, narrower=False)
    if [value.name for value in a.outputs] != [value.name for value in b.outputs]:
        found.unknown.append(f"{where} has other outputs")
    else:
        for value, other in zip(a.outputs, b.outputs, strict=True):
            _compare_described(value, other, where, found, narrower=True)
            _compare_operand(value, other, f"{where}: its output", (a, b), found)
    after = initializers_of(b)
    for name, value in initializers_of(a).items():
        if name in after:
            found.compared[value] = after[name]
            difference = _tensor_difference(value, after[name])
            if difference is not None:
                found.differences.append(f"initializer '{name}' {difference}")
    if isinstance(a, ir.Graph) and isinstance(b, ir.Graph):
        for what in ("name", "doc_string"):
            found.told(f"the {what} of {where}", getattr(a, what), getattr(b, what))
    found.told(f"the metadata of {where}", a.metadata_props, b.metadata_props)


def _compare_described(
    a: ir.Value, b: ir.Value, where: str, found: Replacements, *, narrower: bool
) -> None:
    """Type and shape of an input or output.

    Args:
        a: the original's.
        b: the converted model's.
        where: the graph.
        found: takes what is different.
        narrower: whether a shape may say more than it did.
    """
    if a.type is not None and a.type != b.type:
        found.differences.append(f"{where}: the type of '{a.name}' changed")
    left, right = known_shape(a), known_shape(b)
    if left != right and not (narrower and _fits(left, right)):
        found.differences.append(f"{where}: the shape of '{a.name}' changed")
    elif _symbols(a) != _symbols(b):
        found.told(f"{where}: the shape of '{a.name}'", _symbols(a), _symbols(b))
    for what in ("doc_string", "metadata_props"):
        found.told(f"the {what} of '{a.name}'", getattr(a, what), getattr(b, what))
    found.built(f"the quantization annotation of '{a.name}'", _annotation(a), _annotation(b))
    found.built(f"the denotation of '{a.name}'", _denotations(a), _denotations(b))


def _fits(a: Sequence[int | None] | None, b: Sequence[int | None] | None) -> bool:
    """Whether two shapes may be told of the same value."""
    if a is None or b is None:
        return True
    pairs = zip_longest(a, b, fillvalue=-1)
    return all(x == y or (None in (x, y) and -1 not in (x, y)) for x, y in pairs)


def _symbols(value: ir.Value) -> list[str] | None:
    return None if value.shape is None else [str(size) for size in value.shape]


def _denotations(value: ir.Value) -> list[Any] | None:
    shape = value.shape
    sizes = [] if shape is None else [shape.get_denotation(i) or "" for i in range(len(shape))]
    told = [getattr(value.type, "denotation", None) or "", *sizes]
    return told if any(told) else None


def _annotation(value: ir.Value) -> Any:  # noqa: ANN401 - whatever onnx_ir keeps there
    return value.meta.get("quant_parameter_tensor_names")


def _compare_nodes(
    places_of: Mapping[Body, list[Place]],
    a: ir.Node,
    b: ir.Node,
    bodies: tuple[Body, Body, int],
    where: str,
    found: Replacements,
) -> None:
    """Compare two nodes that should be the same; subgraphs are entered.

    `bodies` are what they stand in, and the opset there.
    """
    name = label(a)
    if operator(a) != operator(b):
        found.unknown.append(f"{where}: node '{name}' is a {b.op_type}, it was a {a.op_type}")
        return
    for what in ("name", "doc_string", "metadata_props"):
        found.told(f"{where}: the {what} of node '{name}'", getattr(a, what), getattr(b, what))
    outputs = [[value.name or "" for value in node.outputs] for node in (a, b)]
    if outputs[0] != outputs[1]:
        found.differences.append(f"{where}: node '{name}' has other outputs")
    reader = f"{where}: node '{name}'"
    for value, other in zip_longest(a.inputs, b.inputs):
        _compare_operand(value, other, reader, bodies[:2], found)
    for value, other in zip(a.outputs, b.outputs, strict=False):
        types = value.dtype, other.dtype
        if None not in types and types[0] != types[1]:
            found.states(f"{where}: the stated type of '{value.name}' changed")
        elif not _fits(known_shape(value), known_shape(other)):
            found.states(f"{where}: the stated shape of '{value.name}' changed")
        found.built(
            f"the quantization annotation of '{value.name}'", _annotation(value), _annotation(other)
        )
    opset = bodies[2]
    for key in sorted(a.attributes.keys() | b.attributes.keys()):
        left, right = a.attributes.get(key), b.attributes.get(key)
        graphs, others = ([] if x is None else subgraphs(x) for x in (left, right))
        if graphs and len(graphs) == len(others):
            for graph, other in zip(graphs, others, strict=True):
                _compare_bodies(places_of, graph, other, opset, f"'{name}', {key}", found)
        elif not same_setting(a, key, left, right, opset):
            found.differences.append(f"{where}: node '{name}': its {key} changed")


def _compare_operand(
    a: ir.Value | None,
    b: ir.Value | None,
    reader: str,
    bodies: tuple[Body, Body],
    found: Replacements,
) -> None:
    """Compare what two nodes read in the same place: a constant by its bits, all else by name."""
    if a is None or b is None:
        if a is not b:
            there = a or b
            # What is left out has a default, which a simplifier may know to be the same.
            found.unknown.append(f"{reader} reads '{there and there.name}' in one file only")
        return
    left, right = constant_of(a), constant_of(b)
    if left is not None and right is not None:
        if found.compared.get(a) is b:
            return  # a name alone says nothing: another graph may have it, too
        difference = tensor_difference(left, right)
        if difference is not None:
            found.differences.append(f"{reader}: what it reads as '{b.name}' {difference}")
    elif a.name != b.name:
        # If both files have both values, it is another one; else a simplifier may have been there.
        known = b.name in names_in(bodies[0]) and a.name in names_in(bodies[1])
        (found.differences if known else found.unknown).append(
            f"{reader} reads '{b.name}', not '{a.name}'"
        )
    elif (left is None) != (right is None):
        found.unknown.append(f"{reader}: '{a.name}' is a constant in one of the files only")


def _tensor_difference(a: ir.Value, b: ir.Value) -> str | None:
    """How two initializers differ, with the first place where they do."""
    left, right = a.const_value, b.const_value
    if left is None or right is None:
        return None if left is right else "lost its data"
    return tensor_difference(left, right)
