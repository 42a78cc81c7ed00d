"""What others do to the rows of a layer beside its product: found in a chain.

A row is what a product reads or makes for one position. What is done to each number of a row, or
to each row alike, can as well be done to maps of features: see `on_maps`.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import TypeAlias

import onnx_ir as ir

from convfc.formats.onnx.computed_weights import is_computed
from convfc.formats.onnx.emitter import constant_of
from convfc.formats.onnx.structure import operator, tensor_difference


@dataclass(frozen=True)
class Grid:
    """Numbers rounded to what a few bits can tell: QuantizeLinear and DequantizeLinear.

    Attributes:
        scale: a scalar.
        zero: likewise; 0 if ``None``.
        settings: the attributes of the two, as texts.
        nodes: the two.
    """

    scale: ir.Value
    zero: ir.Value | None
    settings: tuple[str, str]
    nodes: tuple[ir.Node, ir.Node] = field(compare=False)


@dataclass(frozen=True)
class Added:
    """A vector that is added to each row.

    Attributes:
        vector: a number for each column, or one for all.
        is_bias: whether it is in the place of the convolution's bias.
    """

    vector: ir.Value
    is_bias: bool = False


@dataclass(frozen=True)
class Factor:
    """Another product of each row.

    Attributes:
        matrix: which it is multiplied with.
    """

    matrix: ir.Value


RowStep: TypeAlias = "Grid | Added | Factor"


@dataclass(frozen=True)
class Dynamic:
    """A product of integers, to which the rows are rounded at run time by their own range.

    Attributes:
        kernel: the matrix, of integers.
        zero: of that.
        scale: likewise.
        node: what rounds the rows.
    """

    kernel: ir.Value
    zero: ir.Value | None
    scale: ir.Value
    node: ir.Node = field(compare=False)


@dataclass(frozen=True)
class Program:
    """What becomes of rows, where that is more than a product and a bias, or less.

    Attributes:
        before: what is done to them before the product, the first first.
        after: likewise behind it.
        dynamic: how the product rounds them, if it does.
        on_the_left: whether the kernel is the first operand of the product, and rows are columns.
    """

    before: tuple[Grid, ...] = ()
    after: tuple[RowStep, ...] = ()
    dynamic: Dynamic | None = None
    on_the_left: bool = False


def made_by(value: ir.Value | None, op: str, made: Set[ir.Node]) -> ir.Node | None:
    """What makes a value, if it is an operator of that name among the nodes that count."""
    node = None if value is None else value.producer()
    return node if node is not None and node in made and operator(node) == ("", op, "") else None


def is_fixed(value: ir.Value | None) -> bool:
    """Whether a value is a constant, or made of such alone."""
    return value is not None and (constant_of(value) is not None or is_computed(value))


def same_value(a: ir.Value | None, b: ir.Value | None) -> bool:
    """Whether two values are one, or constants with the same numbers."""
    if a is b or a is None or b is None:
        return a is b
    left, right = constant_of(a), constant_of(b)
    return left is not None and right is not None and tensor_difference(left, right) is None


def same_step(a: RowStep | str, b: RowStep | str) -> bool:
    """Whether two steps do the same."""
    if isinstance(a, Grid) and isinstance(b, Grid):
        same = same_value(a.scale, b.scale) and same_value(a.zero, b.zero)
        return same and a.settings == b.settings
    if isinstance(a, Added) and isinstance(b, Added):
        return same_value(a.vector, b.vector)
    if isinstance(a, Factor) and isinstance(b, Factor):
        return same_value(a.matrix, b.matrix)
    return a == b


def grid(value: ir.Value, made: Set[ir.Node]) -> tuple[Grid, ir.Value] | None:
    """The grid that a value was rounded to, with one scale for all of it, and what it was before.

    Args:
        value: what DequantizeLinear made.
        made: nodes that count.
    """
    back = made_by(value, "DequantizeLinear", made)
    there = None if back is None else made_by(back.inputs[0], "QuantizeLinear", made)
    if back is None or there is None:
        return None
    (x, scale, *zeros), (_, other, *others) = there.inputs, back.inputs
    zero, other_zero = (list[ir.Value | None]([*each, None])[0] for each in (zeros, others))
    if x is None or scale is None or not is_scalar(scale) or not same_value(scale, other):
        return None
    if not same_value(zero, other_zero) or not (zero is None or is_scalar(zero)):
        return None
    return Grid(scale, zero, (_written(there), _written(back)), (there, back)), x


def _written(node: ir.Node) -> str:
    return repr(sorted((name, str(each.value)) for name, each in node.attributes.items()))


def is_scalar(value: ir.Value) -> bool:
    """Whether a value is a constant of one number."""
    tensor = constant_of(value)
    return tensor is not None and tensor.size == 1


def added(value: ir.Value, made: Set[ir.Node]) -> tuple[Added, ir.Value] | None:
    """A vector that was added, and to what.

    Args:
        value: the sum.
        made: nodes that count.
    """
    node = made_by(value, "Add", made)
    if node is None:
        return None
    for vector, rows in (node.inputs, reversed(node.inputs)):
        if vector is not None and rows is not None and is_fixed(vector) and not is_fixed(rows):
            return Added(vector), rows
    return None


def dynamic_product(value: ir.Value, made: Set[ir.Node]) -> tuple[Dynamic, ir.Value] | None:
    """A product as `quantize_dynamic` of onnxruntime writes it, and the rows in it.

    That is Mul(Cast(MatMulInteger(q, F, zero, F's zero)), scale * F's scale), where q, scale and
    zero are what DynamicQuantizeLinear makes of the rows.

    Args:
        value: what it makes.
        made: nodes that count.
    """
    y, scales = _operands(value, "Mul", made)
    if y is None or scales is None:
        return None
    y, scales = (y, scales) if _operands(y, "Cast", made)[0] is not None else (scales, y)
    integers = _operands(y, "Cast", made)[0]
    x_scale, scale = _operands(scales, "Mul", made)
    node = made_by(integers, "MatMulInteger", made)
    if node is None:
        return None
    if scale is not None and not is_fixed(scale):
        x_scale, scale = scale, x_scale
    rounded, kernel, x_zero, zero = [*node.inputs, None, None][:4]
    rounding = made_by(rounded, "DynamicQuantizeLinear", made)
    if rounding is None or list(rounding.outputs) != [rounded, x_scale, x_zero]:
        return None
    x = rounding.inputs[0]
    if x is None or kernel is None or scale is None or not is_fixed(scale):
        return None
    fixed = constant_of(kernel) is not None and (zero is None or constant_of(zero) is not None)
    return (Dynamic(kernel, zero, scale, rounding), x) if fixed else None


def _operands(
    value: ir.Value | None, op: str, made: Set[ir.Node]
) -> tuple[ir.Value | None, ir.Value | None]:
    """The first two operands of what makes a value, if that is such an operator."""
    node = made_by(value, op, made)
    if node is None:
        return None, None
    first, second = [*node.inputs, None][:2]
    return first, second
