"""What a converted file says of its new values: types and shapes, for tools that compute none.

A size is a product: a number times sizes that the model leaves open. So the batch is still known
behind a Reshape to [-1, K] and another one back. Only what standard shape inference finds, too, is
told in numbers; names of open sizes are those of the model's inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import onnx_ir as ir

from convfc.formats.onnx.elementwise import BROADCASTING, UNARY
from convfc.formats.onnx.emitter import constant_of
from convfc.formats.onnx.operators import DOMAINS, known_shape

_Size: TypeAlias = "tuple[int, tuple[object, ...]]"
"""A number, and the open sizes that it is multiplied with: names, or marks of nameless ones."""
_Sizes: TypeAlias = "list[_Size]"


@dataclass(frozen=True)
class _Known:
    """Type and shape of a value, as far as they are known, and numbers that are sizes of others."""

    dtype: ir.DataType | None
    sizes: _Sizes | None
    numbers: _Sizes | None = None


Known: TypeAlias = "dict[ir.Value, _Known]"


def known_of(model: ir.Model, inferred: ir.Model) -> Known:
    """What is known of all values of a model before it is rewritten.

    Args:
        model: the model.
        inferred: the same with its shapes.
    """
    graphs = zip(model.graphs(), inferred.graphs(), strict=True)
    pairs = (pair for two in graphs for pair in zip(*map(_values, two), strict=True))
    return {value: _Known(shaped.dtype, _given(shaped)) for value, shaped in pairs}


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    """Those that are no weights: weights may be inputs in one of two models only."""
    yield from (value for value in graph.inputs if not value.is_initializer())
    for node in graph:
        yield from node.outputs


def _given(shaped: ir.Value) -> _Sizes | None:
    known = known_shape(shaped)
    if known is None or shaped.shape is None:
        return None
    pairs = zip(known, shaped.shape, strict=True)
    return [_open(dim) if size is None else (size, ()) for size, dim in pairs]


def _open(dim: object = None) -> _Size:
    """A size that is not known: that of others with the same name, if it has one."""
    return 1, ((dim.value if isinstance(dim, ir.SymbolicDim) else None) or object(),)


def describe(model: ir.Model, known: Known) -> None:
    """Give every new value of a rewritten model its type and shape.

    Inside functions nothing is said: they have other shapes for other callers.

    Args:
        model: changed in place.
        known: of what was there before; see `known_of`.
    """
    found = dict(known)
    dims = (dim for value in model.graph.inputs for dim in value.shape or ())
    names = {dim.value for dim in dims if isinstance(dim, ir.SymbolicDim)}
    for node in (node for graph in model.graphs() for node in graph):
        rule = _RULES.get(node.op_type) if node.domain in DOMAINS else None
        new = [value for value in node.outputs if value not in found]
        if rule is None or not new:
            continue
        made = _of(node, rule, found)
        for value in new:  # those of a Split are alike
            found[value] = made
            if made.dtype is not None and made.sizes is not None and value.shape is None:
                value.type = ir.TensorType(made.dtype)
                value.shape = ir.Shape([_told(size, names) for size in made.sizes])


def _told(size: _Size, names: set[str | None]) -> int | str | None:
    factor, symbols = size
    if not symbols:
        return factor
    name = symbols[0] if factor == len(symbols) == 1 else None
    return name if isinstance(name, str) and name in names else None


def _of(node: ir.Node, rule: _Rule, found: Known) -> _Known:
    given = [_read(value, found) for value in node.inputs if value is not None]
    try:
        return rule(node, given)
    except _UnknownError:
        return _Known(None, None)


def _read(value: ir.Value, found: Known) -> _Known:
    if value in found:
        return found[value]
    tensor = constant_of(value)
    if tensor is None:
        return _Known(None, None)
    short = tensor.dtype is ir.DataType.INT64 and len(tensor.shape) == 1 and tensor.size < 2**8
    numbers: _Sizes | None = [(n, ()) for n in tensor.numpy().tolist()] if short else None
    found[value] = _Known(tensor.dtype, [(n, ()) for n in tensor.shape.numpy()], numbers)
    return found[value]


class _UnknownError(Exception):
    """A shape that is not known."""


_Rule: TypeAlias = "Callable[[ir.Node, Sequence[_Known]], _Known]"


def _sizes(known: _Known) -> _Sizes:
    if known.sizes is None:
        raise _UnknownError
    return known.sizes


def _integers(node: ir.Node, index: int, name: str) -> list[int] | None:
    """Constant integers that are an input or, in old opsets, an attribute; ``None``: computed."""
    if name in node.attributes:
        return [*node.attributes[name].as_ints()]
    given = node.inputs[index] if len(node.inputs) > index else None
    tensor = None if given is None else constant_of(given)
    return None if tensor is None else tensor.numpy().tolist()


def _like_first(node: ir.Node, given: Sequence[_Known]) -> _Known:  # noqa: ARG001 - a rule
    return given[0]


def _transpose(node: ir.Node, given: Sequence[_Known]) -> _Known:
    sizes = _sizes(given[0])
    return _Known(given[0].dtype, [sizes[axis] for axis in node.attributes["perm"].as_ints()])


def _product(sizes: Sequence[_Size]) -> _Size:
    return math.prod(n for n, _ in sizes), tuple(s for _, symbols in sizes for s in symbols)


def _reshape(node: ir.Node, given: Sequence[_Known]) -> _Known:
    stated = node.attributes.get("shape")
    shape = given[1].numbers if stated is None else [(n, ()) for n in stated.as_ints()]
    before = _sizes(given[0])
    if shape is None:
        raise _UnknownError
    after = [before[axis] if size == (0, ()) else size for axis, size in enumerate(shape)]
    if (-1, ()) in shape:
        place = shape.index((-1, ()))
        factor, symbols = _product(before)
        others, known = _product([*after[:place], *after[place + 1 :]])
        rest = [*symbols]
        whole = factor % others == 0 and all(s in symbols for s in known)
        for symbol in known if whole else ():
            rest.remove(symbol)
        after[place] = (factor // others, tuple(rest)) if whole else _open()
    return _Known(given[0].dtype, after)


def _plus(size: _Size, more: int) -> _Size:
    return size if more == 0 else _open() if size[1] else (size[0] + more, ())


def _pad(node: ir.Node, given: Sequence[_Known]) -> _Known:
    sizes = _sizes(given[0])
    old = "pads" if "pads" in node.attributes else "paddings"
    pads = _integers(node, 1, old)
    if pads is None:
        return _Known(given[0].dtype, [_open() for _ in sizes])
    both = zip(sizes, pads[: len(sizes)], pads[len(sizes) :], strict=True)
    return _Known(given[0].dtype, [_plus(size, before + after) for size, before, after in both])


def _slice(node: ir.Node, given: Sequence[_Known]) -> _Known:
    sizes = [*_sizes(given[0])]
    lists = [_integers(node, i, name) for i, name in enumerate(("starts", "ends", "axes"), 1)]
    starts, ends, axes = lists
    if starts is None or ends is None or axes is None:
        return _Known(given[0].dtype, [_open() for _ in sizes])
    steps = _integers(node, 4, "steps") or [1] * len(axes)
    for axis, *cut in zip(axes, starts, ends, steps, strict=True):
        size, symbols = sizes[axis]
        sizes[axis] = _open() if symbols else (len(range(*slice(*cut).indices(size))), ())
    return _Known(given[0].dtype, sizes)


def _gather(node: ir.Node, given: Sequence[_Known]) -> _Known:
    axis, sizes = node.attributes.get_int("axis", 0) or 0, _sizes(given[0])
    after = [*sizes[:axis], *_sizes(given[1]), *sizes[axis + 1 :]]
    vector, places = (known.numbers for known in given)
    stored = vector is not None and places is not None and not any(s for _, s in places)
    numbers = [(vector or [])[place] for place, _ in places or []] if stored else None
    return _Known(given[0].dtype, after, numbers)


def _concat(node: ir.Node, given: Sequence[_Known]) -> _Known:
    axis, all_sizes = node.attributes["axis"].as_int(), [_sizes(known) for known in given]
    joined = [sizes[axis] for sizes in all_sizes]
    whole = not any(symbols for _, symbols in joined)
    sizes = [_same(axis_sizes) for axis_sizes in zip(*all_sizes, strict=True)]
    sizes[axis] = (sum(n for n, _ in joined), ()) if whole else _open()
    vectors = [known.numbers for known in given]
    numbers = None if None in vectors else [n for vector in vectors for n in vector or ()]
    return _Known(given[0].dtype, sizes, numbers)


def _same(sizes: Sequence[_Size]) -> _Size:
    """What several sizes are that have to be equal: the number, if one is known."""
    return next((size for size in sizes if not size[1]), sizes[0])


def _broadcast(sizes: Sequence[_Sizes]) -> _Sizes:
    rank = max(map(len, sizes))
    axes = zip(*([(1, ())] * (rank - len(axes)) + axes for axes in sizes), strict=True)
    return [_joint([size for size in axis if size != (1, ())]) for axis in axes]


def _joint(sizes: Sequence[_Size]) -> _Size:
    """What an axis becomes whose operands have such sizes: of two open ones, each may be 1."""
    either = len({*sizes}) > 1 and all(symbols for _, symbols in sizes)
    return _open() if either else _same(sizes or [(1, ())])


def _elementwise(node: ir.Node, given: Sequence[_Known]) -> _Known:  # noqa: ARG001 - a rule
    return _Known(given[0].dtype, _broadcast([_sizes(known) for known in given]))


def _multiplied(node: ir.Node, given: Sequence[_Known]) -> _Known:
    a, b = (known.numbers or [] for known in given)
    numbers = [*map(_product, zip(a, b, strict=True))] if len(a) == len(b) > 0 else None
    return replace(_elementwise(node, given), numbers=numbers)


def _flattened(node: ir.Node, given: Sequence[_Known]) -> _Known:
    axis, sizes = node.attributes["axis"].as_int(), _sizes(given[0])
    return _Known(given[0].dtype, [_product(sizes[:axis]), _product(sizes[axis:])])


def _matmul(node: ir.Node, given: Sequence[_Known]) -> _Known:
    a, b = (_sizes(known) for known in given[:2])
    if min(len(a), len(b)) < 2:
        raise _UnknownError
    dtype = given[0].dtype if node.op_type == "MatMul" else ir.DataType.INT32
    return _Known(dtype, [*_broadcast([a[:-2], b[:-2]]), a[-2], b[-1]])


def _sum_along(node: ir.Node, given: Sequence[_Known]) -> _Known:
    axes, sizes = _integers(node, 1, "axes"), _sizes(given[0])
    if axes is None or node.attributes.get_int("keepdims", 1) != 0:
        raise _UnknownError
    return _Known(given[0].dtype, [size for axis, size in enumerate(sizes) if axis not in axes])


def _cast(node: ir.Node, given: Sequence[_Known]) -> _Known:
    to = node.attributes["to"]
    of_name = to.type is ir.AttributeType.STRING
    dtype = ir.DataType[to.as_string()] if of_name else ir.DataType(to.as_int())
    return _Known(dtype, given[0].sizes)


def _shape(node: ir.Node, given: Sequence[_Known]) -> _Known:  # noqa: ARG001 - a rule
    sizes = _sizes(given[0])
    return _Known(ir.DataType.INT64, [(len(sizes), ())], sizes)


def _expand(node: ir.Node, given: Sequence[_Known]) -> _Known:
    shape = _integers(node, 1, "shape")
    if shape is None:
        raise _UnknownError
    return _Known(given[0].dtype, _broadcast([_sizes(given[0]), [(n, ()) for n in shape]]))


def _pool(node: ir.Node, given: Sequence[_Known]) -> _Known:
    """Of single numbers, which makes the steps of old slices."""
    batch, channels, *sizes = _sizes(given[0])
    steps = node.attributes["strides"].as_ints()
    fewer = [
        size if step == 1 else _open() if size[1] else (-(-size[0] // step), ())
        for size, step in zip(sizes, steps, strict=True)
    ]
    return _Known(given[0].dtype, [batch, channels, *fewer])


def _split(node: ir.Node, given: Sequence[_Known]) -> _Known:
    """Into parts of one size."""
    axis, sizes = node.attributes.get_int("axis", 0) or 0, [*_sizes(given[0])]
    size, symbols = sizes[axis]
    if not symbols and size % len(node.outputs):
        raise _UnknownError
    sizes[axis] = _open() if symbols else (size // len(node.outputs), ())
    return _Known(given[0].dtype, sizes)


def _tile(node: ir.Node, given: Sequence[_Known]) -> _Known:
    sizes, times = _sizes(given[0]), _integers(node, 1, "repeats")
    if times is None:
        return _Known(given[0].dtype, [_open() for _ in sizes])
    pairs = zip(sizes, times, strict=True)
    return _Known(given[0].dtype, [(size * n, symbols) for (size, symbols), n in pairs])


def _typed_like(place: int) -> _Rule:
    """What it makes has the type of an operand."""
    return lambda _, given: _Known(given[place].dtype, given[0].sizes)


def _filled(node: ir.Node, given: Sequence[_Known]) -> _Known:
    ((rank, symbols),), value = _sizes(given[0]), node.attributes.get("value")
    if symbols:
        raise _UnknownError
    dtype = ir.DataType.FLOAT if value is None else value.as_tensor().dtype
    return _Known(dtype, [_open() for _ in range(rank)])


_COMPARING = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Where")
"""Their results have another type than their first operand; they say nothing here."""
_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys(BROADCASTING.difference(_COMPARING), _elementwise),
    **dict.fromkeys((*UNARY, "BatchNormalization", "CumSum"), _like_first),
    "Mod": _elementwise,
    "ConstantOfShape": _filled,
    "DequantizeLinear": _typed_like(1),
    "Flatten": _flattened,
    "Mul": _multiplied,
    "Split": _split,
    "Tile": _tile,
    "AveragePool": _pool,
    "Cast": _cast,
    "Concat": _concat,
    "Expand": _expand,
    "Gather": _gather,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "Pad": _pad,
    "QuantizeLinear": _typed_like(2),
    "ReduceSum": _sum_along,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Transpose": _transpose,
}
"""The operators that new nodes have."""
