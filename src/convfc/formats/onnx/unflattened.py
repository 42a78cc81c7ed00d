"""Flat nodes put back: a file of the dense form in which every node works on its own axes again.

`flat` moves nodes in front of the Reshapes that layers end with. Here they come back, so that each
layer stands for itself, as the emitter wrote it, and every other node is the original's. What names
say is taken for a hint only, and the pass is not trusted. A model is changed by these rules alone.
In them m is a matrix of n columns by the nodes that make it (`Matrices`), the sizes d have the
product n, U(m) = Reshape(m, [-1, d..]) and F(a) = Reshape(a, [-1, n]):

1. A value that nobody reads may be added, and one be removed.
2. m = F(U(m)), and a Reshape that makes U(m) is U(m).
3. If f is elementwise, then f(F(a), ..; c) = F(f(a, ..; c')), where a constant c of one number is
   c', and one of n numbers is c' repeated along the axes that c' lacks.
4. If a is of shape (N, d..), then Flatten(a) along axis 1 is F(a); and so is a Reshape to
   [0, -1] or [k, n], whatever k, or it is not defined.

**Theorem.** Each rule replaces a value by the same value, in any model, if what is new is defined.
So the model that comes out computes what the file computes, wherever it computes anything. It does
where it is proved to be the original's function: hence the file is the original's function, too.

A file makes `y/flat` by a product, Relu `r/flat` of that, and another product reads it. By rules 1
and 2, y = U(y/flat), and Relu may read F(y); by 3, r = Relu(y) and `r/flat` is F(r), which is what
the emitter writes for a layer that reads r.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from convfc.core.geometry import Sizes
from convfc.formats.onnx.elementwise import Settings
from convfc.formats.onnx.flat_forms import FLAT, Matrices, flattens, out_of_flat
from convfc.formats.onnx.moving import reshaped_to, tell
from convfc.formats.onnx.restoring import Restoration, copy_to_restore

_HINT = re.compile(rf"(.+){FLAT}(?:_\d+)?")


def in_own_axes(converted: ir.Model, original: ir.Model, outputs: Mapping[str, Sizes]) -> ir.Model:
    """A converted model with all nodes that were flattened on their axes, as far as that is sound.

    Args:
        converted: any model; it stays as it is.
        original: what it is going to be compared with, for the forms of constants.
        outputs: sizes, the batch apart, of what the original's convolutions make, by name.

    Returns:
        Another model, or the same if no name in it says that anything was moved.
    """
    copy = copy_to_restore(converted, _HINT)
    if copy is None:
        return converted
    known = {
        name: tuple(size for size in sizes if size is not None)
        for name, sizes in outputs.items()
        if None not in sizes
    }
    _AxesRestoration(copy, original, known).run()
    return copy


class _AxesRestoration(Restoration[tuple[int, ...]]):
    """Goes through the main graph of a copy once, in the order of the file; forms are sizes."""

    def __init__(
        self, copy: ir.Model, original: ir.Model, outputs: Mapping[str, tuple[int, ...]]
    ) -> None:
        super().__init__(copy, original, _HINT)
        self._outputs = outputs
        self._matrices = Matrices()
        self._shapes: dict[tuple[int, ...], ir.Value] = {}

    def run(self) -> None:
        """Put back what can be, and remove what nobody reads then."""
        for node in list(self.moves.graph):
            columns = self._matrices.see(node)
            hint = None if columns is None else self.hint(node.outputs[0])
            if columns is None or hint is None:
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
        found = self.in_one_form(node)
        if found is None:
            return
        given, sizes = found
        flat = node.outputs[0]
        back = self._back(flat, sizes, name)
        if back is None and not self.is_free(name):
            return
        settings = out_of_flat(node, sizes, self.originals[name])
        if back is None:
            own = self.moves.copy(node, given, settings, name, node)
        else:
            self.moves.become_copy(back, node, given, settings)
            own = back.outputs[0]
        self.moves.become(node, "Reshape", [own, self._shape((-1, math.prod(sizes)))])
        self.own[flat] = own, sizes
        self.left.append(node)

    def _flatten_again(self, flat: ir.Value, own: ir.Value, sizes: tuple[int, ...]) -> None:
        """By rules 1 and 4: who reads what the original flattens, reads that."""
        made: dict[str, ir.Value] = {}
        for reader, place in list(flat.uses()):
            like = self.originals.get(reader.outputs[0].name or "")
            wanted = like.inputs[place] if like is not None and place < len(like.inputs) else None
            head = None if wanted is None or not wanted.name else self.originals.get(wanted.name)
            if (
                wanted is None
                or not wanted.name
                or head is None
                or reader.graph is not self.moves.graph
            ):
                continue
            source = head.inputs[0] if head.inputs else None
            if source is None or source.name != own.name or not flattens(head, sizes):
                continue
            if wanted.name not in made:
                if not self.is_free(wanted.name):
                    continue
                made[wanted.name] = self._head(head, own, wanted.name)
            reader.replace_input_with(place, made[wanted.name])

    def _head(self, head: ir.Node, own: ir.Value, name: str) -> ir.Value:
        """The original's Flatten or Reshape once more."""
        shape = reshaped_to(head)
        operands = [own] if shape is None else [own, self._shape(tuple(shape))]
        settings = Settings({}, dict(head.attributes))
        copied = ir.Node("", head.op_type, operands, outputs=[ir.Value(name=name)])
        copied.attributes.update(settings.attributes)
        tell(head, copied)
        maker = own.producer()
        if maker is not None:
            self.moves.graph.insert_after(maker, copied)
        return copied.outputs[0]

    def _back(self, flat: ir.Value, sizes: Sequence[int], name: str) -> ir.Node | None:
        """The Reshape that makes a value on its own axes under that name, if there is one."""
        return self.back(
            flat, name, lambda node: reshaped_to(node) == [-1, *sizes] and node.inputs[0] is flat
        )

    def _reshape(self, value: ir.Value, shape: tuple[int, ...], name: str) -> ir.Node:
        """Add a Reshape behind what makes a value."""
        made = ir.Node("", "Reshape", [value, self._shape(shape)], outputs=[ir.Value(name=name)])
        made.outputs[0].type = value.type
        maker = value.producer()
        if maker is not None:
            self.moves.graph.insert_after(maker, made)
        return made

    def _shape(self, shape: tuple[int, ...]) -> ir.Value:
        """A constant; the same is made once."""
        if shape not in self._shapes:
            tensor = ir.Tensor(np.array(shape, np.int64))
            value = ir.Value(
                name=self.moves.names.fresh("shape"),
                type=ir.TensorType(tensor.dtype),
                shape=ir.Shape([len(shape)]),
                const_value=tensor,
            )
            self.moves.graph.register_initializer(value)
            self._shapes[shape] = value
        return self._shapes[shape]
