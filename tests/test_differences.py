"""The figures of a comparison against plain numpy, and everything that must not pass."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from convfc.core.arrays import array_difference
from convfc.verification import differences
from convfc.verification.differences import DifferenceCollector, OutputDifference

Array = NDArray[Any]
RANDOM = np.random.default_rng(5)


def compare(
    a: Array, b: Array, batches: int = 1, rtol: float | None = None, atol: float | None = None
) -> OutputDifference:
    collector = DifferenceCollector("y", rtol, atol)
    for x, y in zip(np.array_split(a, batches), np.array_split(b, batches), strict=True):
        collector.add(x, y)
    return collector.result()


@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize("block", [2**22, 30, 12, 5, 1])
def test_the_figures_do_not_depend_on_batches_and_blocks(
    batches: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(differences, "_BLOCK", block)
    a = RANDOM.normal(size=(10, 4, 3))
    b = a + RANDOM.normal(size=a.shape) * 1e-12
    out = compare(a, b, batches)
    gap = abs(a - b)
    assert out.equivalent
    assert out.shape == (None, 4, 3)
    assert out.max_abs == gap.max()
    assert out.mean_abs == pytest.approx(gap.mean())
    assert out.max_rel == (gap / np.maximum(abs(a), abs(b))).max()
    norms = [np.linalg.norm(x - y) for x, y in zip(a, b, strict=True)]
    assert out.mean_frobenius == pytest.approx(np.mean(norms))
    assert out.atol == out.rtol * abs(a).max()
    assert out.top1_agreement is None


def test_top1_agreement_of_scores() -> None:
    a = np.array([[0.1, 0.9], [0.8, 0.2], [0.5, 0.6]], np.float32)
    b = a[:, ::-1].copy()
    b[0] = a[0]
    assert compare(a, b, 2).top1_agreement == pytest.approx(1 / 3)
    assert compare(a[:, :1], b[:, :1]).top1_agreement is None


@pytest.mark.parametrize(
    "dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int32, np.bool_]
)
@pytest.mark.parametrize("block", [2**22, 7, 3])
def test_equal_is_equivalent_and_one_wrong_element_is_not(
    dtype: type, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(differences, "_BLOCK", block)
    a: Array = RANDOM.normal(size=(6, 5)).round(2).astype(dtype)
    assert compare(a, a.copy(), 2).equivalent
    b = a.copy()
    b[4, 2] = not a[4, 2] if dtype is np.bool_ else a[4, 2] + 1
    out = compare(a, b, 2)
    assert not out.equivalent
    assert out.witness is not None
    assert (out.witness.sample, out.witness.position) == (4, (2,))
    assert (out.witness.original, out.witness.converted) == (float(a[4, 2]), float(b[4, 2]))


def test_the_tolerance_counts_the_magnitude_of_the_output() -> None:
    a = np.array([[1000.0, 0.0]], np.float32)
    b = np.array([[1000.0, 0.01]], np.float32)
    assert compare(a, b).equivalent, "0.01 is rounding next to sums of a thousand"
    assert not compare(a / 1000, b, rtol=1e-4).equivalent
    assert not compare(a, b, atol=1e-3).equivalent
    assert compare(a, b, rtol=0.0, atol=0.011).equivalent


def test_a_place_is_where_the_number_is_that_is_not_finite() -> None:
    collector = DifferenceCollector("y", judged=False)
    a = np.ones((2, 3), np.float32)
    collector.add(a, np.where(np.arange(3) == 1, np.float32(np.inf), a))
    collector.add(a, a + 5)
    out = collector.result()
    for place in (out.witness, out.evidence.worst):
        assert place is not None
        assert (place.sample, place.position, place.converted) == (0, (1,), np.inf)
    assert out.evidence.batch == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_on_one_side_only(bad: float) -> None:
    a = np.ones((3, 2), np.float32)
    b = a.copy()
    b[1, 1] = bad
    for x, y in ((a, b), (b, a)):
        out = compare(x, y, rtol=1e9, atol=1e9)
        assert not out.equivalent
        assert "one side only" in str(out.reason)
        assert out.witness is not None
        assert (out.witness.sample, out.witness.position) == (1, (1,))
        assert "1 of its elements" in str(out.reason)
    assert compare(b, b.copy()).equivalent
    assert not compare(b, np.where(np.isfinite(b), b, -2 * b)).equivalent or np.isnan(bad)


def test_a_changed_shape_or_type() -> None:
    a = np.ones((3, 2), np.float32)
    assert "shape" in str(compare(a, a[:, :1]).reason)
    assert "type" in str(compare(a, a.astype(np.float64)).reason)


def test_text() -> None:
    a = np.array([["yes"], ["no"]], object)
    assert compare(a, a.copy()).equivalent
    assert not compare(a, a[::-1]).equivalent


def test_scalars_and_empty_outputs() -> None:
    for a in (np.float32(2), np.zeros((0, 3), np.float32)):
        collector = DifferenceCollector("y")
        collector.add(np.asarray(a), np.asarray(a))
        assert collector.result().equivalent


@pytest.mark.parametrize("a", [np.arange(6.0).reshape(2, 3), np.array(["yes", "no"], object)])
def test_the_first_element_that_differs_in_its_bits(a: Array) -> None:
    assert array_difference(a, a.copy()) is None
    assert array_difference(a[:0], a[:0].copy()) is None
    b = a.copy()
    b.flat[1] = a.flat[0]
    assert array_difference(a, b) == f"differs in element 1: {a.flat[1]} became {a.flat[0]}"
    assert array_difference(a, a[:1]) == "has another type or shape"


def test_minus_zero_is_another_number_and_nan_is_itself() -> None:
    assert array_difference(np.array([0.0]), np.array([-0.0])) is not None
    assert array_difference(np.array([np.nan]), np.array([np.nan])) is None
