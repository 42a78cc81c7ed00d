"""Window arithmetic against plain enumeration."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convfc.core.builders import convolution, named_padding
from convfc.core.geometry import (
    Convolution,
    Pads,
    Same,
    Window,
)
from convfc.errors import GeometryError

small = st.integers(1, 5)
paddings = st.one_of(st.sampled_from(Same), st.tuples(st.integers(0, 4), st.integers(0, 4)))
windows = st.builds(Window, small, small, st.integers(1, 3), paddings)
sizes = st.integers(1, 20)


def starts(window: Window, size: int, pads: Pads) -> list[int]:
    """Every place where the window fits on the padded axis, found by trying them all."""
    taps = [tap * window.dilation for tap in range(window.kernel)]
    padded = pads[0] + size + pads[1]
    return [start for start in range(0, padded, window.stride) if start + taps[-1] < padded]


@given(windows, sizes)
def test_output_counts_the_places_where_the_window_fits(window: Window, size: int) -> None:
    pads = window.pads(size)
    assert pads is not None
    places = starts(window, size, pads)
    if places:
        assert window.output(size) == len(places)
    else:
        with pytest.raises(GeometryError):
            window.output(size)


@given(windows, sizes)
def test_a_tap_is_a_slice_of_the_padded_axis(window: Window, size: int) -> None:
    pads = window.pads(size)
    assert pads is not None
    axis = list(range(pads[0] + size + pads[1]))
    for tap in range(window.kernel):
        seen = [start + tap * window.dilation for start in starts(window, size, pads)]
        if seen:
            assert axis[window.tap(tap)] == seen


@given(small, small, st.integers(1, 3), sizes, st.sampled_from(Same))
def test_same_gives_the_output_that_the_stride_alone_would(
    kernel: int, stride: int, dilation: int, size: int, same: Same
) -> None:
    window = Window(kernel, stride, dilation, same)
    pads = window.pads(size)
    assert pads is not None
    assert window.output(size) == len(range(0, size, stride))
    # The fewest zeros that do it, the odd one on the side that the rule names.
    more, less = (pads[1], pads[0]) if same is Same.UPPER else pads
    assert more - less in (0, 1)
    if sum(pads):
        assert len(starts(window, size, (pads[0], pads[1] - 1))) < len(range(0, size, stride))


@given(windows)
def test_an_unknown_size_stays_unknown(window: Window) -> None:
    assert window.output(None) is None
    pads = window.pads(None)
    if pads is None:
        assert isinstance(window.padding, Same)
        assert window.stride > 1
    else:
        assert {window.pads(size) for size in range(1, 2 * window.stride + 1)} == {pads}


@given(st.lists(st.tuples(windows, st.integers(1, 8)), min_size=1, max_size=3))
def test_the_index_map_points_at_every_tap_of_every_position(
    axes: list[tuple[Window, int]],
) -> None:
    conv = Convolution(tuple(window for window, _ in axes), 1, 1)
    shape = [size for _, size in axes]
    padding = [window.pads(size) for window, size in axes]
    pads = [pad for pad in padding if pad is not None]
    positions = [starts(window, size, pad) for (window, size), pad in zip(axes, pads, strict=True)]
    if not all(positions):
        return
    padded = [size + sum(pad) for size, pad in zip(shape, pads, strict=True)]
    pixels = np.arange(np.prod(padded)).reshape(padded)
    expected = [
        [
            pixels[tuple(s + t * w.dilation for s, t, (w, _) in zip(start, tap, axes, strict=True))]
            for tap in np.ndindex(*conv.kernel)
        ]
        for start in (
            tuple(p[i] for p, i in zip(positions, index, strict=True))
            for index in np.ndindex(*map(len, positions))
        )
    ]
    assert np.array_equal(conv.index_map(shape), expected)
    assert conv.positions(tuple(shape)) == len(expected)


@pytest.mark.parametrize(
    ("name", "pads"),
    [("valid", (0, 0)), ("half", (2, 2)), ("full", (4, 4)), ("causal", (4, 0))],
)
def test_named_paddings_of_three_taps_with_dilation_two(name: str, pads: Pads) -> None:
    assert named_padding(name, kernel=3, dilation=2) == pads


def test_half_keeps_the_size_of_an_odd_window_and_full_sees_every_overlap() -> None:
    assert Window(5, padding=(2, 2)).output(9) == 9
    full = named_padding("full", 3)
    assert Window(3, padding=full).output(9) == 9 + 2


def test_the_network_of_the_paper() -> None:
    conv = convolution([4, 4], channels=1, filters=128, strides=[2, 2])
    assert conv.output((28, 28)) == (13, 13)
    assert conv.positions((28, 28)) == 169
    assert conv.patch_length == 16
    assert conv.weights == 2048
    assert conv.multiply_adds((28, 28)) == 346_112
    assert conv.positions((28, None)) is None


def test_groups_share_the_kernel_out() -> None:
    conv = convolution([3, 2], channels=6, filters=4, groups=2)
    assert conv.kernel_shape == (3, 2, 3, 4)
    assert conv.weights == 72


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Window(0), "kernel is 0"),
        (lambda: Window(3, stride=0), "stride is 0"),
        (lambda: Window(3, padding=(-1, 0)), "negative"),
        (lambda: Window(3).output(2), "spans 3"),
        (lambda: Convolution((), 1, 1), "spatial axes"),
        (lambda: convolution([3], channels=3, filters=4, groups=2), "evenly"),
        (lambda: convolution([3], channels=0, filters=4), "at least 1"),
        (lambda: convolution([3], channels=1, filters=1, strides=[1, 1]), "2 strides"),
        (lambda: convolution([3], channels=1, filters=1, padding="some"), "unknown padding"),
        (lambda: convolution([3], channels=1, filters=1).output((5, 5)), "2 sizes"),
        (lambda: convolution([3], channels=1, filters=1, padding=[]), "0 pads"),
    ],
)
def test_what_is_no_convolution_is_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(GeometryError, match=message):
        make()
