"""Flat nodes put back: a file of the dense form in which every node works on its own axes again.

`flat` moves nodes in front of the Reshapes that layers end with. Here they come back, so that each
layer stands for itself, as the emitter wrote it, and every other node is the original's. What names
say is taken for a hint only, and the pass is not trusted. A model is changed by these rules alone.
In them m is a matrix of n columns by what makes it (`Matrices`), the sizes d have the
product n, U(m) = Reshape(m, [-1, d..]) and F(a) = Reshape(a, [-1, n]):

1. A value that nobody reads may be added, and one be removed.
2. m = F(U(m)), and a Reshape that makes U(m) is U(m).
3. If f is elementwise, then f(F(a), ..; c) = F(f(a, ..; c')), where a constant c of one number is
   c', and one of n numbers is c' repeated along the axes that c' lacks.
4. If a is of shape (N, d..), then Flatten(a) along axis 1 is F(a); and so is a Reshape to
   [0, -1] or [-1, n], and to [k, n] where N is k: elsewhere it is not defined, and so only the
   original's may be it, or what takes no other batch than that.
5. If sizes e have the product n, too, then a Reshape of m or U(m) to [-1, e..] or [0, e..] is the
   same, and F of that is m.

**Theorem.** Each rule replaces a value by the same value, in any model, if what is new is defined.
So the model that comes out computes what the file computes, wherever it computes anything. It does
where it is proved to be the original's function: hence the file is the original's function, too.

A file makes `y/flat` by a product, Relu `r/flat` of that, and another product reads it. By rules 1
and 2, y = U(y/flat), and Relu may read F(y); by 3, r = Relu(y) and `r/flat` is F(r), which is what
the emitter writes for a layer that reads r.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from convfc.core.geometry import Sizes
from convfc.formats.onnx.elementwise import data_of
from convfc.formats.onnx.flat_forms import (
    FLAT,
    Matrices,
    batch_set,
    flattens,
    out_of_flat,
    reshapes,
)
from convfc.formats.onnx.moving import named, reshaped_to, tell
from convfc.formats.onnx.restoring import Restoration, copy_to_restore
from convfc.formats.onnx.structure import operator

_MOST_NODES = 16
"""Of what the emitter writes for a layer in this form."""
_HINT = named(FLAT)


def in_own_axes(
    converted: ir.Model, original: ir.Model, outputs: Mapping[str, Sizes], *, moved: bool
) -> ir.Model:
    """A converted model with all nodes that were flattened on their axes, as far as that is sound.

    Args:
        converted: any model; it stays as it is.
        original: what it is going to be compared with, for the forms of constants.
        outputs: sizes, the batch apart, of what the original's convolutions make, by name.
        moved: whether something says that nodes were flattened, which need not be so.

    Returns:
        Another model, or the same if nothing says that anything was moved.
    """
    copy = copy_to_restore(converted, _HINT, moved=moved)
    if copy is None:
        return converted
    known = {
        name: tuple(size for size in sizes if size is not None)
        for name, sizes in outputs.items()
        if None not in sizes
    }
    _AxesRestoration(copy, original, known).run()
    return copy


def _stands_for(node: ir.Node, like: ir.Node, sizes: Sequence[int]) -> bool:
    """By rule 4: whether a node flattens as another one does, whatever the batch of that."""
    takes_all = batch_set(node) in (None, batch_set(like))
    return takes_all and flattens(node, sizes) and flattens(like, sizes)


class _AxesRestoration(Restoration[tuple[int, ...]]):
    """Goes through the main graph of a copy once, in the order of the file; forms are sizes."""

    def __init__(
        self, copy: ir.Model, original: ir.Model, outputs: Mapping[str, tuple[int, ...]]
    ) -> None:
        super().__init__(copy, original, _HINT)
        self._outputs = outputs
        self._matrices = Matrices(copy.graph.inputs)
        for value in copy.graph.inputs:
            columns = self._matrices.columns(value)
            if columns is not None:
                self.own[value] = value, (columns,)
        self._reshaped: dict[str, tuple[ir.Value, ir.Value]] = {}
        self._returned: dict[str, tuple[ir.Value, ir.Value]] = {}

    def run(self) -> None:
        """Put back what can be, and remove what nobody reads then."""
        for node in list(self.moves.graph):
            if self._reads_own(node):
                continue
            columns = self._matrices.see(node)
            if columns is not None:
                self._return(node, columns)
            self._read_by_layer(node)
            if columns is None:
                continue
            hint = self.hint(node.outputs[0])
            if hint is None:
                continue
            name = hint[1]
            sizes = self._outputs.get(name)
            if sizes is not None and math.prod(sizes) == columns:
                self._part(node, name, sizes)
            else:
                self._put_back(node, name)
        for value, (own, sizes) in list(self.own.items()):
            self._flatten_again(value, own, sizes)
        self.sweep()

    def _return(self, node: ir.Node, columns: int) -> None:
        """By rules 1 and 2: what is returned flat, and so in the original, is so by a Reshape."""
        made, graph = node.outputs[0], self.moves.graph
        head = self.originals.get(made.name or "")
        source = None if head is None or not head.inputs else head.inputs[0]
        if not made.is_graph_output() or head is None or source is None:
            return
        is_head = operator(head) == ("", "Flatten", "") or reshaped_to(head) == [-1, columns]
        if is_head and source.name in self.originals and reshaped_to(node) is None:
            name, made.name = made.name or "", self.moves.names.fresh(f"{source.name}{FLAT}")
            again = self._reshape(made, (-1, columns), name)
            self._matrices.see(again)
            again.outputs[0].shape, made.shape = made.shape, None
            self._returned[name] = made, again.outputs[0]
            places = [place for place, value in enumerate(graph.outputs) if value is made]
            for place in places:
                graph.outputs[place] = again.outputs[0]

    def _reads_own(self, node: ir.Node) -> bool:
        """By rule 5: what is a Reshape in the original, too, reads what that reads."""
        flat = node.inputs[0] if node.inputs else None
        like = self.originals.get(node.outputs[0].name or "") if node.outputs else None
        if flat is None or like is None or flat not in self.own:
            return False
        own, sizes = self.own[flat]
        wanted = reshapes(node, sizes)
        if wanted is None or not like.inputs or reshapes(like, sizes) != wanted:
            return False
        value, _ = self._as_read(own, sizes, like.inputs[0])
        node.replace_input_with(0, value)
        self._reshaped[node.outputs[0].name or ""] = value, node.outputs[0]
        return True

    def _as_read(
        self, own: ir.Value, sizes: tuple[int, ...], wanted: ir.Value | None
    ) -> tuple[ir.Value, tuple[int, ...]]:
        """By rule 5: a value with the sizes that a reader in the original gets it in.

        Args:
            own: the value.
            sizes: those that it has.
            wanted: what is read in the original.
        """
        steps: list[ir.Node] = []
        while wanted is not None and wanted.name != own.name:
            step = self.originals.get(wanted.name or "")
            if step is None or reshapes(step, sizes) is None:
                return own, sizes
            steps.append(step)
            wanted = step.inputs[0]
        for step in reversed(steps if wanted is not None else []):
            name = step.outputs[0].name or ""
            if name not in self._reshaped:
                if not self.is_free(name):
                    break
                self._reshaped[name] = own, self._head(step, own, name)
            of, made = self._reshaped[name]
            if of is not own:
                break
            own, sizes = made, reshapes(step, sizes) or sizes
        return own, sizes

    def _read_by_layer(self, end: ir.Node) -> None:
        """By rules 2 and 5: a layer reads what its convolution reads in the original."""
        hint = self.hint(end.outputs[0]) if len(end.outputs) == 1 else None
        name = (end.outputs[0].name or "") if hint is None else hint[1]
        if name not in self._outputs:
            return
        wanted = self.originals[name].inputs[0] if self.originals[name].inputs else None
        todo = [end]
        for node in todo:
            for place, value in enumerate(node.inputs):
                maker = None if value is None else value.producer()
                if value is None or value not in self.own:
                    outside = value is None or value.name in self.originals
                    if maker is not None and not outside and len(todo) < _MOST_NODES:
                        todo.append(maker)
                    continue
                own, sizes = self.own[value]
                found, others = self._as_read(own, sizes, wanted)
                if found is not own or value is own:
                    fresh = self.moves.names.fresh(f"{found.name}_again")
                    again = self._reshape(found, (-1, math.prod(others)), fresh)
                    self._matrices.see(again)
                    self.own[again.outputs[0]] = found, others
                    node.replace_input_with(place, again.outputs[0])

    def _part(self, node: ir.Node, name: str, sizes: tuple[int, ...]) -> None:
        """By rules 1 and 2: a layer ends in a Reshape back, and what reads on has its own."""
        flat = node.outputs[0]
        back = self._back(flat, sizes, name)
        if back is None:
            if not self.is_free(name):
                return
            back = self._reshape(flat, (-1, *sizes), name)
            tell(node, back)

        def again(own: ir.Value, fresh: str) -> ir.Node:
            made = self._reshape(own, (-1, math.prod(sizes)), fresh)
            self._matrices.see(made)
            return made

        self.part(flat, back, sizes, again)

    def _put_back(self, node: ir.Node, name: str) -> None:
        """By rules 1, 2 and 3: what is elementwise works on its own axes."""
        given: dict[ir.Value, ir.Value] = {}
        forms: set[tuple[int, ...]] = set()
        data, like, flat = data_of(node), self.originals[name], node.outputs[0]
        for value, wanted in zip(node.inputs, like.inputs, strict=False):
            if value is not None and value in self.own and value in data:
                given[value], form = self._as_read(*self.own[value], wanted)
                forms.add(form)
        if not data or given.keys() != {*data} or len(forms) != 1:
            return
        (sizes,) = forms
        back = self._back(flat, sizes, name)
        if back is None and not self.is_free(name):
            return
        settings = out_of_flat(node, sizes, like)
        if back is None:
            own = self.moves.copy(node, given, settings, name, node)
        else:
            self.moves.become_copy(back, node, given, settings)
            own = back.outputs[0]
        self.moves.become(node, "Reshape", [own, self.moves.shape((-1, math.prod(sizes)))])
        self.own[flat] = own, sizes
        self.left.append(node)

    def _flatten_again(self, flat: ir.Value, own: ir.Value, sizes: tuple[int, ...]) -> None:
        """By rules 1 and 4: who reads what the original flattens, reads that."""
        made = {
            name: returned
            for name, (other, returned) in self._returned.items()
            if other in self.own and self.own[other][0] is own
        }
        for reader, place in list(flat.uses()):
            like = self.originals.get(reader.outputs[0].name or "")
            wanted = like.inputs[place] if like is not None and place < len(like.inputs) else None
            head = None if wanted is None or not wanted.name else self.originals.get(wanted.name)
            value, at = self._as_read(own, sizes, wanted)
            is_same = wanted is not None and wanted.name == value.name
            if like is not None and is_same and _stands_for(reader, like, at):
                self.moves.become(reader, like.op_type, self._operands(like, value))
                reader.attributes.update(like.attributes)
                tell(like, reader)
                continue
            if head is None or not head.inputs or reader.graph is not self.moves.graph:
                continue
            source, name = head.inputs[0], head.outputs[0].name or ""
            value, at = self._as_read(own, sizes, source)
            if source is None or source.name != value.name or not flattens(head, at):
                continue
            if name not in made:
                if not self.is_free(name):
                    continue
                made[name] = self._head(head, value, name)
            reader.replace_input_with(place, made[name])

    def _head(self, head: ir.Node, own: ir.Value, name: str) -> ir.Value:
        """The original's Flatten or Reshape once more."""
        operands = self._operands(head, own)
        copied = ir.Node("", head.op_type, operands, outputs=[ir.Value(name=name)])
        copied.attributes.update(head.attributes)
        tell(head, copied)
        self._insert(copied, own)
        return copied.outputs[0]

    def _operands(self, head: ir.Node, own: ir.Value) -> list[ir.Value]:
        """What a Flatten or a Reshape reads, of another value."""
        shape = reshaped_to(head)
        return [own] if shape is None else [own, self.moves.shape(tuple(shape))]

    def _back(self, flat: ir.Value, sizes: Sequence[int], name: str) -> ir.Node | None:
        """The Reshape that makes a value on its own axes under that name, if there is one."""
        return self.back(
            flat, name, lambda node: reshaped_to(node) == [-1, *sizes] and node.inputs[0] is flat
        )

    def _reshape(self, value: ir.Value, shape: tuple[int, ...], name: str) -> ir.Node:
        """Add a Reshape behind what makes a value."""
        given = [value, self.moves.shape(shape)]
        made = ir.Node("", "Reshape", given, outputs=[ir.Value(name=name)])
        made.outputs[0].type = value.type
        self._insert(made, value)
        return made

    def _insert(self, node: ir.Node, after: ir.Value) -> None:
        """Put a node behind what makes a value, or in front of all."""
        maker, graph = after.producer(), self.moves.graph
        if maker is None:
            graph.insert_before(graph[0], node)
        else:
            graph.insert_after(maker, node)
