"""Neighbouring Reshapes cancel in a file of the dense form: what is elementwise works on rows.

A converted convolution begins with a Reshape to a row for each sample and ends with one back. What
follows it elementwise goes in front of that, if it leads to another such layer or a Flatten, or
nothing else reads what it reads. Then the two Reshapes between neighbours cancel, and so does each
Reshape between them that leaves samples alone. Inputs of the model that are rows are flat as well.

Conv, Relu, Conv, Flatten, Gemm, before and after, with M for a product and the sum with a bias:

    x > Reshape > M > Reshape > Relu > Reshape > M > Reshape > Flatten > Gemm
    x > Reshape > M > Relu > M > Gemm

**Ensured.** No value has another content than before under its own name: what is flat is called
``<value>/flat``. Moved nodes keep their names; a layer's own node is the last that is left of its
chain. The results are the same to the bit.

**Needed.** Opset 7. Only the main graph is looked at. Nothing here is trusted: `unflattened` undoes
it by its own rules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from convfc.formats.onnx.elementwise import LOWEST_OPSET, Settings, data_of
from convfc.formats.onnx.emitter import Names
from convfc.formats.onnx.flat_forms import FLAT, Matrices, flattens, into_flat, reshapes
from convfc.formats.onnx.moving import Moves, is_plain, is_read, reshaped_to, tell
from convfc.formats.onnx.rewriting import drop_if_unused
from convfc.formats.onnx.sites import opset_of


def keep_flat(model: ir.Model, ends: Sequence[ir.Node], names: Names) -> None:
    """Move what is elementwise, and let Reshapes cancel.

    Args:
        model: changed in place.
        ends: the last nodes of converted layers.
        names: of the whole model.
    """
    if opset_of(model.graph) >= LOWEST_OPSET:
        own = [end for end in ends if end.graph is model.graph and is_read(end.outputs[0])]
        _Flattener(Moves(model, names), own)


class _Flattener:
    """Goes through the main graph in the order of the file, and back for what is of use."""

    def __init__(self, moves: Moves, ends: Sequence[ir.Node]) -> None:
        self._moves = moves
        self._ends = set(ends)
        self._nodes = list(moves.graph)
        self._sizes: dict[ir.Value, tuple[int, ...]] = {}
        self._shapes: dict[tuple[int, ...], ir.Value] = {}
        self._flat: dict[ir.Value, ir.Value] = {}
        self._reshapes: set[ir.Node] = set()
        self._named: set[ir.Value] = set()
        movable = self._movable()
        useful: set[ir.Node] = set()
        for node in reversed(self._nodes):
            if node in movable and self._is_useful(node, useful):
                useful.add(node)
        for node in self._nodes:
            if node in useful:
                self._move(node, movable[node])
            elif self._is_head(node):
                self._cancel(node)
        for node in reversed(self._nodes):
            if node in useful or node in self._ends:
                self._clear(node)
        for value in moves.replaced:
            drop_if_unused(value)

    def _movable(self) -> dict[ir.Node, Settings]:
        """What can work on rows; and the sizes of all that can be flat."""
        movable, matrices = {}, Matrices(self._moves.graph.inputs)
        for value in self._moves.graph.inputs:
            columns = matrices.columns(value)
            if columns is not None:
                self._sizes[value], self._flat[value] = (columns,), value
        for node in self._nodes:
            matrices.see(node)
            own = node.outputs[0] if node.outputs else None
            shape, rows = reshaped_to(node), node.inputs[0] if node.inputs else None
            if own is not None and node in self._ends and shape is not None and rows is not None:
                sizes = tuple(shape[1:])
                if matrices.columns(rows) == math.prod(sizes) and node.inputs[1] is not None:
                    self._sizes[own], self._flat[own] = sizes, rows
                    self._shapes[sizes] = node.inputs[1]
                continue
            before = None if rows is None else self._sizes.get(rows)
            after = None if own is None or before is None else reshapes(node, before)
            if own is not None and after is not None and is_plain(node):
                self._reshapes.add(node)
                movable[node], self._sizes[own] = Settings({}, {}), after
                if node.inputs[1] is not None:
                    self._shapes.setdefault(after, node.inputs[1])
                continue
            found = {self._sizes.get(value) for value in data_of(node)}
            at = found.pop() if len(found) == 1 else None
            settings = into_flat(node, at) if at is not None and is_plain(node) else None
            if own is not None and at is not None and settings is not None and is_read(own):
                movable[node], self._sizes[own] = settings, at
        return movable

    def _is_useful(self, node: ir.Node, useful: set[ir.Node]) -> bool:
        """Whether fewer Reshapes are left, or none more and it stands beside the product."""
        readers = [reader for reader, _ in node.outputs[0].uses()]
        if any(reader in useful or self._is_head(reader) for reader in readers):
            return True
        if node in self._reshapes:
            return False
        (first, *others) = data_of(node)
        alone = not (others or first.is_graph_output() or first.is_graph_input())
        return alone and {reader for reader, _ in first.uses()} == {node}

    def _is_head(self, node: ir.Node) -> bool:
        """Whether it flattens what can be flat, and nobody else knows of what it makes."""
        value = node.inputs[0] if node.inputs else None
        sizes = None if value is None else self._sizes.get(value)
        if sizes is None or not flattens(node, sizes):
            return False
        inside = all(reader.graph is self._moves.graph for reader, _ in node.outputs[0].uses())
        return inside and node.graph is self._moves.graph and is_plain(node)

    def _move(self, node: ir.Node, settings: Settings) -> None:
        """Write a node anew on flat data, and make it the Reshape back."""
        own = node.outputs[0]
        if node in self._reshapes:
            (value,) = (value for value in node.inputs[:1] if value is not None)
            self._flat[own] = self._taken(value)
            node.replace_input_with(0, self._flat[own])
            return
        name = self._moves.names.fresh(f"{own.name}{FLAT}")
        given = {value: self._taken(value) for value in data_of(node)}
        made = self._moves.copy(node, given, settings, name, node)
        self._flat[own] = made
        sizes = self._sizes[own]
        shape = self._shapes.get(sizes) or self._moves.shape((-1, *sizes))
        self._moves.become_back(node, "Reshape", [made, shape])

    def _cancel(self, head: ir.Node) -> None:
        """Let those who read a flattened value read what is flat already."""
        value = head.inputs[0]
        if value is None or value not in self._flat:
            return
        made, flat = head.outputs[0], self._taken(value)
        if made.is_graph_output() and (flat.is_graph_output() or flat.is_graph_input()):
            return
        returned = made.is_graph_output()
        made.replace_all_uses_with(flat, replace_graph_outputs=True)
        self._moves.replaced |= {v: None for v in head.inputs[1:] if v is not None}
        self._moves.graph.remove(head, safe=True)
        if returned:
            flat.name, flat.type, flat.shape = made.name, made.type, made.shape

    def _taken(self, own: ir.Value) -> ir.Value:
        """The flat form of a value, under the name by which it is found again."""
        flat, maker = self._flat[own], own.producer()
        if maker in self._ends and flat not in self._named:
            self._named.add(flat)
            flat.name = self._moves.names.fresh(f"{own.name}{FLAT}")
        return flat

    def _clear(self, node: ir.Node) -> None:
        """Remove a Reshape back that nobody needs; a layer's name goes to the node before."""
        before = None if node.inputs[0] is None else node.inputs[0].producer()
        if is_read(node.outputs[0]):
            return
        if node in self._ends and before is not None:
            tell(node, before)
        self._moves.replaced |= {v: None for v in node.inputs[1:] if v is not None}
        self._moves.graph.remove(node, safe=True)
