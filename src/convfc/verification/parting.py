"""Where two models part: what their layers make of the same samples, tensor by tensor.

Which tensor of one model is which of the other:

1. Where both have the same layers in the same order, those in the same place.
2. Else those of one name; in a file that convfc made, those that have it in another layout.
3. Of what is left, as between two formats, those that have the same numbers. Behind the place where
   the models part none have: there, the first of one size are taken for each other.

Layouts are channels first and last, and matrices with the same numbers in one of these orders.
Never are all tensors in memory: the models run again for each group of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import islice, product
from typing import TypeVar

import numpy as np

from convfc.core.arrays import Array, to_first, to_last
from convfc.formats.inner import Inner, Tensor
from convfc.formats.protocols import Feed
from convfc.samples.batches import BATCH_BYTES, Feeds
from convfc.verification.differences import DifferenceCollector, OutputDifference
from convfc.verification.rounding import DEFAULT_RTOL

_FEW = 4
"""Samples that are looked at, if all that is made of them is no more than so many groups."""

_NEAR = 0.25
"""How far numbers may be off in the mean, as a share of them, or they are others or permuted."""

Pair = tuple[Tensor, Tensor]
T = TypeVar("T", bound=Sequence[Tensor])


@dataclass(frozen=True)
class Compared:
    """A tensor of the original, and what stands for it.

    Attributes:
        tensor: the original's.
        other: the other model's.
        difference: between them, in the original's layout.
    """

    tensor: Tensor
    other: Tensor
    difference: OutputDifference


@dataclass(frozen=True)
class Parting:
    """Two models side by side, from the inside.

    Attributes:
        compared: what both make, in the original's order of execution.
        alone: names of what only the original makes, as the other model is built otherwise there.
        samples: those that were looked at.
    """

    compared: tuple[Compared, ...]
    alone: tuple[str, ...]
    samples: range

    @property
    def first(self) -> Compared | None:
        """The first tensor that differs by more than the tolerance: there they part."""
        return next((one for one in self.compared if not one.difference.equivalent), None)

    @property
    def before(self) -> Compared | None:
        """The tensor before that."""
        place = 0 if self.first is None else self.compared.index(self.first)
        return self.compared[place - 1] if place else None


def part(
    a: Inner,
    b: Inner,
    feeds: Feeds,
    outputs: Sequence[OutputDifference],
    rtol: float | None,
    atol: float | None,
    progress: Callable[[str], None],
    *,
    across: bool,
) -> Parting:
    """Compare what the layers of two models make.

    Args:
        a: the original.
        b: the other one, which takes what the original does.
        feeds: the samples.
        outputs: how the outputs differ on them: it is looked at where they do so the most.
        rtol: see `DifferenceCollector`.
        atol: likewise.
        progress: called with a few words for every group of tensors.
        across: whether the models are of different formats, so that axes may be turned.

    Raises:
        UnsupportedModelError: one of the models cannot be run so.
        DataError: the samples cannot be read or do not fit.
    """
    rows = _telling(outputs, feeds)
    feed = feeds.take(rows)
    ours, theirs = (model.tensors(feed) for model in (a, b))
    if feeds.batch is None and sum(one.bytes for one in (*ours, *theirs)) > _FEW * BATCH_BYTES:
        rows = rows[:1]
        feed = feeds.take(rows)
        ours, theirs = (model.tensors(feed) for model in (a, b))
    look = _Look(a, b, feed, rtol, atol, progress, across=across)
    found = look.compared(paired(ours, theirs))
    more, turned = look.alike([one for one in ours if one.name not in found], theirs)
    found |= more
    ends = {out.name for out in outputs}  # which may be alike behind what is not
    alike = [
        one
        for one in found.values()
        if one.difference.equivalent and "float" in one.tensor.dtype and one.tensor.name not in ends
    ]
    taken = {one.other for one in found.values()}
    known = found.keys() | turned
    rest = [one for one in _behind(ours, {one.tensor for one in alike}) if one.name not in known]
    free = [one for one in _behind(theirs, {one.other for one in alike}) if one not in taken]
    of_one_size = (pair for pair in product(rest, free) if pair[0].bytes == pair[1].bytes)
    found |= look.compared(list(islice(of_one_size, 1)))
    return Parting(
        tuple(found[one.name] for one in ours if one.name in found),
        tuple(one.name for one in ours if one.name not in found),
        rows,
    )


def _telling(outputs: Sequence[OutputDifference], feeds: Feeds) -> range:
    """A few samples, from the one on which the outputs differ the most."""
    worst = max(outputs, key=lambda out: out.max_abs, default=None)
    witness = None if worst is None else worst.evidence.worst
    first = 0 if witness is None or witness.sample >= feeds.rows else witness.sample
    if feeds.batch is not None:
        first -= first % feeds.batch
        return range(first, first + feeds.batch)
    return range(first, min(first + min(_FEW, feeds.rows_per_batch), feeds.rows))


def paired(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> list[Pair]:
    """Which tensor is which, by place or else by name.

    >>> a, b = (Tensor(name, name, "Relu", (1, 2), "float32", name) for name in "ab")
    >>> len(paired([a, a], [b, b])), len(paired([a, b], [b])), len(paired([a], [b, b]))
    (2, 1, 0)
    """
    names = [{one.name for one in tensors} for tensors in (ours, theirs)]
    kinds = [[(one.kind, one.shape) for one in tensors] for tensors in (ours, theirs)]
    if kinds[0] == kinds[1] and names[0] != names[1]:
        return list(zip(ours, theirs, strict=True))
    known = {one.own: one for one in theirs} | {one.name: one for one in theirs}
    return [(one, known[one.name]) for one in ours if one.name in known]


class _Look:
    """Looks into two models while they run; see `part` for the arguments."""

    def __init__(
        self,
        a: Inner,
        b: Inner,
        feed: Feed,
        rtol: float | None,
        atol: float | None,
        progress: Callable[[str], None],
        *,
        across: bool,
    ) -> None:
        self._a, self._b = a, b
        self._feed = feed
        self._rtol, self._atol = rtol, atol
        self._progress = progress
        self._across = across

    def compared(self, pairs: Sequence[Pair]) -> dict[str, Compared]:
        """Each pair, by the name of the original's tensor; those that are no arrays lack."""
        found = {}
        for group in _groups(pairs):
            self._progress(f"tensor '{group[0][0].name}'")
            x = self._values(self._a, [one for one, _ in group])
            y = self._values(self._b, [other for _, other in group])
            for one, other in group:
                if one.name in x and other.name in y:
                    difference = self._difference(one, other, x[one.name], y[other.name])
                    found[one.name] = Compared(one, other, difference)
        return found

    def alike(
        self, ours: Sequence[Tensor], theirs: Sequence[Tensor]
    ) -> tuple[dict[str, Compared], set[str]]:
        """What no names tell, by its numbers: the first of the same size that has the same.

        Args:
            ours: tensors of the original.
            theirs: of the other model.

        Returns:
            By name, what was found; and of what else has the same numbers, in an order that is
            no layout.
        """
        sizes = {one.bytes for one in ours} & {one.bytes for one in theirs}
        mine = self._sketches(self._a, [one for one in ours if one.bytes in sizes])
        others = self._sketches(self._b, [one for one in theirs if one.bytes in sizes])
        pairs: list[Pair] = []
        for one in (one for one in ours if one.name in mine):
            limit = mine[one.name].limit(self._rtol, self._atol, one.dtype)
            same = (x for x in theirs if x.name in others and x.dtype == one.dtype)
            like = (x for x in same if mine[one.name].is_like(others[x.name], limit))
            pairs += [(one, other) for other in islice(like, 1)]
        compared = self.compared(pairs)
        turned = {
            name
            for name, one in compared.items()
            if one.difference.mean_abs > _NEAR * mine[name].magnitude
        }
        return {name: one for name, one in compared.items() if name not in turned}, turned

    def _values(self, model: Inner, tensors: Sequence[Tensor]) -> dict[str, Array]:
        return model.values(self._feed, list(dict.fromkeys(one.name for one in tensors)))

    def _difference(self, one: Tensor, other: Tensor, x: Array, y: Array) -> OutputDifference:
        """In the layout in which the two differ the least, if there can be several."""

        def of(way: Array) -> OutputDifference:
            batch = x.shape[0] if x.ndim else None
            collector = DifferenceCollector(one.name, self._rtol, self._atol, batch=batch)
            collector.add(x, way)
            return collector.result()

        told = x.shape == y.shape and not self._across and other.name == other.own
        ways = [y] if told else _laid_out(y, x.shape)
        return min(map(of, ways), key=lambda found: found.max_abs)

    def _sketches(self, model: Inner, tensors: Sequence[Tensor]) -> dict[str, _Sketch]:
        found: dict[str, _Sketch] = {}
        for group in _groups([(one,) for one in tensors]):
            self._progress(f"tensor '{group[0][0].name}'")
            values = self._values(model, [one for (one,) in group])
            found |= {n: _Sketch.of(x) for n, x in values.items() if x.dtype.kind in "biufV"}
        return found


def _groups(items: Iterable[T]) -> Iterator[list[T]]:
    """Tensors, or pairs of them, as many at once as memory is for."""
    group: list[T] = []
    taken = 0
    for item in items:
        size = sum(one.bytes for one in item)
        if group and taken + size > BATCH_BYTES:
            yield group
            group, taken = [], 0
        group.append(item)
        taken += size
    if group:
        yield group


def _behind(tensors: Sequence[Tensor], known: Set[Tensor]) -> Sequence[Tensor]:
    """The tensors behind the last of those that are known."""
    places = [place for place, one in enumerate(tensors) if one in known]
    return tensors[max(places, default=-1) + 1 :]


def _laid_out(array: Array, shape: tuple[int, ...]) -> list[Array]:
    """An array in the layouts that have another one's shape; itself, if it has other sizes.

    >>> x = np.arange(6).reshape(1, 1, 2, 3)
    >>> [way.ravel().tolist() for way in _laid_out(x, (1, 3, 1, 2))]
    [[0, 1, 2, 3, 4, 5], [0, 3, 1, 4, 2, 5], [0, 3, 1, 4, 2, 5]]
    >>> [way.shape for way in _laid_out(np.zeros((8, 3)), (2, 3, 2, 2))]
    [(2, 3, 2, 2), (2, 3, 2, 2)]
    """
    if array.size != math.prod(shape):
        return [array]
    rank = len(shape)
    ways = [array.reshape(shape)]
    if rank > 2:  # the rows of a matrix, or blocks of them, are channels last
        last = array.reshape([shape[axis] for axis in to_last(rank)])
        ways.append(last.transpose(to_first(rank)))
    if array.ndim > 2:
        turned = [array.transpose(order(array.ndim)) for order in (to_first, to_last)]
        ways += [way.reshape(shape) for way in turned if array.ndim != rank or way.shape == shape]
    return ways


@dataclass(frozen=True)
class _Sketch:
    """What is the same of numbers in any order; none of it moves further than the numbers do.

    Attributes:
        counts: how many there are, and how many are finite.
        figures: of these the least, the largest, the mean, that of the magnitudes, and the root
            of that of the squares.
    """

    counts: tuple[int, int]
    figures: tuple[float, ...]

    @property
    def magnitude(self) -> float:
        """The mean of the magnitudes."""
        return self.figures[3] if self.figures else 0.0

    @classmethod
    def of(cls, array: Array) -> _Sketch:
        """A sketch of some numbers."""
        x = array.astype(np.float64).ravel()
        finite = x[np.isfinite(x)]
        if not finite.size:
            return cls((x.size, 0), ())
        means = (finite.mean(), abs(finite).mean(), np.sqrt(np.square(finite).mean()))
        figures = (finite.min(), finite.max(), *means)
        return cls((x.size, finite.size), tuple(map(float, figures)))

    def limit(self, rtol: float | None, atol: float | None, dtype: str) -> float:
        """How far a number that is the same may be off, see `DifferenceCollector`; at most."""
        rtol = DEFAULT_RTOL.get(dtype, 0.0) if rtol is None else rtol
        largest = max(map(abs, self.figures[:2]), default=0.0)
        return rtol * largest + (rtol * largest if atol is None else atol) + _SUMS * largest

    def is_like(self, other: _Sketch, limit: float) -> bool:
        """Whether both may be of the same numbers."""
        pairs = zip(self.figures, other.figures, strict=False)
        return self.counts == other.counts and all(abs(x - y) <= limit for x, y in pairs)


_SUMS = 1e-12
"""What the order of a sum may do to a mean, as a share of the largest number."""
