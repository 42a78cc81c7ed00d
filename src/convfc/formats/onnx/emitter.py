"""Adding nodes and constants to a graph, in the forms that its opset has."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from convfc.core.arrangement import LayOut
from convfc.formats.onnx.reshaping import bridges, is_mixed, parts_of, reshaping
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
        # Whatever is free below the last number that was given stays so.
        name, number = wanted, self._numbers.get(wanted, 1)
        while name in self.taken:
            number += 1
            name = f"{wanted}_{number}"
        self._numbers[wanted] = number
        self.taken.add(name)
        return name


END = np.iinfo(np.int64).max
"""Where a slice ends that has no end."""
LOOKED_UP = 14
"""From this opset on, standard shape inference follows shapes that are computed of sizes."""
SHARED = "convfc"
"""What stands before the names of constants that several layers read."""
_MADE = {
    "Add": "sum",
    "Concat": "joined",
    "Gather": "gathered",
    "MatMul": "product",
    "MatMulInteger": "product",
    "Pad": "padded",
    "Reshape": "reshaped",
    "Slice": "sliced",
    "Transpose": "transposed",
}
"""What to call what a node makes; else after its operator."""
_TYPES = {
    int: ir.AttributeType.INT,
    float: ir.AttributeType.FLOAT,
    str: ir.AttributeType.STRING,
    list: ir.AttributeType.INTS,
}
_TENSOR = ir.AttributeType.TENSOR


@dataclass(frozen=True)
class Arrangement:
    """How the numbers of a constant come from those of another one.

    Attributes:
        source: the other one.
        lay_out: where they go.
        shift: what is added to each.
        ground: makes what is there without any number, if that is not all zeros.
    """

    source: ir.Value
    lay_out: LayOut
    shift: int = 0
    ground: Callable[[], NDArray[Any]] | None = None


class Emitter:
    """Adds nodes and constants in front of one node, in the forms that its opset has.

    Constants of one graph are shared; where there can be no initializers they are Constant nodes.

    What is new is called ``<layer>/<what it is>``, where the layer is the node's name, or its first
    output's if it has none (`label`): that is a promise, by which people and tools find a layer's
    nodes. A constant that several layers read is called ``convfc/<what it is>``.

    Args:
        place: the node to work in front of.
        names: of the whole model.
        constants: those made so far, by graph and content; shared between emitters.
        arranged: takes how constants are made of those that are there.
        zeros: see `Forms.zeros`.
    """

    def __init__(
        self,
        place: Place,
        names: Names,
        constants: dict[Any, ir.Value],
        arranged: dict[ir.Value, Arrangement] | None = None,
        *,
        zeros: bool = False,
    ) -> None:
        self.place = place
        self.names = names
        self.arranged = {} if arranged is None else arranged
        self.zeros = zeros or place.opset < LOOKED_UP
        self._constants = constants
        self._sizes: dict[ir.Value, ir.Value] = {}
        self._prefix = label(place.node)
        self._made: set[ir.Node] = set()
        self._own: set[ir.Value] = set()

    def node(self, op: str, *inputs: ir.Value | None, **attributes: Attribute) -> ir.Value:
        """Add a node with one output."""
        return self.nodes(op, 1, *inputs, **attributes)[0]

    def nodes(
        self, op: str, count: int, *inputs: ir.Value | None, **attributes: Attribute
    ) -> Sequence[ir.Value]:
        """Add a node with so many outputs."""
        return self._add(op, inputs, attributes, count)

    def _add(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Attribute],
        count: int,
    ) -> Sequence[ir.Value]:
        name = self.names.fresh(f"{self._prefix}/{op}")
        made = _MADE.get(op, f"{op}_output")
        outputs = [ir.Value(name=self.names.fresh(f"{self._prefix}/{made}")) for _ in range(count)]
        # Not by `ir.node`, which takes as long again to find out the types of attributes.
        types = {key: _TYPES.get(type(value), _TENSOR) for key, value in attributes.items()}
        given = [ir.Attr(key, types[key], value) for key, value in attributes.items()]
        node = ir.Node("", op, inputs, given, outputs=outputs, name=name)
        self.place.body.insert_before(self.place.node, node)
        self._made.add(node)
        return outputs

    def call(self, made: ir.Value, role: str) -> ir.Value:
        """Call what this layer has made by what it is; what is not of this layer keeps its name."""
        if made.producer() in self._made:
            self.names.taken.discard(made.name)
            made.name = self.names.fresh(f"{self._prefix}/{role}")
        return made

    def integers(self, numbers: Sequence[int] | NDArray[np.int32], role: str) -> ir.Value:
        """A constant vector: int64 from a list, an array as it is."""
        array = numbers if isinstance(numbers, np.ndarray) else np.array(numbers, np.int64)
        if self.place.initializers or self.place.opset >= 9:
            return self.numbers(array, role)
        # The Constant operator had no integers yet; these are far below 2**53.
        return self.cast(self.numbers(array.astype(np.float64), role), ir.DataType.INT64)

    def numbers(self, array: NDArray[Any], role: str) -> ir.Value:
        """A constant of an array's own type and shape."""
        key = (role, array.dtype, array.shape, array.tobytes())
        return self.constant(key, lambda: ir.Tensor(array), role)

    def constant(self, key: object, tensor: Callable[[], ir.TensorProtocol], role: str) -> ir.Value:
        """A constant; one with the same key in the same graph is made once."""
        return self._once(key, lambda: self._constant(tensor(), role), role)

    def total(self, parts: Sequence[NDArray[np.int32]], role: str) -> ir.Value:
        """The sum of constants, broadcast: a few small ones for a large one, from opset 7 on.

        Runtimes add them up when they load the file. Where there are no initializers, it is a
        constant.
        """
        if len(parts) == 1 or not self.place.initializers or self.place.opset < 7:
            return self.integers(functools.reduce(np.add, parts), role)

        def summed() -> ir.Value:
            stored = [self.integers(part, f"{role}_part") for part in parts]
            for value in stored:
                self._share(value, f"{role}_part")
            y, *others = stored
            first = self.place.body[0]
            for number, other in enumerate(others, 1):
                made = role if number == len(others) else f"{role}_sum"
                output = ir.Value(name=self.names.fresh(f"{SHARED}/{made}"))
                name = self.names.fresh(f"{SHARED}/Add")
                node = ir.Node("", "Add", [y, other], outputs=[output], name=name)
                self.place.body.insert_before(first, node)
                y = output
            return y

        key = (role, *((part.shape, part.tobytes()) for part in parts))
        return self._once(key, summed, role)

    def _once(self, key: object, make: Callable[[], ir.Value], role: str) -> ir.Value:
        known = (id(self.place.body), key)
        value = self._constants.get(known)
        if value is None:
            value = self._constants[known] = make()
            self._own.add(value)
        elif value not in self._own:
            self._share(value, role)
        return value

    def _share(self, value: ir.Value, role: str) -> None:
        """Give a constant a name of no layer, if it has none yet."""
        if (value.name or "").startswith(f"{SHARED}/"):
            return
        self.names.taken.discard(value.name)
        value.name = self.names.fresh(f"{SHARED}/{role}")
        producer = value.producer()
        if producer is not None:
            self.names.taken.discard(producer.name)
            producer.name = self.names.fresh(f"{value.name}/{producer.op_type}")

    def _constant(self, tensor: ir.TensorProtocol, role: str) -> ir.Value:
        body = self.place.body
        value = constant_value(self.names.fresh(f"{self._prefix}/{role}"), tensor)
        if self.place.initializers and isinstance(body, ir.Graph):
            body.register_initializer(value)
        else:
            made = ir.node("Constant", [], attributes={"value": tensor}, outputs=[value])
            made.name = self.names.fresh(f"{value.name}/Constant")
            body.insert_before(body[0], made)
        return value

    def reshape(self, x: ir.Value, wanted: Sequence[int | None]) -> ir.Value:
        """Reshape to `wanted`: ``None`` where an axis stays as it is; one may be -1."""
        tensor, shape = constant_of(x), reshaping(wanted)
        if tensor is not None and None not in wanted:
            role = (x.name or "").rpartition("/")[2]
            y = self.constant((id(x), *shape), lambda: _reshaped(tensor, shape), role)
            self.arranged[y] = Arrangement(x, lambda numbers: numbers.reshape(shape))
            return y
        before = x.producer()
        if before in self._made and not x.uses() and _is_bridged(before, shape):
            self.names.taken -= {before.name, x.name}
            x = before.inputs[0] or x
            self.place.body.remove(before, safe=True)
        if self.place.opset < 5:
            return self.node("Reshape", x, shape=list(shape))
        return self.node("Reshape", x, self.shape(x, wanted))

    def shape(self, x: ir.Value, wanted: Sequence[int | None]) -> ir.Value:
        """What a Reshape reads, from opset 5 on; axes that stay are those of `x`.

        A constant, unless that had both 0 and -1: then the sizes that stay are `LOOKED_UP`.
        """
        shape = reshaping(wanted)
        if self.zeros or not is_mixed(shape):
            return self.integers(shape, "shape")
        parts = [
            self.node("Gather", self.sizes(x), self.integers(part, "axes"), axis=0)
            if stays
            else self.integers(part, "lengths")
            for stays, part in parts_of(shape)
        ]
        return self.call(self.node("Concat", *parts, axis=0), "shape")

    def sizes(self, x: ir.Value) -> ir.Value:
        """All sizes of a value, as the run finds them."""
        if x not in self._sizes:
            self._sizes[x] = self.node("Shape", x)
        return self._sizes[x]

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


def _reshaped(tensor: ir.TensorProtocol, shape: Sequence[int]) -> ir.TensorProtocol:
    return ir.Tensor(tensor.numpy().reshape(shape).copy(), dtype=tensor.dtype)


def _is_bridged(before: ir.Node, shape: Sequence[int]) -> bool:
    """Whether what a Reshape made can be reshaped to `shape` from what it was made of."""
    given = before.inputs[1] if len(before.inputs) > 1 else None
    first = None if given is None else constant_of(given)
    if before.op_type != "Reshape" or (given is not None and first is None):
        return False
    return bridges([] if first is None else first.numpy().tolist(), shape)


def constant_value(name: str, tensor: ir.TensorProtocol) -> ir.Value:
    """A value that always is a tensor, for whoever puts it into a graph."""
    shape = ir.Shape(tensor.shape.numpy())
    return ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor)


def constant_of(value: ir.Value) -> ir.TensorProtocol | None:
    """The tensor behind a value that nothing can change at run time, or ``None``."""
    if value.is_initializer():
        # An initializer that is an input as well is only a default.
        return None if value.is_graph_input() else value.const_value
    try:
        tensor = ir.convenience.get_const_tensor(value)
    except ValueError:  # a Constant without a value, which no runtime loads
        return None
    node = value.producer()
    if node is None or tensor is None or tensor.dtype is not ir.DataType.STRING:
        return tensor
    for attribute in node.attributes.values():
        # onnx_ir gives texts one length, and with it all lose the NULs that they end in.
        if attribute.type is ir.AttributeType.STRINGS:
            return ir.StringTensor(np.array([s.encode() for s in attribute.as_strings()], object))
        if attribute.type is ir.AttributeType.STRING:
            return ir.StringTensor(np.array(attribute.as_string().encode(), object))
    return tensor
