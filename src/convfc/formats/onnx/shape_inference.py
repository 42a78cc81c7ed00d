"""Finding the shapes of values, inside functions and loops too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from convfc.formats.onnx.operators import DOMAINS, known_shape
from convfc.formats.onnx.same_sizes import as_run, is_ambiguous, pads_of

Shape = tuple[int | None, ...]

_shapes = ShapeInferencePass(check_type=False, strict_mode=False, data_prop=False)
_numbers = ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)
"""The same, and it follows integers that may be the sizes of something."""
_FOLLOWED = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.UNDEFINED, None)
"""Types of such integers, and of what may be some."""
MOST_FOLLOWED = 2**16
"""Numbers of a vector beyond which they are no sizes; each takes a microsecond to follow."""

_MAKERS = {"ConstantOfShape", "Range", "Expand", "Tile"}
"""What makes vectors of a length that is computed."""
_MOST_MADE = 2**22
"""Numbers that they may make; each takes some 80 bytes to follow."""


def _infer(model: ir.Model) -> None:
    layers = [node for node in _nodes(model) if is_ambiguous(node)]
    while True:
        with as_run(layers) as unknown:
            _infer_standard(model)
        # What was unknown may follow from what was found, such as the size of a kernel.
        if all(pads_of(node) is None for node in unknown):
            return


def _infer_standard(model: ir.Model) -> None:
    _shapes(model)
    # Where no node makes integers, there is nothing to follow.
    follows = any(value.dtype in _FOLLOWED for node in _nodes(model) for value in node.outputs)
    nodes = list(model.graph.all_nodes())
    seen = [v for node in nodes for v in (*node.inputs, *node.outputs) if v]
    if follows and all(_numbers_of(value) <= MOST_FOLLOWED for value in seen):
        # How many numbers these make shows only while they are followed: say, an axis of them.
        makers = sum(node.op_type in _MAKERS for node in nodes)
        sizes = (size or 0 for value in seen for size in known_shape(value) or ())
        longest = max(sizes, default=0)
        if makers * longest <= _MOST_MADE:
            _numbers(model)


def _numbers_of(value: ir.Value) -> int:
    """How many numbers a vector has; 0 for what is no vector, or of unknown length."""
    shape = known_shape(value) or ()
    return shape[0] or 0 if len(shape) == 1 else 0


def infer(model: ir.Model) -> None:
    """Give every value of a model the shape that can be known before run time.

    Standard shape inference does not tell what is inside a function: there, inputs have what all
    callers agree on, and inference goes on from that. Nor does it tell the shapes of what a loop
    carries along: see `_carried`.

    What the file states of the sizes of anything but its inputs is forgotten first: no runtime
    insists on that, so it may be wrong for what callers feed, and a layer would be made for it.
    """
    for value in _inner_values(model):
        forget_sizes(value)
    _infer_loops(model)
    waiting = dict(model.functions)
    while waiting:
        # No function calls itself, in whatever roundabout way, so one has no caller left.
        called = {node.op_identifier() for f in waiting.values() for node in f.all_nodes()}
        key = next((key for key in waiting if key not in called), next(iter(waiting)))
        function = waiting.pop(key)
        calls = [node for node in _nodes(model) if node.op_identifier() == key]
        for index, formal in enumerate(function.inputs):
            given = [call.inputs[index] for call in calls if index < len(call.inputs)]
            _agree(formal, [value for value in given if value is not None])
        _infer_loops(ir.Model(function.graph, ir_version=model.ir_version))


def unfounded(model: ir.Model, inferred: ir.Model) -> list[ir.Value]:
    """Values of a model of which its file states sizes that do not follow from its inputs.

    Nothing tells whether that is true; and runtimes compute with it where the graph asks for it.

    Args:
        model: as the file has it.
        inferred: the same after `infer`.
    """
    pairs = zip(_inner_values(model), _inner_values(inferred), strict=True)
    return [
        value for value, shaped in pairs if not _follows(known_shape(value), known_shape(shaped))
    ]


def new_claims(values: Iterable[ir.Value], original: ir.Model) -> Iterator[ir.Value]:
    """Of `unfounded` values of a converted model, all but outputs of which the original says so."""
    functions = (function.graph for function in original.functions.values())
    outputs = (value for graph in (*original.graphs(), *functions) for value in graph.outputs)
    stated = {(value.name, known_shape(value)) for value in outputs}
    for value in values:
        if not (value.is_graph_output() and (value.name, known_shape(value)) in stated):
            yield value


def _follows(stated: Shape | None, found: Shape | None) -> bool:
    if stated is None or not any(stated):
        return True
    same = found is not None and len(found) == len(stated)
    return same and all(a in (None, b) for a, b in zip(stated, found or (), strict=True))


def forget_sizes(value: ir.Value) -> None:
    """Of a value's shape, keep only the number of axes and what they are called."""
    if value.shape is not None:
        value.shape = ir.Shape(None if isinstance(d, int) else d for d in value.shape)


def _inner_values(model: ir.Model) -> Iterator[ir.Value]:
    """What nodes make, and what subgraphs and functions are given: all but inputs and weights."""
    functions = model.functions.values()
    inner = (graph for f in functions for graph in (f.graph, *f.subgraphs()))
    for body in (*model.graphs(), *inner):
        given = () if body is model.graph else body.inputs
        yield from (value for value in given if not value.is_initializer())
        yield from (value for node in body for value in node.outputs)


def _infer_loops(model: ir.Model) -> None:
    _infer(model)
    while shapes := _carried(model):
        _assume(model, shapes)
        _infer(model)


@dataclass(frozen=True)
class _Carried:
    """What a Loop carries along: before it, and at the begin and at the end of its body."""

    initial: ir.Value | None
    begin: ir.Value
    end: ir.Value

    @property
    def guess(self) -> Shape | None:
        """The shape of the first round, if it tells more than is known about all of them."""
        first, all_rounds = known_shape(self.initial), known_shape(self.begin)
        if first is None or all_rounds is None:
            return first
        if len(first) != len(all_rounds):
            return None
        both = tuple(b or a for a, b in zip(first, all_rounds, strict=True))
        return None if both == all_rounds else both

    def keeps(self, shape: Shape) -> bool:
        """Whether all sizes that `shape` tells are those at the end of the body."""
        end = known_shape(self.end)
        return (
            end is not None
            and len(end) == len(shape)
            and all(size in (None, found) for size, found in zip(shape, end, strict=True))
        )


def _loop_values(model: ir.Model) -> list[_Carried]:
    found = []
    for node in model.graph.all_nodes():
        if node.op_type == "Loop" and node.domain in DOMAINS:
            body = node.attributes["body"].as_graph()
            values = zip(node.inputs[2:], body.inputs[2:], body.outputs[1:], strict=False)
            found += [_Carried(*value) for value in values]
    return found


def _carried(model: ir.Model) -> list[Shape | None] | None:
    """The shapes, so far unknown, that no round of any loop changes.

    By induction: the first round has what is there before the loop; and what is assumed of a
    round's begin must follow for its end, from all that is assumed together.

    Returns:
        One per `_loop_values`, ``None`` where nothing is new; ``None`` if nothing is new at all.
    """
    shapes = [value.guess for value in _loop_values(model)]
    while any(shapes):
        trial = model.clone()
        _assume(trial, shapes)
        _infer(trial)
        pairs = zip(_loop_values(trial), shapes, strict=True)
        kept = [shape if shape and value.keeps(shape) else None for value, shape in pairs]
        if kept == shapes:
            return shapes
        shapes = kept
    return None


def _assume(model: ir.Model, shapes: Sequence[Shape | None]) -> None:
    for value, shape in zip(_loop_values(model), shapes, strict=True):
        if shape:
            value.begin.shape = ir.Shape(shape)


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from model.graph.all_nodes()
    for function in model.functions.values():
        yield from function.all_nodes()


def _agree(formal: ir.Value, given: list[ir.Value]) -> None:
    """Give a function's input the type and the sizes that are the same in all calls."""
    shapes = [known_shape(value) for value in given]
    types = [value.dtype for value in given]
    if not types or types[0] is None or len(set(types)) > 1:
        return
    formal.dtype = types[0]
    ranks = {None if shape is None else len(shape) for shape in shapes}
    if len(ranks) != 1 or None in ranks:
        return
    axes = zip(*(shape for shape in shapes if shape is not None), strict=True)
    formal.shape = ir.Shape(axis[0] if len(set(axis)) == 1 else None for axis in axes)
