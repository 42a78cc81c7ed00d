"""One matrix: on any geometry it is the convolution, and nothing in it is but weights and zeros."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from convfc.core.builders import convolution
from convfc.core.dense import lower_dense
from convfc.core.geometry import AnyConvolution, Convolution, Same, Sizes, Window
from convfc.core.im2col import apply
from convfc.core.lowering import Lowering, lower
from convfc.core.numpy_ops import NumpyOps
from convfc.core.transposed import TransposedConvolution, TransposedWindow
from convfc.core.whole import Whole
from convfc.errors import GeometryError
from convfc.refusals import Refusal

Array = NDArray[Any]


@st.composite
def wholes(draw: st.DrawFn) -> Whole:
    """Any convolution of up to three axes, each with a window of its own."""
    rank, transposed = draw(st.integers(1, 3)), draw(st.booleans())
    windows: list[Any] = []
    sizes: list[int] = []
    same = draw(st.sampled_from([None, Same.UPPER, Same.LOWER]))
    for _ in range(rank):
        kernel, stride, dilation = (draw(st.integers(1, 3)) for _ in range(3))
        pads = same or (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
        sizes.append(draw(st.integers(1, 5)))
        if transposed:
            end = draw(st.integers(0, stride - 1))
            windows.append(TransposedWindow(kernel, stride, dilation, pads, end))
        else:
            windows.append(Window(kernel, stride, dilation, pads))
    groups = draw(st.integers(1, 3))
    counts = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2)), groups
    made = TransposedConvolution if transposed else Convolution
    try:
        return Whole(made(tuple(windows), *counts), tuple(sizes))
    except GeometryError:
        return Whole(convolution([1], channels=counts[0], filters=counts[1]), (2,))


def enumerated(conv: AnyConvolution, sizes: Sizes, kernel: Array) -> Array:
    """M as (sizes.., channels, outputs.., filters), entry by entry, from the definition alone."""
    inputs = [size or 0 for size in sizes]
    outputs = [size or 0 for size in conv.output(sizes)]
    pads = [pad[0] for pad in conv.pads(sizes) or ()]
    found = np.zeros((*inputs, conv.channels, *outputs, conv.filters), kernel.dtype)
    depth, width = conv.channels // conv.groups, conv.filters // conv.groups
    transposed = isinstance(conv, TransposedConvolution)
    for taps in itertools.product(*map(range, conv.kernel)):
        for at in itertools.product(*map(range, inputs if transposed else outputs)):
            axes = zip(at, taps, conv.windows, pads, strict=True)
            there = [o * w.stride + i * w.dilation - pad for o, i, w, pad in axes]
            if all(
                0 <= n < m for n, m in zip(there, outputs if transposed else inputs, strict=True)
            ):
                seen, made = (at, tuple(there)) if transposed else (tuple(there), at)
                for c, o in itertools.product(range(conv.channels), range(conv.filters)):
                    if c // depth == o // width:
                        found[(*seen, c, *made, o)] = kernel[(*taps, c % depth, o)]
    return found


def kernel_of(conv: AnyConvolution) -> Array:
    """Numbers that are all different, none of them 0."""
    return np.arange(1, conv.weights + 1, dtype=np.float32).reshape(conv.kernel_shape)


@given(wholes())
@settings(max_examples=300, deadline=None)
def test_it_is_the_definition_entry_by_entry(whole: Whole) -> None:
    conv, rank = whole.convolution, whole.convolution.rank
    expected = enumerated(conv, whole.sizes, kernel_of(conv))
    last = whole.matrix(kernel_of(conv), channels_first=False)
    assert last.tobytes() == expected.tobytes()
    assert last.shape == whole.shape
    order = [rank, *range(rank), 2 * rank + 1, *range(rank + 1, 2 * rank + 1)]
    first = whole.matrix(kernel_of(conv), channels_first=True)
    assert first.tobytes() == expected.transpose(order).tobytes()
    assert np.count_nonzero(last) == whole.weights


@given(wholes(), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_its_entries_are_the_weights_to_the_bit(whole: Whole, seed: int) -> None:
    """Not a number, minus zero and what is denormal too; and plus zero elsewhere."""
    bits = np.random.default_rng(seed).integers(1, 2**16, whole.convolution.kernel_shape)
    kernel = bits.astype(np.uint16).view(np.float16)
    kernel.reshape(-1)[0] = -0.0
    found = whole.matrix(kernel, channels_first=True).view(np.uint16)
    assert {*found.reshape(-1)} - {0} <= {*kernel.view(np.uint16).reshape(-1)}
    places = whole.matrix(kernel_of(whole.convolution), channels_first=True).astype(np.int64)
    assert (found == np.append(0, kernel.view(np.uint16).reshape(-1))[places]).all()


@given(wholes())
@settings(max_examples=50, deadline=None)
def test_zeros_stand_where_nothing_meets(whole: Whole) -> None:
    """What is zero to a filter of integers is where other numbers have 0."""
    conv = whole.convolution
    kernel, zero = kernel_of(conv).astype(np.int64), np.arange(conv.filters) + 1000
    for channels_first in (True, False):
        found = whole.matrix(kernel, zero, channels_first=channels_first)
        less = whole.bias(zero, channels_first=channels_first)
        expected = whole.matrix(kernel - zero, channels_first=channels_first)
        assert (found - less == expected).all()


@given(wholes(), st.data())
@settings(max_examples=50, deadline=None)
def test_a_tile_is_the_whole_of_what_it_sees(whole: Whole, data: st.DataObject) -> None:
    """Some positions in a row, of an ordinary convolution: their columns are those of a tile."""
    conv = whole.convolution
    if not isinstance(conv, Convolution) or conv.rank > 1:
        conv = convolution([3], channels=2, filters=2, strides=[2])
    conv, sizes = conv.unpadded, (12,)
    (output,) = conv.output(sizes)
    start = data.draw(st.integers(0, (output or 1) - 1))
    stop = data.draw(st.integers(start + 1, output or 1))
    seen = conv.windows[0].span(start, stop)
    tile = Whole(conv, (seen.stop - seen.start,))
    matrix = Whole(conv, sizes).matrix(kernel_of(conv), channels_first=False)
    rows = slice(seen.start * conv.channels, seen.stop * conv.channels)
    columns = slice(start * conv.filters, stop * conv.filters)
    assert (tile.matrix(kernel_of(conv), channels_first=False) == matrix[rows, columns]).all()


def test_it_needs_every_size() -> None:
    with pytest.raises(GeometryError, match="every size"):
        Whole(convolution([3, 3], channels=1, filters=1), (None, 5))


def test_what_is_large_is_only_counted() -> None:
    """Sizes cost nothing: M itself would take 14 TB here."""
    whole = Whole(convolution([3, 3], channels=64, filters=64, padding="same"), (1000, 1000))
    assert whole.shape == (64_000_000, 64_000_000)
    assert whole.weights == 64 * 64 * (3 * 1000 - 2) ** 2
    endless = Whole(convolution([2**17], channels=1, filters=1), (2**18,))
    assert endless.weights is None


@given(wholes(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_apply_is_the_patches_form(whole: Whole, biased: bool) -> None:
    """Flatten, product, back: what the convolution in patches makes, on integers to the bit."""
    conv, sizes = whole.convolution, whole.sizes
    random = np.random.default_rng(0)
    x = random.integers(-9, 10, (2, *whole.inner.kernel, conv.channels))
    kernel, bias = (random.integers(-9, 10, shape) for shape in (conv.kernel_shape, conv.filters))
    patches, dense = lower(conv, sizes), lower_dense(conv, sizes)
    assert isinstance(patches, Lowering)
    assert isinstance(dense, Lowering)
    inner_bias = conv.inner_bias(bias) if biased else None
    expected = apply(NumpyOps(conv.inner_kernel(kernel), inner_bias), x, patches)
    matrix = whole.matrix(kernel, channels_first=False).reshape(dense.inner.kernel_shape)
    whole_bias = whole.bias(bias, channels_first=False) if biased else None
    assert (apply(NumpyOps(matrix, whole_bias), x, dense) == expected).all()


def test_what_nobody_could_hold_is_refused() -> None:
    conv = convolution([3, 3], channels=64, filters=64, padding="same")
    refused = lower_dense(conv, (2**20, 2**20))
    assert isinstance(refused, Refusal)
    assert refused.reason == "it has tensors of more bytes than 64 bits can count"
