"""What it takes to build patches, in bytes moved or what takes as long: the unit of all here.

Measured on processors, with onnxruntime and TensorFlow. Slicing and joining moves everything three
times (two writes, one read of what no cache holds any more), a gather once, but each of its entries
has to be looked up. So few channels, hence short copies, are for slices, many for the gather.
"""

from __future__ import annotations

UNKNOWN = 64
"""What an unknown size is taken for."""
_COPY = 16
"""Bytes that could be moved in the time that it takes to begin a copy, in a slice or a join."""
_LOOK_UP = 64
"""The same for an entry of an index map."""
_COMPUTE = 256
"""The same for computing one, where sizes are unknown."""
_COMPUTING = 20
"""Nodes that compute an index map."""
_NODE = 2**15
"""The same for a node of the graph; also what a simpler graph is worth."""
_MULTIPLY = 650
"""The same for each tap of each position, where it is multiplied and summed along with others."""


def cut(pixels: int, width: int) -> float:
    """Of one slice.

    Args:
        pixels: that it keeps.
        width: bytes of one.
    """
    return pixels * (width + _COPY) + _NODE


def joined(pixels: int, width: int, slices: int) -> float:
    """Of slices for the taps of an axis, and their join.

    Args:
        pixels: that are left.
        width: bytes of one, with the taps.
        slices: how many there are.
    """
    return pixels * (3 * width + slices * _COPY) + (slices + 1) * _NODE


def gathered(entries: int, width: int, computed: bool) -> float:
    """Of a gather.

    Args:
        entries: of the index map.
        width: bytes of a pixel.
        computed: whether the map is, by the graph.
    """
    if computed:
        return entries * (width + _LOOK_UP + _COMPUTE) + _COMPUTING * _NODE
    return entries * (width + _LOOK_UP) + 3 * _NODE


def shifted(pixels: int, width: int, taps: int) -> float:
    """Of what the taps of the first axis make in one product, cut out and added up.

    Args:
        pixels: of which the product is.
        width: bytes of all filters.
        taps: of the first axis.
    """
    return pixels * taps * (4 * width + 2 * _COPY) + 2 * taps * _NODE


def multiplied(entries: int, width: int) -> float:
    """Of a product of P with filters of one channel each, beyond building P: two more passes.

    Args:
        entries: taps at all positions.
        width: bytes of all channels.
    """
    return entries * (1.6 * width + _MULTIPLY)


def by_taps(entries: int, width: int, taps: int) -> float:
    """Of taps that are cut out, multiplied and added up one after another, product included.

    Args:
        entries: taps at all positions.
        width: bytes of all channels.
        taps: of a filter.
    """
    return 4 * entries * width + 3 * taps * _NODE
