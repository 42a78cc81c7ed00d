"""The method itself, proved for every size, by the solver z3.

**What is proved.** For each geometry of the enumeration below, and every size n >= 1 of each axis
whose size is unknown (up to 2**60), every batch, every image and every kernel and bias:
`convfc.core.im2col.apply`, run on tensors whose lengths and indices are unknown integers
(`tests.symbolic`), makes as many outputs as the definition has (`tests.symbolic.laws`), and output
o of each filter is the definition's: every tap meets pixel o * stride + dilation * tap - before, or
a zero where that is no pixel; a transposed layer's phases are interleaved and cut as they must be.
Window arithmetic (`Window`, `TransposedWindow`: outputs, pads, which sizes have no output, and what
a block of positions sees) is run on an unknown size as well, once for every way through the code.

**How.** The code that is proved is the one that runs: no formula of it is written down again. An
image is an unknown function of its index, a kernel has a symbol for each number, and an entry of a
tensor is a sum of symbols times pixels. What is to be shown holds unless the solver finds sizes, an
output and a tap for which it does not; those are printed then.

**Enumerated**: kernel, stride, dilation, padding rule (explicit, half, full, SAME with the odd zero
after or before), output padding, groups, patch method, rank, which axes are unknown; the phase of a
transposed layer and the remainder of the size by the stride, which together are all of them.

**Assumed**: z3; `tests.symbolic`, which says what slices, pads, reshapes and joins are; and that a
geometry beyond the enumeration holds no surprise (`make test-slow` enumerates more).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import z3
from numpy.typing import NDArray

from convfc.core.geometry import AnyConvolution, Convolution, Pads, Same, Sizes, Window
from convfc.core.im2col import apply
from convfc.core.lowering import Lowering, PatchMethod, lower
from convfc.core.transposed import TransposedConvolution, TransposedWindow
from tests.symbolic.geometries import (
    AXES,
    BANDED,
    FEW,
    MANY,
    OPEN,
    SAME,
    TRANSPOSED,
    cases,
    one_axis,
    windows,
)
from tests.symbolic.laws import Axis, Layer, sized
from tests.symbolic.numbers import Facts
from tests.symbolic.ops import SymbolicOps
from tests.symbolic.paths import paths, term
from tests.symbolic.tensors import Tensor
from tests.thinned import thinned


def prove(
    conv: AnyConvolution, sizes: Sizes, method: PatchMethod = PatchMethod.AUTO, bands: int = 1
) -> None:
    """Show that `apply` nowhere departs from the definition."""
    lowering = lower(conv, sizes, method)
    assert isinstance(lowering, Lowering)
    lowering = replace(lowering, bands=bands)
    ops = SymbolicOps(Layer(conv))
    for case in sized(conv, sizes):
        facts = case.facts
        case.prove(apply(ops, case.image(facts), lowering), facts)


@pytest.mark.parametrize("window", thinned(cases(FEW, MANY)), ids=repr)
def test_every_tap_meets_its_pixel(window: Window | TransposedWindow) -> None:
    prove(one_axis(window), OPEN)


@pytest.mark.parametrize("groups", thinned([1, 2]))
@pytest.mark.parametrize("sizes", [(None, 4), (4, None), (None, None)], ids=str)
@pytest.mark.parametrize("kind", ["plain", "transposed"])
def test_axes_do_not_mix(kind: str, sizes: Sizes, groups: int) -> None:
    conv = {
        "plain": Convolution(AXES, 2, 4, groups),
        "transposed": TransposedConvolution(TRANSPOSED, 2, 2, groups),
    }[kind]
    prove(conv, sizes)


@pytest.mark.parametrize("which", range(3))
def test_three_axes_of_which_two_are_unknown(which: int) -> None:
    windows = (Window(2, 2, 1, (1, 0)), Window(1, 3), Window(2, 1, 1, Same.UPPER))
    sizes: list[int | None] = [None] * 3
    sizes[which] = 3
    prove(Convolution(windows, 1, 1), tuple(sizes))
    phased = (TransposedWindow(2, 2), TransposedWindow(1, 3), TransposedWindow(3, 1, 1, (1, 1)))
    prove(TransposedConvolution(phased, 1, 1), tuple(sizes))


@pytest.mark.parametrize(
    "method", thinned([PatchMethod.GATHER, PatchMethod.ROWS, PatchMethod.SLICE])
)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", thinned([1, 2, 3]))
def test_methods_that_need_sizes(method: PatchMethod, groups: int, stride: int) -> None:
    axes = (Window(2, 2, 2, Same.UPPER), Window(3, stride, 1, (1, 2)))
    for size in range(2, 6):
        conv = Convolution(axes, 2, 2, groups)
        prove(conv, (7 - size, size), method)


@pytest.mark.parametrize("sizes", [(None, 4), (4, None), (None, None), (4, 3)], ids=str)
@pytest.mark.parametrize("each", [1, 2])
def test_taps(sizes: Sizes, each: int) -> None:
    prove(Convolution(AXES, 2, 2 * each, 2), sizes, PatchMethod.TAPS)


@pytest.mark.parametrize("sizes", thinned([(None, 4), (4, None), (None, None), (4, 3)]), ids=str)
@pytest.mark.parametrize("last", [Window(2, 2, 1, (0, 1)), Window(1, 2)], ids=repr)
def test_shifted_products(sizes: Sizes, last: Window) -> None:
    first = Window(3, 1, 2, (2, 1))
    prove(Convolution((first, last), 2, 2), sizes, PatchMethod.SHIFT)
    phased = (TransposedWindow(3, 2), TransposedWindow(2, 1, 1, (1, 0)))
    prove(TransposedConvolution(phased, 1, 2), sizes, PatchMethod.SHIFT)


@pytest.mark.parametrize("count", thinned([2, 4]))
@pytest.mark.parametrize("window", thinned(cases(BANDED, FEW)), ids=repr)
def test_bands(window: Window | TransposedWindow, count: int) -> None:
    """Of any size, with fewer positions than bands, too."""
    prove(one_axis(window), OPEN, PatchMethod.SLICE, count)


@pytest.mark.parametrize("method", thinned([PatchMethod.GATHER, PatchMethod.SLICE]))
@pytest.mark.parametrize("sizes", thinned([(None, 4), (None, None)]), ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_bands_of_axes(groups: int, sizes: Sizes, method: PatchMethod) -> None:
    prove(Convolution(AXES, 2, 2, groups), sizes, method, 3)


def test_bands_of_shifted_products() -> None:
    axes = (Window(3, 1, 2, (2, 1)), Window(2, 2, 1, (0, 1)))
    prove(Convolution(axes, 2, 2), (None, None), PatchMethod.SHIFT, 3)


@pytest.mark.parametrize("method", [PatchMethod.GATHER, PatchMethod.ROWS])
@pytest.mark.parametrize("sizes", [(None, 4), (4, None), (None, None)], ids=str)
def test_a_gather_with_unknown_sizes(method: PatchMethod, sizes: Sizes) -> None:
    prove(Convolution(AXES, 2, 2, 2), sizes, method)


def test_tiles() -> None:
    for sizes in itertools.product(range(2, 6), range(3, 8)):
        conv = Convolution((Window(2, 2, 1, (1, 0)), Window(3, 3)), 2, 1)
        prove(conv, sizes, PatchMethod.RESHAPE)


def test_what_needs_no_patches() -> None:
    conv = Convolution((Window(1, 1, 1, (1, 2)), Window(1)), 4, 2, 2)
    prove(conv, (None, None), PatchMethod.NONE)


@pytest.mark.parametrize("same", SAME)
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 2, 1), (2, 3, 2), (4, 1, 1)])
def test_a_prescribed_length_of_every_small_size(
    kernel: int, stride: int, dilation: int, same: Same
) -> None:
    """Of unknown sizes, it is the format that crops: see the proofs of ONNX."""
    for size, length in itertools.product(range(1, 6), (1, 4, 7)):
        window = TransposedWindow(kernel, stride, dilation, same, 1, length)
        prove(one_axis(window), (size,))


@pytest.mark.parametrize(
    "window",
    thinned(
        cases(
            [
                *FEW,
                *(
                    TransposedWindow(k, s, 2, same, k % 2, 6)
                    for k, s, same in itertools.product((1, 3, 4), (1, 2, 3), SAME)
                ),
            ],
            MANY,
        )
    ),
    ids=repr,
)
def test_window_arithmetic(window: Window | TransposedWindow) -> None:
    """Which sizes have an output, how many outputs they have, and what is padded or cropped."""
    n, output = z3.Ints("n o")
    axis = Axis(window, n)
    there = z3.And(output >= 0, axis.has(output))
    for path in paths([n >= 1], n, window.output):
        outputs = term(path.found) if path.found is not None else 0
        facts = Facts(*path.claims)
        assert facts.counterexample(there == z3.And(output >= 0, output < outputs)) is None
    for padded in paths([n >= 1], n, window.pads):
        assert padded.found is not None
        same = term(padded.found[0]) == axis.before
        assert Facts(*padded.claims, there).counterexample(same) is None


@pytest.mark.parametrize("window", [w for w in windows(4, 4, 3) if w.padding == (0, 0)], ids=repr)
def test_a_block_of_positions_sees_what_it_needs(window: Window) -> None:
    """Positions from `start` on: as many of the piece that `Window.span` cuts out, no more."""
    length, start, stop, position = z3.Ints("length start stop position")
    last = (stop - 1) * window.stride + window.extent
    facts = Facts(start >= 0, start < stop, last <= length)
    x = Tensor(facts, (length,), (1,), lambda index: {1: index[0]})
    cut = window.span(start, stop)
    piece = x.cut(0, cut.start, cut.stop, cut.step)
    for tap in range(window.kernel):
        part = window.tap(tap)
        seen = piece.cut(0, part.start, part.stop, part.step)
        assert facts.counterexample(seen.length(0) == stop - start) is None
        pixel = (start + position) * window.stride + tap * window.dilation
        assert facts.counterexample(seen.at([position])[1] == pixel) is None


def _short(self: Window, tap: int) -> slice:
    start = tap * self.dilation
    return slice(start, start - self.extent, self.stride)


def _turned(self: Window, size: int | None) -> tuple[Pads, ...]:
    table = _by_remainder(self, size)
    return (*table[1:], table[0])


def _late(self: TransposedWindow, size: int | None) -> slice:
    cut = _cut(self, size)
    return slice(cut.start + 1, None if cut.stop is None else min(cut.stop + 1, -1), 1)


def _low(_: Same, total: int) -> Pads:
    return total // 2, total - total // 2


def _backward(self: TransposedWindow) -> NDArray[np.int64]:
    taps: NDArray[np.int64] = _taps.__get__(self)
    return taps[::-1]


def _ends(self: SymbolicOps, x: Tensor, slices: Sequence[slice]) -> Tensor:
    return _slice(self, x, [slice(s.start, s.stop or 1000, s.step) for s in slices])


_by_remainder, _slice = Window.pads_by_remainder, SymbolicOps.slice
_cut, _taps = TransposedWindow.cut, TransposedWindow.tap_of_phase


@pytest.mark.parametrize(
    ("owner", "name", "wrong", "window"),
    [
        (Window, "tap", _short, Window(3, 2)),
        (Window, "pads_by_remainder", _turned, Window(4, 3, 1, Same.UPPER)),
        (
            Same,
            "split",
            _low,
            Window(2, padding=Same.LOWER),
        ),
        (TransposedWindow, "cut", _late, TransposedWindow(4, 2, 1, (1, 1))),
        (TransposedWindow, "tap_of_phase", property(_backward), TransposedWindow(3, 2)),
        (SymbolicOps, "slice", _ends, Window(2, 2)),
    ],
)
def test_a_wrong_method_is_found(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, wrong: Any, window: Window
) -> None:
    """The twin: each of them is right for some sizes or outputs, and the solver says where not."""
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(AssertionError, match=r"m0 = \d+"):
        prove(one_axis(window), OPEN)


def test_a_band_that_is_too_short_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: right where the bands have no rest, and the solver says where they have one."""

    def wrong(window: Window, output: Any, count: int) -> Iterator[slice]:
        each = output // count
        yield from (window.span(each * n, each * (n + 1)) for n in range(count))

    monkeypatch.setattr("tests.symbolic.ops.bands", wrong)
    with pytest.raises(AssertionError, match=r"m0 = \d+"):
        prove(one_axis(Window(3)), OPEN, PatchMethod.SLICE, 2)


def test_a_wrong_output_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin for window arithmetic: rounded up instead of down."""

    def wrong(self: Window, size: int) -> int:
        return -(-(size - self.kernel) // self.stride) + 1

    monkeypatch.setattr(Window, "output", wrong)
    with pytest.raises(AssertionError, match="n = "):
        test_window_arithmetic(Window(3, 2))
