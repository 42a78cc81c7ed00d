"""How far two arrays that should be equal are apart, gathered batch by batch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from convfc.core.arrays import Array, place_of
from convfc.verification.rounding import DEFAULT_RTOL


@dataclass(frozen=True)
class Witness:
    """The element of an output that speaks loudest against equality.

    Attributes:
        sample: number of the sample.
        position: its place in the output of that sample.
        original: the original's value there.
        converted: the converted model's value there.
    """

    sample: int
    position: tuple[int, ...]
    original: float
    converted: float


@dataclass(frozen=True)
class Distance:
    """How far an output is from what it would be without rounding.

    Attributes:
        max_abs: largest absolute difference.
        max_rel: largest |a - b| / max(|a|, |b|).
    """

    max_abs: float
    max_rel: float


@dataclass(frozen=True)
class Evidence:
    """What else is known of how an output differs: by what it is judged whether that is rounding.

    Attributes:
        elements: numbers of the output, over all samples.
        largest: largest finite magnitude in the original's output.
        finite: how many numbers of the original's output are neither NaN nor infinite.
        varies: whether two of them differ.
        data_sized: whether the original's output has other sizes for other samples.
        worst: where the difference is largest, if there is any.
        batch: number of the batch that holds it.
        sway: the largest difference and the mean that the original has from itself when its input
            moves by a little; ``None`` if that was not tried.
        gaps: how many elements differ by how much: (exponent, count), for differences of at least
            2 ** (exponent - 1) and less than 2 ** exponent.
    """

    elements: int = 0
    largest: float = 0.0
    finite: int = 0
    varies: bool = False
    data_sized: bool = False
    worst: Witness | None = None
    batch: int = 0
    sway: tuple[float, float] | None = None
    gaps: tuple[tuple[int, int], ...] = ()

    def beyond(self, limit: float) -> float:
        """Share of the elements that differ by more than a limit, rounded up to a power of 2."""
        least = math.frexp(limit)[1] if limit > 0 else -math.inf
        return sum(count for one, count in self.gaps if one > least) / max(self.elements, 1)


@dataclass(frozen=True)
class OutputDifference:
    """How one output of two models differs over all samples.

    Attributes:
        name: the output's name.
        shape: of one batch, the batch size as ``None`` unless the model has it fixed.
        dtype: numpy's name of the element type.
        max_abs: largest absolute difference.
        mean_abs: mean absolute difference.
        max_rel: largest |a - b| / max(|a|, |b|).
        mean_frobenius: mean over the samples of the Frobenius norm of the difference (the figure
            of section 5 of Ma & Lu, 2017).
        top1_agreement: share of samples whose largest score is at the same place; ``None`` unless
            the output is a vector of two or more scores.
        rtol: tolerated difference relative to the original's value; ``None`` if none was asked.
        atol: tolerated absolute difference; likewise.
        reason: why this output is not equivalent, or ``None``.
        witness: where the tolerance is exceeded the most, if it is.
        original_error: the original's distance from its own float64 run, where that can be had.
        converted_error: the converted model's distance from the same.
        evidence: what it is judged by where no tolerance is given.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    max_abs: float
    mean_abs: float
    max_rel: float
    mean_frobenius: float
    top1_agreement: float | None
    rtol: float | None
    atol: float | None
    reason: str | None
    witness: Witness | None = None
    original_error: Distance | None = None
    converted_error: Distance | None = None
    evidence: Evidence = Evidence()

    @property
    def equivalent(self) -> bool:
        """Whether every sample agrees within the tolerance."""
        return self.reason is None


class DifferenceCollector:
    """Collects one output's differences; memory does not grow with the number of batches.

    Equal means |a - b| <= atol + rtol * |a|, for floating point, and a == b for anything else.
    NaN equals NaN, and an infinity itself. Unless given, rtol depends on the element type (1e-4
    for float32) and atol is rtol times the largest magnitude in the original's output: a sum that
    cancels to nearly nothing still has the rounding of its large terms.

    Args:
        name: the output's name.
        rtol: see above.
        atol: see above.
        judged: whether to hold the differences against a tolerance at all.
        batch: its first size, if the model has that fixed.
    """

    def __init__(
        self,
        name: str,
        rtol: float | None = None,
        atol: float | None = None,
        *,
        judged: bool = True,
        batch: int | None = None,
    ) -> None:
        self._judged = judged
        self._batch = batch
        self._name = name
        self._rtol = rtol
        self._atol = atol
        self._rows = 0
        self._elements = 0
        self._largest = self._max_abs = self._max_rel = self._sum_abs = self._sum_norm = 0.0
        self._agreeing = 0
        self._excess = 0.0  # the largest |a - b| - rtol * |a|
        self._witness: Witness | None = None
        self._worst: tuple[int, Witness | None] = (0, None)
        self._finite, self._low, self._high = 0, math.inf, -math.inf
        self._gaps: Counter[int] = Counter()
        self._shapes: list[tuple[int, ...]] = []
        self._reason: str | None = None
        self._unlike = self._endless = False
        self._shape: tuple[int, ...] = ()
        self._dtype = ""

    def add(self, original: Array, converted: Array) -> None:
        """Take in one batch, samples along axis 0."""
        self._shape, self._dtype = original.shape, original.dtype.name
        self._shapes.append(original.shape)
        if self._unlike:
            return
        self._unlike = original.shape != converted.shape or original.dtype != converted.dtype
        if original.shape != converted.shape:
            self._reason = f"its shape changed from {original.shape} to {converted.shape}"
        elif original.dtype != converted.dtype:
            self._reason = f"its type changed from {original.dtype} to {converted.dtype}"
        else:
            # A scalar, or an output without a batch, is one sample.
            self._add(np.atleast_1d(original), np.atleast_1d(converted))

    def _add(self, original: Array, converted: Array) -> None:
        if not _is_number(original):
            differs = (original != converted).reshape(-1)
            self._differ_at(np.flatnonzero(differs), "differs", original, converted)
            return
        rows = len(original)
        a, b = (array.reshape(rows, array.size // max(rows, 1)) for array in (original, converted))
        squares = np.zeros(rows)
        apart: list[Array] = []
        for across, along in _blocks(*a.shape):
            first = across.start * a.shape[1] + along.start
            pair = _Pair(a[across, along], b[across, along])
            squares[across] += np.square(pair.gap).sum(axis=1)
            apart.append(first + np.flatnonzero(pair.one_sided))
            self._take(pair, partial(self._at, original, converted, first))
        one_sided = np.concatenate(apart or [np.array([], int)])
        self._endless = self._endless or bool(one_sided.size)
        self._differ_at(one_sided, "is NaN or infinite on one side only", original, converted)
        self._sum_norm += float(np.sqrt(squares).sum())
        self._rows += rows
        self._elements += a.size
        if self._is_scores:
            agree = original.argmax(axis=1) == converted.argmax(axis=1)
            self._agreeing += int(agree.sum())

    def _take(self, pair: _Pair, at: Callable[[int], Witness]) -> None:
        """Take in a part of a batch; `at` is the witness for an element of it."""
        gap, size = pair.gap, pair.size
        excess = gap - self._relative_tolerance * size
        if excess.max() > self._excess:
            self._excess = float(excess.max())
            if not self._endless:
                self._witness = at(int(excess.argmax()))
        if gap.max() > self._max_abs and not self._endless:
            self._worst = len(self._shapes) - 1, at(int(gap.argmax()))
        exponents, counts = np.unique(np.frexp(gap[gap > 0])[1], return_counts=True)
        self._gaps.update(dict(zip(exponents.tolist(), counts.tolist(), strict=True)))
        numbers = pair.original[np.isfinite(pair.original)]
        self._finite += numbers.size
        self._low = min(self._low, float(numbers.min(initial=math.inf)))
        self._high = max(self._high, float(numbers.max(initial=-math.inf)))
        self._largest = max(self._largest, float(size.max()))
        self._max_abs = max(self._max_abs, float(gap.max()))
        self._max_rel = max(self._max_rel, float(pair.relative.max()))
        self._sum_abs += float(gap.sum())

    def _differ_at(self, places: Array, how: str, original: Array, converted: Array) -> None:
        """Note the elements of a batch that differ in a way that no tolerance covers."""
        if self._reason is None and places.size:
            self._reason = f"{places.size} of its elements in one batch: it {how}"
            if _is_number(original):
                self._witness = self._at(original, converted, 0, int(places[0]))
                self._worst = len(self._shapes) - 1, self._witness

    def _at(self, original: Array, converted: Array, first: int, at: int) -> Witness:
        row, *position = place_of(first + at, original.shape)
        values = (float(array.reshape(-1)[first + at]) for array in (original, converted))
        return Witness(self._rows + row, tuple(position), *values)

    @property
    def _is_scores(self) -> bool:
        return len(self._shape) == 2 and self._shape[1] > 1 and "float" in self._dtype

    @property
    def _relative_tolerance(self) -> float:
        return DEFAULT_RTOL.get(self._dtype, 0.0) if self._rtol is None else self._rtol

    def result(self) -> OutputDifference:
        """The figures over all batches so far."""
        rtol = self._relative_tolerance
        atol = rtol * self._largest if self._atol is None else self._atol
        reason, witness = self._reason, self._witness
        if reason is None and self._judged and self._excess > atol:
            reason = "it differs by more than the tolerance"
        rows, elements = max(self._rows, 1), max(self._elements, 1)
        return OutputDifference(
            name=self._name,
            shape=(self._batch, *self._shape[1:]) if self._shape else (),
            dtype=self._dtype,
            max_abs=math.inf if self._endless else self._max_abs,
            mean_abs=self._sum_abs / elements,
            max_rel=math.inf if self._endless else self._max_rel,
            mean_frobenius=self._sum_norm / rows,
            top1_agreement=self._agreeing / rows if self._is_scores else None,
            rtol=rtol if self._judged else None,
            atol=atol if self._judged else None,
            reason=reason,
            witness=None if reason is None else witness,
            evidence=self._evidence,
        )

    @property
    def _evidence(self) -> Evidence:
        batch, worst = self._worst
        full = self._shapes[:-1]  # the last batch may have fewer samples
        return Evidence(
            self._elements,
            self._largest,
            self._finite,
            self._low < self._high,
            len(set(full)) > 1 or len({shape[1:] for shape in self._shapes}) > 1,
            worst,
            batch,
            None,
            tuple(sorted(self._gaps.items())),
        )


class _Pair:
    """A part of two arrays, all of it as float64.

    Attributes:
        original: numbers.
        one_sided: where one is NaN or infinite and the other is something else.
        gap: absolute differences; 0 where they are not finite.
        size: magnitudes of the original; likewise.
    """

    def __init__(self, original: Array, converted: Array) -> None:
        a, b = original.astype(np.float64), converted.astype(np.float64)
        finite = np.isfinite(a) & np.isfinite(b)
        self.original = a
        self.one_sided = ~((a == b) | (np.isnan(a) & np.isnan(b))) & ~finite
        self.gap = np.abs(np.subtract(a, b, out=np.zeros_like(a), where=finite))
        if original.dtype.kind in "iu":  # float64 has no more than 53 bits
            self.gap = np.where(original != converted, np.maximum(self.gap, 1), 0)
        self.size = np.abs(np.where(finite, a, 0.0))
        self._scale = np.maximum(self.size, np.abs(np.where(finite, b, 0.0)))

    @property
    def relative(self) -> Array:
        """Differences relative to the larger magnitude of the two."""
        return np.divide(self.gap, self._scale, out=np.zeros_like(self.gap), where=self._scale > 0)


_BLOCK = 2**22
"""Numbers that are compared at once: what is made of them takes a hundred bytes for each."""


def _blocks(rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
    """Cut a matrix into parts of at most `_BLOCK` numbers: rows, or where one is larger, parts.

    With 6 numbers, 3 rows of 2 are one block, and 2 rows of 8 are cut to 6, 2, 6 and 2.
    """
    height = max(_BLOCK // max(columns, 1), 1)
    for row in range(0, rows, height):
        for column in range(0, columns, _BLOCK):
            yield slice(row, row + height), slice(column, column + _BLOCK)


def distance(exact: Array, computed: Array) -> Distance:
    """How far a computed output is from an exact one of the same shape."""
    collector = DifferenceCollector("", judged=False)
    rows = len(np.atleast_1d(exact))
    a, b = (array.reshape(rows, array.size // max(rows, 1)) for array in (exact, computed))
    for place in _blocks(*a.shape):
        collector.add(a[place].astype(np.float64), b[place].astype(np.float64))
    found = collector.result()
    return Distance(found.max_abs, found.max_rel)


def _is_number(array: Array) -> bool:
    # bfloat16 and its kin are of kind "V" to numpy, like raw bytes, and yet convert to float.
    return array.dtype.kind in "biufV"
