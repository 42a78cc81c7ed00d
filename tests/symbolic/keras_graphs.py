"""The layers and operations of a Keras model on tensors whose sizes are unknown."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, reduce
from typing import Any

import keras
import numpy as np
import z3

from tests.symbolic.forms import Form, add, plus, times
from tests.symbolic.numbers import Facts, Number, both, choose, divide, is_one, simple
from tests.symbolic.tensors import Tensor, concatenate, together

Join = Callable[[Facts, Form, Form], Form]


def evaluate(model: Any, x: Tensor) -> Tensor:
    """The output of a functional model with one input.

    Raises:
        KeyError: it has a layer or an operation that is not in the list.
    """

    def meaning(operation: Any) -> Callable[..., Tensor]:
        table = _LAYERS if isinstance(operation, keras.Layer) else _OPERATIONS
        compute = table[type(operation).__name__]
        return lambda *args, **kwargs: compute(operation, *args, **kwargs)

    y = model._run_through_graph([x], operation_fn=meaning)
    assert isinstance(y, Tensor)
    return y


def _number(form: Form) -> Number:
    """An entry that is a number: constants of the graph stand in the places of weights."""
    return simple(sum(weight * number for weight, number in form.items()))


def _scaled(facts: Facts, a: Form, b: Form) -> Form:
    """A product: a weight is not multiplied by another, and a mask is 0 or 1."""
    for one, other in ((a, b), (b, a)):
        if not one or not other:
            return {}
        (weight, number), *more = one.items()
        if not more and isinstance(number, int) and number == 1:
            return times(other, weight)
    for mask, data in ((a, b), (b, a)):
        if set(mask) == {1} and _is_mask(facts, mask[1]):
            seen = mask[1] == 1
            return {weight: choose(seen, number, 0) for weight, number in data.items()}
    return {1: _number(a) * _number(b)}


def _is_mask(facts: Facts, number: Number) -> bool:
    return facts.follow(z3.Or(number == 0, number == 1))


def _spatial(layer: Any, x: Tensor) -> range:
    """The axes that a layer takes for spatial ones."""
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    return range(1 + first, x.rank - 1 + first)


def _per_axis(values: Any, count: int) -> list[Any]:
    return [values] * count if isinstance(values, int) else list(values)


def _pairs(values: Any) -> list[tuple[int, int]]:
    return [tuple(values)] if isinstance(values[0], int) else [tuple(pair) for pair in values]


def _pad(layer: Any, x: Tensor) -> Tensor:
    for axis, (before, after) in zip(_spatial(layer, x), _pairs(layer.padding), strict=True):
        x = x.pad(axis, before, after)
    return x


def _crop(layer: Any, x: Tensor) -> Tensor:
    for axis, (before, after) in zip(_spatial(layer, x), _pairs(layer.cropping), strict=True):
        x = x.cut(axis, before, -after or None)
    return x


def _stride(layer: Any, x: Tensor) -> Tensor:
    axes = _spatial(layer, x)
    assert set(_per_axis(layer.pool_size, len(axes))) == {1}
    assert layer.padding == "valid"
    for axis, step in zip(axes, _per_axis(layer.strides, len(axes)), strict=True):
        x = x.cut(axis, 0, None, step)
    return x


def _upsample(layer: Any, x: Tensor) -> Tensor:
    axes = _spatial(layer, x)
    assert getattr(layer, "interpolation", "nearest") == "nearest"
    for axis, count in zip(axes, _per_axis(layer.size, len(axes)), strict=True):
        x = _repeated(x, axis, count)
    return x


def _repeated(x: Tensor, axis: int, count: int) -> Tensor:
    length = simple(x.length(axis) * count)
    return x.lay(axis, length, lambda place: (True, divide(place, count)[0]))


def _max_pool(layer: Any, x: Tensor) -> Tensor:
    """Of numbers: the largest of some neighbours."""
    (size,), (step,) = _per_axis(layer.pool_size, 1), _per_axis(layer.strides, 1)
    assert layer.padding == "valid"
    (axis,) = _spatial(layer, x)
    windows = x.cut(axis, 0, simple(x.length(axis) - (size - 1)), step)

    def largest(index: Sequence[Number]) -> Form:
        places = [[*index] for _ in range(size)]
        for offset, place in enumerate(places):
            place[axis] = simple(index[axis] * step + offset)
        numbers = [_number(x.at(place)) for place in places]
        return {1: reduce(lambda a, b: choose(a > b, a, b), numbers)}

    return replace(windows, at=largest)


def _global_max(layer: Any, x: Tensor) -> Tensor:
    """Of numbers that are the same everywhere, or of a mask: whether it is 1 anywhere."""
    pooled = list(_spatial(layer, x))
    kept = [axis for axis in range(x.rank) if axis not in pooled]
    for axis in pooled:
        x.facts.demand(x.length(axis) >= 1, "the largest of nothing")
    known: dict[str, Form] = {}

    def largest(index: Sequence[Number]) -> Form:
        place = dict(zip(kept, index, strict=True))
        place.update(dict.fromkeys(pooled, 0))
        anywhere = {axis: z3.FreshInt("i") for axis in pooled if not is_one(x.length(axis))}
        place.update(anywhere)
        number = _number(x.at([place[axis] for axis in range(x.rank)]))
        if isinstance(number, int):
            return {1: number} if number else {}
        assert _is_mask(x.facts, number), "only of masks"
        ranges = [both(i >= 0, i < x.length(axis)) for axis, i in anywhere.items()]
        somewhere = z3.Exists(list(anywhere.values()), both(*ranges, number == 1))
        plain = z3.Tactic("qe")(somewhere).as_expr()
        return {1: x.facts.choose(z3.simplify(plain), 1, 0)}

    def remembered(index: Sequence[Number]) -> Form:
        key = str(index)
        if key not in known:
            known[key] = largest(index)
        return known[key]

    lengths = tuple(x.length(axis) for axis in kept)
    return replace(x, lengths=lengths, parts=(1,) * len(kept), at=remembered)


def _dense(layer: Any, x: Tensor) -> Tensor:
    y = x.weigh(np.asarray(layer.kernel))
    assert layer.activation is keras.activations.linear
    return y.with_constant(np.asarray(layer.bias), plus) if layer.use_bias else y


def _einsum(layer: Any, x: Tensor) -> Tensor:
    """Any product with a kernel, by its equation."""
    (mine, theirs), out = layer.equation.split("->")[0].split(","), layer.equation.split("->")[1]
    kernel = np.asarray(layer.kernel)
    sizes = dict(zip(mine, (x.length(axis) for axis in range(x.rank)), strict=True))
    for letter, size in zip(theirs, kernel.shape, strict=True):
        x.facts.demand(sizes.setdefault(letter, size) == size, "a kernel does not fit")
        sizes[letter] = size
    summed = [letter for letter in sizes if letter not in out]

    def entry(index: Sequence[Number]) -> Form:
        place = dict(zip(out, index, strict=True))
        terms = []
        for tap in itertools.product(*(range(sizes[letter]) for letter in summed)):
            place.update(zip(summed, tap, strict=True))
            weight = int(kernel[tuple(place[letter] for letter in theirs)])
            if weight:
                terms.append(times(x.at([place[letter] for letter in mine]), weight))
        return add(terms)

    y = replace(x, lengths=tuple(sizes[letter] for letter in out), parts=(1,) * len(out), at=entry)
    assert layer.activation is keras.activations.linear
    return y if layer.bias is None else y.with_constant(np.asarray(layer.bias), plus)


def _merged(join: Join) -> Callable[..., Tensor]:
    """A layer that merges: what has fewer axes gets more of them behind the batch."""

    def merge(_: Any, xs: Sequence[Tensor]) -> Tensor:
        rank = max(x.rank for x in xs)
        grown = []
        for x in xs:
            while x.rank < rank:
                x = x.insert(1)
            grown.append(x)
        return reduce(lambda a, b: together(a, b, partial(join, a.facts)), grown)

    return merge


def _rescaled(layer: Any, form: Form) -> Form:
    return {1: simple(_number(form) * int(layer.scale) + int(layer.offset))}


def _sum(_: Facts, a: Form, b: Form) -> Form:
    return add([a, b])


def _difference(_: Facts, a: Form, b: Form) -> Form:
    return add([a, {weight: -number for weight, number in b.items()}])


_LAYERS: dict[str, Callable[..., Tensor]] = {
    "Add": _merged(_sum),
    "Concatenate": lambda layer, xs: concatenate(xs, layer.axis),
    "Dense": _dense,
    "EinsumDense": _einsum,
    "MaxPooling1D": _max_pool,
    "Multiply": _merged(_scaled),
    "Permute": lambda layer, x: x.transpose([0, *layer.dims]),
    "Rescaling": lambda layer, x: replace(x, at=lambda index: _rescaled(layer, x.at(index))),
    "Reshape": lambda layer, x: x.reshape([None, *layer.target_shape]),
    "Subtract": _merged(_difference),
    **{f"AveragePooling{rank}D": _stride for rank in (1, 2, 3)},
    **{f"Cropping{rank}D": _crop for rank in (1, 2, 3)},
    **{f"GlobalMaxPooling{rank}D": _global_max for rank in (1, 2, 3)},
    **{f"UpSampling{rank}D": _upsample for rank in (1, 2, 3)},
    **{f"ZeroPadding{rank}D": _pad for rank in (1, 2, 3)},
}


def _tensor(x: Any, like: Tensor) -> Tensor:
    """A constant as a tensor."""
    if isinstance(x, Tensor):
        return x
    array = np.asarray(x)
    empty = Tensor(like.facts, (1,) * array.ndim, (1,) * array.ndim, lambda _: {})
    return (
        empty.with_constant(array, plus)
        if array.ndim
        else replace(empty, at=lambda _: {1: int(array)})
    )


def _binary(join: Join) -> Callable[..., Tensor]:
    def compute(_: Any, a: Any, b: Any) -> Tensor:
        like = a if isinstance(a, Tensor) else b
        return together(_tensor(a, like), _tensor(b, like), partial(join, like.facts))

    return compute


def _get(_: Any, x: Tensor, key: Any) -> Tensor:
    axis = 0
    for part in key if isinstance(key, tuple) else (key,):
        if isinstance(part, int):
            x = x.fix(axis, part)
        else:
            if part != slice(None):
                x = x.cut(axis, part.start or 0, part.stop, part.step or 1)
            axis += 1
    return x


def _modulo(_: Any, x: Tensor, by: Any) -> Tensor:
    """By a number, or by a size of what is less than two of it."""
    if isinstance(by, int):
        return replace(x, at=lambda index: {1: divide(_number(x.at(index)), by)[1]})
    size = _number(by.at([]))
    there, index = x.anywhere()
    number = _number(x.at(index))
    x.facts.demand(z3.Implies(there, both(number >= 0, number < 2 * size)), "more than two rounds")

    def entry(index: Sequence[Number]) -> Form:
        number = _number(x.at(index))
        return {1: choose(number < size, number, simple(number - size))}

    return replace(x, at=entry)


def _ones(_: Any, x: Tensor) -> Tensor:
    return replace(x, at=lambda _: {1: 1})


def _all_ones(x: Tensor) -> Number:
    """How many they are."""
    assert x.at(x.anywhere()[1]) == {1: 1}, "only of ones"
    return simple(z3.Product([z3.IntVal(1), *x.lengths]))


def _count(operation: Any, x: Tensor) -> Tensor:
    assert operation.axis is None
    assert x.rank == 1
    _all_ones(x)
    return replace(x, at=lambda index: {1: simple(index[0] + 1)})


def _total(operation: Any, x: Tensor) -> Tensor:
    if operation.axis is None:
        number = _all_ones(x)
        return Tensor(x.facts, (), (), lambda _: {1: number})
    (axis,) = operation.axis
    y = x.sum(axis % x.rank)
    return y.insert(axis % x.rank) if operation.keepdims else y


def _take(operation: Any, x: Any, index: Any) -> Tensor:
    """Entries by numbers that are computed; a grid of them in order is a reshape."""
    if isinstance(index, np.ndarray):
        taken: Tensor = x.take(operation.axis, index)
        return taken
    if not isinstance(x, Tensor):
        table = _tensor(x, index)
        looked_up: Tensor = replace(index, at=lambda place: table.at([_number(index.at(place))]))
        return looked_up
    axis = operation.axis
    there, place = index.anywhere()
    number = _number(index.at(place))
    linear: Number = 0
    for digit, length in zip(place, index.lengths, strict=True):
        linear = linear * length + digit
    if z3.simplify(number - linear, som=True).eq(z3.IntVal(0)):
        grid: Tensor = x.unravel(axis, index.lengths)
        return grid
    length = x.length(axis)
    x.facts.demand(z3.Implies(there, both(number >= 0, number < length)), "no such entry")
    (count,) = index.lengths
    return x.lay(axis, count, lambda place: (True, _number(index.at([place]))))


_OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "Add": _binary(_sum),
    "Cumsum": _count,
    "ExpandDims": lambda op, x: x.insert(op.axis % (x.rank + 1)),
    "GetItem": _get,
    "Mod": _modulo,
    "Multiply": _binary(_scaled),
    "OnesLike": _ones,
    "Reshape": lambda op, x: x.reshape(list(op.newshape)),
    "Subtract": _binary(_difference),
    "Sum": _total,
    "Take": _take,
}
