"""What is done to the rows of a layer, done to maps of features: around a convolution again.

Rows on a grid are maps on that grid, a vector is added to channels, and a factor is a convolution
of single pixels. Let rows be P U V + b, of a layer with strides: the convolution with kernel U and
the same strides, then one with kernel V of 1x1, with a bias b.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from convfc.core.builders import convolution
from convfc.core.geometry import Convolution
from convfc.formats.onnx.computed_weights import Steps, shape_of, steps_to_kernel
from convfc.formats.onnx.emitter import Emitter, constant_of
from convfc.formats.onnx.operators import known_shape
from convfc.formats.onnx.row_steps import Added, Dynamic, Factor, Grid, Program


@dataclass(frozen=True)
class Last:
    """A node that is not there yet: what takes the place of the end of a chain.

    Attributes:
        op: its operator.
        inputs: what it reads.
        attributes: its attributes.
        is_convolution: whether it is the layer's own.
    """

    op: str
    inputs: Sequence[ir.Value | None]
    attributes: Mapping[str, Any]
    is_convolution: bool = False

    def node(self, name: str) -> ir.Node:
        """Such a node, which reads nothing yet."""
        return ir.node(self.op, [], attributes=self.attributes, name=name)


def misfit(
    own: ir.Node,
    conv: Convolution,
    sizes: Sequence[int | None],
    program: Program,
    matrix: ir.Value,
) -> str | None:
    """Why a program on rows is none on maps, or ``None``.

    Args:
        own: the node of the convolution in the original.
        conv: the convolution.
        sizes: of what it reads.
        program: the program.
        matrix: the kernel, laid out for the product.
    """
    left, columns = program.on_the_left, _columns(conv, program, matrix)
    for step in program.after:
        if isinstance(step, Factor):
            shape = shape_of(step.matrix) or ()
            groups = [conv.groups] if conv.groups > 1 else []
            if [*shape[:-2]] != groups or shape[-1 if left else -2] != columns:
                return f"'{step.matrix.name}' does not fit its product"
            columns = _width(step.matrix, left)
        elif isinstance(step, Added) and not _fits(step.vector, conv, columns, left):
            return f"'{step.vector.name}', which is added, is no bias"
    if columns * conv.groups != conv.filters:
        return f"it has {columns * conv.groups} filters, and what follows reads {conv.filters}"
    if program.dynamic is None:
        return None
    scale = program.dynamic.scale
    if not _is_of_columns(scale, conv, _columns(conv, program, matrix)):
        return f"'{scale.name}' is no scale of its filters"
    seen = _seen(conv, sizes)
    if seen is None:
        return "its patches leave out pixels, which a convolution's scale would be made of"
    if _is_cut(seen, sizes) and _automatic(own):
        return "its patches leave out pixels, and its pads follow from their number"
    zero = None if program.dynamic.zero is None else constant_of(program.dynamic.zero)
    several = zero is not None and np.unique(zero.numpy()).size > 1
    return "its filters have several zero points" if several else None


def is_rebuilt(program: Program) -> bool:
    """Whether the kernel is not the convolution's own, but another one or one of integers."""
    return program.dynamic is not None or any(isinstance(s, Factor) for s in program.after)


def own_kernel(conv: Convolution, program: Program, matrix: ir.Value) -> Steps | None:
    """The steps to the kernel of the convolution that a program begins with, if it is rebuilt.

    ``None`` if the matrix is not laid out so.
    """
    columns = _columns(conv, program, matrix)
    own = replace(conv, filters=columns * conv.groups) if columns else conv
    shape = shape_of(matrix) or ()
    groups = [own.groups] if own.groups > 1 else []
    sides = [own.patch_length, columns]
    wanted = [*groups, *(reversed(sides) if program.on_the_left else sides)]
    return steps_to_kernel(own, transposed=program.on_the_left) if [*shape] == wanted else None


def _columns(conv: Convolution, program: Program, matrix: ir.Value) -> int:
    """How many columns its product has, in each group."""
    whole = not any(isinstance(step, Factor) for step in program.after)
    return conv.filters // conv.groups if whole else _width(matrix, program.on_the_left)


def _width(matrix: ir.Value, on_the_left: bool) -> int:
    """How many columns a product with a matrix has; 0 if that is not known."""
    shape = shape_of(matrix) or ()
    return 0 if len(shape) < 2 else shape[-2 if on_the_left else -1] or 0


def _fits(vector: ir.Value, conv: Convolution, columns: int, on_the_left: bool) -> bool:
    """Whether a vector has a number for each column, or one for all."""
    shape = shape_of(vector)
    if shape is None or None in shape:
        return False
    if math.prod(filter(None, shape)) == 1:
        return True
    if on_the_left:
        groups = [conv.groups] if conv.groups > 1 else []
        return [*shape] == [*groups, columns, 1]
    return len(shape) > 0 and shape[-1] == math.prod(filter(None, shape)) == columns * conv.groups


def _is_of_columns(scale: ir.Value, conv: Convolution, columns: int) -> bool:
    """Whether what a product is multiplied with is one number, or one for each of its columns."""
    shape = shape_of(scale)
    if shape is None or None in shape:
        return False
    groups = [conv.groups, 1] if conv.groups > 1 else []
    sizes = [size or 0 for size in shape]
    return math.prod(sizes) == 1 or (
        sizes[-len(groups) - 1 :] == [*groups, columns]
        and math.prod(sizes) == columns * conv.groups
    )


def _seen(conv: Convolution, sizes: Sequence[int | None]) -> list[int] | None:
    """How many pixels of each axis are in patches, from the first one on.

    ``None`` where they leave out some between others, or where that is not known.
    """
    counts = []
    for window, size in zip(conv.windows, sizes, strict=True):
        output = window.output(size)
        if size is None or output is None:
            if (window.kernel, window.stride) != (1, 1):
                return None
            counts.append(_ALL)
            continue
        starts = np.arange(output)[:, None] * window.stride - window.pads_by_remainder(size)[0][0]
        taps = starts + np.arange(window.kernel) * window.dilation
        seen = np.unique(taps[(taps >= 0) & (taps < size)])
        if seen.size == 0 or seen[-1] != seen.size - 1:
            return None
        counts.append(seen.size)
    return counts


_ALL = -1
"""All pixels of an axis, however many they are."""


def _is_cut(seen: Sequence[int], sizes: Sequence[int | None]) -> bool:
    return any(count not in (_ALL, size) for count, size in zip(seen, sizes, strict=True))


def _automatic(own: ir.Node) -> bool:
    return own.attributes.get_string("auto_pad", "NOTSET").startswith("SAME")


class OnMaps:
    """Writes a program.

    Args:
        emit: where nodes go.
        conv: the convolution, as it was.
        sizes: of what it reads.
        own: its node in the original.
        program: what becomes of the rows.
    """

    def __init__(
        self,
        emit: Emitter,
        conv: Convolution,
        sizes: Sequence[int | None],
        own: ir.Node,
        program: Program,
    ) -> None:
        self._emit = emit
        self._conv = conv
        self._sizes = sizes
        self._own = own
        self._program = program

    def write(self, x: ir.Value, kernel: ir.Value, matrix: ir.Value) -> Last:
        """All but the last node.

        Args:
            x: what the convolution reads.
            kernel: of the convolution.
            matrix: the same, laid out for the product.
        """
        program, conv, emit = self._program, self._conv, self._emit
        for grid in program.before:
            x = self._value(self._on_grid(x, grid))
        columns, settings = _columns(conv, program, matrix), _settings(self._own)
        last = Last("Conv", [x, kernel], settings, is_convolution=True)
        if program.dynamic is not None:
            last = self._dynamic(x, kernel, settings, program.dynamic)
        for step in program.after:
            if isinstance(step, Grid):
                last = self._on_grid(self._value(last), step)
            elif isinstance(step, Factor):
                last = self._product(self._value(last), columns, step)
                columns = _width(step.matrix, program.on_the_left)
            elif last.op == "Conv" and len(last.inputs) == 2 and self._is_whole(step, columns):
                last = replace(last, inputs=[*last.inputs, emit.reshape(step.vector, [-1])])
            else:
                shape = [-1, *[1] * conv.rank]
                last = Last("Add", [self._value(last), emit.reshape(step.vector, shape)], {})
        return last

    def _pads_of_cut(self, seen: Sequence[int]) -> Mapping[str, list[int]]:
        """Pads where pixels were cut off: none behind these."""
        rank, pads = self._conv.rank, self._own.attributes.get_ints("pads", [])
        if not pads:
            return {}
        axes = zip(seen, self._sizes, pads[rank:], strict=True)
        ends = [pad if count in (_ALL, size) else 0 for count, size, pad in axes]
        return {"pads": [*pads[:rank], *ends]}

    def _is_whole(self, step: Added, columns: int) -> bool:
        shape = shape_of(step.vector) or ()
        return math.prod(size or 0 for size in shape) == columns * self._conv.groups

    def _value(self, last: Last) -> ir.Value:
        """What a node makes that is not the last one."""
        made = self._emit.node(last.op, *last.inputs, **last.attributes)
        node = made.producer()
        if last.is_convolution and node is not None:
            node.doc_string = self._own.doc_string
            node.metadata_props.update(self._own.metadata_props)
        return made

    def _on_grid(self, x: ir.Value, grid: Grid) -> Last:
        there, back = grid.nodes
        rounded = self._emit.node("QuantizeLinear", x, *there.inputs[1:], **_settings(there))
        return Last("DequantizeLinear", [rounded, *back.inputs[1:]], _settings(back))

    def _product(self, x: ir.Value, columns: int, factor: Factor) -> Last:
        """A convolution of single pixels."""
        groups, rank = self._conv.groups, self._conv.rank
        each = _width(factor.matrix, self._program.on_the_left)
        pointwise = convolution(
            [1] * rank, channels=columns * groups, filters=each * groups, groups=groups
        )
        steps = steps_to_kernel(pointwise, transposed=self._program.on_the_left)
        settings = {"kernel_shape": [1] * rank} | ({"group": groups} if groups > 1 else {})
        return Last("Conv", [x, steps.emit(self._emit, factor.matrix)], settings)

    def _dynamic(
        self, x: ir.Value, kernel: ir.Value, settings: Mapping[str, Any], dynamic: Dynamic
    ) -> Last:
        """A convolution of integers, to which `x` is rounded by its own range.

        Pixels that no patch has count for nothing in that: they are cut off.
        """
        emit, zero, seen = self._emit, dynamic.zero, _seen(self._conv, self._sizes) or []
        if _is_cut(seen, self._sizes):
            axes = [axis for axis, count in enumerate(seen, 2) if count != _ALL]
            ends = [count for count in seen if count != _ALL]
            cuts = [[0] * len(axes), ends, axes]
            x = emit.node("Slice", x, *map(emit.integers, cuts, ("starts", "ends", "axes")))
            settings = {**settings, **self._pads_of_cut(seen)}
        rounded, scale, shift = emit.nodes("DynamicQuantizeLinear", 3, x)
        stored = None if zero is None else constant_of(zero)
        if stored is not None:  # runtimes take one for all filters
            zero = emit.numbers(stored.numpy().reshape(-1)[0].reshape(()), "kernel_zero")
        sums = emit.node("ConvInteger", rounded, kernel, shift, zero, **settings)
        shape = known_shape(dynamic.scale) or ()
        of_kernel = dynamic.scale
        if shape:
            of_kernel = emit.reshape(of_kernel, [-1, *[1] * self._conv.rank])
        both = emit.node("Mul", scale, of_kernel)
        return Last("Mul", [emit.cast(sums, ir.DataType.FLOAT), both], {})


def _settings(node: ir.Node) -> dict[str, Any]:
    """The attributes of a node, as an emitter takes them."""
    values = {name: attribute.value for name, attribute in node.attributes.items()}
    return {k: [*v] if isinstance(v, list | tuple) else v for k, v in values.items()}
