"""A chain of nodes matched with what the emitter writes, whose weights are holes to be filled.

The walk is that of `structure`, but for the holes: constants that the emitter reads or lays out.
Whatever the other chain has in such a place fills the hole, be it a constant or computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from itertools import zip_longest

import onnx_ir as ir

from convfc.formats.onnx.emitter import constant_of
from convfc.formats.onnx.structure import node_difference, operator, tensor_difference


@dataclass(frozen=True)
class Match:
    """What the other chain has.

    Attributes:
        filled: by hole, what is in its place.
        given: by the name of what both read, the value that the other chain reads.
    """

    filled: Mapping[ir.Value, ir.Value]
    given: Mapping[str, ir.Value]


def match(
    expected: ir.Value,
    found: ir.Value,
    holes: Set[ir.Value],
    given: Set[str | None],
    made: Set[ir.Node],
    opset: int,
) -> Match | str:
    """Fill the holes of a chain.

    Args:
        expected: the end of the chain as it should be.
        found: the end of the other.
        holes: values of the first one.
        given: names of what both may read from outside.
        made: the nodes of the other chain: what they make is never taken for something given.
        opset: of the other chain.

    Returns:
        In words, what is not as it should be, if anything is.
    """
    todo: list[tuple[ir.Value | None, ir.Value | None]] = [(expected, found)]
    seen: set[tuple[ir.Value | None, ir.Value | None]] = set()
    filled: dict[ir.Value, ir.Value] = {}
    read: dict[str, ir.Value] = {}
    while todo:
        pair = todo.pop()
        if pair in seen or pair == (None, None):
            continue
        seen.add(pair)
        a, b = pair
        if a is None or b is None:
            there = b or a
            name = there.name if there else ""
            return f"an operand '{name}' is {'new' if b else 'left out'}"
        if a in holes:
            if not _same(filled.setdefault(a, b), b):
                return f"it has other numbers in '{b.name}' than in '{filled[a].name}'"
            continue
        left, right = constant_of(a), constant_of(b)
        if left is None and right is not None:
            left = _folded(a)
        if left is not None and right is not None:
            difference = tensor_difference(left, right)
            if difference is not None:
                return f"its constant '{b.name}' {difference}"
            continue
        first, second = a.producer(), b.producer()
        if a.name in given and left is None:
            if a.name != b.name or second in made or right is not None:
                return f"it reads '{b.name}', not '{a.name}'"
            read[a.name or ""] = b
            continue
        if left is not None or right is not None or first is None or second not in made:
            return f"it reads '{b.name}', which convfc does not put there"
        assert second is not None  # noqa: S101 - it is in `made`
        difference = node_difference(first, second, a.index(), b.index(), opset)
        if difference is not None:
            return difference
        todo += reversed(list(zip_longest(first.inputs, second.inputs)))
    return Match(filled, read)


def _folded(value: ir.Value) -> ir.TensorProtocol | None:
    """What a sum of constants comes to, which an optimizer adds up; ``None`` of all else."""
    node = value.producer()
    if constant_of(value) is not None or node is None or operator(node) != ("", "Add", ""):
        return constant_of(value)
    terms = [None if each is None else _folded(each) for each in node.inputs]
    numbers = [term.numpy() for term in terms if term is not None]
    return ir.Tensor(numbers[0] + numbers[1]) if len(numbers) == 2 else None


def _same(a: ir.Value, b: ir.Value) -> bool:
    """Whether two values are one, or constants with the same numbers."""
    left, right = constant_of(a), constant_of(b)
    if a is b or left is None or right is None:
        return a is b
    return tensor_difference(left, right) is None
