"""The nodes of an ONNX graph on tensors whose sizes are unknown, as the standard defines them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import z3
from numpy.typing import NDArray

from tests.symbolic.forms import Form, add, case_by_case, plus, scaled, times
from tests.symbolic.numbers import Facts, Number, choose, divide, is_zero, simple
from tests.symbolic.tensors import Repeated, Tensor, concatenate, together, with_repeated

Array = NDArray[Any]
"""Numbers that are known, or integers that are computed from sizes: those are objects."""

Value = Tensor | Array


def evaluate(graph: ir.Graph, given: Mapping[str, Value], facts: Facts) -> list[Value]:
    """The outputs of a graph of which inputs are given.

    Raises:
        KeyError: a node has an operator that is not in the list.
    """
    values: dict[Any, Any] = {value: given[str(value.name)] for value in graph.inputs}
    for value in graph.initializers.values():
        assert value.const_value is not None
        values[value] = value.const_value.numpy()
    for node in graph:
        inputs = [None if value is None else values[value] for value in node.inputs]
        made = _OPERATORS[node.op_type](node, facts, *inputs)
        values.update(zip(node.outputs, made if isinstance(made, list) else [made], strict=True))
    return [values[value] for value in graph.outputs]


def _numbers(array: Value) -> list[Number]:
    """A vector's entries; those that are known as `int`."""
    assert isinstance(array, np.ndarray)
    return [simple(number) for number in array.reshape(-1).tolist()]


def _whole(numbers: Sequence[Number], shape: Sequence[int] | None = None) -> Array:
    array = np.empty(len(numbers), object)
    array[:] = numbers
    return array if shape is None else array.reshape(shape)


def _constant(node: ir.Node, _: Facts) -> Value:
    tensor = ir.convenience.get_const_tensor(node.outputs[0])
    assert tensor is not None
    return tensor.numpy()


def _shape(_: ir.Node, __: Facts, x: Tensor) -> Value:
    return _whole([x.length(axis) for axis in range(x.rank)])


def _transpose(node: ir.Node, _: Facts, x: Value) -> Value:
    return x.transpose(node.attributes["perm"].as_ints())


def _reshape(node: ir.Node, _: Facts, x: Value, shape: Value | None = None) -> Value:
    sizes = node.attributes.get_ints("shape", ()) if shape is None else _numbers(shape)
    if isinstance(x, Tensor):
        return x.reshape([None if is_zero(size) else size for size in sizes])
    return x.reshape([size or x.shape[axis] for axis, size in enumerate(sizes)])


def _flatten(node: ir.Node, _: Facts, x: Tensor) -> Value:
    return x.flatten(node.attributes["axis"].as_int())


def _slice(node: ir.Node, _: Facts, x: Tensor, *lists: Value) -> Value:
    given = [_numbers(numbers) for numbers in lists] or [
        list(node.attributes[name].as_ints()) for name in ("starts", "ends", "axes")
    ]
    starts, ends, axes = given[:3]
    steps = given[3] if len(given) > 3 else [1] * len(axes)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        x = x.cut(axis, start, end, step)
    return x


def _pool(node: ir.Node, _: Facts, x: Tensor) -> Value:
    assert set(node.attributes["kernel_shape"].as_ints()) == {1}
    for axis, stride in enumerate(node.attributes["strides"].as_ints(), 2):
        x = x.cut(axis, 0, None, stride)
    return x


def _pad(
    node: ir.Node, _: Facts, x: Value, pads: Value | None = None, filling: Value | None = None
) -> Value:
    name = "pads" if "pads" in node.attributes else "paddings"
    amounts = node.attributes.get_ints(name, ()) if pads is None else _numbers(pads)
    half = len(amounts) // 2
    if not isinstance(x, Tensor):
        return np.pad(x, list(zip(amounts[:half], amounts[half:], strict=True)))
    given = node.attributes.get_float("value", 0.0) if filling is None else _numbers(filling)[0]
    for axis, (before, after) in enumerate(zip(amounts[:half], amounts[half:], strict=True)):
        x = x.pad(axis, before, after, int(given))
    return x


def _concat(node: ir.Node, facts: Facts, *xs: Value) -> Value:
    axis = node.attributes["axis"].as_int()
    if any(isinstance(x, Tensor) for x in xs):
        return concatenate([_tensor(facts, x) for x in xs], axis)
    return np.concatenate([np.asarray(x) for x in xs], axis)


def _tensor(facts: Facts, x: Value) -> Tensor:
    """What may be a vector of numbers."""
    if isinstance(x, Tensor):
        return x
    (length,), numbers = x.shape, _numbers(x)

    def at(index: Sequence[Number]) -> Form:
        return case_by_case(index[0], length, lambda place: {1: numbers[place]})

    return Tensor(facts, (length,), (1,), at)


def _gather(node: ir.Node, facts: Facts, x: Value, index: Value) -> Value:
    axis = node.attributes["axis"].as_int()
    if isinstance(index, Tensor):
        assert isinstance(x, Tensor)
        return x.gather(axis, index)
    if isinstance(x, Tensor):
        assert index.ndim == 1
        return x.take(axis, index)
    if all(isinstance(number, int) for number in _numbers(index)):
        return np.take(x, index.astype(np.int64), axis)
    assert axis == 0
    assert index.ndim == 1
    return np.stack([_row(facts, x, row) for row in _numbers(index)])


def _row(facts: Facts, table: Array, row: Number) -> Array:
    """A row by a number that may be unknown, but is in the table."""
    facts.demand(z3.And(row >= 0, row < len(table)), "no such row")
    chosen: Array = table[0].astype(object)
    for number, candidate in enumerate(table[1:].astype(object), 1):
        here = row == number
        chosen = _whole([choose(here, a, b) for a, b in zip(candidate, chosen, strict=True)])
    return chosen


def _matmul(_: ir.Node, __: Facts, a: Value, b: Value) -> Value:
    if isinstance(a, Tensor):
        assert isinstance(b, np.ndarray)
        return a.weigh(b)
    assert isinstance(b, Tensor)
    turned = [*range(b.rank - 2), b.rank - 1, b.rank - 2]
    return b.transpose(turned).weigh(a.swapaxes(-1, -2)).transpose(turned)


def _integer_product(
    _: ir.Node, __: Facts, a: Tensor, b: Array, a_zero: Array | None, b_zero: Array | None
) -> Value:
    """Of what is above the zero points."""
    zero = 0 if a_zero is None else int(a_zero.item())

    def above(index: Sequence[Number]) -> Form:
        form = a.at(index)
        assert set(form) <= {1}
        return {1: simple(form.get(1, 0) - zero)}

    return replace(a, at=above).weigh(
        b.astype(np.int64) - (0 if b_zero is None else b_zero.astype(np.int64))
    )


def _add(_: ir.Node, __: Facts, a: Value, b: Value | Repeated) -> Value:
    if isinstance(a, Tensor):
        if isinstance(b, Tensor):
            return together(a, b, lambda x, y: add([x, y]))
        if isinstance(b, Repeated):
            return with_repeated(a, b, plus)
        if b.dtype == object:  # a size
            (size,) = _numbers(b)
            return replace(a, at=lambda index: add([a.at(index), {1: size}]))
        return a.with_constant(b, plus)
    assert not isinstance(b, Repeated)
    return _each(lambda x, y: x + y, a, b)


def _mul(_: ir.Node, __: Facts, a: Value, b: Value | Repeated) -> Value:
    if isinstance(a, Tensor):
        if isinstance(b, Repeated):
            return with_repeated(a, b, times)
        assert isinstance(b, np.ndarray)
        if b.dtype == object:  # a size
            (size,) = _numbers(b)
            return replace(a, at=lambda index: scaled(a.at(index), size))
        return a.with_constant(b, times)
    assert not isinstance(b, Repeated)
    return _each(lambda x, y: x * y, a, b)


def _ones(node: ir.Node, facts: Facts, sizes: Value) -> Tensor:
    number = int(node.attributes["value"].as_tensor().numpy().item())
    lengths = _numbers(sizes)
    return Tensor(facts, tuple(lengths), (1,) * len(lengths), lambda _: {1: number})


def _throughout(x: Tensor) -> int:
    """The number that each entry of a vector is."""
    assert x.rank == 1
    (number,) = x.at(x.anywhere()[1]).values()
    assert isinstance(number, int)
    return number


def _running_sum(node: ir.Node, _: Facts, x: Tensor, axis: Array) -> Tensor:
    """Of a vector that is the same number throughout, without the entry itself."""
    assert (node.attributes["exclusive"].as_int(), axis.item()) == (1, 0)
    number = _throughout(x)
    return replace(x, at=lambda index: {1: number * index[0]})


def _tile(_: ir.Node, __: Facts, x: Array | Tensor, times: Value) -> Array | Tensor | Repeated:
    if isinstance(x, Tensor):
        (several,), number = _numbers(times), _throughout(x)
        lengths = (simple(x.length(0) * several),)
        return replace(x, lengths=lengths, at=lambda _: {1: number})
    *before, last = _numbers(times)
    if isinstance(last, int):
        return np.tile(x, [*before, last])
    assert set(before) <= {1}
    return Repeated(x, last)


def _split(
    node: ir.Node, facts: Facts, x: Array | Repeated, sizes: Value | None = None
) -> list[Any]:
    if isinstance(x, Repeated):
        return [replace(x, numbers=row) for row in _split(node, facts, x.numbers, sizes)]
    lengths = node.attributes.get_ints("split", ()) if sizes is None else _numbers(sizes)
    axis = node.attributes["axis"].as_int()
    assert sum(lengths) == x.shape[axis]
    return [*np.split(x, np.cumsum(lengths)[:-1], axis)]


def _sum(node: ir.Node, _: Facts, x: Tensor, axes: Value | None = None) -> Value:
    assert node.attributes["keepdims"].as_int() == 0
    (axis,) = node.attributes.get_ints("axes", ()) if axes is None else _numbers(axes)
    return x.sum(axis)


def _abs(_: ir.Node, facts: Facts, x: Value) -> Value:
    return _each(lambda number: facts.choose(number >= 0, number, -number), x)


def _div(_: ir.Node, facts: Facts, a: Value, b: Value) -> Value:
    def quotient(number: Number, by: int) -> Number:
        facts.demand(number >= 0, "integers are cut off towards zero, not down")
        return divide(number, by)[0]

    return _each(quotient, a, b)


def _each(compute: Callable[..., Number], *arrays: Value) -> Array:
    """Entry by entry, of vectors."""
    columns = [_numbers(array) for array in arrays]
    length = max(map(len, columns))
    rows = zip(*(column * (length // len(column)) for column in columns), strict=True)
    return _whole([simple(compute(*row)) for row in rows])


_OPERATORS: dict[str, Callable[..., Any]] = {
    "Abs": _abs,
    "Add": _add,
    "AveragePool": _pool,
    "Cast": lambda _, __, x: x,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _ones,
    "CumSum": _running_sum,
    "Div": _div,
    "Flatten": _flatten,
    "Gather": _gather,
    "MatMul": _matmul,
    "MatMulInteger": _integer_product,
    "Mod": lambda _, __, a, b: _each(lambda x, y: divide(x, y)[1], a, b),
    "Mul": _mul,
    "Pad": _pad,
    "ReduceSum": _sum,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Split": _split,
    "Sub": lambda _, __, a, b: _each(lambda x, y: x - y, a, b),
    "Tile": _tile,
    "Transpose": _transpose,
}
