"""Transposed convolutions: sizes by enumeration, numbers against a plain overlap-add."""

from __future__ import annotations

import math
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from convfc.cli.documents import layer_json
from convfc.cli.shapes_tables import shapes_table
from convfc.core.builders import named_transposed_window
from convfc.core.geometry import Same, Sizes
from convfc.core.im2col import apply
from convfc.core.lowering import Lowering, PatchMethod, lower
from convfc.core.numpy_ops import NumpyOps
from convfc.core.transposed import (
    TransposedConvolution,
    TransposedWindow,
)
from convfc.core.whole import Form
from convfc.errors import GeometryError
from convfc.formats.protocols import Site
from convfc.formats.provenance import LayerRecord
from convfc.planning import ModelShapes, plan
from tests.reference import convolve_transposed

small = st.integers(1, 4)
paddings = st.one_of(st.sampled_from(Same), st.tuples(st.integers(0, 3), st.integers(0, 3)))
windows = st.builds(TransposedWindow, small, small, st.integers(1, 3), paddings, st.integers(0, 4))
fixed = st.builds(
    TransposedWindow,
    small,
    small,
    st.integers(1, 3),
    st.sampled_from(Same),
    st.integers(0, 2),
    st.integers(1, 12),
)


@st.composite
def layers(draw: st.DrawFn) -> tuple[TransposedConvolution, tuple[int, ...]]:
    """A transposed convolution with one to three axes and sizes that leave it an output."""
    rank = draw(st.integers(1, 3))
    axes = draw(st.lists(st.one_of(windows, fixed), min_size=rank, max_size=rank))
    groups = draw(st.integers(1, 3))
    depth, block = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    conv = TransposedConvolution(tuple(axes), groups * depth, groups * block, groups)
    sizes = []
    for window in axes:
        cropped = (0, 0) if isinstance(window.padding, Same) else window.padding
        sizes.append(draw(st.integers(1, 4)) + sum(cropped))
    return conv, tuple(sizes)


@given(layers(), st.booleans(), st.data())
@settings(max_examples=250)
def test_it_is_the_overlap_add(
    layer: tuple[TransposedConvolution, tuple[int, ...]], with_bias: bool, data: st.DataObject
) -> None:
    conv, sizes = layer
    unknown = data.draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes)))
    told: Sizes = tuple(None if no else size for size, no in zip(sizes, unknown, strict=True))
    assert isinstance(lower(conv, told), Lowering)
    found = [lower(conv, told, method) for method in PatchMethod]
    lowering = data.draw(st.sampled_from([one for one in found if isinstance(one, Lowering)]))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x = random.integers(-31, 32, (2, *sizes, conv.channels))
    kernel = random.integers(-31, 32, conv.kernel_shape)
    bias = random.integers(-31, 32, conv.filters) if with_bias else None
    ops = NumpyOps(conv.inner_kernel(kernel), None if bias is None else conv.inner_bias(bias))
    frames = conv.frames(told)
    pieces, rests = x, [slice(None)] * x.ndim
    for axis, frame in frames.items():
        # What a format that knows no size computes while the model runs.
        twice = max(sizes[axis] * conv.windows[axis].stride + frame.shift, 0)
        first, rest = divmod((twice + frame.rounds_up) // 2, conv.windows[axis].stride)
        pads = [(0, 0)] * x.ndim
        pads[axis + 1] = frame.pads
        positions = np.arange(first, first + frame.length)
        pieces = np.pad(pieces, pads).take(positions, axis + 1)  # all of them must be there
        rests[axis + 1] = slice(rest, rest + (conv.windows[axis].length or 0))
    y = apply(ops, pieces, lowering)[tuple(rests)]
    expected = convolve_transposed(x, kernel, bias, conv)
    assert np.array_equal(y, expected)
    assert expected.shape[1:-1] == conv.output(sizes)
    for size, length in zip(lowering.output, expected.shape[1:-1], strict=True):
        assert size in (None, length)


@given(layers())
def test_nothing_is_computed_in_vain_but_for_gaps(
    layer: tuple[TransposedConvolution, tuple[int, ...]],
) -> None:
    conv, sizes = layer
    inner = conv.inner(sizes)
    assert all(window.stride == 1 for window in inner.windows)
    kernel = conv.inner_kernel(np.ones(conv.kernel_shape))
    assert kernel.shape == inner.kernel_shape
    assert kernel.sum() == conv.weights
    if all(w.dilation == 1 and w.kernel % w.stride == 0 for w in conv.windows):
        assert kernel.all()
    if all(w.stride == 1 for w in conv.windows):
        assert kernel.all()


def test_the_overlap_add_itself_by_hand() -> None:
    conv = TransposedConvolution((TransposedWindow(3, 2, 1, (1, 0), 1),), 1, 1)
    x, kernel = np.array([1, 10]).reshape(1, 2, 1), np.array([1, 2, 3]).reshape(3, 1, 1)
    y = convolve_transposed(x, kernel, np.array([5]), conv)
    assert (y - 5).ravel().tolist() == [2, 3 + 10, 20, 30, 0]


@given(small, small, st.integers(1, 3), st.integers(1, 6), st.sampled_from(Same))
def test_same_is_as_long_as_the_stride_alone_would_make_it(
    kernel: int, stride: int, dilation: int, size: int, same: Same
) -> None:
    window = TransposedWindow(kernel, stride, dilation, same)
    gap = max(stride - window.extent, 0)
    assert window.output(size) == size * stride - gap
    assert window.output(None) is None
    filled = named_transposed_window("same", kernel, stride, dilation)
    assert filled.output(size) == size * stride


@given(small, small, st.integers(1, 3), st.integers(1, 6), st.integers(0, 3))
def test_lengths_as_keras_defines_them(
    kernel: int, stride: int, dilation: int, size: int, added: int
) -> None:
    extent = dilation * (kernel - 1) + 1
    all_windows = (size - 1) * stride + extent

    def length(name: str, added: int | None) -> int | None:
        return named_transposed_window(name, kernel, stride, dilation, added).output(size)

    assert length("valid", None) == max(all_windows, size * stride)
    assert length("valid", added) == all_windows + added
    expected = all_windows - 2 * (extent // 2) + added
    if expected > 0:
        assert length("same", added) == expected


def test_what_it_costs_and_how_it_is_recorded() -> None:
    axes = (TransposedWindow(4, 2, padding=(1, 1)), TransposedWindow(3, 3, padding=Same.UPPER))
    conv = TransposedConvolution(axes, 6, 4, 2)
    lowering = lower(conv, (5, 7))
    assert isinstance(lowering, Lowering)
    assert lowering.output == (10, 21)
    assert conv.weights == 4 * 3 * 3 * 4
    assert conv.multiply_adds((5, 7)) == 35 * conv.weights
    # One more position than outputs / stride: the first and last phase are cut.
    assert lowering.patch_matrix == (6 * 7, 2 * 6)
    assert lowering.filter_matrix == (2 * 3, 6 * 2)
    assert LayerRecord.of("up", lowering).geometry == {
        "kernel": [4, 3],
        "strides": [2, 3],
        "dilations": [1, 1],
        "padding": [[1, 1], "same"],
        "channels": 6,
        "filters": 4,
        "groups": 2,
        "sizes": [5, 7],
        "transposed": True,
        "output_padding": [0, 0],
    }


def test_kernel_equal_to_stride_needs_no_patches() -> None:
    conv = TransposedConvolution((TransposedWindow(2, 2), TransposedWindow(3, 3)), 4, 2)
    lowering = lower(conv, (5, None))
    assert isinstance(lowering, Lowering)
    assert lowering.method is PatchMethod.NONE
    assert lowering.patch_bytes(4) == 0
    assert lowering.filter_matrix == (4, math.prod(conv.phases) * 2)


def test_a_prescribed_length_needs_no_size() -> None:
    conv = TransposedConvolution((TransposedWindow(3, 2, 1, Same.LOWER, length=9),), 1, 1)
    assert conv.output((None,)) == (9,)
    lowering = lower(conv, (None,), PatchMethod.GATHER)
    assert isinstance(lowering, Lowering)
    assert lowering.patch_matrix == (5, 2), "of what the output sees, not of the whole input"
    with pytest.raises(GeometryError, match="unknown before run time"):
        conv.inner((None,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TransposedWindow(3, output_padding=-1), "negative"),
        (lambda: TransposedWindow(3, stride=0), "stride is 0"),
        (lambda: TransposedWindow(2, padding=(2, 2)).output(3), "leaves nothing"),
        (lambda: named_transposed_window("full", 3), "unknown padding"),
    ],
)
def test_what_is_no_transposed_convolution_is_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(GeometryError, match=message):
        make()


def test_how_it_is_shown() -> None:
    axes = (TransposedWindow(3, 2, padding=(1, 1), output_padding=1), TransposedWindow(2, 2))
    conv = TransposedConvolution(axes, 3, 4)
    site = Site("up", "ConvTranspose", conv, (5, None))
    (layer,) = plan([site])
    shown = StringIO()
    Console(file=shown, width=200).print(
        shapes_table(ModelShapes([layer], Path("m.onnx"), Form.PATCHES))
    )
    assert "ConvTranspose 3x2, stride 2, pad 1,1,0,0, output padding 1x0" in shown.getvalue()
    assert "5x?x3 → 10x?x4" in shown.getvalue()
    lowering = layer_json(layer)["lowering"]
    assert lowering["transposed"]
    assert lowering["output_padding"] == [1, 0]
    assert lowering["pads"] == [[1, 0], [0, 0]]
    assert lowering["output"] == [10, None]
