"""The executable meaning of a lowering against a plain loop over windows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convfc.core.builders import convolution
from convfc.core.geometry import Convolution, Same, Window
from convfc.core.im2col import apply, patch_tensor
from convfc.core.limits import default_memory
from convfc.core.lowering import Lowering, PatchMethod, lower
from convfc.core.numpy_ops import NumpyOps, filter_matrices
from convfc.refusals import Refusal
from tests.reference import convolve

paddings = st.one_of(st.sampled_from(Same), st.tuples(st.integers(0, 2), st.integers(0, 2)))
windows = st.builds(Window, st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), paddings)
tiles = st.integers(1, 3).map(lambda k: Window(k, stride=k))


@st.composite
def layers(draw: st.DrawFn) -> tuple[Convolution, tuple[int, ...]]:
    """A convolution with one to three axes and sizes that it fits."""
    rank = draw(st.integers(1, 3))
    axes = draw(st.lists(draw(st.sampled_from([windows, tiles])), min_size=rank, max_size=rank))
    groups = draw(st.integers(1, 3))
    depth, block = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    conv = Convolution(tuple(axes), groups * depth, groups * block, groups)
    sizes = tuple(draw(st.integers(window.extent, window.extent + 3)) for window in axes)
    return conv, sizes


@given(
    layers(),
    st.sampled_from(PatchMethod),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.booleans(),
    st.one_of(st.none(), st.integers(1, 400)),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=400)
def test_every_method_computes_the_convolution(
    layer: tuple[Convolution, tuple[int, ...]],
    method: PatchMethod,
    unknown: list[bool],
    with_bias: bool,
    memory: int | None,
    seed: int,
) -> None:
    conv, sizes = layer
    told = tuple(None if no else size for size, no in zip(sizes, unknown, strict=False))
    lowering = lower(conv, told, method, memory=memory)
    if isinstance(lowering, Refusal):
        assert method not in (PatchMethod.AUTO, PatchMethod.SLICE, PatchMethod.GATHER)
        return
    at_once, one = lowering.block_bytes(4), lowering.patch_matrix[1] * 4
    assert memory is None or at_once is None or at_once <= max(memory, one)
    random = np.random.default_rng(seed)
    # Small integers: every product and sum is exact, so equal means equal.
    x = random.integers(-31, 32, (2, *sizes, conv.channels))
    kernel = random.integers(-31, 32, conv.kernel_shape)
    bias = random.integers(-31, 32, conv.filters) if with_bias else None
    y = apply(NumpyOps(kernel, bias), x, lowering)
    assert np.array_equal(y, convolve(x, kernel, bias, conv))
    patches = patch_tensor(NumpyOps(kernel), x, lowering)
    rows, columns = lowering.patch_matrix
    assert rows in (None, math.prod(patches.shape[1:-1]))
    assert columns == patches.shape[-1]


def test_the_loop_over_windows_itself_by_hand() -> None:
    conv = convolution([2], channels=1, filters=1, padding=[(1, 0)])
    x = np.array([1, 2, 3]).reshape(1, 3, 1)
    kernel = np.array([10, 1]).reshape(2, 1, 1)
    assert convolve(x, kernel, np.array([5]), conv).ravel().tolist() == [6, 17, 28]


def test_one_filter_matrix_is_the_kernels_own_bytes() -> None:
    kernel = np.arange(3 * 2 * 4 * 5, dtype=np.float32).reshape(3, 2, 4, 5)
    matrices = filter_matrices(kernel)
    assert matrices.shape == (1, 24, 5)
    assert np.shares_memory(matrices, kernel)


def chosen(conv: Convolution, *sizes: int | None) -> PatchMethod:
    lowering = lower(conv, sizes)
    assert isinstance(lowering, Lowering)
    return lowering.method


def test_auto_takes_the_cheapest_that_fits() -> None:
    def conv(kernel: int, stride: int = 1, dilation: int = 1) -> Convolution:
        window = Window(kernel, stride, dilation)
        return Convolution((window, Window(1)), 3, 4)

    assert chosen(conv(1), None, 5) is PatchMethod.NONE
    assert chosen(conv(4, 4), 9, 5) is PatchMethod.RESHAPE
    assert chosen(conv(4, 4), None, 5) is PatchMethod.SLICE
    assert chosen(conv(2, 3, 2), 9, 5) is PatchMethod.GATHER  # the extent tiles, the taps do not
    assert chosen(conv(1, 2), 9, 5) is PatchMethod.SLICE
    assert chosen(conv(3), 9, None) is PatchMethod.SLICE


@pytest.mark.parametrize(
    ("patches", "sizes", "reason"),
    [
        (PatchMethod.TAPS, (9, 9), "groups of one channel"),
        (PatchMethod.SHIFT, (9, 9), "stride 1 along the first axis"),
        (PatchMethod.RESHAPE, (9, 9), "kernel == stride"),
        (PatchMethod.GATHER, (9000, 9000), "index map of"),
    ],
)
def test_a_method_that_does_not_fit_is_refused_with_the_reason(
    patches: PatchMethod, sizes: tuple[int | None, ...], reason: str
) -> None:
    conv = convolution([3, 3], channels=2, filters=2, strides=[2, 1], padding="half")
    refusal = lower(conv, sizes, patches)
    assert isinstance(refusal, Refusal)
    assert reason in refusal.reason


def test_a_method_that_the_format_lacks_is_not_chosen() -> None:
    conv = convolution([3], channels=1, filters=1)
    few = frozenset({PatchMethod.SLICE})
    lowering = lower(conv, (9,), available=few)
    assert isinstance(lowering, Lowering)
    assert lowering.method is PatchMethod.SLICE
    refusal = lower(conv, (9,), PatchMethod.GATHER, few)
    assert isinstance(refusal, Refusal)
    assert "format" in refusal.reason
    refusal = lower(conv, (None,), PatchMethod.GATHER, few)
    assert isinstance(refusal, Refusal)
    assert "known before run time" in refusal.reason
    refusal = lower(
        convolution([2], channels=1, filters=1, strides=[2]), (None,), PatchMethod.RESHAPE
    )
    assert isinstance(refusal, Refusal)
    assert "known before run time" in refusal.reason


def test_bytes_of_the_patch_matrix() -> None:
    conv = convolution([4, 4], channels=1, filters=128, strides=[2, 2])
    lowering = lower(conv, (28, 28))
    assert isinstance(lowering, Lowering)
    assert lowering.patch_bytes(4) == 169 * 16 * 4
    assert lowering.input_bytes(4) == 28 * 28 * 4
    assert lowering.filter_matrix == (16, 128)
    pointwise = lower(convolution([1], channels=3, filters=2), (None,))
    assert isinstance(pointwise, Lowering)
    assert pointwise.patch_bytes(4) == 0
    assert pointwise.input_bytes(4) is None


@pytest.mark.parametrize("method", [PatchMethod.GATHER, PatchMethod.ROWS, PatchMethod.SLICE])
def test_large_patches_are_made_in_blocks(method: PatchMethod) -> None:
    conv = convolution([3, 2], channels=2, filters=4, strides=[2, 1], padding="same", groups=2)

    def lowered(memory: int | None, itemsize: int = 4) -> Lowering:
        lowering = lower(conv, (17, 6), method, itemsize=itemsize, memory=memory)
        assert isinstance(lowering, Lowering)
        return lowering

    whole = lowered(None)
    assert whole.block == ()
    assert whole.blocks == 1
    assert whole.block_bytes(4) == whole.patch_bytes(4) == 9 * 6 * 12 * 4
    # Nine rows of 288 bytes. Four at once would do, but three times three is even.
    rows = lowered(4 * 288 + 10)
    assert [rows.block_edges(axis) for axis in range(2)] == [[(0, 3), (3, 6), (6, 9)], []]
    assert rows.block_bytes(4) == 3 * 288
    assert rows.patch_bytes(4) == 9 * 288
    # A half as wide number takes half the memory.
    assert lowered(4 * 288 + 10, itemsize=2).block_edges(0) == [(0, 5), (5, 9)]
    # Not even one row fits: parts of it, and one position if nothing else helps.
    parts = lowered(100)
    assert parts.block == (1, 2)
    assert parts.blocks == 27
    assert lowered(1).block == (1, 1)


def test_without_a_limit_there_are_a_few_blocks_that_the_cache_holds() -> None:
    mib = 2**20
    assert default_memory(8 * mib) == 8 * mib
    assert default_memory(9 * mib) == default_memory(4 * 64 * mib) == 4 * mib
    assert default_memory(1024 * mib) == 16 * mib
    assert default_memory(2**40) == 256 * mib
    conv = convolution([3, 3], channels=64, filters=64, padding="half")
    lowering = lower(conv, (224, 224))
    assert isinstance(lowering, Lowering)
    assert lowering.blocks == 28
    unknown = lower(conv, (None, 224))
    assert isinstance(unknown, Lowering)
    assert unknown.blocks == 1


def test_the_cost_says_what_was_measured() -> None:
    """Which method was fastest with onnxruntime on a processor with AVX-512, two threads."""

    def fastest(channels: int, size: int | None, kernel: int, stride: int = 1) -> PatchMethod:
        conv = convolution([kernel] * 2, channels=channels, filters=32, strides=[stride] * 2)
        return chosen(conv, size, size)

    assert fastest(1, 224, 3) is PatchMethod.SLICE
    assert fastest(3, 224, 7, 2) is PatchMethod.ROWS
    assert fastest(3, 227, 11, 4) is PatchMethod.ROWS
    assert fastest(32, 56, 3) is PatchMethod.GATHER
    assert fastest(64, 56, 3, 2) is PatchMethod.GATHER
    assert fastest(128, 14, 3) is PatchMethod.GATHER
    # Unknown sizes, of which the index map is computed:
    assert fastest(8, None, 3) is PatchMethod.SLICE
    assert fastest(64, None, 3, 2) is PatchMethod.GATHER


def test_few_filters_are_shifted() -> None:
    """With onnxruntime on a processor without AVX-512, one thread."""

    def fastest(kernel: int, channels: int, filters: int, size: int | None) -> PatchMethod:
        return chosen(convolution([kernel] * 2, channels=channels, filters=filters), size, size)

    assert fastest(9, 32, 3, 168) is PatchMethod.SHIFT
    assert fastest(7, 64, 3, 134) is PatchMethod.SHIFT
    assert fastest(3, 64, 64, 114) is PatchMethod.GATHER
    assert fastest(3, 64, 12, None) is PatchMethod.SHIFT
    assert fastest(5, 64, 32, None) is PatchMethod.SHIFT
    assert fastest(3, 128, 128, None) is PatchMethod.GATHER


def test_the_cost_of_depthwise_layers_says_what_was_measured() -> None:
    """With onnxruntime on a processor with AVX-512, one thread."""

    def fastest(channels: int, size: int | None, kernel: int, stride: int = 1) -> PatchMethod:
        window = Window(kernel, stride, 1, (kernel // 2, kernel // 2))
        return chosen(Convolution((window, window), channels, channels, channels), size, size)

    assert fastest(8, 160, 3) is PatchMethod.TAPS
    assert fastest(32, 112, 3) is PatchMethod.TAPS
    assert fastest(96, 112, 3, 2) is PatchMethod.TAPS
    assert fastest(96, 28, 5) is PatchMethod.TAPS
    assert fastest(32, None, 3) is PatchMethod.TAPS
    assert fastest(240, 28, 5) is PatchMethod.GATHER
    assert fastest(192, 28, 3, 2) is PatchMethod.GATHER
    assert fastest(384, 14, 3) is PatchMethod.GATHER
    assert fastest(960, 7, 3) is PatchMethod.GATHER
