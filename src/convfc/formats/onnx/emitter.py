"""Adding nodes and constants to a graph, in the forms that its opset has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from convfc.formats.onnx.sites import Place, label, places

Attribute: TypeAlias = "int | float | str | list[int] | ir.TensorProtocol"


class Names:
    """Fresh names for values and nodes, unique over the whole model.

    onnx_ir makes them unique per graph only, but a branch sees the values around it.
    """

    def __init__(self, model: ir.Model) -> None:
        self.taken = {value.name for graph in model.graphs() for value in graph.inputs}
        for graph in model.graphs():
            self.taken.update(graph.initializers)
        for place in places(model):
            self.taken.add(place.node.name)
            self.taken.update(value.name for value in place.node.outputs)
        self._numbers: dict[str, int] = {}

    def fresh(self, wanted: str) -> str:
        """`wanted`, or with the first number behind it that makes it new."""
        # None below the last one that was given is free again: names are only added.
        name, number = wanted, self._numbers.get(wanted, 1)
        while name in self.taken:
            number += 1
            name = f"{wanted}_{number}"
        self._numbers[wanted] = number
        self.taken.add(name)
        return name


class Emitter:
    """Adds nodes and constants in front of one node, in the forms that its opset has.

    Constants of one graph are shared; where there can be no initializers they are Constant nodes.

    What is new is called ``<layer>/<what it is>``, where the layer is the node's name, or its first
    output's if it has none (`label`): that is a promise, by which people and tools find a layer's
    nodes. A constant that several layers share is called after the first of them.

    Args:
        place: the node to work in front of.
        names: of the whole model.
        constants: those made so far, by graph and content; shared between emitters.
    """

    def __init__(self, place: Place, names: Names, constants: dict[Any, ir.Value]) -> None:
        self.place = place
        self.names = names
        self._constants = constants
        self._prefix = label(place.node)
        self._made: list[ir.Node] = []

    def node(self, op: str, *inputs: ir.Value | None, **attributes: Attribute) -> ir.Value:
        """Add a node with one output."""
        return self._add(op, inputs, attributes, 1)[0]

    def _add(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Attribute],
        count: int,
    ) -> Sequence[ir.Value]:
        name = self.names.fresh(f"{self._prefix}/{op}")
        wanted = f"{self._prefix}/{op}_output"
        outputs = [ir.Value(name=self.names.fresh(wanted)) for _ in range(count)]
        node = ir.node(op, inputs, attributes=attributes, outputs=outputs, name=name)
        self.place.body.insert_before(self.place.node, node)
        self._made.append(node)
        return outputs

    def integers(self, numbers: Sequence[int] | NDArray[np.int32], role: str) -> ir.Value:
        """A constant vector: int64 from a list, an array as it is."""
        array = numbers if isinstance(numbers, np.ndarray) else np.array(numbers, np.int64)
        if self.place.initializers or self.place.opset >= 9:
            return self.numbers(array, role)
        # The Constant operator had no integers yet; these are far below 2**53.
        return self.cast(self.numbers(array.astype(np.float64), role), ir.DataType.INT64)

    def numbers(self, array: NDArray[Any], role: str) -> ir.Value:
        """A constant of an array's own type and shape."""
        return self.constant((array.dtype, array.shape, array.tobytes()), ir.Tensor(array), role)

    def constant(self, key: object, tensor: ir.TensorProtocol, role: str) -> ir.Value:
        """A constant; one with the same key in the same graph is made once."""
        body = self.place.body
        known = (id(body), key)
        if known not in self._constants:
            name = self.names.fresh(f"{self._prefix}/{role}")
            value = ir.Value(
                name=name,
                type=ir.TensorType(tensor.dtype),
                shape=ir.Shape(tensor.shape.numpy()),
                const_value=tensor,
            )
            if self.place.initializers and isinstance(body, ir.Graph):
                body.register_initializer(value)
            else:
                made = ir.node("Constant", [], attributes={"value": tensor}, outputs=[value])
                made.name = self.names.fresh(f"{name}/Constant")
                body.insert_before(body[0], made)
            self._constants[known] = value
        return self._constants[known]

    def reshape(self, x: ir.Value, shape: Sequence[int]) -> ir.Value:
        """Reshape; a 0 keeps the size of the axis in its place, so no batch size is baked in."""
        tensor = constant_of(x)
        if tensor is not None and 0 not in shape:
            reshaped = ir.Tensor(tensor.numpy().reshape(shape).copy(), dtype=tensor.dtype)
            return self.constant((id(x), *shape), reshaped, (x.name or "").rpartition("/")[2])
        before = x.producer()
        if before in self._made and not x.uses() and _bridged(before, shape):
            x = before.inputs[0] or x
            self.place.body.remove(before, safe=True)
        if self.place.opset < 5:
            return self.node("Reshape", x, shape=list(shape))
        return self.node("Reshape", x, self.integers(shape, "shape"))

    def matrix(self, rows: Sequence[Sequence[int]], role: str) -> ir.Value:
        """A constant int64 matrix."""
        return self.numbers(np.array(rows, np.int64), role)

    def transpose(self, x: ir.Value, order: Sequence[int]) -> ir.Value:
        """Permute axes."""
        return self.node("Transpose", x, perm=list(order))

    def cast(self, x: ir.Value, to: ir.DataType) -> ir.Value:
        """Change the element type."""
        return self.node("Cast", x, to=int(to) if self.place.opset >= 6 else to.name)

    def sum(self, x: ir.Value, axis: int) -> ir.Value:
        """Sum along one axis, which goes."""
        if self.place.opset < 13:
            return self.node("ReduceSum", x, axes=[axis], keepdims=0)
        return self.node("ReduceSum", x, self.integers([axis], "axes"), keepdims=0)

    def rows(self, matrix: ir.Value, count: int) -> Sequence[ir.Value]:
        """Each row of a tensor of so many, with axis 0 still there."""
        ones = [1] * count
        if self.place.opset < 13:
            return self._add("Split", [matrix], {"axis": 0, "split": ones}, count)
        return self._add("Split", [matrix, self.integers(ones, "rows")], {"axis": 0}, count)

    def pad(
        self, x: ir.Value, amounts: Sequence[int] | ir.Value, filling: ir.Value | None = None
    ) -> ir.Value:
        """Pad all axes.

        Args:
            x: what to pad.
            amounts: before every axis, then after every one; to compute them needs opset 11.
            filling: one number of the type of `x`, before opset 11 an 8-bit integer; zero if
                ``None``.
        """
        if isinstance(amounts, ir.Value) or self.place.opset >= 11:
            if not isinstance(amounts, ir.Value):
                amounts = self.integers(amounts, "pads")
            return self.node("Pad", x, amounts, *([] if filling is None else [filling]))
        name = "pads" if self.place.opset >= 2 else "paddings"
        if filling is None:
            return self.node("Pad", x, **{name: list(amounts)})
        # Pads were zeros of floating point: move the number there and back.
        moved, shift = self.cast(x, ir.DataType.FLOAT), self.cast(filling, ir.DataType.FLOAT)
        padded = self.node("Pad", self.node("Sub", moved, shift), **{name: list(amounts)})
        one = self.numbers(np.array(1, np.float32), "one")
        return self.node("QuantizeLinear", padded, one, filling)  # back, into the filling's type

    def ones_column(self, x: ir.Value, rank: int) -> ir.Value:
        """Put a 1 behind the last axis, in the form of `Pad` before opset 11."""
        name = "pads" if self.place.opset >= 2 else "paddings"
        return self.node("Pad", x, **{name: [0] * (2 * rank - 1) + [1]}, value=1.0)


def _bridged(before: ir.Node, shape: Sequence[int]) -> bool:
    """Whether what a Reshape made can be reshaped to `shape` from what it was made of.

    An axis that `shape` keeps must be one that the first Reshape kept.
    """
    if before.op_type != "Reshape":
        return False
    kept = [axis for axis, size in enumerate(shape) if size == 0]
    given = before.inputs[1] if len(before.inputs) > 1 else None
    first = None if given is None else constant_of(given)
    between = [] if first is None else first.numpy().tolist()
    return all(axis < len(between) and between[axis] == 0 for axis in kept)


def constant_of(value: ir.Value) -> ir.TensorProtocol | None:
    """The tensor behind a value that nothing can change at run time, or ``None``."""
    if value.is_initializer():
        # An initializer that is an input as well is only a default.
        return None if value.is_graph_input() else value.const_value
    try:
        return ir.convenience.get_const_tensor(value)
    except ValueError:  # a Constant without a value, which no runtime loads
        return None
