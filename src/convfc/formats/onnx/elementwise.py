"""Operators that compute the same in any order of the axes, and what each one needs for that.

Let T permute the axes of a tensor of a known rank. Elementwise operators commute with it: an
element of the result comes from the elements at its own place. So they do with broadcasting, if
every operand has that rank, for T then permutes the axes along which it is repeated as well. A
constant of a lower rank has ones in front of its axes. Concat and Pad commute with it if their axis
or amounts are permuted, too:

    Add(T(a), T(b)) = T(Add(a, b))             Mul(T(a), [5, 7]) = T(Mul(a, [[5], [7]]))
    Concat(T(a), T(b), axis=2) = T(Concat(a, b, axis=1))     where T has perm = [0, 2, 1]

This is the one table of them: `channels_last` moves nodes by it, and `own_layout` moves them back,
each step for itself. What is not in it has one layout, that of the file: poolings and reductions,
of which onnxruntime's results are other bits in another order (the largest of numbers, if one of
them is NaN), and Resize, which CUDA has for channels first only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from convfc.core.arrays import to_first, to_last
from convfc.formats.onnx.emitter import constant_of
from convfc.formats.onnx.structure import operator

LOWEST_OPSET = 7
"""From here on operands are broadcast by their shapes, and no attribute says along which axis."""

UNARY = frozenset(
    (
        *("Relu", "LeakyRelu", "ThresholdedRelu", "Elu", "Selu", "Celu", "Gelu", "HardSwish"),
        *("Sigmoid", "HardSigmoid", "Mish", "Softplus", "Softsign", "Swish", "Tanh", "Clip"),
        *("Abs", "Ceil", "Erf", "Exp", "Floor", "Log", "Neg", "Not", "Reciprocal", "Round"),
        *("Shrink", "Sign", "Sqrt", "Cast", "Dropout", "Identity"),
        *("QuantizeLinear", "DequantizeLinear"),
    )
)
"""Of one tensor; what else they read is one number for all elements."""
BROADCASTING = frozenset(
    (
        *("Add", "Sub", "Mul", "Div", "Sum", "Max", "Min", "Mean", "PRelu", "Where"),
        *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor"),
    )
)
"""Of any operands that fit together."""
IN_ANY_ORDER = UNARY | BROADCASTING | {"Concat", "Pad"}
"""Operators that can be moved past a Transpose."""


def transposed_rank(node: ir.Node | None, order: Callable[[int], list[int]]) -> int | None:
    """The rank of what a Transpose of that order reads; ``None`` of any other node."""
    if node is None or operator(node) != ("", "Transpose", "") or len(node.inputs) != 1:
        return None
    perm = node.attributes.get("perm")
    if perm is None or perm.is_ref() or node.inputs[0] is None:
        return None
    axes = list(perm.as_ints())
    return len(axes) if len(axes) > 2 and axes == order(len(axes)) else None


def data_of(node: ir.Node) -> tuple[ir.Value, ...]:
    """What a node reads that has its layout; nothing if the node has a layout of its own.

    BatchNormalization is not among them: its channels are axis 1. See `into_rows`.
    """
    if node.op_type not in IN_ANY_ORDER or len(node.outputs) != 1 or node.device_configurations:
        return ()
    given = [value for value in node.inputs if value is not None]
    domain, op, overload = operator(node)
    if domain or overload or not given:
        return ()
    data = tuple(value for value in given if constant_of(value) is None)
    first = node.inputs[0]
    if op in UNARY:
        return data if data == (first,) and _plain(node) else ()
    if op in BROADCASTING:
        return data if len(given) == len(node.inputs) else ()
    if op == "Concat":
        return data if len(data) == len(node.inputs) and _axis(node) is not None else ()
    if op == "Pad":
        plain = data == (first,) and len(node.inputs) < 4 and _amounts(node) is not None
        return data if plain else ()
    return ()


def _plain(node: ir.Node) -> bool:
    """Whether all that a unary operator reads beside its data is one number each."""
    tensors = [constant_of(value) for value in node.inputs[1:] if value is not None]
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return all(tensor is not None and len(tensor.shape) == 0 for tensor in tensors)
    if node.op_type == "Dropout" and len(node.inputs) > 2 and node.inputs[2] is not None:
        training = constant_of(node.inputs[2])
        if training is None or training.numpy().any():
            return False
    return all(tensor is not None and tensor.size == 1 for tensor in tensors)


def _axis(node: ir.Node) -> int | None:
    attribute = node.attributes.get("axis")
    return None if attribute is None or attribute.is_ref() else attribute.as_int()


def _amounts(node: ir.Node) -> NDArray[Any] | None:
    """The amounts of a Pad: an attribute before opset 11, then an operand."""
    if len(node.inputs) < 2:
        attribute = node.attributes.get("pads")
        known = attribute is not None and not attribute.is_ref()
        return np.array(attribute.as_ints(), np.int64) if known and attribute else None
    tensor = None if node.inputs[1] is None else constant_of(node.inputs[1])
    value = None if len(node.inputs) < 3 else node.inputs[2]
    filling = None if value is None else constant_of(value)
    plain = value is None or (filling is not None and filling.size == 1)
    return None if tensor is None or not plain else tensor.numpy()


@dataclass(frozen=True)
class Settings:
    """What a node has beside its data.

    Attributes:
        constants: by the place of the operand; those that stay as they are, are not among them.
        attributes: all of them, by name.
    """

    constants: Mapping[int, NDArray[Any]]
    attributes: Mapping[str, ir.Attr]


def reordered(node: ir.Node, order: Sequence[int]) -> Settings | None:
    """What one that has `data_of` needs if the axes of all its data are in another order.

    Args:
        node: the node.
        order: axis i is what was axis order[i].

    Returns:
        ``None`` if it cannot be: the data of such a node have another rank.
    """
    rank = len(order)
    attributes = dict(node.attributes)
    if node.op_type in UNARY:
        return Settings({}, attributes)
    if node.op_type == "Concat":
        axis = _axis(node) or 0
        if not -rank <= axis < rank:
            return None
        return Settings({}, attributes | {"axis": ir.AttrInt64("axis", order.index(axis % rank))})
    if node.op_type == "Pad":
        amounts = _amounts(node)
        if amounts is None or amounts.shape != (2 * rank,):
            return None
        permuted = amounts.reshape(2, rank)[:, list(order)].reshape(-1).copy()
        if len(node.inputs) > 1:
            return Settings({1: permuted}, attributes)
        return Settings({}, attributes | {"pads": ir.AttrInt64s("pads", permuted.tolist())})
    constants = {}
    for place, value in enumerate(node.inputs):
        tensor = None if value is None else constant_of(value)
        if tensor is None or (tensor.size == 1 and len(tensor.shape) < 2):
            continue
        if len(tensor.shape) > rank:
            return None
        # Some runtimes take a slope of one axis for the channels, wherever these are.
        whole = node.op_type == "PRelu"
        constants[place] = _permuted(tensor.numpy(), order, whole=whole)
    return Settings(constants, attributes)


def _permuted(array: NDArray[Any], order: Sequence[int], *, whole: bool) -> NDArray[Any]:
    """A constant for data in another order, without ones in front unless it shall have all axes.

    >>> _permuted(np.array([[[5]], [[7]]]), to_last(4), whole=False).tolist()
    [5, 7]
    >>> _permuted(np.array([5, 7]), to_first(4), whole=False).tolist()
    [[[5]], [[7]]]
    """
    moved = array.reshape((1,) * (len(order) - array.ndim) + array.shape).transpose(order).copy()
    return moved if whole else moved.reshape(without_ones(moved.shape))


def without_ones(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without the ones in front, which broadcasting puts there again; one axis is left."""
    sizes = tuple(shape) or (1,)
    while len(sizes) > 1 and sizes[0] == 1:
        sizes = sizes[1:]
    return sizes


def into_rows(node: ir.Node, rank: int, columns: int | None) -> Settings | None:
    """What a node needs to work on the matrix with a row for each position, before its Reshape.

    Elementwise it may, with one number for all elements or, if the matrix is known to have as many
    columns as there are channels, with one for each. So may BatchNormalization, whose axis 1 they
    are then.

    Args:
        node: a node that reads tensors with channels first.
        rank: of these tensors.
        columns: of the matrix; ``None`` if it is any tensor of as many elements.

    Returns:
        ``None`` if it cannot.
    """
    if _normalizes(node, columns):
        return Settings({}, dict(node.attributes))
    if node.op_type not in UNARY | BROADCASTING or not data_of(node):
        return None
    found = reordered(node, to_last(rank))
    if found is None:
        return None
    rows = {i: array.reshape(without_ones(array.shape)) for i, array in found.constants.items()}
    fits = all(array.ndim < 2 and array.size in (1, columns) for array in rows.values())
    return Settings(rows, found.attributes) if fits else None


def out_of_rows(node: ir.Node, rank: int, columns: int | None) -> Settings | None:
    """The opposite of `into_rows`: what a node on the matrix needs to work behind its Reshape."""
    if _normalizes(node, columns):
        return Settings({}, dict(node.attributes))
    if node.op_type not in UNARY | BROADCASTING or not data_of(node):
        return None
    tensors = [constant_of(value) for value in node.inputs if value is not None]
    shapes = [tuple(tensor.shape.numpy()) for tensor in tensors if tensor is not None]
    fits = all(shape in ((), (1,), (columns,)) for shape in shapes)
    return reordered(node, to_first(rank)) if fits else None


def _normalizes(node: ir.Node, channels: int | None) -> bool:
    """Whether it is a BatchNormalization of so many channels whose numbers are known."""
    if operator(node) != ("", "BatchNormalization", "") or len(node.outputs) != 1:
        return False
    numbers = [None if value is None else constant_of(value) for value in node.inputs[1:]]
    trains = node.attributes.get_int("training_mode", 0)
    whole = node.attributes.get_int("spatial", 1)
    constant = all(tensor is not None and tuple(tensor.shape) == (channels,) for tensor in numbers)
    return constant and len(numbers) == 4 and trains == 0 and whole == 1


def as_written(settings: Settings, node: ir.Node, like: ir.Node, rank: int) -> Settings:
    """Settings that mean the same, written as another node has them where that is possible.

    Ones in front of the axes of a constant are as good as none, up to the rank of the data, and an
    axis may be counted from behind.
    """
    constants, attributes = dict(settings.constants), dict(settings.attributes)
    if node.op_type in BROADCASTING:
        for place, (mine, other) in enumerate(zip(node.inputs, like.inputs, strict=False)):
            tensor = None if mine is None else constant_of(mine)
            wanted = None if other is None else constant_of(other)
            if tensor is None or wanted is None:
                continue
            array, shape = constants.get(place), tuple(wanted.shape.numpy())
            array = tensor.numpy() if array is None else array
            if without_ones(array.shape) == without_ones(shape) and len(shape) <= rank:
                constants[place] = array.reshape(shape)
    if node.op_type == "Concat":
        axis, other_axis = attributes["axis"].as_int(), _axis(like)
        if other_axis is not None and -rank <= other_axis and other_axis % rank == axis:
            attributes["axis"] = ir.AttrInt64("axis", other_axis)
    return Settings(constants, attributes)
