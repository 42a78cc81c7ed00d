"""The operands of convolutions, found where a conversion has laid them out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir

from convfc.core.arrangement import LayOut, put_back, torn
from convfc.core.arrays import Array
from convfc.core.geometry import AnyConvolution
from convfc.core.transposed import TransposedConvolution
from convfc.formats.onnx.emitter import Arrangement, constant_of, constant_value
from convfc.formats.onnx.folded import moved
from convfc.formats.onnx.matching import Match
from convfc.formats.onnx.operators import operands
from convfc.system.capacity import excess

_PLACE = 8
"""Bytes of the place of a number, while it is put back."""


@dataclass(frozen=True)
class Weight:
    """What fills an operand of a convolution.

    Attributes:
        value: in the file.
        arranged: how the operand's numbers are laid out there, the last step first.
    """

    value: ir.Value
    arranged: Sequence[Arrangement]


def made_of(arranged: Mapping[ir.Value, Arrangement]) -> dict[ir.Value, list[ir.Value]]:
    """By what the emitter lays out, all that it makes of that, in one step or several."""
    found: dict[ir.Value, list[ir.Value]] = {}
    for value in arranged:
        source = value
        while source in arranged:
            source = arranged[source].source
        found.setdefault(source, []).append(value)
    return found


def weights_of(
    found: Match, constant: Mapping[str, ir.Value], arranged: Mapping[ir.Value, Arrangement]
) -> dict[str, Weight]:
    """What fills each operand, by its role."""
    weights: dict[str, Weight] = {}
    joined = {hole: _joined(hole, parts) for hole, parts in found.parts.items()}
    for hole, value in [*found.filled.items(), *((h, one.value) for h, one in joined.items())]:
        steps, source = [*(joined[hole].arranged if hole in joined else ())], hole
        while source in arranged:
            steps.append(arranged[source])
            source = arranged[source].source
        weights |= {role: Weight(value, steps) for role, v in constant.items() if v is source}
    return weights


def _joined(hole: ir.Value, parts: Sequence[tuple[ir.Value, ir.Value]]) -> Weight:
    """Constants in the place of what is computed of a hole, as one that is laid out of it."""
    stored = [tensor for _, value in parts if (tensor := constant_of(value)) is not None]
    if not stored:  # dequantized, of a kernel that is laid out
        ((made, value),) = parts
        return Weight(value, [Arrangement(hole, partial(_laid_out, made, hole))])

    def lay_out(numbers: Array) -> Array:
        made = (moved(a, {hole: numbers}) for a, _ in parts)
        return np.concatenate([one.reshape(-1) for one in made if one is not None])

    def numbers() -> ir.TensorProtocol:
        flat = [tensor.numpy().reshape(-1) for tensor in stored]
        return ir.Tensor(np.concatenate(flat), dtype=stored[0].dtype)

    shape = ir.Shape([sum(tensor.size for tensor in stored)])
    tensor = ir.LazyTensor(numbers, dtype=stored[0].dtype, shape=shape)
    value = constant_value(parts[0][1].name or "", tensor)
    return Weight(value, [Arrangement(hole, lay_out)])


def _laid_out(made: ir.Value, hole: ir.Value, numbers: Array) -> Array:
    found = moved(made, {hole: numbers})
    assert found is not None  # noqa: S101 - moves alone make it
    return found


def laid_out(weight: Weight) -> LayOut:
    """How an operand's numbers come to where they are."""

    def lay_out(numbers: Array) -> Array:
        for step in reversed(weight.arranged):
            numbers = step.lay_out(numbers)
        return numbers

    return lay_out


def tensor_of_operand(own: ir.Value, weight: Weight) -> ir.TensorProtocol | None:
    """An operand's numbers, from where they are laid out; read again whenever they are needed."""
    stored, was = constant_of(weight.value), constant_of(own)
    if stored is None or was is None:
        return None
    if not weight.arranged:  # an operator that broadcasts takes others
        return stored if tuple(stored.shape) == tuple(was.shape) else None
    shape, dtype = tuple(was.shape.numpy()), was.dtype
    shift = sum(step.shift for step in weight.arranged)

    def shifted(array: Array) -> Array:
        return (array.astype(np.int16) - shift).astype(dtype.numpy()) if shift else array

    def numbers() -> Array | None:
        made = [step.ground() for step in weight.arranged if step.ground is not None]
        ground = shifted(made[0]) if made else None
        return put_back(shifted(stored.numpy()), shape, laid_out(weight), ground)

    if stored.dtype != dtype and not shift:
        return None
    if excess(math.prod(shape) * _PLACE) is not None:  # then it does not come from the file
        return None
    found = numbers()
    if found is None:
        return None

    def back() -> ir.TensorProtocol:
        return ir.Tensor(np.ascontiguousarray(numbers()), dtype=dtype)

    return ir.LazyTensor(back, dtype=dtype, shape=ir.Shape(shape))


def why_lost(
    role: str, node: ir.Node, weights: Mapping[str, Weight], convolution: AnyConvolution | None
) -> str:
    """Why an operand of a layer has no numbers any more.

    Args:
        role: of the operand.
        node: the layer in the original.
        weights: what fills its operands.
        convolution: what it computes.
    """
    weight, own = weights[role], constant_of(operands(node)[role])
    stored = constant_of(weight.value)
    transposed = isinstance(convolution, TransposedConvolution)
    if transposed and stored is not None and own is not None and weight.arranged:
        return torn(role, stored.numpy(), tuple(own.shape.numpy()), laid_out(weight))
    return f"its {role} is not laid out as that of a convolution any more"
