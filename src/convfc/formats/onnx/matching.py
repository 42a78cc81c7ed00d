"""A chain of nodes matched with what the emitter writes, whose weights are holes to be filled.

The steps are those of `structure`, but for the holes: constants that the emitter reads or lays out.
Whatever the other chain has in such a place fills the hole, be it a constant or computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

import onnx_ir as ir

from convfc.formats.onnx.emitter import constant_of
from convfc.formats.onnx.structure import Difference, Pair, operator, step, tensor_difference


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
    todo: list[Pair] = [(expected, found)]
    seen: set[Pair] = set()
    filled: dict[ir.Value, ir.Value] = {}
    read: dict[str, ir.Value] = {}
    while todo:
        pair = todo.pop()
        if pair in seen or pair == (None, None):
            continue
        seen.add(pair)
        a, b = pair
        if a is not None and b is not None and a in holes:
            if not _same(filled.setdefault(a, b), b):
                return f"it has other numbers in '{b.name}' than in '{filled[a].name}'"
            continue
        following = step(a, b, given, made, opset, _folded)
        if isinstance(following, Difference):
            return following.text
        if a is not None and b is not None and a.name in given and constant_of(b) is None:
            read[a.name or ""] = b
        todo += following
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
