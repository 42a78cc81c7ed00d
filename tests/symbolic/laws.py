"""What a convolution is, for sizes that are unknown: the definition, independent of the code.

An ordinary one: output o is the sum over taps t of the weight of t times pixel
o * stride + t * dilation - before, or zero where that is no pixel, and there is an output o
wherever the window fits the padded axis. A transposed one adds pixel q, times the weight of t, to
output q * stride + t * dilation - before.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import z3
from numpy.typing import NDArray

from convfc.core.geometry import AnyConvolution, Same, Sizes, Window
from convfc.core.transposed import TransposedConvolution, TransposedWindow
from tests.symbolic.forms import Form
from tests.symbolic.numbers import Claim, Facts, Number, both, choose, divide, simple
from tests.symbolic.tensors import Tensor

_IMAGE = z3.Function("x", *[z3.IntSort()] * 6)
"""The number of any image at (batch, three places, channel)."""


def pads(window: Window, size: Number, choose: Choose) -> tuple[Number, Number]:
    """Zeros before and after: for SAME the fewest that give ceil(size / stride) outputs."""
    if not isinstance(window.padding, Same):
        return window.padding
    outputs = divide(size + window.stride - 1, window.stride)[0]
    total = simple((outputs - 1) * window.stride + _extent(window) - size)
    total = choose(total > 0, total, 0)
    half, odd = divide(total, 2)
    upper = window.padding is Same.UPPER
    return (half, half + odd) if upper else (half + odd, half)


Choose = Callable[[Claim, Number, Number], Number]


def crops(window: TransposedWindow, size: Number, choose: Choose) -> tuple[Number, Number]:
    """What is cropped off before all windows added up, and the length of the output.

    A prescribed length, or size * stride for SAME, is cut out of the middle, the odd one off after
    (UPPER) or before; what is too short for the middle of nothing gets nothing before.
    """
    full = simple((size - 1) * window.stride + _extent(window) + window.output_padding)
    if not isinstance(window.padding, Same):
        return window.padding[0], simple(full - sum(window.padding))
    length = window.length
    if length is None:
        length = size * window.stride
        length = choose(length < full, length, full)
    excess = simple(full - length)
    half, odd = divide(choose(excess > 0, excess, 0), 2)
    return half if window.padding is Same.UPPER else simple(half + odd), length


def _extent(window: Window | TransposedWindow) -> int:
    return (window.kernel - 1) * window.dilation + 1


@dataclass(frozen=True)
class Axis:
    """One axis: where the outputs are, and what they see."""

    window: Window | TransposedWindow
    size: Number
    choose: Choose = choose

    @property
    def before(self) -> Number:
        """What is padded, or cropped off, before."""
        window = self.window
        if isinstance(window, TransposedWindow):
            return crops(window, self.size, self.choose)[0]
        return pads(window, self.size, self.choose)[0]

    def has(self, output: Number) -> Claim:
        """Whether there is such an output (which is not negative)."""
        window = self.window
        if isinstance(window, TransposedWindow):
            return output < crops(window, self.size, self.choose)[1]
        before, after = pads(window, self.size, self.choose)
        return output * window.stride + _extent(window) <= before + self.size + after

    def sees(self, output: Number, tap: int) -> tuple[Claim, Number]:
        """Which pixel a tap meets there, and whether there is one."""
        window = self.window
        if isinstance(window, TransposedWindow):
            landed = output + self.before - tap * window.dilation
            pixel, rest = divide(landed, window.stride)
            there: Claim = rest == 0
        else:
            pixel = output * window.stride + tap * window.dilation - self.before
            there = True
        pixel = simple(pixel)
        return both(there, pixel >= 0, pixel < self.size), pixel


@dataclass(frozen=True)
class Layer:
    """A convolution with a weight of its own for each number of the kernel and the bias.

    Weights are powers of two: no two of them, added or multiplied, make a third by chance.
    """

    convolution: AnyConvolution

    @property
    def kernel(self) -> NDArray[Any]:
        """Of `AnyConvolution.kernel_shape`."""
        shape = self.convolution.kernel_shape
        kernel: NDArray[Any] = 2.0 ** np.arange(1, 1 + math.prod(shape))
        return kernel.reshape(shape)

    @property
    def bias(self) -> NDArray[Any]:
        """One weight per filter."""
        bias: NDArray[Any] = 2.0 ** np.arange(1, 1 + self.convolution.filters)
        return bias * float(self.kernel.max())

    def entry(
        self, axes: Sequence[Axis], batch: Number, outputs: Sequence[Number], filter_: int
    ) -> Form:
        """What the definition makes of an image."""
        conv = self.convolution
        depth = conv.channels // conv.groups
        first = filter_ // (conv.filters // conv.groups) * depth
        form: Form = {int(self.bias[filter_]): 1}
        for tap in itertools.product(*map(range, conv.kernel)):
            seen = [axis.sees(o, t) for axis, o, t in zip(axes, outputs, tap, strict=True)]
            there = both(*(claim for claim, _ in seen))
            for channel in range(depth):
                pixel = image(batch, [place for _, place in seen], first + channel)
                weight = int(self.kernel[(*tap, channel, filter_)])
                form[weight] = choose(there, pixel, 0)
        return form


def _windows(conv: AnyConvolution) -> Sequence[Window | TransposedWindow]:
    return [w for w in conv.windows if isinstance(w, Window | TransposedWindow)]


def image(batch: Number, places: Sequence[Number], channel: Number) -> Number:
    """A number of the image."""
    return _IMAGE(batch, *places, *[0] * (3 - len(places)), channel)


def phases(convolution: AnyConvolution) -> tuple[int, ...]:
    """Outputs per axis that are alike but for one number."""
    if isinstance(convolution, TransposedConvolution):
        return tuple(window.stride for window in convolution.windows)
    return (1,) * convolution.rank


@dataclass(frozen=True)
class Sized:
    """A convolution on sizes of which some are unknown.

    Attributes:
        convolution: the geometry.
        told: the sizes as the code is told.
        sizes: with terms for those that are not known.
        given: what is so in this case.
    """

    convolution: AnyConvolution
    told: Sizes
    sizes: tuple[Number, ...]
    given: tuple[Claim, ...]

    @property
    def facts(self) -> Facts:
        """Every size is positive, has an output, and is a number that a file can hold."""
        axes = [Axis(w, n) for w, n in zip(_windows(self.convolution), self.sizes, strict=True)]
        claims = [claim for axis in axes for claim in (axis.size >= 1, axis.has(0))]
        opened = [n for n, size in zip(self.sizes, self.told, strict=True) if size is None]
        claims += [z3.Int("batch") >= 1, *(n <= 2**60 for n in opened), *self.given]
        return Facts(*(claim for claim in claims if claim is not True))

    def image(self, facts: Facts) -> Tensor:
        """(batch, sizes.., channels), any."""
        lengths = (z3.Int("batch"), *self.sizes, self.convolution.channels)
        return Tensor(
            facts,
            lengths,
            (1,) * len(lengths),
            lambda index: {1: image(index[0], index[1:-1], index[-1])},
        )

    def prove(self, computed: Tensor, facts: Facts) -> None:
        """Show that what was computed is what the definition says.

        Raises:
            AssertionError: it is not; with sizes, and an output that is there and wrong, or is not
                there and should be.
        """
        conv, axes = self.convolution, []
        assert computed.rank == conv.rank + 2
        lengths = [computed.length(axis) for axis in range(computed.rank)]
        wrong = [lengths[0] != z3.Int("batch"), lengths[-1] != conv.filters]
        places = []
        for axis, (window, size) in enumerate(zip(_windows(conv), self.sizes, strict=True)):
            law, length = Axis(window, size, facts.choose), lengths[axis + 1]
            outputs = z3.Int(f"o{axis}")
            axes.append(law)
            wrong.append(both(outputs >= 0, law.has(outputs) != (outputs < length)))
            if isinstance(length, int):
                places.append([(output, True) for output in range(length)])
                continue
            turns = phases(conv)[axis]
            counted = [turns * outputs + phase if turns > 1 else outputs for phase in range(turns)]
            places.append([(o, both(outputs >= 0, law.has(o))) for o in counted])
        layer, batch = Layer(conv), z3.Int("b")
        for position in itertools.product(*places):
            there = both(batch >= 0, batch < z3.Int("batch"), *(claim for _, claim in position))
            outputs = [output for output, _ in position]
            for filter_ in range(conv.filters):
                got = computed.at([batch, *outputs, filter_])
                want = layer.entry(axes, batch, outputs, filter_)
                unlike = _unlike(got, want)
                if unlike:
                    wrong.append(both(there, z3.Or(*unlike)))
        facts.demand(z3.Not(z3.Or(*wrong)), f"{conv} on {self.told}")


def _unlike(a: Form, b: Form) -> list[Claim]:
    """Where entries differ: a claim for each weight for which that can be."""
    pairs = [(a.get(weight, 0), b.get(weight, 0)) for weight in {**a, **b}]
    claims = [x is not y and x != y for x, y in pairs]
    return [claim for claim in claims if claim is not False]


def sized(convolution: AnyConvolution, sizes: Sizes) -> list[Sized]:
    """All sizes, case by case: what is computed from a size is linear in each case."""
    axes = zip(_windows(convolution), sizes, strict=True)
    cases = [_cases(window, size, f"m{axis}") for axis, (window, size) in enumerate(axes)]
    every = [
        Sized(convolution, sizes, tuple(size for size, _ in case), tuple(c for _, c in case))
        for case in itertools.product(*cases)
    ]
    return [case for case in every if case.facts.possible]


def _cases(
    window: Window | TransposedWindow, told: int | None, name: str
) -> list[tuple[Number, Claim]]:
    """Sizes by their remainder, and by whether anything is cropped off, where that depends."""
    if told is not None:
        return [(told, True)]
    if isinstance(window, Window):
        return [(simple(window.stride * z3.Int(name) + r), True) for r in range(window.stride)]
    if window.length is None:
        return [(z3.Int(name), True)]
    enough = -(-(window.length - _extent(window) - window.output_padding) // window.stride) + 1
    halves = [2 * z3.Int(name), 2 * z3.Int(name) + 1]
    return [(n, claim) for n in halves for claim in (n < enough, n >= enough)]
