"""A layer that comes back with something around its convolution, drawn on both sides.

`matching` has found, step by step and without a name, that all rows of the layer go the same way: a
grid, a product, another factor, a sum. `on_maps` writes the same for maps of features. Here, both
are run with integers in the place of all their numbers, with grids of step 1, and with powers of 2
for scales of filters, so that nothing is rounded but by the grids themselves: they must agree bit
for bit. Of a program without grids both sides are polynomials in these integers, and the draws
prove it alone; grids are no polynomials, and there the draws check that what was found was written
down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from convfc.core.arrays import Array, array_difference, exact_up_to
from convfc.core.geometry import Convolution
from convfc.formats.drawn import MOST, TOO_LONG, chance_of
from convfc.formats.onnx.ancestry import leading_to
from convfc.formats.onnx.computed_weights import Steps, shape_of
from convfc.formats.onnx.emitter import Emitter, Names, constant_of, constant_value
from convfc.formats.onnx.folded import folded
from convfc.formats.onnx.laid_out import Weight, laid_out
from convfc.formats.onnx.on_maps import OnMaps
from convfc.formats.onnx.operators import known_shape, operands
from convfc.formats.onnx.row_steps import Added, Factor, Grid, Program
from convfc.formats.onnx.runtimes import Session
from convfc.formats.onnx.sites import opset_of, places
from convfc.formats.onnx.standalone import copies_of, in_memory, type_named
from convfc.formats.protocols import Site

_MOST_FED = 300
"""The largest one that is fed, beyond the limits of 8 bits."""


@dataclass(frozen=True)
class Chain:
    """What is in the place of a layer in the file.

    Attributes:
        nodes: each behind those that it reads from.
        end: what they make.
        program: what becomes of its rows.
    """

    nodes: Sequence[ir.Node]
    end: ir.Value
    program: Program


@dataclass(frozen=True)
class Operand:
    """The kernel of a layer, and where the file has it.

    Attributes:
        weight: in the file.
        steps: from there to the kernel; ``None`` where it is laid out as convfc does it.
        own: in the original.
    """

    weight: Weight
    steps: Steps | None
    own: ir.Value

    def drawn(self, whole: Callable[[Sequence[int]], Array]) -> tuple[Array, Array]:
        """What the file has and the kernel, of numbers that are made for a shape."""
        if self.steps is None:
            kernel = whole(_shape(self.own))
            return laid_out(self.weight)(kernel), kernel
        matrix = whole(_shape(self.weight.value))
        return matrix, self.steps.lay_out(matrix)


class OnnxRebuilt:
    """See `convfc.formats.reverted.Rebuilt` for the members.

    Args:
        site: the convolution.
        own: its node in the original.
        operand: its kernel.
        chain: what is in its place.
        model: the file.
    """

    def __init__(
        self, site: Site, own: ir.Node, operand: Operand, chain: Chain, model: ir.Model
    ) -> None:
        self.site = site
        self._own = own
        self._operand = operand
        self._chain = chain
        self._program = chain.program
        self._names = Names(model)
        self._opset = opset_of(model.graph)
        x = operands(own)["x"]
        self._fed = x.name or ""
        self._batch = (known_shape(x) or (None,))[0]

    @property
    def what(self) -> str:
        """See `Rebuilt.what`."""
        steps = (*self._program.before, *self._program.after)
        if self._program.dynamic is not None:
            return "its rows are rounded by their own range"
        if any(isinstance(step, Grid) for step in steps):
            return "its rows are rounded to grids"
        if any(isinstance(step, Factor) for step in steps):
            return "its product is split"
        return "its bias is new, or gone"

    @property
    def chance(self) -> float | None:
        """See `Rebuilt.chance`."""
        if self._program.dynamic is not None or self._of(Grid):
            return None
        steps = (*self._program.before, *self._program.after)
        factors = [step.matrix for step in steps if isinstance(step, Factor)]
        drawn = [self._operand.weight.value, *factors]
        counts = [len(self._drawn_from(value)) for value in drawn]
        return chance_of([2 * min(self._most_fed, MOST) + 1, *counts])

    def _of(self, kind: type) -> list[Grid | Added | Factor]:
        steps = (*self._program.before, *self._program.after)
        return [step for step in steps if isinstance(step, kind)]

    @property
    def unshown(self) -> str | None:
        """See `Rebuilt.unshown`."""
        if not isinstance(self.site.convolution, Convolution):
            return "it is no plain convolution"
        if self._most_fed < 1:
            return TOO_LONG
        if (self.chance or 0) >= 1:
            return "its product is split too often"
        return None if self._has_its_kernel() else "its kernel is computed"

    def _has_its_kernel(self) -> bool:
        """Whether a kernel that is computed comes to the numbers of what the file computes."""
        steps, matrix = self._operand.steps, self._operand.weight.value
        if steps is None or constant_of(matrix) is not None:
            return True
        _, emit = self._emitter()
        made, found = folded(steps.emit(emit, matrix)), folded(matrix)
        if made is None or found is None:
            return False
        return array_difference(made.numpy(), steps.lay_out(found.numpy())) is None

    def _emitter(self) -> tuple[ir.Node, Emitter]:
        """Writes into a graph of its own, in front of a node that reads what the layer reads."""
        x = ir.Value(name=self._fed)
        last = ir.node("Identity", [x], name=self.site.name)
        graph = ir.Graph([x], last.outputs, nodes=[last], opset_imports={"": self._opset})
        (place,) = places(ir.Model(graph, ir_version=10))
        return last, Emitter(place, self._names, {})

    @property
    def _most_fed(self) -> int:
        """The largest integer to feed it, for which all its sums are exact."""
        conv = self.site.convolution
        assert isinstance(conv, Convolution)  # noqa: S101 - see `unshown`
        terms = [conv.patch_length, *(_sides(step.matrix) for step in self._factors)]
        largest = math.prod(each * MOST for each in terms) + MOST * len(terms)
        return min(_MOST_FED, exact_up_to(self.site.dtype) // (2 * largest))

    def _drawn_from(self, like: ir.Value) -> range:
        """The integers that may be in the place of a value: those that its type has."""
        tensor = constant_of(like)
        if tensor is None or not tensor.dtype.is_integer():
            return range(-MOST, MOST + 1)
        return range(max(-MOST, int(tensor.dtype.min)), min(MOST, int(tensor.dtype.max)) + 1)

    @property
    def _factors(self) -> list[Factor]:
        return [step for step in self._program.after if isinstance(step, Factor)]

    def draw(self, random: np.random.Generator, batch: int) -> tuple[Array, Array]:
        """See `Rebuilt.draw`."""
        conv, dtype = self.site.convolution, np.dtype(self.site.dtype)
        assert isinstance(conv, Convolution)  # noqa: S101 - see `unshown`
        sizes = [
            window.probe_size + int(random.integers(3)) if size is None else size
            for window, size in zip(conv.windows, self.site.sizes, strict=True)
        ]
        shape, most = (self._batch or batch, conv.channels, *sizes), self._most_fed
        x = random.integers(-most, most + 1, shape).astype(dtype)

        def whole(shape: Sequence[int], like: ir.Value) -> Array:
            tensor, some = constant_of(like), self._drawn_from(like)
            kind = dtype if tensor is None else tensor.dtype.numpy()
            return random.integers(some.start, some.stop, tuple(shape)).astype(kind)

        stored = self._operand.weight.value
        matrix, kernel = self._operand.drawn(lambda shape: whole(shape, stored))
        numbers = {stored: matrix}
        for step in (*self._program.before, *self._program.after):
            if isinstance(step, Grid):
                scales = [node.inputs[1] for node in step.nodes]
                numbers |= {scale: np.ones(_shape(scale), dtype) for scale in scales if scale}
            else:
                value = step.matrix if isinstance(step, Factor) else step.vector
                numbers[value] = whole(_shape(value), value)
        if self._program.dynamic is not None:
            scale = self._program.dynamic.scale
            numbers[scale] = 2.0 ** random.integers(-2, 3, _shape(scale)).astype(dtype)
        models = (
            self._written(numbers, kernel),
            self._model(self._chain.nodes, self._chain.end, numbers),
        )
        a, b = (
            Session(ir.to_proto(model).SerializeToString(), self.site.name, once=True).run(
                [model.graph.outputs[0].name or ""], {self._fed: x}
            )[0]
            for model in models
        )
        return a, b

    def _written(self, numbers: Mapping[ir.Value, Array], kernel: Array) -> ir.Model:
        """What the way back makes of it, with other numbers."""
        conv = self.site.convolution
        assert isinstance(conv, Convolution)  # noqa: S101 - see `unshown`
        last, emit = self._emitter()
        (x,) = last.inputs
        assert x is not None  # noqa: S101 - it was made with that
        known = {value: self._constant(value, array) for value, array in numbers.items()}
        maps = OnMaps(emit, conv, self.site.sizes, self._own, _with(self._program, known))
        made = maps.write(x, emit.numbers(kernel, "kernel"), known[self._operand.weight.value])
        end = emit.node(made.op, *made.inputs, **made.attributes)
        return self._model([node for node in emit.place.body if node is not last], end, numbers)

    def _constant(self, value: ir.Value, array: Array) -> ir.Value:
        return constant_value(self._names.fresh(value.name or "constant"), ir.Tensor(array))

    def _model(
        self, nodes: Sequence[ir.Node], end: ir.Value, numbers: Mapping[ir.Value, Array]
    ) -> ir.Model:
        """Nodes as a model of their own, some values being constants."""
        fed = ir.Value(name=self._fed, type=ir.TensorType(type_named(self.site.dtype)))
        stored: dict[str | None, ir.Value] = {}
        left = [node for node in nodes if not any(value in numbers for value in node.outputs)]
        made = {value.name for node in left for value in node.outputs}
        for value in (value for node in left for value in node.inputs if value is not None):
            tensor = constant_of(value)
            if value in numbers:
                stored[value.name] = constant_value(value.name or "", ir.Tensor(numbers[value]))
            elif tensor is not None and value.name not in made:
                stored[value.name] = constant_value(value.name or "", in_memory(tensor))
        maker, known = end.producer(), {fed.name: fed, **stored}
        assert maker is not None  # noqa: S101 - a node makes it
        wanted = copies_of(leading_to(maker, {*known}), known)
        last = known[end.name]
        last.type = ir.TensorType(type_named(self.site.dtype))
        graph = ir.Graph(
            [fed],
            [last],
            nodes=wanted,
            initializers=list(stored.values()),
            opset_imports={"": self._opset},
            name=self.site.name,
        )
        return ir.Model(graph, ir_version=10)


def _shape(value: ir.Value) -> list[int]:
    return [size or 0 for size in shape_of(value) or ()]


def _sides(matrix: ir.Value) -> int:
    """The longest sum in a product with a matrix, whichever side it is on."""
    return max(_shape(matrix), default=1)


def _with(program: Program, known: Mapping[ir.Value, ir.Value]) -> Program:
    """A program with other numbers."""

    def step(each: Grid | Added | Factor) -> Grid | Added | Factor:
        if isinstance(each, Factor):
            return replace(each, matrix=known[each.matrix])
        return replace(each, vector=known[each.vector]) if isinstance(each, Added) else each

    dynamic = program.dynamic
    if dynamic is not None:
        dynamic = replace(dynamic, scale=known[dynamic.scale])
    return replace(program, after=tuple(map(step, program.after)), dynamic=dynamic)
