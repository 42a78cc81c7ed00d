"""What a quantizer puts between all nodes, put where it is of use; and the Relu before it.

A pair is QuantizeLinear and DequantizeLinear on one grid (`grids`). A model is changed by these
rules, D being what a pair does to each number:

1. If m only moves, repeats or chooses numbers, or pads with 0, then m(D(v)) = D(m(v)): 0 is on
   every grid. So pairs go behind the moves, up to what computes.
2. If what is rounded to the least number of the grid is not below 0, then D(v) = D(Relu(v)). So it
   is with Clip: what is beyond its bounds is rounded to the same as these, the ends of the grid.

By 2, an activation is there again that quantizers leave out, as the rounding does the same. Names
say where; but the rules hold whatever they say.

A file makes b/rows of a sum, rounds it, and lays patches out of that. The original has b = Relu(a),
which the file lacks. By 2, the sum is a/rows, of which Relu makes b/rows; by 1, the patches are
rounded, and so are what a product reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from convfc.formats.onnx.emitter import Names, constant_of, constant_value
from convfc.formats.onnx.grids import MOST_OFF, MOVES, grid_of, pads_with_zero, unrounded
from convfc.formats.onnx.moving import is_read, own_of
from convfc.formats.onnx.operators import identifier
from convfc.formats.onnx.sites import places
from convfc.formats.onnx.structure import operator


def rounded_late(model: ir.Model, known: Mapping[str | None, ir.Node]) -> set[str]:
    """Put pairs that the original lacks behind moves, and what they stand for before them.

    Args:
        model: changed in place.
        known: what makes values in the original, by their names: its own pairs stay.

    Returns:
        Names of the original's values that are rounded where something computes with them: what is
        made of one is called so, with the operator's name behind it.
    """
    late = _Late(model, known)
    late.run()
    return late.rounded


def rounded_name(name: str, op_type: str) -> str:
    """What a rounded value is called, by what it is made of and by what."""
    return f"{name}_{op_type}_Output"


def with_pairs(original: ir.Model, rounded: set[str]) -> ir.Model:
    """A copy of the original in which values are rounded as well, for the names.

    Args:
        original: it stays as it is.
        rounded: see `rounded_late`.
    """
    copy = original.clone()
    for value in [value for node in copy.graph for value in node.outputs if value.name in rounded]:
        behind, made, maker = value.producer(), value, value.name or ""
        for op_type in ("QuantizeLinear", "DequantizeLinear"):
            node = ir.node(op_type, [made])
            node.outputs[0].name = rounded_name(maker, op_type)
            if behind is not None:
                copy.graph.insert_after(behind, node)
            behind, made = node, node.outputs[0]
    return copy


class _Late:
    """See `rounded_late` for the arguments; `rounded` is what it returns."""

    def __init__(self, model: ir.Model, known: Mapping[str | None, ir.Node]) -> None:
        self.rounded: set[str] = set()
        self._names = Names(model)
        self._known = known
        self._todo = [place.node for place in places(model)]
        values = [value for node in self._todo for value in node.outputs]
        self._there = {self._own(value)[0] for value in values}

    def run(self) -> None:
        for node in self._todo:  # it grows
            there = unrounded(node)
            if there is None or self._is_of_the_original(node.outputs[0]):
                continue
            self._put_back(node, there)
            self._put_off(node)
            if is_read(node.outputs[0]):
                self._name(node)

    def _own(self, value: ir.Value) -> tuple[str, str]:
        return own_of(value, self._known)

    def _is_of_the_original(self, rounded: ir.Value) -> bool:
        own = self._known.get(self._own(rounded)[0])
        return own is not None and own.op_type == "DequantizeLinear"

    def _put_back(self, node: ir.Node, there: ir.Value) -> None:
        """By rule 2: the activation whose result the name of a rounded value says that it is."""
        found = self._own(there)
        name, form = found if found[0] else self._own(node.outputs[0])
        own, maker = self._known.get(name), there.producer()
        if own is None or maker is None or maker.op_type == own.op_type or there.is_graph_output():
            return
        if not _is_absorbed(own, node):
            return
        before = None if own.inputs[0] is None else own.inputs[0].name
        wanted, (reader, *more) = f"{before}{form}", [use.node for use in there.uses()]
        missing = before in self._known and before not in self._there
        if not missing or more or wanted in self._names.taken:
            return
        bounds = [self._stored(reader, value) for value in own.inputs[1:]]
        made = ir.Node("", own.op_type, [there, *bounds], own.attributes.values(), name=own.name)
        made.outputs[0].name, there.name = there.name, wanted
        made.outputs[0].type = there.type
        self._names.taken.add(wanted)
        self._there.add(before or "")
        _graph(reader).insert_before(reader, made)
        reader.replace_input_with(0, made.outputs[0])

    def _stored(self, reader: ir.Node, value: ir.Value | None) -> ir.Value | None:
        """A constant of the original, where a node can read it."""
        tensor = None if value is None else constant_of(value)
        if value is None or tensor is None:
            return None
        made = constant_value(self._names.fresh(value.name or "bound"), tensor)
        graph = _graph(reader)
        if isinstance(graph, ir.Graph):
            graph.register_initializer(made)
            return made
        node = ir.node("Constant", [], attributes={"value": tensor})
        node.outputs[0].name = made.name
        graph.insert_before(reader, node)
        return node.outputs[0]

    def _put_off(self, back: ir.Node) -> None:
        """By rule 1: each move of what was rounded moves it before, as far as it is new."""
        rounding = _maker(back)
        there = rounding.inputs[0]
        assert there is not None  # noqa: S101 - it is a pair
        for reader, where in tuple(back.outputs[0].uses()):
            outputs = any(value.is_graph_output() for value in reader.outputs)
            if where or outputs or not _moves(reader):
                continue
            reader.replace_input_with(0, there)
            for value in filter(ir.Value.uses, reader.outputs):
                self._round(value, reader, (rounding, back))
        for node in (back, rounding):
            if not is_read(node.outputs[0]):
                _graph(node).remove(node, safe=True)

    def _round(self, value: ir.Value, behind: ir.Node, pair: tuple[ir.Node, ir.Node]) -> None:
        uses, made = tuple(value.uses()), value
        for like in pair:
            node = ir.Node("", like.op_type, [made, *like.inputs[1:]], like.attributes.values())
            made = node.outputs[0]
            made.name = self._names.fresh(rounded_name(value.name or "", like.op_type))
            made.type = like.outputs[0].type
            _graph(behind).insert_after(behind, node)
            behind = node
        for reader, where in uses:
            reader.replace_input_with(where, made)
        self._todo.append(behind)

    def _name(self, back: ir.Node) -> None:
        """Let names say what is rounded, and in which form."""
        rounding = _maker(back)
        name, form = self._own(rounding.inputs[0]) if rounding.inputs[0] is not None else ("", "")
        if not form:
            return
        for node in (rounding, back):
            wanted = f"{rounded_name(name, node.op_type)}{form}"
            if not node.outputs[0].is_graph_output() and wanted not in self._names.taken:
                node.outputs[0].name = wanted
                self._names.taken.add(wanted)
                self.rounded.add(name)


def _maker(back: ir.Node) -> ir.Node:
    """What rounds the numbers that are read."""
    made = None if back.inputs[0] is None else back.inputs[0].producer()
    assert made is not None  # noqa: S101 - it is a pair
    return made


def _graph(node: ir.Node) -> ir.Graph | ir.Function:
    assert node.graph is not None  # noqa: S101 - it is in a model
    return node.graph


def _moves(node: ir.Node) -> bool:
    """Whether a node only moves numbers, or puts 0 beside them."""
    return identifier(node) in MOVES or pads_with_zero(node)


def _is_absorbed(own: ir.Node, back: ir.Node) -> bool:
    """Whether a grid ends where an activation does, or before: rounding does the same."""
    grid, bounds = grid_of(back), _bounds(own)
    if grid is None or bounds is None:
        return False
    (dtype, scale, zero), (low, high) = grid, bounds
    ends = np.iinfo(ir.DataType[dtype].numpy())
    return low / scale + zero < ends.min + MOST_OFF and high / scale + zero > ends.max - MOST_OFF


def _bounds(own: ir.Node) -> tuple[float, float] | None:
    """Between which numbers an activation leaves all as they are; beyond, it gives these."""
    if operator(own) == ("", "Relu", ""):
        return 0.0, math.inf
    if operator(own) != ("", "Clip", ""):
        return None
    given = [own.attributes.get_float("min", -math.inf), own.attributes.get_float("max", math.inf)]
    for place, value in enumerate(own.inputs[1:3]):
        if value is not None:
            tensor = constant_of(value)
            if tensor is None or tensor.size != 1:
                return None
            given[place] = float(tensor.numpy().item())
    low, high = given
    return (low, high) if low <= high else None
