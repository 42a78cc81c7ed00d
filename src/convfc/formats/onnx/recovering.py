"""A model brought back to its outline: the same nodes, constants and descriptions, in their order.

What others have added to the file stays. Only names and forms are restored here, and what nobody
reads any more goes; no number changes.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from convfc.formats.onnx.ancestry import initializers_of, names_in
from convfc.formats.onnx.emitter import Emitter, Names, constant_of, constant_value
from convfc.formats.onnx.moving import tell
from convfc.formats.onnx.outline import Outline
from convfc.formats.onnx.sites import Body, places
from convfc.formats.onnx.structure import operator, tensor_difference


def bodies_of(outline: ir.Model, model: ir.Model) -> dict[Body, Body]:
    """The graphs and functions of a model by those of its outline, as they lie in each other."""
    mine, others = (_within(each) for each in (outline, model))
    return {
        a: b
        for within, bodies in mine.items()
        for a, b in zip(bodies, others.get(within, []), strict=False)
    }


def _within(model: ir.Model) -> dict[tuple[str, ...], list[Body]]:
    found: dict[tuple[str, ...], dict[Body, None]] = {(): {model.graph: None}}
    for place in places(model):
        found.setdefault(place.within, {})[place.body] = None
    return {within: list(bodies) for within, bodies in found.items()}


class Recovery:
    """Brings a model back.

    Args:
        outline: what it was.
        model: changed in place.
    """

    def __init__(self, outline: Outline, model: ir.Model) -> None:
        self._model = model
        self._form = outline.form
        self._bodies = bodies_of(outline.model, model)
        self._names = Names(model)
        self._made: dict[ir.Value, list[ir.Value]] = {}
        self._there: dict[Body, dict[str | None, ir.Value]] = {}
        self._same_inputs = _described(outline.model) == _described(model)

    def become(self, end: ir.Value, own: ir.Node, inputs: Sequence[ir.Value | None]) -> None:
        """Make what makes a value the node that made it in the original."""
        node = end.producer()
        assert node is not None  # noqa: S101 - it is the end of a chain
        node.op_type, node.domain = own.op_type, own.domain
        node.attributes.clear()
        node.attributes.update(own.attributes)
        node.resize_inputs(len(inputs))
        for place, value in enumerate(inputs):
            node.replace_input_with(place, value)
        tell(own, node)

    def emitter(self, end: ir.Value) -> Emitter:
        """Adds nodes in front of what makes a value."""
        self._there.clear()  # it adds values
        node = end.producer()
        assert node is not None  # noqa: S101 - it is the end of a chain
        place = next(place for place in places(self._model) if place.node is node)
        return Emitter(place, self._names, {})

    def constant(self, own: ir.Value, tensor: ir.TensorProtocol | None) -> ir.Value:
        """A constant of the original with the numbers of `tensor`, or its own ones if ``None``.

        One of that name with the same numbers is taken if there is one.
        """
        kept = constant_of(own)
        tensor = kept if tensor is None else tensor
        assert tensor is not None  # noqa: S101 - the outline has what is not laid out
        body = self._body(own)
        values = self._values(body)
        there = values.get(own.name)
        for value in (*([] if there is None else [there]), *self._made.get(own, [])):
            stored = constant_of(value)
            if stored is not None and tensor_difference(stored, tensor) is None:
                return value
        name = own.name or ""
        if name in values:
            name = self._names.fresh(name)
        tensor = tensor if kept is None else _told_like(tensor, kept)
        made = constant_value(name, tensor)
        made.doc_string = own.doc_string
        made.metadata_props.update(own.metadata_props)
        made.meta.update(own.meta)
        self._made.setdefault(own, []).append(made)
        values[name] = made
        maker = own.producer()
        if maker is None and isinstance(body, ir.Graph):
            body.register_initializer(made)
        else:
            node = ir.node("Constant", [], attributes={"value": tensor}, outputs=[made])
            made.const_value = None
            if maker is not None:
                tell(maker, node)
            body.insert_before(body[0], node)
        return made

    def _values(self, body: Body) -> dict[str | None, ir.Value]:
        """What a graph or function is fed, makes and stores, by name."""
        if body not in self._there:
            made = (value for node in body for value in node.outputs)
            stored = initializers_of(body).values()
            self._there[body] = {value.name: value for value in (*body.inputs, *made, *stored)}
        return self._there[body]

    def _body(self, own: ir.Value) -> Body:
        maker = own.producer()
        if maker is not None:
            return next(b for a, b in self._bodies.items() if maker.graph is _graph_of(a))
        graph = own.graph
        return self._bodies[graph] if graph is not None else self._model.graph

    def tidy(self) -> None:
        """Restore what is outside of the layers."""
        for own, body in self._bodies.items():
            self._constants(own, body)
        for own, body in self._bodies.items():
            _drop_unread(own, body)
        self._rename()
        for own, body in self._bodies.items():
            if self._same_inputs:
                _describe(own, body)
            _in_order(own, body)

    def _rename(self) -> None:
        """Tell apart nodes of one name, of which a layer that stays converted has two then."""
        known = {value.name for own in self._bodies for node in own for value in node.outputs}
        nodes = [place.node for place in places(self._model)]
        is_new = {node: not any(v.name in known for v in node.outputs) for node in nodes}
        taken = {node.name for node in nodes if not is_new[node]}
        for node in (node for node in nodes if is_new[node] and node.name):
            if node.name in taken:
                node.name = self._names.fresh(f"{node.name}/{node.op_type}")
            taken.add(node.name)

    def _constants(self, own: Body, body: Body) -> None:
        """Nodes that were moved get the constants that they had, under their own names."""
        makers = {node.outputs[0].name: node for node in own if node.outputs}
        for node in list(body):
            like = makers.get(node.outputs[0].name) if node.outputs else None
            if like is None or operator(like) != operator(node):
                continue
            for place, (value, wanted) in enumerate(zip(node.inputs, like.inputs, strict=False)):
                if value is None or wanted is None or value.name == wanted.name:
                    continue
                mine, other = constant_of(value), constant_of(wanted)
                if mine is not None and other is not None and mine.shape == other.shape:
                    node.replace_input_with(place, self.constant(wanted, mine))


def _graph_of(body: Body) -> ir.Graph:
    """Where nodes are: those of a function are in a graph of its own."""
    return body if isinstance(body, ir.Graph) else body.graph


def _told_like(tensor: ir.TensorProtocol, like: ir.TensorProtocol) -> ir.TensorProtocol:
    """A tensor with all that is told of another one."""
    return ir.LazyTensor(
        lambda: tensor,
        dtype=tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=like.name,
        doc_string=like.doc_string,
        metadata_props=dict(like.metadata_props),
    )


def _described(model: ir.Model) -> list[tuple[object, ...]]:
    """Name, type and shape of all that a model is fed."""
    fed = [value for value in model.graph.inputs if not value.is_initializer()]
    return [(value.name, str(value.type), str(value.shape)) for value in fed]


def _drop_unread(own: Body, body: Body) -> None:
    """Remove nodes and weights that nobody reads, unless the original has them, too."""
    known = names_in(own)
    for node in reversed(list(body)):
        read = any(value.uses() or value.is_graph_output() for value in node.outputs)
        if not read and not any(value.name in known for value in node.outputs):
            body.remove(node, safe=True)
    if isinstance(body, ir.Graph):
        for name, value in list(body.initializers.items()):
            seen = value.uses() or value.is_graph_input() or value.is_graph_output()
            if not seen and name not in known:
                body.initializers.pop(name)


def _describe(own: Body, body: Body) -> None:
    """Values get the types and shapes that the original told of them, or none."""
    told = {value.name: value for node in own for value in node.outputs}
    told |= {value.name: value for value in own.outputs}
    for value in (value for node in body for value in node.outputs):
        like = told.get(value.name)
        if like is not None:
            value.type, value.shape = like.type, like.shape
            value.doc_string = like.doc_string
            value.metadata_props.clear()
            value.metadata_props.update(like.metadata_props)
            value.meta.update(like.meta)


def _in_order(own: Body, body: Body) -> None:
    """Nodes and weights as they were ordered; those that are new come behind, if all are there."""
    places_of = {node.outputs[0].name: place for place, node in enumerate(own) if node.outputs}
    nodes = list(body)
    if {node.outputs[0].name for node in nodes if node.outputs} == places_of.keys():
        body.remove(nodes)
        body.extend(sorted(nodes, key=lambda node: places_of[node.outputs[0].name]))
    if isinstance(own, ir.Graph) and isinstance(body, ir.Graph):
        stored = dict(body.initializers)
        names = [name for name in own.initializers if name in stored]
        names += [name for name in stored if name not in own.initializers]
        if names != list(stored):
            for name in names:
                body.initializers.pop(name)
            for name in names:
                body.initializers[name] = stored[name]
