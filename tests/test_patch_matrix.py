"""`im2col` and `index_map`: the paper's Algorithm 1 and equation 8, for arrays."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import convfc
from convfc import GeometryError, UsageError

UNTYPED: Any = convfc


def by_hand(
    x: NDArray[Any],
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    pads: list[tuple[int, int]],
) -> NDArray[Any]:
    """A loop over positions, taps and channels, as Algorithm 1 has it."""
    padded = np.pad(x, [*pads, (0, 0)])
    axes = zip(padded.shape, kernel, strides, dilations, strict=False)
    outputs = [(size - d * (k - 1) - 1) // s + 1 for size, k, s, d in axes]
    rows = []
    for position in product(*map(range, outputs)):
        row = []
        for tap in product(*map(range, kernel)):
            at = tuple(
                o * s + i * d for o, s, i, d in zip(position, strides, tap, dilations, strict=True)
            )
            row += list(padded[at])
        rows.append(row)
    return np.array(rows)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_it_is_algorithm_1(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 3))

    def each(low: int, high: int) -> list[int]:
        return data.draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank))

    kernel, strides, dilations = each(1, 3), each(1, 3), each(1, 2)
    pads = list(zip(each(0, 2), each(0, 2), strict=True))
    sizes, channels = each(5, 6), data.draw(st.integers(1, 3))
    x = np.arange(1, 1 + np.prod(sizes) * channels).reshape(*sizes, channels)
    options: dict[str, Any] = {"strides": strides, "dilations": dilations, "padding": pads}
    found = convfc.im2col(x, kernel, **options)
    assert found.dtype == x.dtype
    assert np.array_equal(found, by_hand(x, kernel, strides, dilations, pads))
    places = convfc.index_map(sizes, kernel, channels=channels, **options)
    assert np.array_equal(np.append(x, 0)[places], found)


@pytest.mark.parametrize("padding", ["valid", "same", "same_lower", "half", "full", "causal"])
def test_times_the_filters_it_is_the_convolution(padding: str) -> None:
    rng = np.random.default_rng(1)
    x, kernel = rng.integers(-9, 9, (2, 7, 6, 3)), rng.integers(-9, 9, (3, 2, 3, 4))
    conv = convfc.convolution([3, 2], channels=3, filters=4, strides=[2, 1], padding=padding)
    from convfc.core.im2col import apply
    from convfc.core.numpy_ops import NumpyOps

    lowering = convfc.lower(conv, (7, 6))
    assert isinstance(lowering, convfc.Lowering)
    patches = convfc.im2col(x, [3, 2], strides=[2, 1], padding=padding)
    expected = apply(NumpyOps(kernel), x, lowering)
    assert np.array_equal((patches @ kernel.reshape(-1, 4)).reshape(expected.shape), expected)


def test_what_it_takes() -> None:
    assert convfc.im2col([[1], [2], [3]], [2]).tolist() == [[1, 2], [2, 3]]
    assert convfc.im2col(np.ones((0, 4, 1)), [2]).shape == (0, 3, 2)
    with pytest.raises(UsageError, match="x has 2 axes: with 2 in the kernel it takes"):
        convfc.im2col(np.ones((3, 3)), [2, 2])
    with pytest.raises(UsageError, match="sizes is 3"):
        UNTYPED.index_map(3, [2])
    with pytest.raises(UsageError, match="kernel is 2"):
        UNTYPED.im2col(np.ones((3, 3)), 2)
    with pytest.raises(GeometryError, match="spans 4"):
        convfc.im2col(np.ones((3, 1)), [4])
    with pytest.raises(GeometryError):
        convfc.index_map([3, 3], [2])


def test_what_no_machine_holds_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="more than this machine can hold"):
        convfc.index_map([2**40], [3])
    x = np.broadcast_to(np.float32(0), (2**24, 2**10, 1))
    with pytest.raises(UsageError, match="more than this machine can hold"):
        convfc.im2col(x, [512])
