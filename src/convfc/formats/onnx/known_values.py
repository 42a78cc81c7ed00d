"""A graph that is rewritten, and what is known of its values for all runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from convfc.formats.onnx.emitter import Names, constant_of, constant_value
from convfc.formats.onnx.operators import known_shape
from convfc.formats.onnx.sites import label, opset_of

Attributes: TypeAlias = "Mapping[str, int | Sequence[int]]"
_NONE: Attributes = {}

_REAL = (ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE)


class Known:
    """A graph, and what is known of its values.

    Attributes:
        graph: the main graph, which is changed.
        opset: of its standard operators.
        replaced: constants in whose place others are read now.
    """

    def __init__(self, shell: ir.Model, model: ir.Model, inferred: ir.Model) -> None:
        self.graph = shell.graph
        self.opset = opset_of(shell.graph)
        self.replaced: set[ir.Value] = set()
        self._names = Names(shell)
        self._numbers, self._shaped = (
            {v.name: v for v in (*one.inputs, *one.initializers.values())}
            | {v.name: v for node in one for v in node.outputs}
            for one in (model.graph, inferred.graph)
        )

    def numbers(self, value: ir.Value | None) -> NDArray[Any] | None:
        """What a value always is, in float64 if it is real."""
        own = None if value is None else self._numbers.get(value.name)
        tensor = None if own is None else constant_of(own)
        if tensor is None:
            return None
        return tensor.numpy().astype(np.float64) if tensor.dtype in _REAL else tensor.numpy()

    def given(self, node: ir.Node, place: int) -> NDArray[Any] | None:
        """The same of an operand, which may not be there."""
        return self.numbers(node.inputs[place]) if place < len(node.inputs) else None

    def row(self, value: ir.Value | None) -> tuple[int, ...] | None:
        """Sizes of a tensor of real numbers without its first axis, if all are known."""
        shaped = None if value is None else self._shaped.get(value.name)
        shape = known_shape(shaped)
        if shaped is None or shaped.dtype not in _REAL or not shape or None in shape[1:]:
            return None
        return tuple(size for size in shape[1:] if size is not None)

    def image(self, value: ir.Value | None) -> tuple[int, ...] | None:
        """The same of one with spatial axes: channels and sizes."""
        row = self.row(value)
        return row if row is not None and len(row) > 1 else None

    def filters(self, node: ir.Node) -> int | None:
        """Of a Conv or a ConvTranspose, if that is known."""
        kernel = node.inputs[1]
        shape = known_shape(None if kernel is None else self._shaped.get(kernel.name, kernel))
        groups = node.attributes.get_int("group", 1)
        place, times = (0, 1) if node.op_type == "Conv" else (1, groups)
        size = shape[place] if shape else None
        return None if size is None else size * times

    def samples(self, value: ir.Value | None) -> int | None:
        """The size of a tensor's first axis, if that is known."""
        shape = known_shape(None if value is None else self._shaped.get(value.name))
        return shape[0] if shape else None

    def constants(self, arrays: dict[str, NDArray[Any]], like: ir.Value) -> list[ir.Value] | None:
        """New ones of the type of a value, by names; ``None`` if a number is none in that type."""
        dtype = self._shaped.get(like.name, like).dtype or ir.DataType.FLOAT
        with np.errstate(over="ignore"):
            made = [array.astype(dtype.numpy()) for array in arrays.values()]
        if not all(np.isfinite(array).all() for array in made):
            return None
        found = []
        for name, array in zip(arrays, made, strict=True):
            tensor = ir.Tensor(np.ascontiguousarray(array), dtype=dtype)
            value = constant_value(self._names.fresh(name), tensor)
            self.graph.register_initializer(value)
            self._numbers[value.name] = value
            found.append(value)
        return found

    def shape(self, sizes: Sequence[int]) -> ir.Value:
        """A new constant that says a shape."""
        value = constant_value(self._names.fresh("shape"), ir.Tensor(np.array(sizes, np.int64)))
        self.graph.register_initializer(value)
        return value

    def before(
        self,
        node: ir.Node,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Attributes = _NONE,
    ) -> ir.Value:
        """Add a node in front of another one; what it makes."""
        name = self._names.fresh(f"{label(node)}/{op_type}")
        made = ir.node(op_type, inputs, attributes=dict(attributes), name=name)
        made.outputs[0].name = self._names.fresh(f"{node.outputs[0].name}/{op_type}")
        self.graph.insert_before(node, made)
        return made.outputs[0]

    def become(
        self,
        node: ir.Node,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Attributes = _NONE,
    ) -> bool:
        """Make a node another one that makes the same value; true."""
        self.replaced |= {v for v in node.inputs if v is not None}
        node.op_type = op_type
        node.attributes.clear()
        for name, setting in attributes.items():
            node.attributes.add(ir.convenience.convert_attribute(name, setting))
        node.resize_inputs(len(inputs))
        for place, value in enumerate(inputs):
            node.replace_input_with(place, value)
        return True

    def remove(self, node: ir.Node) -> None:
        """Take a node away that nobody reads."""
        self.replaced |= {v for v in node.inputs if v is not None}
        self.graph.remove(node, safe=True)

    def only_reader(self, value: ir.Value) -> ir.Node | None:
        """The node that alone needs a value, as its first operand, if there is one here."""
        uses = list(value.uses())
        if len(uses) != 1 or value.is_graph_output():
            return None
        (reader, place) = uses[0]
        return reader if place == 0 and reader.graph is self.graph else None
