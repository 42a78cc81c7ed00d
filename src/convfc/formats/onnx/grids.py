"""Numbers that are rounded to a grid on which they are already: quantizers do so between all moves.

A grid is what QuantizeLinear and DequantizeLinear round to, with one scale and zero point, both
constants. A model is changed by two rules: if v is on a grid, DQ(Q(v)) = v; and whatever is only
moved and then rounded to the same grid, Q(m(DQ(Q(v)))) = Q(m(v)). On a grid is

1. what DequantizeLinear makes of whole numbers of that type, scale and zero point;
2. what only moves, repeats or chooses among numbers on the grid, and a Pad of them with 0, which
   is on every grid, as its zero point is a number of the type;
3. Relu of numbers on the grid, which leaves them or makes them 0.

The rules hold for grids of which every number is rounded to itself, as (q - zero) * scale / scale
is near q - zero for all q of the type, in float32; that is computed for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from convfc.formats.onnx.emitter import Names, constant_of
from convfc.formats.onnx.moving import is_read
from convfc.formats.onnx.operators import identifier
from convfc.formats.onnx.sites import places

Grid: TypeAlias = "tuple[str, float, int]"
"""Type, scale and zero point of a grid."""
MOVES = {
    *(("", op) for op in ("Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split")),
    *(("", op) for op in ("Squeeze", "Tile", "Transpose", "Unsqueeze")),
}
"""Operators whose first operand is moved; the others say where to."""
_MOVES = MOVES | {("", "Relu")}
"""And what makes it 0."""
MOST_OFF = 0.25
"""How far a number may be from a whole one that is to be rounded to that, however one divides."""
_BEFORE = "_pre_q"
"""What onnxruntime puts behind the name of a value that it rounds once more."""
_NO_MATTER = ("axis", "saturate")
"""Attributes that mean nothing for one scale, or for integers; the default of all others is 0."""
_TYPES = (ir.DataType.INT8, ir.DataType.UINT8)


def rounded_once(model: ir.Model, known: Mapping[str | None, ir.Node]) -> None:
    """Remove what rounds numbers to a grid on which they are, or to which they are rounded later.

    Args:
        model: changed in place.
        known: what makes values in the original, by their names: what is rounded there stays so.
    """
    names = Names(model)
    grids: dict[ir.Value, Grid] = {}
    for node in [place.node for place in places(model)]:
        there = unrounded(node)
        if there is not None and grids.get(there) == grid_of(node):
            own = known.get(node.outputs[0].name)
            as_it_was = own is not None and own.op_type == node.op_type and there.name in known
            if not as_it_was and _leave_out(node, there, names, known):
                continue
        made = zip(node.outputs, _made(node, grids), strict=False)
        grids |= {value: key for value, key in made if key is not None}
    for node in reversed([place.node for place in places(model)]):
        there = unrounded(node)
        if there is not None and node.outputs[0].name not in known and _is_rounded(node):
            _leave_out(node, there, names, known)


def _leave_out(
    node: ir.Node, there: ir.Value, names: Names, known: Mapping[str | None, ir.Node]
) -> bool:
    """Let all read what was rounded, if nobody asks for the rounded by its name.

    Names that were made up where the rounding was put in are hints at those before.
    """
    (value,), rounding = node.outputs, node.inputs[0]
    if value.is_graph_output():
        return False
    for reader, where in tuple(value.uses()):
        reader.replace_input_with(where, there)
    wanted = (there.name or "").removesuffix(_BEFORE)
    if there.producer() is not None and there.name not in known:
        if value.name in known:
            there.name, value.name = value.name, there.name
        elif wanted not in names.taken:
            there.name = names.fresh(wanted)
    for unread in (node, None if rounding is None else rounding.producer()):
        graph = None if unread is None else unread.graph
        if unread is not None and graph is not None and not any(map(is_read, unread.outputs)):
            graph.remove(unread, safe=True)
    return True


def _is_rounded(node: ir.Node) -> bool:
    """Whether all that becomes of what is on a grid is moved, and then rounded to the same."""
    key = grid_of(node)
    todo = [*node.outputs]
    for value in todo:
        if value.is_graph_output() or not value.uses():
            return False
        for reader, where in value.uses():
            if where == 0 and identifier(reader) in _MOVES:
                todo += reader.outputs
            elif identifier(reader) != ("", "QuantizeLinear") or grid_of(reader) != key or where:
                return False
    return True


def _made(node: ir.Node, grids: dict[ir.Value, Grid]) -> list[Grid | None]:
    """On which grids a node's outputs are."""
    if not node.inputs or node.inputs[0] is None:
        return []
    first, kind = grids.get(node.inputs[0]), identifier(node)
    if kind == ("", "DequantizeLinear"):
        return [grid_of(node)]
    if kind in _MOVES or pads_with_zero(node):
        return [first] * len(node.outputs)
    if kind != ("", "Concat"):
        return []
    keys = {None if value is None else grids.get(value) for value in node.inputs}
    return [keys.pop() if len(keys) == 1 else None]


def pads_with_zero(node: ir.Node) -> bool:
    """Whether it is a Pad that puts nothing but 0, or what it pads, beside that."""
    if identifier(node) != ("", "Pad"):
        return False
    mode = node.attributes.get_string("mode", "constant")
    filler = node.inputs[2] if len(node.inputs) > 2 else None
    if mode != "constant" or filler is None:
        return node.attributes.get_float("value", 0.0) == 0
    stored = constant_of(filler)
    return stored is not None and not stored.numpy().any()


def unrounded(back: ir.Node) -> ir.Value | None:
    """What a QuantizeLinear reads that a DequantizeLinear on the same grid reads."""
    there = back.inputs[0].producer() if back.inputs and back.inputs[0] is not None else None
    names = [None if node is None else identifier(node) for node in (there, back)]
    if there is None or names != [("", "QuantizeLinear"), ("", "DequantizeLinear")]:
        return None
    key = grid_of(back)
    return there.inputs[0] if key is not None and grid_of(there) == key else None


def grid_of(node: ir.Node) -> Grid | None:
    """The grid of a QuantizeLinear or a DequantizeLinear, if it is one of which the rule holds."""
    _, scale, zero, *_ = list[ir.Value | None]([*node.inputs, None, None])
    step = None if scale is None else constant_of(scale)
    middle = None if zero is None else constant_of(zero)
    given = {n: a.value for n, a in node.attributes.items() if n not in _NO_MATTER and a.value}
    if step is None or middle is None or middle.dtype not in _TYPES:
        return None
    if given and given != {"output_dtype": int(middle.dtype)}:
        return None
    if step.dtype is not ir.DataType.FLOAT or step.size != 1 or middle.size != 1:
        return None
    key = middle.dtype.name, float(step.numpy().item()), int(middle.numpy().item())
    return key if _keeps_all(*key) else None


@cache
def _keeps_all(dtype: str, scale: float, zero: int) -> bool:
    """Whether each number of a grid is rounded to itself."""
    kind = np.iinfo(ir.DataType[dtype].numpy())
    whole = np.arange(kind.min, kind.max + 1)
    step = np.float32(scale)
    with np.errstate(all="ignore"):
        numbers = (whole - zero).astype(np.float32) * step
        off = float(abs(numbers / step - (whole - zero)).max())
        return scale >= float(np.finfo(np.float32).tiny) and off < MOST_OFF  # or it is flushed
