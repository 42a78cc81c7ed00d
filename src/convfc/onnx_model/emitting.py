"""Building the nodes that stand in for a convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from convfc.applying import filter_matrices
from convfc.geometry import Convolution, Pads
from convfc.onnx_model.sites import Place, label, places

_END = np.iinfo(np.int64).max


class Names:
    """Fresh names for values and nodes, unique over the whole model.

    onnx_ir makes them unique per graph only, but a branch sees the values around it.
    """

    def __init__(self, model: ir.Model) -> None:
        self._taken = {value.name for graph in model.graphs() for value in graph.inputs}
        for graph in model.graphs():
            self._taken.update(graph.initializers)
        for place in places(model):
            self._taken.add(place.node.name)
            self._taken.update(value.name for value in place.node.outputs)

    def fresh(self, wanted: str) -> str:
        """`wanted`, or with the first number behind it that makes it new."""
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name


class Emitter:
    """Adds nodes and constants in front of one node, in the forms that its opset has.

    Constants of one graph are shared; where there can be no initializers they are Constant nodes.

    Args:
        place: the node to work in front of.
        names: of the whole model.
        constants: those made so far, by graph and content; shared between emitters.
    """

    def __init__(self, place: Place, names: Names, constants: dict[Any, ir.Value]) -> None:
        self.place = place
        self.names = names
        self._constants = constants
        self._prefix = label(place.node)

    def node(self, op: str, *inputs: ir.Value, **attributes: int | str | list[int]) -> ir.Value:
        """Add a node with one output."""
        name = self.names.fresh(f"{self._prefix}/{op}")
        output = ir.Value(name=self.names.fresh(f"{self._prefix}/{op}_output"))
        node = ir.node(op, inputs, attributes=attributes, outputs=[output], name=name)
        self.place.body.insert_before(self.place.node, node)
        return output

    def integers(self, numbers: Sequence[int] | NDArray[np.int32], role: str) -> ir.Value:
        """A constant vector: int64 from a list, an array as it is."""
        array = numbers if isinstance(numbers, np.ndarray) else np.array(numbers, np.int64)
        if not self.place.initializers and self.place.opset < 9:
            # The Constant operator had no integers yet; these are far below 2**53.
            wide = self.constant(array.tobytes(), ir.tensor(array.astype(np.float64)), role)
            to = int(ir.DataType.INT64)
            return self.node("Cast", wide, to=to if self.place.opset >= 6 else "INT64")
        return self.constant((array.dtype, array.tobytes()), ir.tensor(array), role)

    def constant(self, key: object, tensor: ir.TensorProtocol, role: str) -> ir.Value:
        """A constant; one with the same key in the same graph is made once."""
        body = self.place.body
        place = (id(body), key)
        if place not in self._constants:
            name = self.names.fresh(f"{self._prefix}/{role}")
            value = ir.Value(
                name=name,
                type=ir.TensorType(tensor.dtype),
                shape=ir.Shape(tensor.shape.numpy()),
                const_value=tensor,
            )
            if self.place.initializers and isinstance(body, ir.Graph):
                body.register_initializer(value)
            else:
                made = ir.node("Constant", [], attributes={"value": tensor}, outputs=[value])
                made.name = self.names.fresh(f"{name}/Constant")
                body.insert_before(body[0], made)
            self._constants[place] = value
        return self._constants[place]

    def reshape(self, x: ir.Value, shape: Sequence[int]) -> ir.Value:
        """Reshape; a 0 keeps the size of the axis in its place, so no batch size is baked in."""
        if self.place.opset < 5:
            return self.node("Reshape", x, shape=list(shape))
        return self.node("Reshape", x, self.integers(shape, "shape"))

    def transpose(self, x: ir.Value, order: Sequence[int]) -> ir.Value:
        """Permute axes."""
        return self.node("Transpose", x, perm=list(order))

    def add(self, x: ir.Value, bias: ir.Value) -> ir.Value:
        """Add a vector along the last axis."""
        if self.place.opset < 7:
            return self.node("Add", x, bias, broadcast=1)
        return self.node("Add", x, bias)

    def kernel_matrix(self, kernel: ir.Value, convolution: Convolution) -> ir.Value:
        """The filter matrix of a kernel (filters, channels / groups, k1, .., kr).

        Returns:
            (K, filters), or (G, K, filters / G) with groups: a new constant where the kernel is
            one, else the result of nodes that lay it out at run time.
        """
        groups = convolution.groups
        order = [*range(2, convolution.rank + 2), 1, 0]
        shape = [convolution.patch_length, convolution.filters // groups]
        if groups > 1:
            shape.insert(0, groups)
        tensor = constant_of(kernel)
        if tensor is not None:

            def matrix() -> ir.TensorProtocol:
                blocks = filter_matrices(tensor.numpy().transpose(order), groups)
                return ir.Tensor(blocks.reshape(shape), dtype=tensor.dtype)

            # Computed while the file is written: no second copy of all weights in memory.
            lazy = ir.LazyTensor(matrix, dtype=tensor.dtype, shape=ir.Shape(shape))
            return self.constant((id(kernel), groups), lazy, "filter_matrix")
        last = self.transpose(kernel, order)
        if groups == 1:
            return self.reshape(last, shape)
        blocks = self.reshape(last, [shape[1], groups, shape[2]])
        return self.transpose(blocks, [1, 0, 2])


def constant_of(value: ir.Value) -> ir.TensorProtocol | None:
    """The tensor behind a value that nothing can change at run time, or ``None``."""
    if value.is_initializer():
        # An initializer that is an input as well is only a default.
        return None if value.is_graph_input() else value.const_value
    return ir.convenience.get_const_tensor(value)


class OnnxOps:
    """`convfc.lowering.Ops` on ONNX values: each call adds a node.

    Args:
        emitter: where the nodes go.
        kernel: the convolution's own kernel.
        bias: (filters,), or ``None``.
        rank: number of spatial axes.
    """

    def __init__(
        self, emitter: Emitter, kernel: ir.Value, bias: ir.Value | None, rank: int
    ) -> None:
        self._emit = emitter
        self._kernel = kernel
        self._bias = bias
        self._last = rank + 1

    def pad(self, x: ir.Value, pads: Sequence[Pads]) -> ir.Value:
        """See `Ops.pad`."""
        before, after = zip(*[(0, 0), *pads, (0, 0)], strict=True)
        amounts = [*before, *after]
        if self._emit.place.opset >= 11:
            return self._emit.node("Pad", x, self._emit.integers(amounts, "pads"))
        name = "pads" if self._emit.place.opset >= 2 else "paddings"
        return self._emit.node("Pad", x, **{name: amounts})

    def slice(self, x: ir.Value, slices: Sequence[slice]) -> ir.Value:
        """See `Ops.slice`; steps need opset 10."""
        # An axis that is taken whole needs no mention.
        cuts = {axis: cut for axis, cut in enumerate(slices, 1) if cut != slice(0, None, 1)}
        if not cuts:
            return x
        starts = [cut.start for cut in cuts.values()]
        ends = [_END if cut.stop is None else cut.stop for cut in cuts.values()]
        if self._emit.place.opset < 10:
            return self._emit.node("Slice", x, starts=starts, ends=ends, axes=list(cuts))
        steps = [cut.step for cut in cuts.values()]
        lists = {"starts": starts, "ends": ends, "axes": list(cuts), "steps": steps}
        return self._emit.node(
            "Slice", x, *(self._emit.integers(numbers, role) for role, numbers in lists.items())
        )

    def take(self, x: ir.Value, index: NDArray[np.int64]) -> ir.Value:
        """See `Ops.take`."""
        narrow = index.astype(np.int32)  # half the bytes; `lower` keeps the map far below 2**31
        return self._emit.node("Gather", x, self._emit.integers(narrow, "index_map"), axis=1)

    def concatenate(self, xs: Sequence[ir.Value]) -> ir.Value:
        """See `Ops.concatenate`."""
        return self._emit.node("Concat", *xs, axis=self._last)

    def reshape(self, x: ir.Value, shape: Sequence[int | None]) -> ir.Value:
        """See `Ops.reshape`."""
        return self._emit.reshape(x, [0, *(size or 0 for size in shape)])

    def transpose(self, x: ir.Value, order: Sequence[int]) -> ir.Value:
        """See `Ops.transpose`."""
        return self._emit.transpose(x, order)

    def product(self, patches: ir.Value, convolution: Convolution) -> ir.Value:
        """See `Ops.product`.

        With groups, the block axis goes before the last spatial one and MatMul runs over all
        blocks at once; the zeros in the shapes leave every spatial size open.
        """
        emit, rank, groups = self._emit, convolution.rank, convolution.groups
        matrix = emit.kernel_matrix(self._kernel, convolution)
        if groups == 1:
            y = emit.node("MatMul", patches, matrix)
        else:
            keep = [0] * (rank + 1)
            depth = convolution.channels // groups
            split = emit.reshape(patches, [*keep, convolution.taps, groups, depth])
            order = [*range(rank), rank + 2, rank, rank + 1, rank + 3]
            blocks = emit.transpose(split, order)
            flat = emit.reshape(blocks, [*keep, 0, convolution.patch_length])
            y = emit.node("MatMul", flat, matrix)
            y = emit.transpose(y, [*range(rank), rank + 1, rank, rank + 2])
            y = emit.reshape(y, [*keep, convolution.filters])
        return y if self._bias is None else emit.add(y, self._bias)
