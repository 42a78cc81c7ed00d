"""Tensors that are functions of an index, with axes of unknown length."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import z3
from numpy.typing import NDArray

from tests.symbolic.forms import Form, add, case_by_case, either, times
from tests.symbolic.numbers import Claim, Facts, Number, both, divide, is_one, simple

At = Callable[[Sequence[Number]], Form]
Place = Callable[[Number], tuple[Claim, Number]]


@dataclass(frozen=True)
class Tensor:
    """A tensor.

    An axis may be several that were made one, where no number says how long the inner ones are:
    those are its parts, and an index has an entry for each part.

    Attributes:
        facts: about the sizes.
        lengths: of every part of every axis, in order.
        parts: how many there are, per axis.
        at: the entry at an index.
    """

    facts: Facts
    lengths: tuple[Number, ...]
    parts: tuple[int, ...]
    at: At

    @property
    def rank(self) -> int:
        return len(self.parts)

    def part_of(self, axis: int) -> int:
        """The only part of an axis."""
        axis %= self.rank
        assert self.parts[axis] == 1, "an axis of several parts cannot be cut"
        return sum(self.parts[:axis])

    def length(self, axis: int) -> Number:
        """Of an axis of one part."""
        return self.lengths[self.part_of(axis)]

    def lay(
        self, axis: int, length: Number, at: Callable[[Number], tuple[Claim, Number]]
    ) -> Tensor:
        """One axis anew: for an index, whether anything is there, and which entry it is."""
        part = self.part_of(axis)

        def entry(index: Sequence[Number]) -> Form:
            there, place = at(index[part])
            return either(there, lambda: self.at(_put(index, part, 1, place)), dict)

        return replace(self, lengths=_put(self.lengths, part, 1, length), at=entry)

    def pad(self, axis: int, before: Number, after: Number, filling: int = 0) -> Tensor:
        """`filling`, a number, before and after."""
        if isinstance(before, int) and isinstance(after, int) and not (before or after):
            return self
        length = self.length(axis)

        def inside(place: Number) -> tuple[Claim, Number]:
            place = simple(place - before)
            return both(place >= 0, place < length), place

        padded = self.lay(axis, simple(length + before + after), inside)
        if not filling:
            return padded
        part = self.part_of(axis)
        numbers = {1: filling}
        return replace(
            padded,
            at=lambda index: either(
                inside(index[part])[0], lambda: padded.at(index), lambda: numbers
            ),
        )

    def cut(self, axis: int, start: Number, stop: Number | None, step: int = 1) -> Tensor:
        """A slice as Python and ONNX have it: it may count from the end and reach too far."""
        facts, length = self.facts, self.length(axis)
        start, stop = (
            self._bound(bound, length) for bound in (start, length if stop is None else stop)
        )
        kept = divide(simple(stop - start + step - 1), step)[0]
        kept = facts.choose(stop > start, kept, 0)
        return self.lay(axis, simple(kept), lambda place: (True, simple(start + place * step)))

    def _bound(self, bound: Number, length: Number) -> Number:
        choose = self.facts.choose
        bound = simple(choose(bound < 0, bound + length, bound))
        return simple(choose(bound < 0, 0, choose(bound > length, length, bound)))

    def take(self, axis: int, index: NDArray[Any]) -> Tensor:
        """Entries by constant places, which are all there."""
        length = self.length(axis)
        there = both(int(index.min()) >= 0, int(index.max()) < length)
        self.facts.demand(there, "no such entry")
        return self.lay(axis, len(index), lambda place: (True, int(index[place])))

    def gather(self, axis: int, index: Tensor) -> Tensor:
        """Entries by places that are computed: an index in the place of an axis.

        An axis of several parts is gone through row by row: a place is what each part's place,
        times the lengths of those behind it, adds up to (see `forms.scaled`).
        """
        start = sum(self.parts[:axis])
        end = start + self.parts[axis]
        strides = [row_by_row(self.lengths[part + 1 : end]) for part in range(start, end)]
        assert set(index.parts) == {1}

        def places(at: Sequence[Number]) -> list[Number]:
            rest = dict(index.at(at))
            found = [rest.pop(stride, 0) for stride in strides[:-1]]
            assert all(isinstance(weight, int) for weight in rest), "rows have another length"
            found.append(sum(weight * number for weight, number in rest.items()))
            return [simple(place) for place in found]

        there, anywhere = index.anywhere()
        for place, length in zip(places(anywhere), self.lengths[start:end], strict=True):
            inside = both(place >= 0, place < length)
            self.facts.demand(z3.Implies(there, inside), "no such entry")
        rank = index.rank

        def entry(at: Sequence[Number]) -> Form:
            mine = places(at[start : start + rank])
            return self.at([*at[:start], *mine, *at[start + rank :]])

        return replace(
            self,
            lengths=_put(self.lengths, start, end - start, *index.lengths),
            parts=_put(self.parts, axis, 1, *index.parts),
            at=entry,
        )

    def transpose(self, order: Sequence[int]) -> Tensor:
        """Permute axes."""
        ends = list(itertools.accumulate(self.parts, initial=0))
        places = [part for axis in order for part in range(ends[axis], ends[axis + 1])]
        back = np.argsort(places).tolist()
        return replace(
            self,
            lengths=tuple(self.lengths[place] for place in places),
            parts=tuple(self.parts[axis] for axis in order),
            at=lambda index: self.at([index[place] for place in back]),
        )

    def reshape(self, shape: Sequence[Number | None]) -> Tensor:
        """All axes anew: ``None`` keeps the one in that place, and -1 is what is left.

        The last length that is unknown is what is left as well: it has to be that.
        """
        flat = _Parts(self)
        told = [axis for axis, size in enumerate(shape) if z3.is_expr(size)]
        rest = list(shape).index(-1) if -1 in shape else (told or [len(shape)])[-1]
        ends = list(itertools.accumulate(self.parts, initial=0))
        first: list[int] = []
        for axis, size in enumerate(shape[:rest]):
            if size is None:
                first.append(self.parts[axis])
                flat.keep(sum(first[:-1]), self.lengths[ends[axis] : ends[axis + 1]])
            elif z3.is_expr(size):
                known: Iterator[Any] = itertools.takewhile(
                    lambda n: isinstance(n, int), shape[axis + 1 : rest]
                )
                flat.make_first(sum(first), size, math.prod(known))
                first.append(1)
            else:
                flat.split_first(sum(first), size)
                first.append(1)
        last: list[int] = []
        for axis in range(len(shape) - 1, rest, -1):
            size = shape[axis]
            if size is None:
                last.append(self.parts[axis])
                kept = self.lengths[ends[axis] : ends[axis + 1]]
                flat.keep(flat.count - sum(last), kept)
            else:
                flat.split_last(flat.count - sum(last), size)
                last.append(1)
        middle = flat.merge(sum(first), flat.count - sum(last))
        if rest in told:
            assert middle == 1, "an axis is not as long as it is told"
            flat.keep(sum(first), [shape[rest]])
        if rest < len(shape):
            first.append(middle or flat.insert(sum(first)))
        else:
            for _ in range(middle):
                flat.drop(sum(first))
        return replace(flat.tensor, parts=(*first, *reversed(last)))

    def flatten(self, axis: int) -> Tensor:
        """Two axes: all before this one, and the others."""
        flat, first = _Parts(self), sum(self.parts[:axis])
        behind = flat.merge(first, flat.count)
        before = flat.merge(0, first)
        return replace(flat.tensor, parts=(before, behind))

    def unravel(self, axis: int, lengths: Sequence[Number]) -> Tensor:
        """Make one axis several, of these lengths."""
        flat, first = _Parts(self), sum(self.parts[:axis])
        behind = flat.count - first - self.parts[axis]
        for length in reversed(lengths):
            if isinstance(length, int):
                flat.split_last(flat.count - behind, length)
            else:
                flat.keep(flat.count - behind - 1, [length])
            behind += 1
        assert first + behind == flat.count
        parts = _put(self.parts, axis, 1, *[1] * len(lengths))
        return replace(flat.tensor, parts=parts)

    def fix(self, axis: int, place: Number) -> Tensor:
        """The entries at one place of an axis, which goes."""
        part = self.part_of(axis)
        there = both(place >= 0, place < self.lengths[part])
        self.facts.demand(there, "no such entry")
        return replace(
            self,
            lengths=_put(self.lengths, part, 1),
            parts=_put(self.parts, axis, 1),
            at=lambda index: self.at(_put(index, part, 0, place)),
        )

    def insert(self, axis: int) -> Tensor:
        """An axis of length 1 before another one."""
        flat, part = _Parts(self), sum(self.parts[:axis])
        flat.insert(part)
        return replace(flat.tensor, parts=_put(self.parts, axis, 0, 1))

    def anywhere(self) -> tuple[Claim, list[Number]]:
        """Any index at all: what holds of it, and the index."""
        index = [z3.FreshInt("i") for _ in self.lengths]
        pairs = zip(index, self.lengths, strict=True)
        return both(*(both(i >= 0, i < length) for i, length in pairs)), index

    def sum(self, axis: int) -> Tensor:
        """Over an axis of known length, which goes."""
        part, length = self.part_of(axis), self.length(axis)
        return replace(
            self,
            lengths=_put(self.lengths, part, 1),
            parts=_put(self.parts, axis, 1),
            at=lambda index: add(self.at(_put(index, part, 0, i)) for i in range(length)),
        )

    def weigh(self, weights: NDArray[Any]) -> Tensor:
        """Times a matrix (.., columns, filters) of weights; axes before are those of a batch."""
        part, lead = self.part_of(-1), weights.shape[:-2]
        self.facts.demand(self.lengths[part] == weights.shape[-2], "rows do not fit")
        batch = [self.part_of(self.rank - 2 - len(lead) + i) for i in range(len(lead))]
        assert all(n in (1, self.lengths[place]) for n, place in zip(lead, batch, strict=True))

        def entry(index: Sequence[Number]) -> Form:
            block = tuple(
                0 if n == 1 else index[place] for n, place in zip(lead, batch, strict=True)
            )

            def filtered(filter_: int) -> Form:
                column = weights[(*block, slice(None), filter_)]
                return add(
                    times(self.at(_put(index, part, 1, row)), int(weight))
                    for row, weight in enumerate(column)
                    if weight
                )

            return case_by_case(index[part], weights.shape[-1], filtered)

        return replace(self, lengths=_put(self.lengths, part, 1, weights.shape[-1]), at=entry)

    def with_constant(self, constant: NDArray[Any], join: Callable[[Form, int], Form]) -> Tensor:
        """Each entry joined with that of a constant in its place, which is broadcast."""
        constant = constant.reshape((1,) * (self.rank - constant.ndim) + constant.shape)
        ends = list(itertools.accumulate(self.parts, initial=0))
        axes = [(axis, ends[axis], n) for axis, n in enumerate(constant.shape) if n > 1]
        flat = constant.reshape(-1)
        lengths = list(self.lengths)
        for axis, part, n in axes:
            assert self.parts[axis] == 1
            assert lengths[part] in (1, n)
            lengths[part] = n

        def entry(index: Sequence[Number]) -> Form:
            mine = list(index)
            for _, part, _ in axes:
                mine[part] = 0 if self.lengths[part] == 1 else index[part]
            form = self.at(mine)

            def joined(place: int) -> Form:
                return join(form, int(flat[place]))

            place: Number = 0
            for _, part, n in axes:
                place = place * n + index[part]
            return case_by_case(simple(place), len(flat), joined)

        return replace(self, lengths=tuple(lengths), at=entry)


def with_repeated(x: Tensor, row: Repeated, join: Callable[[Form, int], Form]) -> Tensor:
    """Each entry joined with that of a row of constants, by its place on the last axis."""
    part, flat = x.part_of(-1), row.numbers.reshape(-1)
    assert row.numbers.shape[-1] == len(flat)
    x.facts.demand(x.lengths[part] == len(flat) * row.times, "rows do not fit")

    def entry(index: Sequence[Number]) -> Form:
        form, place = x.at(index), divide(index[part], len(flat))[1]
        return case_by_case(place, len(flat), lambda n: join(form, int(flat[n])))

    return replace(x, at=entry)


def row_by_row(lengths: Sequence[Number]) -> Number:
    """How many entries there are in a row of parts: a number, or the term of a product."""
    return simple(z3.Product(*lengths)) if lengths else 1


def concatenate(tensors: Sequence[Tensor], axis: int) -> Tensor:
    """Join along an axis."""
    part, facts = tensors[0].part_of(axis), tensors[0].facts
    for tensor in tensors[1:]:
        for other, pair in enumerate(zip(tensor.lengths, tensors[0].lengths, strict=True)):
            facts.demand(other == part or pair[0] == pair[1], "what is joined is not as long")
    ends = [simple(n) for n in itertools.accumulate(tensor.lengths[part] for tensor in tensors)]

    def entry(index: Sequence[Number]) -> Form:
        def from_(number: int) -> Form:
            start = ends[number - 1] if number else 0
            mine = _put(index, part, 1, simple(index[part] - start))
            here = tensors[number]
            if number == len(tensors) - 1:
                return here.at(mine)
            return either(
                index[part] < ends[number], lambda: here.at(mine), lambda: from_(number + 1)
            )

        return from_(0)

    return replace(tensors[0], lengths=_put(tensors[0].lengths, part, 1, ends[-1]), at=entry)


def together(a: Tensor, b: Tensor, join: Callable[[Form, Form], Form]) -> Tensor:
    """Entry by entry; axes of length 1 are broadcast, and missing ones before others."""
    while a.rank < b.rank:
        a = a.insert(0)
    while b.rank < a.rank:
        b = b.insert(0)
    assert a.parts == b.parts, "axes of other parts have no common index"
    several = [parts > 1 for parts in a.parts for _ in range(parts)]
    lengths = []
    for one, other, whole in zip(a.lengths, b.lengths, several, strict=True):
        lengths.append(other if is_one(one) else one)
        if whole or not (is_one(one) or is_one(other)):
            a.facts.demand(one == other, "lengths differ")

    def own(x: Tensor, index: Sequence[Number]) -> Form:
        pairs = zip(index, x.lengths, strict=True)
        return x.at([0 if is_one(n) else i for i, n in pairs])

    return replace(a, lengths=tuple(lengths), at=lambda index: join(own(a, index), own(b, index)))


@dataclass(frozen=True)
class Repeated:
    """Constants whose last axis is there again and again, a number of times that is unknown."""

    numbers: NDArray[Any]
    times: Number


class _Parts:
    """The parts of a tensor, on their way to another shape."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    @property
    def count(self) -> int:
        return len(self.tensor.lengths)

    def keep(self, part: int, lengths: Sequence[Number]) -> None:
        """See that these lengths are here."""
        found = self.tensor.lengths[part : part + len(lengths)]
        for mine, other in zip(found, lengths, strict=True):
            self.tensor.facts.demand(mine == other, "an axis is not kept")

    def split_first(self, part: int, size: int) -> None:
        """Make a part of `size` here, out of it and what follows."""
        if size == 1 and (part == self.count or not self._fits(part, size)):
            self.insert(part)
            return
        while not self._fits(part, size):
            length, *behind = self.tensor.lengths[part:]
            if isinstance(length, int) and length % size == 0:
                self._split(part, length // size)
            elif behind and isinstance(behind[0], int):
                self._join(part)
            else:
                self.tensor.facts.demand(length == size, "an axis is not as long as it is told")

    def make_first(self, part: int, length: Number, behind: int) -> None:
        """Make a part of an unknown length here, out of it and what follows; numbers are behind."""
        if not self._fits(part, length) and self._fits(part, simple(length * behind)):
            self._split(part, behind)
        while not self._fits(part, length):
            self._join(part)

    def split_last(self, end: int, size: int) -> None:
        """Make a part of `size` that ends here, out of it and what is before."""
        if end == 0 and size == 1:
            self.insert(0)
            return
        while not self._fits(end - 1, size):
            length = self.tensor.lengths[end - 1]
            if self.tensor.facts.follow(divide(length, size)[1] == 0):
                self._split(end - 1, size)
                return
            self._join(end - 2)
            end -= 1

    def _fits(self, part: int, size: Number) -> bool:
        return self.tensor.facts.follow(self.tensor.lengths[part] == size)

    def merge(self, start: int, end: int) -> int:
        """Make as few parts as may be of some; how many that are."""
        part = start
        while part + 1 < end:
            if isinstance(self.tensor.lengths[part + 1], int):
                self._join(part)
                end -= 1
            else:
                part += 1
        return end - start

    def insert(self, part: int) -> int:
        """A part of length 1."""
        old = self.tensor
        self.tensor = replace(
            old,
            lengths=_put(old.lengths, part, 0, 1),
            at=lambda index: old.at(_put(index, part, 1)),
        )
        return 1

    def drop(self, part: int) -> None:
        """Take away a part of length 1."""
        old = self.tensor
        old.facts.demand(old.lengths[part] == 1, "more entries than in the new shape")
        self.tensor = replace(
            old,
            lengths=_put(old.lengths, part, 1),
            at=lambda index: old.at(_put(index, part, 0, 0)),
        )

    def _join(self, part: int) -> None:
        old = self.tensor
        outer, inner = old.lengths[part : part + 2]
        assert isinstance(inner, int), "no number says how long an inner axis is"

        def entry(index: Sequence[Number]) -> Form:
            return old.at(_put(index, part, 1, *divide(index[part], inner)))

        lengths = _put(old.lengths, part, 2, simple(outer * inner))
        self.tensor = replace(old, lengths=lengths, at=entry)

    def _split(self, part: int, inner: int) -> None:
        old = self.tensor
        outer = divide(old.lengths[part], inner)[0]

        def entry(index: Sequence[Number]) -> Form:
            return old.at(_put(index, part, 2, simple(index[part] * inner + index[part + 1])))

        self.tensor = replace(old, lengths=_put(old.lengths, part, 1, outer, inner), at=entry)


def _put(items: Sequence[Any], place: int, count: int, *new: Any) -> tuple[Any, ...]:
    """`new` in place of some items."""
    return (*items[:place], *new, *items[place + count :])
