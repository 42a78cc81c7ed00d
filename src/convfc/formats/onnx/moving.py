"""Nodes of the main graph written anew for data in another layout."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import TypeGuard

import numpy as np
import onnx_ir as ir

from convfc.formats.onnx.elementwise import Settings
from convfc.formats.onnx.emitter import Names, constant_of, constant_value
from convfc.formats.onnx.sites import label
from convfc.formats.onnx.structure import operator

LAST, ROWS = "/channels_last", "/rows"
"""What names of values end in that are not in their own layout."""


def named(*ends: str) -> re.Pattern[str]:
    """Names that end so, of values in another form: first what the value is called in its own."""
    return re.compile(rf"(.+)({'|'.join(ends)})(?:_\d+)?")


MOVED = named(LAST, ROWS)
"""Names of values that are not in their own layout, and which they are in."""


def own_of(value: ir.Value, originals: Container[str | None]) -> tuple[str, str]:
    """Which value of the original a name says that it is, and in which form; nothing if in none."""
    name = value.name or ""
    if name in originals:
        return name, ""
    hint = MOVED.fullmatch(name)
    return (hint[1], hint[2]) if hint is not None and hint[1] in originals else ("", "")


class Moves:
    """Writes nodes into the main graph of a model.

    Args:
        model: changed in place.
        names: of the whole model.

    Attributes:
        graph: its main graph.
        replaced: constants in whose place others are read now.
    """

    def __init__(self, model: ir.Model, names: Names) -> None:
        self.graph = model.graph
        self.names = names
        self.replaced: dict[ir.Value, None] = {}
        self._constants: dict[tuple[object, ...], ir.Value] = {}
        self._shapes: dict[tuple[int, ...], ir.Value] = {}

    def copy(
        self,
        node: ir.Node,
        data: Mapping[ir.Value, ir.Value],
        settings: Settings,
        name: str,
        before: ir.Node,
    ) -> ir.Value:
        """Add a node that does on other data what a node does; it has all that is told of it.

        Args:
            node: the node.
            data: by what the node reads, what the new one reads.
            settings: what it has beside.
            name: of what it makes.
            before: the node in front of which it stands.
        """
        made = ir.Node(
            node.domain,
            node.op_type,
            list(self._operands(node, data, settings)),
            settings.attributes.values(),
            outputs=[ir.Value(name=name, type=node.outputs[0].type)],
            name=node.name,
            doc_string=node.doc_string,
            metadata_props=dict(node.metadata_props),
        )
        self.graph.insert_before(before, made)
        return made.outputs[0]

    def become(self, node: ir.Node, op_type: str, inputs: Sequence[ir.Value | None]) -> None:
        """Make a node another one that makes the same value; its attributes are gone."""
        node.op_type = op_type
        node.attributes.clear()
        node.resize_inputs(len(inputs))
        for place, value in enumerate(inputs):
            node.replace_input_with(place, value)

    def become_copy(
        self,
        node: ir.Node,
        of: ir.Node,
        data: Mapping[ir.Value, ir.Value],
        settings: Settings,
    ) -> None:
        """Make a node do on other data what another one does, with all that is told of that."""
        inputs = list(self._operands(of, data, settings))
        self.become(node, of.op_type, inputs)
        node.attributes.update(settings.attributes)
        tell(of, node)

    def become_transpose(self, node: ir.Node, value: ir.Value, perm: Sequence[int]) -> None:
        """Make a node a Transpose of a value."""
        self.become(node, "Transpose", [value])
        node.attributes.add(ir.AttrInt64s("perm", perm))

    def become_back(self, node: ir.Node, op_type: str, inputs: Sequence[ir.Value | None]) -> None:
        """Make a node that was copied what brings the copy back; what was told of it is gone."""
        node.name = self.names.fresh(f"{label(node)}/{op_type}")
        node.doc_string = None
        node.metadata_props.clear()
        self.become(node, op_type, inputs)

    def transpose(self, value: ir.Value, perm: Sequence[int], name: str) -> ir.Node:
        """Add a Transpose behind what makes a value, or in front of all."""
        made = ir.node("Transpose", [value], attributes={"perm": list(perm)})
        made.outputs[0].name, made.outputs[0].type = name, value.type
        maker = value.producer()
        if maker is None:
            self.graph.insert_before(self.graph[0], made)
        else:
            self.graph.insert_after(maker, made)
        return made

    def shape(self, sizes: tuple[int, ...]) -> ir.Value:
        """What a Reshape to these sizes reads; the same is made once."""
        if sizes not in self._shapes:
            tensor = ir.Tensor(np.array(sizes, np.int64))
            value = constant_value(self.names.fresh("shape"), tensor)
            self.graph.register_initializer(value)
            self._shapes[sizes] = value
        return self._shapes[sizes]

    def _operands(
        self, node: ir.Node, data: Mapping[ir.Value, ir.Value], settings: Settings
    ) -> Iterator[ir.Value | None]:
        for place, value in enumerate(node.inputs):
            if value is not None and place in settings.constants:
                yield self._constant(value, settings, place)
            else:
                yield None if value is None else data.get(value, value)

    def _constant(self, value: ir.Value, settings: Settings, place: int) -> ir.Value:
        """A constant in the place of another; the same is made once."""
        array, old = settings.constants[place], constant_of(value)
        key = (value, array.shape, array.tobytes())
        if key not in self._constants and old is not None:
            tensor = ir.Tensor(array, dtype=old.dtype)
            made = constant_value(self.names.fresh(f"{value.name}/reordered"), tensor)
            self.graph.register_initializer(made)
            self._constants[key] = made
            self.replaced[value] = None
        return self._constants[key]


def is_read(value: ir.Value) -> bool:
    """Whether anybody needs a value."""
    return bool(value.uses()) or value.is_graph_output()


def is_plain(node: ir.Node) -> bool:
    """Whether nothing is told of what a node makes that would be lost."""
    return not any(value.meta or value.metadata_props for value in node.outputs)


def tell(of: ir.Node, node: ir.Node) -> None:
    """Give a node all that is told of another one, and no runtime reads."""
    node.name, node.doc_string = of.name, of.doc_string
    node.metadata_props.clear()
    node.metadata_props.update(of.metadata_props)


def columns_of(value: ir.Value | None) -> int | None:
    """How many columns a matrix has; ``None`` unless the nodes before it show that it is one.

    They are a product of a matrix with a constant one and, behind it, what is elementwise with
    numbers for all of it or one for each column.
    """
    widths: list[int] = []
    while value is not None and (node := value.producer()) is not None:
        domain, op, _ = operator(node)
        given = [v for v in node.inputs if v is not None]
        if domain or not given:
            return None
        if op in ("MatMul", "MatMulInteger"):
            second = constant_of(given[1]) if len(given) > 1 else None
            shape = () if second is None else tuple(second.shape.numpy())
            fits = len(shape) == 2 and _is_matrix(given[0]) and {*widths} <= {1, shape[1]}
            return shape[1] if fits else None
        if op in ("Cast", "QuantizeLinear"):
            value = given[0]
        elif op in ("Add", "Mul"):
            tensors = [constant_of(v) for v in given]
            data = [v for v, tensor in zip(given, tensors, strict=True) if tensor is None]
            shapes = [tuple(tensor.shape.numpy()) for tensor in tensors if tensor is not None]
            if len(data) != 1 or any(len(shape) > 1 for shape in shapes):
                return None
            widths += [shape[0] for shape in shapes if shape]
            value = data[0]
        else:
            return None
    return None


def _is_matrix(value: ir.Value) -> bool:
    """Whether it comes out of a Reshape to two axes."""
    shape = reshaped_to(value.producer())
    return shape is not None and len(shape) == 2


def is_reshape(node: ir.Node | None) -> TypeGuard[ir.Node]:
    """Whether it is a Reshape that reads its shape."""
    reshapes = node is not None and operator(node) == ("", "Reshape", "")
    return node is not None and reshapes and len(node.inputs) == 2


def reshaped_to(node: ir.Node | None) -> list[int] | None:
    """The shape that a Reshape is given as a constant; ``None`` of any other node."""
    if not is_reshape(node):
        return None
    given = None if node.inputs[1] is None else constant_of(node.inputs[1])
    if given is None or given.dtype is not ir.DataType.INT64 or len(given.shape) != 1:
        return None
    return [int(size) for size in given.numpy()]
