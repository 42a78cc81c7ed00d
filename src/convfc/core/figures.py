"""The figures of a convolution that layers are compared by."""

from __future__ import annotations

from enum import StrEnum

from convfc.core.lowering import Lowering


class Order(StrEnum):
    """What the layers of a model are sorted by: names from A on, numbers from the largest down."""

    LAYER = "layer"
    WEIGHTS = "weights"
    MULTIPLY_ADDS = "multiply-adds"
    INPUT = "input"
    PATCHES = "patches"
    """Bytes of the whole patch matrix."""
    MATRIX = "matrix"
    """Bytes of the matrix of the dense form."""


def figure(lowering: Lowering, itemsize: int, order: Order) -> int | None:
    """The number that a convolution is sorted by; ``None`` if it is unknown, or it is its name.

    Args:
        lowering: how it is converted.
        itemsize: bytes of one of its numbers.
        order: which number.
    """
    match order:
        case Order.WEIGHTS:
            return lowering.convolution.weights
        case Order.MULTIPLY_ADDS:
            return lowering.convolution.multiply_adds(lowering.sizes)
        case Order.INPUT:
            return lowering.input_bytes(itemsize)
        case Order.PATCHES:
            return lowering.patch_bytes(itemsize)
        case Order.MATRIX:
            return None if lowering.whole is None else lowering.whole.bytes(itemsize)
        case Order.LAYER:
            return None
