"""Two chains of nodes side by side: do they write down the same computation?

Two values are the same term if they are the same constant, bit for bit, the same value that both
chains read from outside, or made by nodes with the same operator and attributes of operands that
are the same terms; what is computed of constants alone may be one constant (`folded`). Names, the
order of nodes, and whether a constant is an initializer or a node do not count: no runtime's result
depends on them.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeAlias

import numpy as np
import onnx
import onnx_ir as ir

from convfc.core.arrays import Array, array_difference
from convfc.formats.onnx.emitter import constant_of
from convfc.formats.onnx.folded import folded, is_dequantized
from convfc.formats.onnx.operators import identifier
from convfc.formats.onnx.sites import label

Pair: TypeAlias = "tuple[ir.Value | None, ir.Value | None]"
"""A value as it should be, and another one."""


@dataclass(frozen=True)
class Difference:
    """How two terms differ.

    Attributes:
        text: in words.
        in_numbers: whether real or 8-bit numbers differ, in constants of the same type and shape.
    """

    text: str
    in_numbers: bool = False


def first_difference(
    expected: ir.Value, found: ir.Value, given: Set[str | None], made: Set[ir.Node], opset: int
) -> Difference | None:
    """The first thing in which two terms differ, from their ends backwards; ``None`` if nowhere.

    Args:
        expected: the end of the chain as it should be.
        found: the end of the other.
        given: names of what both may read from outside.
        made: the nodes of the other chain: what they make is never taken for something given.
        opset: of both: attributes that are left out have the defaults of that.

    Of y = MatMul(Pad(x), F) and y = MatMul(x, F), the first difference is that 'y' reads 'x' in
    the place of what a Pad makes.
    """
    todo: list[Pair] = [(expected, found)]
    seen: set[Pair] = set()
    while todo:
        pair = todo.pop()
        if pair in seen or pair == (None, None):
            continue
        seen.add(pair)
        following = step(*pair, given, made, opset)
        if isinstance(following, Difference):
            return following
        todo += following
    return None


def step(
    a: ir.Value | None,
    b: ir.Value | None,
    given: Set[str | None],
    made: Set[ir.Node],
    opset: int,
) -> Difference | list[Pair]:
    """What is different about two values, or the pairs of operands from which they come.

    Args:
        a: a value as it should be.
        b: the other one.
        given: see `first_difference`.
        made: see `first_difference`.
        opset: see `first_difference`.
    """
    if a is None or b is None:
        there = b or a
        name = there.name if there else ""
        return Difference(f"an operand '{name}' is {'new' if b else 'left out'}")
    left, right = constant_of(a), constant_of(b)
    if left is None and right is not None:
        left = folded(a)
    if left is None and right is None and is_dequantized(b):
        left, right = folded(a), folded(b)
        left, right = (left, right) if left is not None and right is not None else (None, None)
    if left is not None and right is not None:
        difference = tensor_difference(left, right)
        if difference is None:
            return []
        alike = (left.dtype, tuple(left.shape)) == (right.dtype, tuple(right.shape))
        text = f"its constant '{b.name}' {difference}"
        return Difference(text, in_numbers=alike and is_numbers(left.dtype))
    first, second = a.producer(), b.producer()
    if a.name in given and left is None:
        if a.name != b.name or second in made or right is not None:
            return Difference(f"it reads '{b.name}', not '{a.name}'")
        return []
    if left is not None or right is not None or first is None or second not in made:
        return Difference(f"it reads '{b.name}', which convfc does not put there")
    assert second is not None  # noqa: S101 - it is in `made`
    difference = node_difference(first, second, a.index(), b.index(), opset)
    if difference is not None:
        return Difference(difference)
    # The last operand is looked at last: data come first.
    return list(reversed(list(zip_longest(first.inputs, second.inputs))))


def node_difference(
    a: ir.Node, b: ir.Node, output: int | None, other: int | None, opset: int
) -> str | None:
    """How two nodes differ, their operands apart."""
    if operator(a) != operator(b):
        return f"'{label(b)}' is a {b.op_type}, where convfc puts a {a.op_type}"
    if output != other or len(a.outputs) != len(b.outputs):
        return f"another output of '{label(b)}' is read"
    for name in sorted(a.attributes.keys() | b.attributes.keys()):
        if not same_setting(b, name, a.attributes.get(name), b.attributes.get(name), opset):
            return f"'{label(b)}' ({b.op_type}) has another {name}"
    return None


def is_numbers(dtype: ir.DataType) -> bool:
    """Whether it is a type of weights; integers of more bits are indices and shapes."""
    return dtype.is_floating_point() or dtype in (ir.DataType.INT8, ir.DataType.UINT8)


def operator(node: ir.Node) -> tuple[str, str, str]:
    """Domain, name and overload."""
    return *identifier(node), node.overload


def same_attribute(a: ir.Attr | None, b: ir.Attr | None) -> bool:
    """Whether two attributes are the same to the bit; those that hold graphs never are."""
    if a is None or b is None:
        return a is b
    if (a.type, a.ref_attr_name) != (b.type, b.ref_attr_name):
        return False
    if a.is_ref():
        return True
    if a.type is ir.AttributeType.TENSOR:
        return tensor_difference(a.as_tensor(), b.as_tensor()) is None
    if a.type is ir.AttributeType.TENSORS:
        pairs = list(zip_longest(a.as_tensors(), b.as_tensors()))
        return all(x and y and tensor_difference(x, y) is None for x, y in pairs)
    return _written(a.value) == _written(b.value)


def _written(value: object) -> str:
    """A text that tells -0.0 from 0.0, and takes NaN for NaN."""
    listed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return repr(list(value)) if listed else repr(value)  # type: ignore[call-overload] # mypy cannot follow `listed`


def same_setting(
    node: ir.Node, name: str, a: ir.Attr | None, b: ir.Attr | None, opset: int
) -> bool:
    """Whether an attribute means the same in two nodes: left out, it has the operator's default."""
    return same_attribute(a or _default(node, name, opset), b or _default(node, name, opset))


def _default(node: ir.Node, name: str, opset: int) -> ir.Attr | None:
    domain, op_type, _ = operator(node)
    try:
        schema = onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None
    described = schema.attributes.get(name)
    if described is None or not described.default_value.name:
        return None
    return ir.serde.deserialize_attribute(described.default_value)


def tensor_difference(a: ir.TensorProtocol, b: ir.TensorProtocol) -> str | None:
    """How two tensors differ in type, shape or bits; ``None`` if they do not."""
    if (a.dtype, tuple(a.shape)) != (b.dtype, tuple(b.shape)):
        return "has another type or shape"
    return array_difference(_array(a), _array(b))


def _array(tensor: ir.TensorProtocol) -> Array:
    """Its numbers, or its texts as they are: numpy's own lose the NULs that they end in."""
    if isinstance(tensor, ir.StringTensor):
        return np.array([*tensor.string_data()], object)
    return tensor.numpy()
