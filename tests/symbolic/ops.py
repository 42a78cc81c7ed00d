"""`convfc.core.im2col.Ops` on tensors whose sizes are unknown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convfc.core.bands import bands
from convfc.core.geometry import Convolution, Pads, Sizes, Window
from convfc.core.im2col import Ops
from convfc.core.numpy_ops import filter_matrices
from tests.symbolic.forms import plus
from tests.symbolic.laws import Layer
from tests.symbolic.numbers import Number, choose, divide
from tests.symbolic.paths import Unknown, term
from tests.symbolic.tensors import Tensor, concatenate


class SymbolicOps(Ops[Tensor]):
    """What each operation means, as `NumpyOps` has it."""

    def __init__(self, layer: Layer) -> None:
        conv = layer.convolution
        self._kernel: NDArray[Any] = conv.inner_kernel(layer.kernel)
        self._bias: NDArray[Any] = conv.inner_bias(layer.bias)

    def pad(self, x: Tensor, pads: Sequence[Sequence[Pads]]) -> Tensor:
        for axis, by in enumerate(pads, 1):
            remainder = divide(x.length(axis), len(by))[1]
            before: Number = by[0][0]
            after: Number = by[0][1]
            for case, pad in enumerate(by[1:], 1):
                before = choose(remainder == case, pad[0], before)
                after = choose(remainder == case, pad[1], after)
            x = x.pad(axis, before, after)
        return x

    def slice(self, x: Tensor, slices: Sequence[slice]) -> Tensor:
        for axis, part in enumerate(slices, 1):
            x = x.cut(axis, part.start, part.stop, part.step)
        return x

    def take(self, x: Tensor, index: NDArray[np.int64]) -> Tensor:
        return x.take(1, index.reshape(-1))

    def concatenate(self, xs: Sequence[Tensor], axis: int) -> Tensor:
        return concatenate(xs, axis)

    def bands(self, x: Tensor, window: Window, count: int) -> Iterator[Tensor]:
        outputs = divide(x.length(1) - window.extent, window.stride)[0] + 1
        for seen in bands(window, Unknown(outputs, bool), count):
            yield x.cut(1, term(seen.start), term(seen.stop))

    def reshape(self, x: Tensor, shape: Sequence[int | None]) -> Tensor:
        return x.reshape([None, *shape])

    def transpose(self, x: Tensor, order: Sequence[int]) -> Tensor:
        return x.transpose(order)

    def product(self, patches: Tensor, convolution: Convolution, positions: Sizes) -> Tensor:  # noqa: ARG002 - patches tell
        groups, rank = convolution.groups, convolution.rank
        keep: list[int | None] = [None] * (rank + 1)
        each = convolution.channels // groups
        blocks = patches.reshape([*keep, convolution.taps, groups, each])
        # Groups are a batch of products, each for all positions along the last axis.
        blocks = blocks.transpose([*range(rank), rank + 2, rank, rank + 1, rank + 3])
        blocks = blocks.reshape([*keep, None, convolution.patch_length])
        y = blocks.weigh(filter_matrices(self._kernel, groups))
        y = y.transpose([*range(rank), rank + 1, rank, rank + 2])
        return y.reshape([*keep, convolution.filters]).with_constant(self._bias, plus)
