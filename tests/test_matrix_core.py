"""Norms and sparse matrices against the matrix that is built, on any geometry."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from convfc.core.builders import convolution
from convfc.core.geometry import Same
from convfc.core.linear_map import LinearMap
from convfc.core.numpy_ops import filter_matrices
from convfc.core.sparse import sparse_matrix
from convfc.core.spectrum import largest_singular, norm_of, spectrum_of
from convfc.core.whole import Whole
from tests.test_dense_core import wholes

Array = NDArray[Any]
seeds = st.integers(0, 2**32 - 1)


def normal(whole: Whole, seed: int) -> Array:
    kernel = np.random.default_rng(seed).standard_normal(whole.convolution.kernel_shape)
    return np.asarray(kernel)


@settings(max_examples=60)
@given(wholes(), seeds, st.booleans())
def test_the_map_and_the_sparse_matrix_are_the_matrix(
    whole: Whole, seed: int, channels_first: bool
) -> None:
    kernel = normal(whole, seed)
    matrix = whole.matrix(kernel, channels_first=False)
    linear, random = LinearMap(whole, kernel), np.random.default_rng(seed)
    x, y = random.standard_normal(linear.inputs), random.standard_normal(linear.outputs)
    np.testing.assert_allclose(linear.forward(x).ravel(), x.ravel() @ matrix, atol=1e-12)
    np.testing.assert_allclose(linear.backward(y).ravel(), matrix @ y.ravel(), atol=1e-12)
    sparse = sparse_matrix(whole, kernel, channels_first=channels_first)
    built = whole.matrix(kernel, channels_first=channels_first)
    assert np.array_equal(sparse.dense(), built)
    assert len(sparse.data) == whole.weights
    assert all((np.diff(sparse.indices[a:b]) > 0).all() for a, b in pairwise(sparse.indptr))


@settings(max_examples=60)
@given(wholes(), seeds)
def test_norms_are_those_of_the_matrices_that_are_built(whole: Whole, seed: int) -> None:
    conv, kernel = whole.convolution, normal(whole, seed)
    blocks = filter_matrices(conv.inner_kernel(kernel), conv.groups)
    spectrum = spectrum_of(blocks)
    groups, rows, columns = blocks.shape
    diagonal = np.zeros((groups, rows, groups, columns))
    diagonal[np.arange(groups), :, np.arange(groups)] = blocks
    filters = diagonal.reshape(groups * rows, -1)
    assert filters.shape == spectrum.shape
    values = np.linalg.svd(filters, compute_uv=False)
    np.testing.assert_allclose(spectrum.values, values, atol=1e-12)
    assert spectrum.rank == np.linalg.matrix_rank(filters)
    assert spectrum.frobenius == pytest.approx(np.linalg.norm(filters))
    found = norm_of(conv, whole.sizes, kernel, spectrum.largest)
    assert found is not None
    largest = np.linalg.norm(whole.matrix(kernel, channels_first=True), 2)
    assert found.value == pytest.approx(largest, rel=1e-6, abs=1e-12)


def test_taps_in_several_blocks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = convolution([3, 2], channels=4, filters=6, padding="same", groups=2)
    linear = LinearMap(Whole(conv, (5, 4)), normal(Whole(conv, (5, 4)), 1))
    x = np.random.default_rng(2).standard_normal(linear.inputs)
    y, back = linear.forward(x), linear.backward(linear.forward(x))
    monkeypatch.setattr("convfc.core.linear_map._AT_ONCE", 200)
    np.testing.assert_allclose(linear.forward(x), y)
    np.testing.assert_allclose(linear.backward(y), back)


def test_a_norm_says_how_near_it_is() -> None:
    conv = convolution([3, 3], channels=2, filters=3, padding=Same.UPPER.value)
    whole = Whole(conv, (9, 8))
    kernel = normal(whole, 3)
    largest = np.linalg.norm(whole.matrix(kernel, channels_first=True), 2)
    early = largest_singular(LinearMap(whole, kernel), most=4)
    assert early.steps == 4
    assert early.error > 1e-3 * early.value
    assert early.value < largest * (1 - 1e-6)
    late = largest_singular(LinearMap(whole, kernel))
    assert late.error <= 1e-4 * late.value
    assert late.value == pytest.approx(largest, rel=1e-8)


def test_numbers_of_any_size_have_a_norm() -> None:
    conv = convolution([3], channels=1, filters=2)
    kernel = normal(Whole(conv, (6,)), 4)
    one, huge, tiny = (norm_of(conv, (6,), kernel * scale, 1.0) for scale in (1, 1e200, 1e-200))
    assert one is not None
    assert huge is not None
    assert tiny is not None
    assert (huge.value / 1e200, tiny.value / 1e-200) == pytest.approx((one.value, one.value))


def test_patches_that_share_nothing_need_no_search() -> None:
    conv = convolution([2, 3], channels=2, filters=4, strides=[2, 3])
    found = norm_of(conv, (5, 7), normal(Whole(conv, (5, 7)), 5), largest=7.0)
    assert (found.value, found.steps) == (7.0, 0) if found else False
    overlapping = convolution([2, 3], channels=2, filters=4, strides=[2, 2])
    found = norm_of(overlapping, (5, 7), normal(Whole(overlapping, (5, 7)), 5), largest=7.0)
    assert found is not None
    assert found.steps > 0


def test_what_has_no_norm() -> None:
    conv = convolution([3], channels=1, filters=1)
    assert norm_of(conv, (None,), np.ones((3, 1, 1)), 1.0) is None
    zero = spectrum_of(np.zeros((1, 3, 2)))
    assert (zero.rank, zero.stable_rank, zero.condition, zero.zeros) == (0, 0.0, np.inf, 1.0)
    found = norm_of(conv, (5,), np.zeros((3, 1, 1)), 0.0)
    assert found is not None
    assert found.value == 0


@pytest.mark.parametrize(("dtype", "rank"), [(np.float32, 2), (np.float64, 3)])
def test_a_rank_goes_by_the_type_that_numbers_are_stored_in(dtype: Any, rank: int) -> None:
    """float32 has rounded a matrix of rank 2; in wider types, those are exact numbers of rank 3."""
    random = np.random.default_rng(6)
    low = (random.standard_normal((40, 2)) @ random.standard_normal((2, 3))).astype(np.float32)
    found = spectrum_of(low.astype(dtype)[None])
    assert found.rank == rank
