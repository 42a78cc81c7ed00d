"""What optimizers do to the moves in a converted file, undone: Reshapes are merged, names are lost.

A value of the original that the file has in rows is read by a Reshape to its own sizes; optimizers
merge that with what follows. Here it stands for itself again, and values have the names back that
tell what they are, as far as the original says what must be there. `own_layout` goes on from there,
and trusts names as little as before. A model is changed by two rules:

1. Reshape(m, S) = Reshape(Reshape(m, T), S), where S keeps no size by 0.
2. If m is a matrix of C columns by what makes it, m = Reshape(Reshape(m, T), [-1, C]).

Both hold wherever the right side is defined, as those of `own_layout` do.

A file makes `a/rows` of a chain, and Relu `p/patch_matrix` of that, which a product reads. The
original has b = Relu(a), which the file lacks: so it is `b/rows`. By rule 2, the product reads
Reshape(b/channels_last, [-1, C]), as the emitter writes it.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from convfc.core.geometry import Sizes
from convfc.formats.onnx.elementwise import data_of, out_of_rows
from convfc.formats.onnx.emitter import Names, constant_of
from convfc.formats.onnx.moving import LAST, MOVED, ROWS, Moves, columns_of, own_of, reshaped_to
from convfc.formats.onnx.operators import is_convolution, operands
from convfc.formats.onnx.restoring import copy_to_restore
from convfc.formats.onnx.sites import label
from convfc.formats.onnx.structure import operator

_MOST_BEFORE = 64
"""Of what the emitter writes to lay a kernel out."""


def unmerged(converted: ir.Model, original: ir.Model, outputs: Mapping[str, Sizes]) -> ir.Model:
    """A converted model with the Reshapes and names that optimizers have taken away.

    Args:
        converted: any model; it stays as it is.
        original: what it is going to be compared with.
        outputs: sizes, the batch apart, of what the original's convolutions make, by name.

    Returns:
        Another model, or the same if nothing says that anything was moved.
    """
    copy = copy_to_restore(converted, MOVED)
    if copy is None:
        return converted
    found = _Optimized(copy, original, outputs)
    found.name()
    return copy if found.split() or found.renamed else converted


class _Optimized:
    """The main graph of a copy.

    Args:
        copy: changed in place.
        original: what it is going to be compared with.
        outputs: see `unmerged`.

    Attributes:
        renamed: whether any value has got another name.
    """

    def __init__(self, copy: ir.Model, original: ir.Model, outputs: Mapping[str, Sizes]) -> None:
        self._graph = copy.graph
        names = Names(copy)
        self._taken = set(names.taken)
        names.taken |= Names(original).taken
        self._moves = Moves(copy, names)
        self._originals = {v.name: node for node in original.graph for v in node.outputs if v.name}
        self._readers = {v.name: v for n in original.graph for v in n.inputs if v is not None}
        self._sizes = _sizes_of(original.graph, outputs)
        there = outputs.keys() & self._originals.keys()  # others are in branches and functions
        convolutions = [node for node in original.graph if is_convolution(node)]
        self._kernels = {operands(node)["kernel"].name for node in convolutions}
        self._labels = {f"{label(self._originals[name])}/": name for name in sorted(there)}
        self._forms: dict[ir.Value, tuple[str, str]] = {}
        self._there: set[str] = set()
        self._widths: dict[ir.Value, int | None] = {}
        self.renamed = False
        for value in (value for node in copy.graph for value in node.outputs):
            name, form = own_of(value, self._originals)
            if name:
                self._know(value, name, form)

    def _know(self, value: ir.Value, name: str, form: str) -> None:
        self._forms[value] = name, form
        self._there.add(name)

    def _form(self, value: ir.Value) -> str:
        """What the name of a value ends in, if it is known; nothing if that is its own."""
        return self._forms.get(value, ("", ""))[1]

    def name(self) -> None:
        """Name values by what they are made of, by what is made of them, and by their layers."""
        nodes = list(self._graph)
        for node in nodes:
            self._name_made(node)
        for node in reversed(nodes):
            self._name_read(node)
        for node in list(self._graph):
            self._name_end(node)

    def _call(self, value: ir.Value, name: str, form: str) -> None:
        wanted = f"{name}{form}"
        if value.is_graph_output() or name in self._there or wanted in self._taken:
            return
        value.name = wanted
        self._taken.add(wanted)
        self._know(value, name, form)
        self.renamed = True

    def _name_made(self, node: ir.Node) -> None:
        """What a node makes of known values, if one node of the original does that of these."""
        value = node.outputs[0] if len(node.outputs) == 1 else None
        if value is None or value in self._forms:
            return
        known = [self._forms[v] for v in node.inputs if v is not None and v in self._forms]
        forms = {form for _, form in known}
        names = {name for name, _ in known}
        if len(forms) != 1:
            return
        of = self._readers.get(known[0][0])
        able = [
            other
            for other in ({} if of is None else {reader: None for reader, _ in of.uses()})
            if operator(other) == operator(node)
            and len(other.outputs) == 1
            and other.outputs[0].name not in self._there
            and names <= {v.name for v in other.inputs if v is not None}
        ]
        able = [other for other in able if other.name == node.name] or able
        (form,) = forms
        if len(able) == 1 and (not form or _keeps_rows(able[0])):
            self._call(value, able[0].outputs[0].name or "", form)

    def _name_read(self, node: ir.Node) -> None:
        """What a known node reads, if the original's reads something that is missing."""
        name, form = self._forms.get(node.outputs[0], ("", "")) if node.outputs else ("", "")
        other = self._originals.get(name)
        if other is None or operator(other) != operator(node) or not (form and _keeps_rows(other)):
            return
        for value, wanted in zip(node.inputs, other.inputs, strict=False):
            if value is None or wanted is None or value in self._forms:
                continue
            if value.producer() is not None and constant_of(value) is None:
                name = wanted.name or ""
                if name in self._originals:
                    self._call(value, name, form)

    def _name_end(self, node: ir.Node) -> None:
        """The rows that a layer ends in, by the names of what the emitter wrote for it."""
        value = node.outputs[0] if len(node.outputs) == 1 else None
        if value is None or value in self._forms:
            return
        prefix = f"{(value.name or '').rpartition('/')[0]}/"
        name = self._labels.get(prefix)
        readers = [reader for reader, _ in value.uses()]
        own = [one for one in readers if (one.outputs[0].name or "").startswith(prefix)]
        if name is not None and readers and not own and columns_of(value) is not None:
            self._call(value, name, ROWS)

    def split(self) -> bool:
        """Let what reads rows in another way read a value in its own sizes; whether any does."""
        found = False
        for node in list(self._graph):
            for value in node.outputs:
                name, form = self._forms.get(value, ("", ""))
                sizes = self._sizes.get(name)
                if form == ROWS and sizes is not None and sizes.count(None) == 0:
                    found |= self._split(node, value, name, [-1, *map(int, filter(None, sizes))])
        if found:
            self._graph.sort()
        return found

    def _split(self, node: ir.Node, rows: ir.Value, name: str, wanted: list[int]) -> bool:
        """By rules 1 and 2."""
        uses = [use for use in rows.uses() if self._form(use[0].outputs[0]) != ROWS]
        if not uses:
            return False
        last: ir.Value | None = None
        readers, form = [], LAST
        if self._has_channels_first(rows):
            wanted, form = [wanted[0], wanted[-1], *wanted[1:-1]], ""
        for reader, place in uses:
            made, shape = reader.outputs[0], reshaped_to(reader)
            if shape == wanted:
                if made not in self._forms:
                    self._there.discard(name)
                    self._call(made, name, form)
                last = made if self._forms.get(made) == (name, form) else last
            elif shape is None or 0 not in shape:
                readers.append((reader, place, shape))
        narrow = bool(readers) and self._width(rows) == wanted[-1]
        readers = [one for one in readers if one[2] is not None or narrow]
        if not readers:
            return False
        last = last or self._reshaped(node, rows, wanted, f"{name}{form}")
        self._forms[last] = name, form
        own = last.producer()
        assert own is not None  # noqa: S101 - it is a Reshape
        for reader, place, shape in readers:
            whole = [-1, wanted[-1]]
            again = last if shape is not None else self._reshaped(own, last, whole, "again")
            reader.replace_input_with(place, again)
        self._widths.clear()  # of what comes behind, which reads something else now
        return True

    def _has_channels_first(self, rows: ir.Value) -> bool:
        """Whether rows are columns: of a product whose first operand is the matrix."""
        node = rows.producer()
        while node is not None and operator(node) != ("", "MatMul", ""):
            data = _data(node)
            node = data[0].producer() if data and _keeps_rows(node) else None
        first = None if node is None else node.inputs[0]
        return first is not None and self._is_made_of_kernels(first)

    def _is_made_of_kernels(self, value: ir.Value) -> bool:
        """Whether a value is constant, or computed of nothing but kernels and constants."""
        todo, seen = [value], {value}
        for made in todo:
            if constant_of(made) is not None or made.name in self._kernels:
                continue
            node = made.producer()
            if node is None or len(seen) > _MOST_BEFORE:
                return False
            new = dict.fromkeys(v for v in node.inputs if v is not None and v not in seen)
            seen |= new.keys()
            todo += new
        return True

    def _reshaped(self, behind: ir.Node, x: ir.Value, shape: list[int], wanted: str) -> ir.Value:
        names = self._moves.names
        made = ir.Value(name=names.fresh(wanted))
        name = names.fresh(f"{wanted}/Reshape")
        node = ir.Node(
            "", "Reshape", [x, self._moves.shape(tuple(shape))], outputs=[made], name=name
        )
        self._graph.insert_after(behind, node)
        return made

    def _width(self, value: ir.Value) -> int | None:
        """How many columns a matrix has, if what makes it shows that it is one.

        Each value is looked at once, however many ways lead to it.
        """
        todo = [value]
        while todo:
            width, node = columns_of(todo[-1]), todo[-1].producer()
            if width is None and node is not None and _keeps_rows(node):
                data = _data(node)
                waiting = [one for one in data if one not in self._widths]
                if waiting:
                    todo += waiting
                    continue
                widths = {self._widths[one] for one in data}
                width = widths.pop() if len(widths) == 1 else None
                width = width if out_of_rows(node, 3, width) is not None else None
            self._widths[todo.pop()] = width
        return self._widths[value]


def _keeps_rows(node: ir.Node) -> bool:
    """Whether it does to each number, or each channel, the same."""
    return bool(_data(node)) and node.op_type not in ("Concat", "Pad")


def _data(node: ir.Node) -> tuple[ir.Value, ...]:
    x = node.inputs[0] if node.inputs else None
    if operator(node) == ("", "BatchNormalization", "") and x is not None:
        return (x,)
    return data_of(node)


def _sizes_of(graph: ir.Graph, outputs: Mapping[str, Sizes]) -> dict[str, Sizes]:
    """Sizes with the channels last of convolutions and what is elementwise behind them, by name."""
    found: dict[str, Sizes] = {name: (*rest, first) for name, (first, *rest) in outputs.items()}
    for node in graph:
        sizes = {found.get(value.name or "") for value in _data(node)} if _keeps_rows(node) else ()
        if len(sizes) == 1 and None not in sizes:
            found.setdefault(node.outputs[0].name or "", *sizes)  # type: ignore[arg-type]
    return found
