"""Tensors as matrices with a row for each sample: what can work on them, and what that needs.

Let F flatten a tensor (N, d1, .., dr) to (N, n), n = d1 * .. * dr, and U be the way back. Elements
keep their order, so elementwise operators commute with F. A constant has a number for each column
then: along axes where it has one for all, that is repeated.

    Relu(F(a)) = F(Relu(a))        Mul(F(a), [5, 5, 7, 7]) = F(Mul(a, [[5], [7]]))  of (N, 2, 2)

`flat` moves nodes by these rules, and `unflattened` moves them back, each step for itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from convfc.formats.onnx.elementwise import BROADCASTING, UNARY, Settings, data_of
from convfc.formats.onnx.emitter import constant_of
from convfc.formats.onnx.moving import reshaped_to
from convfc.formats.onnx.operators import known_shape
from convfc.formats.onnx.structure import operator

FLAT = "/flat"
"""What names of values end in that are flat, and are not so by themselves."""


class Matrices:
    """Which values are certainly matrices, and how many columns they have.

    That is an input that is stated to be one; what a Reshape to two axes makes; a product of two of
    them, of which the second may be a constant; and what is elementwise of some with as many
    columns, and of constants for all or each of these.
    """

    def __init__(self, inputs: Sequence[ir.Value]) -> None:
        fed = {value: columns_fed(value) for value in inputs if not value.is_initializer()}
        self._columns = {value: n for value, n in fed.items() if n is not None}

    def columns(self, value: ir.Value | None) -> int | None:
        """Columns of a value; ``None`` if it is not known to be a matrix."""
        return None if value is None else self._columns.get(value)

    def see(self, node: ir.Node) -> int | None:
        """Columns of what a node makes; all before it must have been seen."""
        found = self._made(node) if len(node.outputs) == 1 else None
        if found is not None:
            self._columns[node.outputs[0]] = found
        return found

    def _made(self, node: ir.Node) -> int | None:
        shape = reshaped_to(node)
        if shape is not None:
            return shape[1] if len(shape) == 2 and shape[1] > 0 else None
        is_product = operator(node) in (("", "MatMul", ""), ("", "MatMulInteger", ""))
        if is_product and len(node.inputs) > 1:
            first, second = node.inputs[:2]
            right = None if second is None else constant_of(second)
            sizes = () if right is None else tuple(right.shape.numpy())
            columns = sizes[1] if len(sizes) == 2 else self.columns(second)
            return columns if self.columns(first) is not None else None
        if node.op_type not in UNARY | BROADCASTING:
            return None
        widths = {self.columns(value) for value in data_of(node)}
        columns = widths.pop() if len(widths) == 1 else None
        tensors = [constant_of(value) for value in node.inputs if value is not None]
        shapes = [tuple(tensor.shape.numpy()) for tensor in tensors if tensor is not None]
        return columns if all(shape in ((), (1,), (columns,)) for shape in shapes) else None


def flattens(node: ir.Node, sizes: Sequence[int]) -> bool:
    """Whether a node makes F(a) of its first operand a of shape (N, sizes..), or nothing at all."""
    if operator(node) == ("", "Flatten", ""):
        axis = node.attributes.get("axis")
        return axis is None or (not axis.is_ref() and axis.as_int() in (1, -len(sizes)))
    shape, columns = reshaped_to(node), math.prod(sizes)
    if shape is None or len(shape) != 2 or node.attributes.get_int("allowzero", False):
        return False
    return shape[1] == columns or shape == [0, -1]


def batch_set(node: ir.Node) -> int | None:
    """The only batch that a Reshape to rows takes; ``None`` if any will do."""
    first, *_ = reshaped_to(node) or [-1]
    return first if first > 0 else None


def reshapes(node: ir.Node, sizes: Sequence[int]) -> tuple[int, ...] | None:
    """The sizes that a node gives its first operand of shape (N, sizes..) instead, N as it is."""
    shape = reshaped_to(node)
    if shape is None or len(shape) < 3 or node.attributes.get_int("allowzero", False):
        return None
    first, *others = shape
    fits = first in (0, -1) and min(others) > 0 and math.prod(others) == math.prod(sizes)
    return tuple(others) if fits else None


def columns_fed(value: ir.Value) -> int | None:
    """Columns of an input of a model that is stated to be a matrix."""
    shape = known_shape(value)
    return shape[1] if shape is not None and len(shape) == 2 else None


def into_flat(node: ir.Node, sizes: Sequence[int]) -> Settings | None:
    """What a node needs to work on flat data that are (N, sizes..) now; ``None`` if it cannot."""
    if node.op_type not in UNARY | BROADCASTING or not data_of(node):
        return None
    constants = {}
    for place, value in enumerate(node.inputs if node.op_type in BROADCASTING else ()):
        tensor = None if value is None else constant_of(value)
        if tensor is not None and len(tensor.shape) > 0:
            flat = _flat(tensor.numpy(), sizes)
            if flat is None:
                return None
            constants[place] = flat
    return Settings(constants, dict(node.attributes))


def out_of_flat(node: ir.Node, sizes: Sequence[int], like: ir.Node) -> Settings:
    """The opposite: what a node on matrices needs to work on data that are (N, sizes..) then.

    Args:
        node: a node that makes a known matrix, see `Matrices`.
        sizes: how many columns there are along each axis.
        like: whose constants are taken where they are the same, repeated as they are.
    """
    constants = {}
    for place, value in enumerate(node.inputs if node.op_type in BROADCASTING else ()):
        tensor = None if value is None else constant_of(value)
        if tensor is None:
            continue
        array, other = tensor.numpy(), like.inputs[place] if place < len(like.inputs) else None
        wanted = None if other is None else constant_of(other)
        if wanted is not None and wanted.dtype is tensor.dtype:
            own = wanted.numpy()
            repeated = own.reshape(-1) if own.ndim == 0 else _flat(own, sizes)
            if repeated is not None and repeated.tobytes() == array.tobytes():
                constants[place] = own
                continue
        if array.size > 1:
            constants[place] = array.reshape(sizes)
    return Settings(constants, dict(node.attributes))


def _flat(array: NDArray[Any], sizes: Sequence[int]) -> NDArray[Any] | None:
    """A constant beside data of shape (N, sizes..) for flat ones; ``None``: it varies along N.

    >>> _flat(np.array([[5], [7]]), (2, 2)).tolist()
    [5, 5, 7, 7]
    >>> _flat(np.array([[[3]]]), (2, 2)).tolist()
    [3]
    """
    shape = array.shape
    if len(shape) > len(sizes):
        if set(shape[: -len(sizes)]) != {1} or len(shape) > len(sizes) + 1:
            return None
        array = array.reshape(shape[-len(sizes) :])
    if array.size == 1:
        return array.reshape(1)
    try:
        return np.broadcast_to(array, tuple(sizes)).reshape(-1).copy()
    except ValueError:
        return None
