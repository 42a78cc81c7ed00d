"""What is common to the ways back: a converted model whose moved nodes come into their places."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Generic, TypeVar

import onnx_ir as ir

from convfc.formats.onnx.elementwise import LOWEST_OPSET
from convfc.formats.onnx.emitter import Names
from convfc.formats.onnx.moving import Moves, is_read
from convfc.formats.onnx.sites import opset_of

FormT = TypeVar("FormT")
"""What, beside a value, says which other form of it there is: a rank, or sizes."""


def copy_to_restore(
    converted: ir.Model, hint: re.Pattern[str], *, moved: bool = False
) -> ir.Model | None:
    """A copy of a model; ``None`` if nothing says that anything was moved, nor a name in it."""
    values = (value.name or "" for node in converted.graph for value in node.outputs)
    moved = moved or any(map(hint.fullmatch, values))
    return converted.clone() if moved and opset_of(converted.graph) >= LOWEST_OPSET else None


class Restoration(Generic[FormT]):
    """The main graph of a copy, of which one node after the other is put back.

    Args:
        copy: changed in place.
        original: what it is going to be compared with.
        hint: of a value that is in another form: first the name that it has in the original.

    Attributes:
        moves: writes into the copy; what is new there must not look like a value of the original.
        originals: the original's nodes, by the names of what they make.
        own: of what is in another form, the value in its own, and what its form is.
        left: nodes that nobody may need in the end.
    """

    def __init__(self, copy: ir.Model, original: ir.Model, hint: re.Pattern[str]) -> None:
        names = Names(copy)
        names.taken |= Names(original).taken
        self.moves = Moves(copy, names)
        self.originals = {v.name: node for node in original.graph for v in node.outputs if v.name}
        self.own: dict[ir.Value, tuple[ir.Value, FormT]] = {}
        self.left: list[ir.Node] = []
        self._hint = hint
        # A node and a value may have one name: those of nodes do not count. What branches have for
        # themselves does: there, a new value of that name would be hidden.
        self._taken = {v.name for n in copy.graph.all_nodes() for v in n.outputs}
        for graph in copy.graphs():
            self._taken |= {value.name for value in graph.inputs} | graph.initializers.keys()

    def hint(self, value: ir.Value | None) -> re.Match[str] | None:
        """What the name of a value says that it is another form of, if the original has that."""
        name = (None if value is None else value.name) or ""
        found = None if name in self.originals else self._hint.fullmatch(name)
        return found if found is not None and found[1] in self.originals else None

    def is_free(self, *names: str) -> bool:
        """Whether nothing has one of these names yet; now they are taken."""
        free = len({*names}) == len(names) and self._taken.isdisjoint(names)
        if free:
            self._taken.update(names)
        return free

    def back(
        self, value: ir.Value, name: str, is_back: Callable[[ir.Node], bool]
    ) -> ir.Node | None:
        """The node that makes a value in its own form, under its own name, if there is one."""
        for node, _ in value.uses():
            own = node.outputs[0].name == name and node.graph is self.moves.graph
            if own and is_back(node):
                return node
        return None

    def part(
        self, value: ir.Value, back: ir.Node, form: FormT, again: Callable[[ir.Value, str], ir.Node]
    ) -> None:
        """Let all who read a value in another form read that of its own, turned once more.

        Args:
            value: the value.
            back: what makes it in its own form.
            form: see `own`.
            again: adds what turns a value in its own form once more, for what that is called.
        """
        own = back.outputs[0]
        self.own[value] = own, form
        readers = [(node, place) for node, place in value.uses() if node is not back]
        if readers:
            node = again(own, self.moves.names.fresh(f"{value.name}_again"))
            self.own[node.outputs[0]] = own, form
            self.left.append(node)
            for reader, place in readers:
                reader.replace_input_with(place, node.outputs[0])

    def sweep(self) -> None:
        """Remove what is left over and nobody reads, and put nodes behind all that they read."""
        for node in reversed(self.left):
            if not any(map(is_read, node.outputs)):
                self.moves.graph.remove(node, safe=True)
        self.moves.graph.sort()
