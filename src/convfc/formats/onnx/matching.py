"""A chain of nodes matched with what the emitter writes, whose weights are holes to be filled.

The steps are those of `structure`, but for the holes: constants that the emitter reads or lays out.
Whatever the other chain has in such a place fills the hole, be it a constant or computed.

And but for what is done to the rows beside (`row_steps`): rounding to a grid, a vector added,
another product. All else in a layer moves numbers, so it does not matter between which moves that
is done. Of y = MatMul(MatMul(Pad(DQ(Q(x))), U), V) + b, the rows are on a grid before the product;
behind it, there is a factor V, and b.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TypeAlias

import onnx_ir as ir

from convfc.formats.onnx import folded
from convfc.formats.onnx.emitter import constant_of, constant_value
from convfc.formats.onnx.operators import identifier
from convfc.formats.onnx.row_steps import (
    Added,
    Dynamic,
    Factor,
    Grid,
    Program,
    RowStep,
    added,
    dynamic_product,
    grid,
    is_fixed,
    is_scalar,
    made_by,
    same_step,
    same_value,
)
from convfc.formats.onnx.structure import Difference, operator, step

_MOVES = {"Reshape", "Transpose", "Slice", "Gather", "Pad", "Split", "AveragePool"}
"""What the emitter moves numbers with; the first operand is what is moved."""
_LAID_OUT = {("", "Reshape"), ("", "Transpose")}
"""What it lays a kernel out with that is computed."""
_PRODUCT, _SUM = "product", "sum"
"""What stands in a path between the steps: the product, and what adds up products."""
_TURN, _FOLD = "turn", "fold"
"""Likewise behind the product: what puts another axis last, and what makes other axes."""

_Path: TypeAlias = "tuple[RowStep | str, ...]"
"""What is done to the rows from a place on, the last first."""
_Todo: TypeAlias = "tuple[ir.Value | None, ir.Value | None, _Path | None]"
"""A value as it should be, another one, and their path; ``None`` off the way of the rows."""


@dataclass(frozen=True)
class Match:
    """What the other chain has.

    Attributes:
        filled: by hole, what is in its place.
        given: by the name of what both read, the value that the other chain reads.
        parts: by hole, constants that stand for what is computed of it alone, each behind that.
        program: what becomes of the rows, if that is not as the emitter writes it.
    """

    filled: Mapping[ir.Value, ir.Value]
    given: Mapping[str, ir.Value]
    parts: Mapping[ir.Value, Sequence[tuple[ir.Value, ir.Value]]]
    program: Program | None = None


def match(
    expected: ir.Value,
    found: ir.Value,
    holes: Mapping[ir.Value, str],
    given: Set[str | None],
    made: Set[ir.Node],
    opset: int,
    *,
    resized: bool = False,
) -> Match | str:
    """Fill the holes of a chain.

    Args:
        expected: the end of the chain as it should be.
        found: the end of the other.
        holes: values of the first one, and the role of the operand that each is made of.
        given: names of what both may read from outside.
        made: the nodes of the other chain: what they make is never taken for something given.
        opset: of the other chain.
        resized: whether shapes and indices may be others, as they are with other filters.

    Returns:
        In words, what is not as it should be, if anything is.
    """
    return _Matching(holes, given, made, opset, resized).run(expected, found)


@dataclass
class _Matching:
    """See `match` for the arguments.

    Attributes:
        filled: see `Match.filled`.
        read: see `Match.given`.
        parts: see `Match.parts`.
        paths: of what is read from outside on the way of the rows.
        dynamic: products of integers that were found.
        bare: whether a bias is missing.
        left: see `Program.on_the_left`.
    """

    holes: Mapping[ir.Value, str]
    given: Set[str | None]
    made: Set[ir.Node]
    opset: int
    resized: bool = False
    filled: dict[ir.Value, ir.Value] = field(default_factory=dict)
    read: dict[str, ir.Value] = field(default_factory=dict)
    parts: dict[ir.Value, list[tuple[ir.Value, ir.Value]]] = field(default_factory=dict)
    paths: list[_Path] = field(default_factory=list)
    dynamic: list[Dynamic] = field(default_factory=list)
    bare: bool = False
    left: bool = False
    _roles: dict[ir.Value, str | None] = field(default_factory=dict)

    def run(self, expected: ir.Value, found: ir.Value) -> Match | str:
        todo: list[_Todo] = [(expected, found, ())]
        seen: set[_Todo] = set()
        while todo:
            one = todo.pop()
            if one in seen or one[:2] == (None, None):
                continue
            seen.add(one)
            following = self._next(*one)
            if isinstance(following, str):
                return following
            todo += following
        return self._matched()

    def _next(
        self, a: ir.Value | None, b: ir.Value | None, path: _Path | None
    ) -> list[_Todo] | str:
        if a is not None and b is not None:
            if a in self.holes:
                return self._fill(a, b) or []
            hole = self._hole_of(a) if constant_of(b) is not None else None
            if hole is not None:  # an optimizer computed it
                self.parts.setdefault(hole, []).append((a, b))
                return []
            if folded.is_dequantized(b) and constant_of(a) is None:
                kernel = self._computed(a)
                if kernel is not None:
                    return self._dequantized(kernel, a, b) or []
            beside = None if path is None else self._beside(a, b, path)
            if beside is not None:
                return beside
        pairs = step(a, b, self.given, self.made, self.opset)
        if isinstance(pairs, Difference):
            if b is not None and path is not None and path[-1:] == (_SUM,) and grid(b, self.made):
                return "its products are rounded before they are added up, as in no convolution"
            both = a is not None and b is not None and is_fixed(a) and is_fixed(b)
            return [] if self.resized and both else pairs.text
        if a is None or b is None:
            return []
        if a.name in self.given and constant_of(b) is None:
            self.read[a.name or ""] = b
            self.paths += [] if path is None else [path]
            return []
        ways = self._ways(a.producer(), path)
        return [(x, y, None if x is None else ways.get(x)) for x, y in pairs]

    def _fill(self, hole: ir.Value, value: ir.Value) -> str | None:
        """Fill a hole; why not, if other numbers are in it."""
        if same_value(self.filled.setdefault(hole, value), value):
            return None
        return f"it has other numbers in '{value.name}' than in '{self.filled[hole].name}'"

    def _role(self, value: ir.Value | None) -> str | None:
        """Which operand of the convolution alone a value of the first chain is made of."""
        if value is None or value in self.holes or value.name in self.given:
            return None if value is None else self.holes.get(value)
        if value not in self._roles:
            self._roles[value] = self._role_of_computed(value)
        return self._roles[value]

    def _role_of_computed(self, value: ir.Value) -> str | None:
        if constant_of(value) is not None or not is_fixed(value):
            return None
        node = value.producer()
        roles = {self._role(v) for v in (() if node is None else node.inputs)} - {None}
        return roles.pop() if len(roles) == 1 else None

    def _hole_of(self, value: ir.Value) -> ir.Value | None:
        """The hole that a value is computed of, beside constants; ``None`` if it is of several."""
        if value in self.holes:
            return value
        node = None if value.name in self.given else value.producer()
        moves = node is not None and identifier(node) in folded.MOVES
        given = [v for v in node.inputs if v is not None] if node is not None and moves else []
        found = {self._hole_of(v) for v in given} - {None} if is_fixed(value) else set()
        return found.pop() if len(found) == 1 else None

    def _computed(self, value: ir.Value) -> ir.Value | None:
        """The kernel out of constants that a value is laid out from, if it is laid out at all."""
        start = value
        while value.name not in self.given:
            node = value.producer()
            if node is None or identifier(node) not in _LAID_OUT or node.inputs[0] is None:
                return None
            value = node.inputs[0]
        return None if value is start or not is_fixed(value) else value

    def _dequantized(self, kernel: ir.Value, a: ir.Value, b: ir.Value) -> str | None:
        """An optimizer laid a kernel out before it is dequantized; why not, if in several ways."""
        ((first, value),) = self.parts.setdefault(kernel, [(a, b)])
        same = first is a and (value is b or same_value(*map(_folded, (value, b))))
        return None if same else f"it has its kernel in '{b.name}' and in '{value.name}'"

    def _ways(self, node: ir.Node | None, path: _Path | None) -> dict[ir.Value, _Path]:
        """The paths of the operands of one of the first chain's nodes."""
        values = [] if node is None else [value for value in node.inputs if value is not None]
        if node is None or path is None or not values:
            return {}
        if node.op_type in _MOVES:
            turns = () if _PRODUCT in path else _turns(node)
            return {values[0]: (*path, *turns)}
        if node.op_type == "Concat":
            return dict.fromkeys(values, path)
        passed = _PRODUCT if self._is_product(node) else _SUM
        return {value: (*path, passed) for value in values if self._role(value) is None}

    def _is_product(self, node: ir.Node) -> bool:
        """Whether one of the first chain's nodes multiplies rows with the kernel."""
        roles = [self._role(value) for value in node.inputs]
        return "kernel" in roles and None in roles

    def _beside(self, a: ir.Value, b: ir.Value, path: _Path) -> list[_Todo] | None:
        """What is done to the rows in the other chain in another way, or in that alone.

        Returns:
            What is to be looked at then; ``None`` if there is nothing of that kind.
        """
        if [one for one in path if one not in (_TURN, _FOLD)][-1:] == [_SUM]:
            return None
        rounded = grid(b, self.made)
        if rounded is not None:
            return [(a, rounded[1], (*path, rounded[0]))]
        if _PRODUCT in path or a.name in self.given:
            return None
        node, vector = a.producer(), added(b, self.made)
        bias = None if node is None else next(filter(self._is_bias, node.inputs), None)
        if node is not None and node.op_type == "Add" and bias is not None:
            rows = next(value for value in node.inputs if value is not bias)
            if vector is None:
                self.bare = True
                return [(rows, b, path)]
            if bias not in self.holes:
                return None
            told = Added(vector[0].vector, is_bias=True)
            same = self._fill(bias, told.vector) is None
            return [(rows, vector[1], (*path, told))] if same else None
        if vector is not None and not (node is not None and _adds_a_constant(node)):
            return [(a, vector[1], (*path, vector[0]))]
        if node is None or operator(node) != ("", "MatMul", "") or not self._is_product(node):
            return None
        return self._another_product(a, node, b, path)

    def _is_bias(self, value: ir.Value | None) -> bool:
        return self._role(value) == "bias"

    def _another_product(
        self, a: ir.Value, node: ir.Node, b: ir.Value, path: _Path
    ) -> list[_Todo] | None:
        """A product of integers in the place of one of real numbers, or one factor of several.

        Args:
            a: what the product should make.
            node: the product.
            b: what is in that place.
            path: theirs.
        """
        self.left = self._role(node.inputs[0]) == "kernel"
        kernel, rows = node.inputs if self.left else reversed(node.inputs)
        found = None if self.left else dynamic_product(b, self.made)
        if found is not None and kernel is not None and kernel in self.holes:
            self.dynamic.append(found[0])
            same = self._fill(kernel, found[0].kernel) is None
            return [(rows, found[1], (*path, _PRODUCT))] if same else None
        other = made_by(b, "MatMul", self.made)
        if other is None:
            return None
        matrix, inner = other.inputs if self.left else reversed(other.inputs)
        if inner is None or not is_fixed(matrix) or not self._is_product_of_rows(inner):
            return None
        assert matrix is not None  # noqa: S101 - it is fixed
        return [(a, inner, (*path, Factor(matrix)))]

    def _is_product_of_rows(self, value: ir.Value) -> bool:
        """Whether a value of the other chain is a product with a matrix, other steps apart."""
        while (beside := grid(value, self.made) or added(value, self.made)) is not None:
            value = beside[1]
        node = made_by(value, "MatMul", self.made)
        return node is not None and any(map(is_fixed, node.inputs))

    def _matched(self) -> Match | str:
        """The match; if anything is beside, all rows must have gone the same way."""
        usual = all(
            isinstance(one, str) or (isinstance(one, Added) and one.is_bias)
            for path in self.paths
            for one in path
        )
        if usual and not self.dynamic and not self.bare:
            return Match(self.filled, self.read, self.parts)
        if any(map(self._strays, self.paths)):
            return "what is added to its rows is not added to their columns"
        marks = (_SUM, _TURN, _FOLD)
        ways = [[one for one in path if one not in marks] for path in self.paths]
        first = ways[0] if ways else []
        alike = all(len(way) == len(first) and all(map(same_step, way, first)) for way in ways)
        if not alike or _PRODUCT not in first or len(self.dynamic) > 1:
            return "what is done to its rows is not the same for all of them"
        place = first.index(_PRODUCT)
        after = tuple(reversed([one for one in first[:place] if not isinstance(one, str)]))
        before = tuple(reversed([one for one in first[place + 1 :] if isinstance(one, Grid)]))
        dynamic = self.dynamic[0] if self.dynamic else None
        return Match(self.filled, self.read, self.parts, Program(before, after, dynamic, self.left))

    def _strays(self, path: _Path) -> bool:
        """Whether a vector is added where columns are not along the axis that they have in rows."""
        turns = (_TURN, _FOLD) if self.left else (_TURN,)
        last = max((place for place, one in enumerate(path) if one in turns), default=0)
        return any(isinstance(one, Added) and not is_scalar(one.vector) for one in path[:last])


def _folded(value: ir.Value) -> ir.Value | None:
    tensor = folded.folded(value)
    return None if tensor is None else constant_value("", tensor)


def _turns(node: ir.Node) -> tuple[str, ...]:
    """What a node of the first chain does to the axes of what it moves."""
    if node.op_type == "Transpose":
        order = node.attributes.get_ints("perm", [1, 0])
        return () if order[-1] == len(order) - 1 else (_TURN,)
    return (_FOLD,) if node.op_type == "Reshape" else ()


def _adds_a_constant(node: ir.Node) -> bool:
    return node.op_type == "Add" and any(map(is_fixed, node.inputs))
