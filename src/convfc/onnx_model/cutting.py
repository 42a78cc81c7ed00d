"""Two ONNX models side by side: which nodes replace a convolution, and what else differs.

A converted convolution keeps the name of its output. The nodes that lead there, back to values
that the original has as well, are its replacement. Every other node must be the original's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from convfc.differences import array_difference
from convfc.onnx_model.operators import is_convolution
from convfc.onnx_model.sites import Body, Place, label, places, subgraphs
from convfc.provenance import KEY


@dataclass(frozen=True)
class Cut:
    """One converted convolution.

    Attributes:
        place: the original's node.
        nodes: what replaces it, in the order of the file.
    """

    place: Place
    nodes: list[ir.Node]


@dataclass
class Cuts:
    """All of a converted model, cut along its convolutions.

    Attributes:
        layers: the converted convolutions, by the identity of the original's node.
        differences: what else is not as it was, a sentence each.
        parameters: names of all kernels and biases, which may go where nobody reads them any more.
    """

    layers: dict[ir.Node, Cut] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    parameters: set[str | None] = field(default_factory=set)


def cut(original: ir.Model, converted: ir.Model) -> Cuts:
    """Cut a converted model along the convolutions that were converted."""
    found = Cuts()
    differ = found.differences.append
    for what in (
        "ir_version",
        "producer_name",
        "producer_version",
        "domain",
        "model_version",
        "doc_string",
    ):
        # Left out and empty are the same to whoever reads the file.
        if (getattr(original, what) or None) != (getattr(converted, what) or None):
            differ(f"the model's {what} changed")
    if dict(original.opset_imports) != dict(converted.opset_imports):
        differ(f"the opsets changed from {original.opset_imports} to {converted.opset_imports}")
    for key in {*original.metadata_props, *converted.metadata_props} - {KEY}:
        if original.metadata_props.get(key) != converted.metadata_props.get(key):
            differ(f"the metadata '{key}' changed")
    by_body: dict[Body, list[Place]] = {}
    for place in places(original):
        by_body.setdefault(place.body, []).append(place)
        if is_convolution(place.node):
            found.parameters |= _names_read_by([place.node])
    _compare_bodies(by_body, original.graph, converted.graph, "the graph", found)
    if original.functions.keys() != converted.functions.keys():
        differ("there are other functions")
    for identifier, body in original.functions.items():
        twin = converted.functions.get(identifier)
        if twin is None:
            continue
        _compare_bodies(by_body, body, twin, f"function '{body.name}'", found)
    return found


def _compare_bodies(
    places_of: Mapping[Body, list[Place]], a: Body, b: Body, where: str, found: Cuts
) -> None:
    """Cut one node list and compare the rest, subgraphs included."""
    producers = {value.name: node for node in b for value in node.outputs}
    known = _names_in(a)
    replaced: set[ir.Node] = set()
    new: set[ir.Node] = set()
    for place in places_of.get(a, []):
        node = place.node
        end = producers.get(node.outputs[0].name) if is_convolution(node) else None
        if end is not None and end.op_type != node.op_type:
            nodes = _leading_to(end, known)
            replaced.add(node)
            new |= nodes
            found.layers[node] = Cut(place, [other for other in b if other in nodes])
            if end.name != node.name or end.metadata_props != node.metadata_props:
                found.differences.append(f"{label(node)}: its name or metadata changed")
    _compare_interfaces(a, b, where, found.parameters, _names_read_by(new), found)

    def is_spent(node: ir.Node) -> bool:
        """A constant that only replaced nodes read, and that is gone with them."""
        uses = [use.node for value in node.outputs for use in value.uses()]
        gone = node.outputs[0].name not in producers
        return gone and node.op_type == "Constant" and all(user in replaced for user in uses)

    left = [node for node in a if node not in replaced and not is_spent(node)]
    right = [node for node in b if node not in new]
    for node, twin in zip(left, right, strict=False):
        if not _compare_nodes(places_of, node, twin, where, found):
            return  # what follows would only repeat that something is out of step
    if len(left) != len(right):
        odd = max(left, right, key=len)[min(len(left), len(right))]
        found.differences.append(f"{where}: node '{label(odd)}' is in one of the files only")


def _leading_to(end: ir.Node, known: set[str | None]) -> set[ir.Node]:
    """A node and all before it, back to values that the original has too."""
    nodes, todo = {end}, [end]
    while todo:
        for value in todo.pop().inputs:
            producer = None if value is None or value.name in known else value.producer()
            if producer is not None and producer not in nodes:
                nodes.add(producer)
                todo.append(producer)
    return nodes


def _names_in(body: Body) -> set[str | None]:
    names: set[str | None] = {value.name for value in body.inputs}
    names.update(value.name for node in body for value in node.outputs)
    names.update(_initializers(body))
    return names


def _initializers(body: Body) -> Mapping[str, ir.Value]:
    return body.initializers if isinstance(body, ir.Graph) else {}


def _names_read_by(nodes: Iterable[ir.Node]) -> set[str | None]:
    return {value.name for node in nodes for value in node.inputs if value is not None}


def _compare_interfaces(
    a: Body, b: Body, where: str, spent: set[str | None], new: set[str | None], found: Cuts
) -> None:
    """Inputs, outputs and initializers; kernels may go and the new nodes' constants may come."""
    for role in ("inputs", "outputs"):
        left, right = getattr(a, role), getattr(b, role)
        if [value.name for value in left] != [value.name for value in right]:
            found.differences.append(f"{where} has other {role}")
            continue
        for value, twin in zip(left, right, strict=True):
            if not _same_type(value, twin):
                found.differences.append(f"{where}: the type of '{value.name}' changed")
    before, after = _initializers(a), _initializers(b)
    for name, value in before.items():
        if name not in after:
            if name not in spent:
                found.differences.append(f"{where}: initializer '{name}' is gone")
        elif (difference := _tensor_difference(value, after[name])) is not None:
            found.differences.append(f"initializer '{name}' {difference}")
    for name in after.keys() - before.keys() - new:
        found.differences.append(f"{where}: initializer '{name}' is new")


def _compare_nodes(
    places_of: Mapping[Body, list[Place]], a: ir.Node, b: ir.Node, where: str, found: Cuts
) -> bool:
    """Compare two nodes that should be the same; subgraphs are entered."""
    name = label(a)
    for what in ("op_type", "domain", "overload", "name", "doc_string", "metadata_props"):
        if (getattr(a, what) or "") != (getattr(b, what) or ""):
            found.differences.append(f"{where}: node '{name}': its {what} changed")
            return False
    for role in ("inputs", "outputs"):
        left = [value and value.name for value in getattr(a, role)]
        right = [value and value.name for value in getattr(b, role)]
        if left != right:
            found.differences.append(f"{where}: node '{name}' has other {role}")
            return False
    for value, twin in zip(a.outputs, b.outputs, strict=True):
        if value.dtype is not None and not _same_type(value, twin):
            found.differences.append(f"{where}: the stated type of '{value.name}' changed")
    if a.attributes.keys() != b.attributes.keys():
        found.differences.append(f"{where}: node '{name}' has other attributes")
        return False
    for key, attribute in a.attributes.items():
        twin_attribute = b.attributes[key]
        graphs, twins = subgraphs(attribute), subgraphs(twin_attribute)
        if graphs and len(graphs) == len(twins):
            for graph, other in zip(graphs, twins, strict=True):
                _compare_bodies(places_of, graph, other, f"'{name}', {key}", found)
        elif not _same_attribute(attribute, twin_attribute):
            found.differences.append(f"{where}: node '{name}': its {key} changed")
    return True


def _same_attribute(a: ir.Attr, b: ir.Attr) -> bool:
    if (a.type, a.ref_attr_name) != (b.type, b.ref_attr_name):
        return False
    if a.type is ir.AttributeType.TENSOR and not a.is_ref():
        return tensor_difference(a.as_tensor(), b.as_tensor()) is None
    # repr tells NaN from NaN by its kind only, which is all that an attribute can say of it.
    return a.value == b.value or repr(a.value) == repr(b.value)


def _same_type(a: ir.Value, b: ir.Value) -> bool:
    return a.type == b.type and a.shape == b.shape


def _tensor_difference(a: ir.Value, b: ir.Value) -> str | None:
    """How two initializers differ, with the first place where they do."""
    left, right = a.const_value, b.const_value
    if left is None or right is None:
        return None if left is right else "lost its data"
    return tensor_difference(left, right)


def tensor_difference(a: ir.TensorProtocol, b: ir.TensorProtocol) -> str | None:
    """How two tensors differ in type, shape or bits; ``None`` if they do not."""
    if (a.dtype, tuple(a.shape)) != (b.dtype, tuple(b.shape)):
        return "has another type or shape"
    return array_difference(a.numpy(), b.numpy())
