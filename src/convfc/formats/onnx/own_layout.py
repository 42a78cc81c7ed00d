"""Moved nodes put back: a converted model in which every node works in its own layout again.

`channels_last` moves nodes in front of the Transposes that layers end with. Here they come back, so
that each layer stands for itself, as the emitter wrote it, and every other node is the original's.
What names say is taken for a hint only, and the pass is not trusted. A model is changed by these
rules alone; T' has perm [0, r-1, 1, .., r-2], and T is its inverse:

1. A value that nobody reads may be added, and one be removed.
2. z = T(T'(z)).
3. If f is in the table of `elementwise`, then T'(f(z, ..; c)) = f(T'(z), ..; T'(c)), where T'(c)
   are its constants, axis and amounts, permuted.
4. If f is elementwise, and all its data are made elementwise of one and the same m, they have the
   shape of m, and Reshape(f(z, ..), S) = f(Reshape(z, S), ..). If m is known to be a matrix of C
   columns and S ends in C, columns stay the last axis: f may read a number for each of them, and be
   BatchNormalization, whose axis 1 they are in m, and in T'(Reshape(m, S)) as well.

**Theorem.** Each rule replaces a value by the same value, in any model, if what is new is defined.
So the model that comes out computes what the file computes, wherever it computes anything. It does
where it is proved to be the original's function: hence the file is the original's function, too.

A file makes `a/channels_last` of a chain, Relu `b/channels_last` of that, and another chain reads
it. By rule 1, a = T'(a/channels_last); by 3, b = Relu(a) is T'(b/channels_last); by 2, the chain
may read T(b). Had somebody swapped both names, a and b would be swapped as well, and so be found.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from convfc.core.arrays import to_first, to_last
from convfc.formats.onnx.elementwise import (
    Settings,
    as_written,
    data_of,
    out_of_rows,
    reordered,
    transposed_rank,
)
from convfc.formats.onnx.emitter import constant_of
from convfc.formats.onnx.moving import (
    LAST,
    MOVED,
    ROWS,
    columns_of,
    is_reshape,
    reshaped_to,
    tell,
)
from convfc.formats.onnx.restoring import Restoration, copy_to_restore


def in_own_layout(converted: ir.Model, original: ir.Model, ranks: Mapping[str, int]) -> ir.Model:
    """A converted model with all nodes that were moved in their places, as far as that is sound.

    Args:
        converted: any model; it stays as it is.
        original: what it is going to be compared with, for the forms of constants.
        ranks: of the outputs of the original's convolutions, by name.

    Returns:
        Another model, or the same if no name in it says that anything was moved.
    """
    copy = copy_to_restore(converted, MOVED)
    if copy is None:
        return converted
    _LayoutRestoration(copy, original, ranks).run()
    return copy


class _LayoutRestoration(Restoration[int]):
    """Goes through the main graph of a copy once, in the order of the file; forms are ranks."""

    def __init__(self, copy: ir.Model, original: ir.Model, ranks: Mapping[str, int]) -> None:
        super().__init__(copy, original, MOVED)
        self._ranks = ranks

    def run(self) -> None:
        """Put back what can be, and remove what nobody reads then."""
        for node in list(self.moves.graph):
            rank, (first, *more) = transposed_rank(node, to_last), node.outputs
            if rank is not None and node.inputs[0] is not None:
                self.own[first] = node.inputs[0], rank
                new = first.name not in self.originals and MOVED.fullmatch(first.name or "")
                self.left += [node] if new else []  # of an input, too
            elif not more and not self._take_out_of_rows(node):
                name, form = self._form(first)
                if form == LAST and name in self._ranks:
                    self._part(node, name, self._ranks[name])
                elif form == LAST:
                    self._put_back(node, name)
        self.sweep()

    def _form(self, value: ir.Value | None) -> tuple[str, str]:
        """Which value of the original it says it is, in which form; none where it says nothing."""
        found = self.hint(value)
        return ("", "") if found is None else (found[1], found[2])

    def _part(self, node: ir.Node, name: str, rank: int) -> None:
        """By rules 1 and 2: a layer ends in a Transpose back, and what reads on has its own."""
        last = node.outputs[0]
        back = self._back(last, rank, name)
        if back is None:
            if not self.is_free(name):
                return
            back = self.moves.transpose(last, to_first(rank), name)
            tell(node, back)
        turn = to_last(rank)
        self.part(last, back, rank, lambda own, fresh: self.moves.transpose(own, turn, fresh))

    def _put_back(self, node: ir.Node, name: str) -> None:
        """By rules 1, 2 and 3: one that works channels last does so in its own layout."""
        data = data_of(node)
        known = {value: self.own[value] for value in data if value in self.own}
        ranks = {rank for _, rank in known.values()}
        if not data or known.keys() != {*data} or len(ranks) != 1:
            return
        (rank,) = ranks
        settings = reordered(node, to_first(rank))
        back = self._back(node.outputs[0], rank, name)
        if settings is not None and (back is not None or self.is_free(name)):
            given = {value: own for value, (own, _) in known.items()}
            settings = as_written(settings, node, self.originals[name], rank)
            self._write(node, name, given, settings, node, back, rank)

    def _write(
        self,
        node: ir.Node,
        name: str,
        given: Mapping[ir.Value, ir.Value],
        settings: Settings,
        last: ir.Node,
        back: ir.Node | None,
        rank: int,
    ) -> None:
        """Write a node in its own layout.

        Args:
            node: the node.
            name: of what it makes there.
            given: what it reads there.
            settings: what it has beside there.
            last: what makes that with channels last, and becomes a Transpose of it.
            back: the Transpose back of that, which becomes the node.
            rank: of that.
        """
        if back is None:
            own = self.moves.copy(node, given, settings, name, last)
        else:
            self.moves.become_copy(back, node, given, settings)
            own = back.outputs[0]
        self.moves.become_transpose(last, own, to_last(rank))
        self.own[last.outputs[0]] = own, rank
        self.left.append(last)

    def _take_out_of_rows(self, reshape: ir.Node) -> bool:
        """By rules 1, 2 and 4: what stands before a Reshape goes behind it."""
        inner, rows = self._before(reshape.inputs[0]) if is_reshape(reshape) else ([], None)
        if not inner or rows is None:
            return False
        names = [self._form(value)[0] for value in (rows, *(node.outputs[0] for node in inner))]
        shape, y = reshaped_to(reshape), reshape.outputs[0]
        rank = self._ranks.get(names[0], 0) if shape is None else len(shape)
        last = self._form(y)[1] == LAST
        columns = columns_of(rows) if last else None
        columns = columns if shape is not None and columns == shape[-1] else None
        settings = [out_of_rows(node, rank, columns) for node in inner]
        if rank < 3 or any(self._ranks.get(name, rank) != rank for name in names):
            return False  # merged with a Reshape to something else
        back = self._back(y, rank, names[-1]) if last else None
        fresh = names if last and back is None else names[:-1]
        if None in settings or not self.is_free(*fresh):
            return False
        plain = Settings({}, dict(reshape.attributes))
        given = {value: rows for value in reshape.inputs[:1] if value is not None}
        wanted = self.moves.names.fresh(f"{rows.name}_again") if last else names[0]
        own = self.moves.copy(reshape, given, plain, wanted, reshape)
        if last:
            own = self.moves.transpose(own, to_first(rank), names[0]).outputs[0]
        maker, end = rows.producer(), own.producer()
        if maker is not None and end is not None:
            tell(maker, end)
        data = {rows: own}
        for node, name, setting in zip(inner, names[1:], settings, strict=True):
            if setting is None:
                return False
            setting = as_written(setting, node, self.originals[name], rank)
            if node is not inner[-1]:
                data[node.outputs[0]] = self.moves.copy(node, data, setting, name, reshape)
            elif last:
                self._write(node, name, data, setting, reshape, back, rank)
            else:
                self.moves.become_copy(reshape, node, data, setting)
        self.left += inner
        return True

    def _before(self, value: ir.Value | None) -> tuple[list[ir.Node], ir.Value | None]:
        """The nodes that make a value of one other, and that; by their names all are rows."""
        inner: dict[ir.Node, None] = {}
        roots: set[ir.Value] = set()
        todo = [value] if value is not None and self._form(value)[1] == ROWS else []
        while todo:
            node = todo[-1].producer()
            data = [] if node is None else _data(node)
            if node is None or not data or any(self._form(v)[1] != ROWS for v in data):
                roots.add(todo.pop())
                continue
            waiting = [v for v in data if v not in roots and v.producer() not in inner]
            todo += waiting
            if not waiting:
                inner[node] = None
                todo.pop()
        return (list(inner), roots.pop()) if len(roots) == 1 else ([], None)

    def _back(self, last: ir.Value, rank: int, name: str) -> ir.Node | None:
        """The Transpose that makes a value in its own layout under that name, if there is one."""
        return self.back(last, name, lambda node: transposed_rank(node, to_first) == rank)


def _data(node: ir.Node) -> list[ir.Value]:
    given = node.inputs if len(node.outputs) == 1 else ()
    return [value for value in given if value is not None and constant_of(value) is None]
