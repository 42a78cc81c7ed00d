"""Neighbouring Transposes cancel in the file: what works in any layout moves between them.

A converted convolution begins with a Transpose (channels first to channels last) and ends with the
opposite one. Between two layers, only what is in `elementwise` may stand. Three steps:

1. *Rows.* What follows one layer elementwise goes in front of the Reshape that makes its output of
   the product: there a runtime fuses it with the product, and a quantizer takes it along.
2. *The cut.* Of all other nodes that work in any layout, those read channels last for which the
   fewest Transposes are left: a minimum cut between what is channels last and what is not.
3. *Behind.* A Transpose back that is left goes behind what follows it, while that adds none.

Conv, Relu, Conv, before and after, with T and T' for the Transposes and C for a chain of nodes:

    x > T > C > Reshape > T' > y1 > Relu > y2 > T > C > Reshape > T' > y
    x > T > C > Relu > Reshape > C > Reshape > T' > y

**Ensured.** No value has another content than before under its own name: what a node makes channels
last is called ``<value>/channels_last``, what it makes before the Reshape ``<value>/rows``. Moved
nodes keep their names; a layer's own node is the last that is left of its chain. There are no more
nodes than before, no more Transposes, and no dead ones. The results are the same to the bit.

**Needed.** Opset 7, and ranks: of what the moved nodes read from outside, they must be stated. Only
the main graph is looked at. Nothing here is trusted: `own_layout` undoes it by its own rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import onnx_ir as ir

from convfc.core.arrays import to_first, to_last
from convfc.formats.onnx.elementwise import (
    LOWEST_OPSET,
    Settings,
    data_of,
    into_rows,
    reordered,
)
from convfc.formats.onnx.emitter import Names, constant_of
from convfc.formats.onnx.minimum_cut import source_side
from convfc.formats.onnx.moving import (
    LAST,
    ROWS,
    Moves,
    columns_of,
    is_plain,
    is_read,
    is_reshape,
    reshaped_to,
    tell,
)
from convfc.formats.onnx.operators import known_shape
from convfc.formats.onnx.rewriting import drop_if_unused
from convfc.formats.onnx.sites import label, opset_of


def keep_channels_last(
    model: ir.Model, ends: Mapping[ir.Node, int], heads: Sequence[ir.Node], names: Names
) -> None:
    """Move what works in any layout, and let Transposes cancel.

    Args:
        model: changed in place.
        ends: the last nodes of converted layers: Transposes, or Reshapes of channels first; and how
            many axes there are of what each makes.
        heads: the first ones of those that begin with a Transpose, in the order of the file.
        names: of the whole model.
    """
    if opset_of(model.graph) < LOWEST_OPSET:
        return
    mover = _Mover(Moves(model, names), [end for end in ends if end.graph is model.graph])
    for end in mover.ends:
        mover.into_rows(end, ends[end])
    mover.cut([head for head in heads if head.graph is model.graph])
    for end in mover.ends:
        mover.behind(end)
    for value in mover.moves.replaced:
        drop_if_unused(value)


class _Mover:
    """Does the three steps.

    Attributes:
        ends: what brings layers and what moved with them back into their own layout, at each step.
    """

    def __init__(self, moves: Moves, ends: Sequence[ir.Node]) -> None:
        self.moves = moves
        self._graph = moves.graph
        self._layers = {end for end in ends if is_read(end.outputs[0])}
        self._ends = {end: None for end in ends if end in self._layers}
        self._last: dict[ir.Value, ir.Value] = {}

    @property
    def ends(self) -> Sequence[ir.Node]:
        """See above; a copy, for they change meanwhile."""
        return list(self._ends)

    def into_rows(self, end: ir.Node, rank: int) -> None:
        """Move what follows a layer, which has so many axes, in front of its Reshape."""
        own, last = end.outputs[0], end.op_type == "Transpose"
        reshape = _maker(end) if last else end
        rows = reshape.inputs[0] if is_reshape(reshape) else None
        if reshape is None or rows is None:
            return
        columns, shape = columns_of(rows), reshaped_to(reshape)
        known = columns if last and shape is not None and shape[-1] == columns else None
        inner = _following(own, lambda node: into_rows(node, rank, known))
        if not inner:
            return
        made = self._copies(own, rows, ROWS, inner, reshape)
        before = rows.producer()
        if end in self._layers and before is not None:
            self._layers.remove(end)
            tell(end, before)
        exit_node = inner[-1][0]
        if last:
            reshape.replace_input_with(0, made)
            y = reshape.outputs[0]
            y.name = self._name(exit_node.outputs[0], LAST)
            self._last[exit_node.outputs[0]] = y
            self._turn(exit_node, y, rank)
        else:
            self.moves.become_back(exit_node, "Reshape", [made, *end.inputs[1:]])
            self._ends[exit_node] = None
        self._clear([end, *(node for node, _ in inner)])

    def cut(self, heads: Sequence[ir.Node]) -> None:
        """Move the nodes for which the fewest Transposes are left, and share and cancel these."""
        ends = {end.outputs[0]: end for end in self._ends if end.op_type == "Transpose"}
        ranks = {value: len(end.attributes["perm"].as_ints()) for value, end in ends.items()}
        ranks |= {v: len(h.attributes["perm"].as_ints()) for h in heads if (v := h.inputs[0])}
        movable: dict[ir.Node, Settings] = {}
        for node in self._graph:
            data = data_of(node)
            found = {ranks.get(value) or len(known_shape(value) or ()) for value in data}
            rank = found.pop() if len(found) == 1 else 0
            settings = reordered(node, to_last(rank)) if rank > 2 and is_plain(node) else None
            if settings is not None:
                movable[node] = settings
                ranks |= dict.fromkeys((*data, node.outputs[0]), rank)
        chosen = source_side(_nets(ends, heads, movable))
        for node, settings in movable.items():
            if node in chosen:
                own, rank = node.outputs[0], ranks[node.outputs[0]]
                data_last = {value: self._in_last(value, rank, node) for value in data_of(node)}
                name = self._name(own, LAST)
                made = self.moves.copy(node, data_last, settings, name, node)
                if own.shape is not None and len(own.shape) == rank:
                    made.shape = ir.Shape([own.shape[axis] for axis in to_last(rank)])
                self._last[own] = made
                self._turn(node, made, rank)
        for head in heads:
            value = head.inputs[0]
            if value in self._last or value in ends:
                last = self._in_last(value, ranks[value], head)
                head.outputs[0].replace_all_uses_with(last)
                self._graph.remove(head, safe=True)
            elif value is not None:
                self._last[value] = head.outputs[0]
        self._clear(self.ends)

    def behind(self, end: ir.Node) -> None:
        """Move a Transpose back behind what follows it."""
        own, last = end.outputs[0], end.inputs[0]
        if end.op_type != "Transpose" or last is None:
            return
        rank = len(end.attributes["perm"].as_ints())
        order = to_last(rank)
        inner = _following(own, lambda node: reordered(node, order) if data_of(node) else None)
        if inner:
            made = self._copies(own, last, LAST, inner, end)
            self._turn(inner[-1][0], made, rank)
            self._clear([end, *(node for node, _ in inner)])

    def _copies(
        self,
        own: ir.Value,
        given: ir.Value,
        suffix: str,
        inner: Sequence[tuple[ir.Node, Settings]],
        before: ir.Node,
    ) -> ir.Value:
        """Write what follows a value anew, for its other form; what the last one makes."""
        if self._last.get(own) is not given:
            given.name = self._name(own, suffix)
        data = {own: given}
        for node, settings in inner:
            name = self._name(node.outputs[0], suffix)
            data[node.outputs[0]] = self.moves.copy(node, data, settings, name, before)
            for value in node.inputs:  # it may be made behind the place where it is read now
                maker = None if value is None or value in data else value.producer()
                if maker is not None and maker is not self._graph[0]:
                    self._graph.insert_before(self._graph[0], maker)
        return data[inner[-1][0].outputs[0]]

    def _in_last(self, value: ir.Value, rank: int, reader: ir.Node) -> ir.Value:
        """A value with its channels last: what is there, or what a new Transpose makes."""
        if value not in self._last:
            end, name = value.producer(), self._name(value, LAST)
            turned = end in self._ends and end is not None and end.op_type == "Transpose"
            last = end.inputs[0] if turned and end is not None else None
            if last is not None:  # else the end of a layer that stays channels first
                self._last[value] = last
                last.name = name
            else:
                made = self.moves.transpose(value, to_last(rank), name)
                made.name = self.moves.names.fresh(f"{label(reader)}/Transpose")
                self._last[value] = made.outputs[0]
        return self._last[value]

    def _turn(self, node: ir.Node, last: ir.Value, rank: int) -> None:
        """Make a node that was copied the Transpose back."""
        self.moves.become_back(node, "Transpose", [last])
        node.attributes.add(ir.AttrInt64s("perm", to_first(rank)))
        self._ends[node] = None

    def _name(self, value: ir.Value, suffix: str) -> str:
        return self.moves.names.fresh(f"{value.name}{suffix}")

    def _clear(self, nodes: Sequence[ir.Node]) -> None:
        """Remove what nobody reads any more; the name of a layer's end goes to the one before."""
        for node in reversed(nodes):
            if is_read(node.outputs[0]):
                continue
            self._ends.pop(node, None)
            before = _maker(node)
            if node in self._layers and before is not None:
                tell(node, before)
            self._graph.remove(node, safe=True)


def _maker(node: ir.Node) -> ir.Node | None:
    """What makes the first operand of a node."""
    first = node.inputs[0]
    return None if first is None else first.producer()


def _following(
    value: ir.Value, fits: Callable[[ir.Node], Settings | None]
) -> list[tuple[ir.Node, Settings]]:
    """What can follow a value in another form, up to a node that makes all that others still read.

    Each stands behind those that it reads from.

    Args:
        value: where it begins.
        fits: what a node needs there; ``None`` if it cannot be there.
    """
    outside = {value: len(value.uses()) + value.is_graph_output()}
    still_read, best = 1, 0
    found: list[tuple[ir.Node, Settings]] = []
    seen: set[ir.Node] = set()
    todo = [value]
    for known in todo:
        for node, _ in known.uses():
            data = [v for v in node.inputs if v is not None and constant_of(v) is None]
            if node in seen or node.graph is not known.graph or not outside.keys() >= {*data}:
                continue
            seen.add(node)
            # What nobody reads stays: before the Reshape, nothing would tell where it belongs.
            moves = is_plain(node) and is_read(node.outputs[0])
            settings = fits(node) if moves else None
            if settings is None:
                continue
            found.append((node, settings))
            for operand in data:
                outside[operand] -= 1
                still_read -= not outside[operand]
            made = node.outputs[0]
            outside[made] = len(made.uses()) + made.is_graph_output()
            still_read += bool(outside[made])
            todo.append(made)
            if still_read == 1 and outside[made]:
                best = len(found)
    return found[:best]


def _nets(
    ends: Mapping[ir.Value, ir.Node], heads: Sequence[ir.Node], movable: Mapping[ir.Node, Settings]
) -> Iterator[tuple[list[ir.Node], bool, bool]]:
    """Of each value between the nodes: which of them it joins, and what else it reaches.

    Layers make and read theirs channels last; all others have the file's layout.
    """
    first = dict.fromkeys(heads)
    values = dict.fromkeys((*ends, *(v for head in heads if (v := head.inputs[0]) is not None)))
    for node in movable:
        values |= dict.fromkeys((*data_of(node), node.outputs[0]))
    for value in values:
        users = {user for user, _ in value.uses()}
        maker = value.producer()
        pins = [node for node in (maker, *users) if node in movable and node is not None]
        at_source = value in ends or any(user in first for user in users)
        others = any(user not in movable and user not in first for user in users)
        elsewhere = value not in ends and maker not in movable
        yield pins, at_source, others or elsewhere or value.is_graph_output()
