"""MaxPool in convolutions and ReLU: max(a, b) = b + relu(a - b), one axis and one tap at a time.

What is pooled must not be negative: then relu(b) = b, so that a difference goes through the same
ReLU as what it is added to, a pad of zeros does no harm, and the whole is a chain. For a window of
two along an axis, each channel becomes two, and the next convolution adds them up:

    x  >  [x1 - x0, x0]  >  ReLU  >  [1, 1]   =   relu(x1 - x0) + x0   =   max(x0, x1)

Results are rounded: they may differ from the largest input in the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from convfc.core.geometry import Window
from convfc.formats.onnx.image_windows import counted, leaves_some, settings_of, windows_of
from convfc.formats.onnx.known_values import Known
from convfc.formats.onnx.moving import is_read
from convfc.formats.onnx.operators import DOMAINS

_NOT_NEGATIVE = ("Relu", "Sigmoid", "Softplus", "Abs", "Exp")


def maximum(known: Known, node: ir.Node) -> bool:
    """Make a MaxPool a chain of convolutions and ReLU; whether that could be."""
    image, taps = known.image(node.inputs[0]), node.attributes.get_ints("kernel_shape", [])
    windows = None if image is None else windows_of(node, taps, image[1:])
    if image is None or windows is None or any(map(is_read, node.outputs[1:])):
        return False
    if node.attributes.get_int("ceil_mode", 0) != 0 and any(map(leaves_some, windows, image[1:])):
        return False
    end = node if counted(windows, image[1:]).min() > 0 else None
    end = None if end is None else _of_nothing_negative(known, end)
    if end is None:
        return False
    chain = _Chain(known, end, image[0], len(windows))
    for axis, window in enumerate(windows):
        if window != Window(1):
            chain.pool(axis, window)
    chain.end()
    return True


def _of_nothing_negative(known: Known, node: ir.Node) -> ir.Node | None:
    """The pool, of which a Relu behind it may as well stand before; ``None`` of other numbers."""
    maker = None if node.inputs[0] is None else node.inputs[0].producer()
    if maker is not None and maker.domain in DOMAINS and maker.op_type in _NOT_NEGATIVE:
        return node
    relu = known.only_reader(node.outputs[0])
    if relu is None or relu.domain not in DOMAINS or relu.op_type != "Relu":
        return None
    pooled = known.before(node, "Relu", node.inputs[:1])
    known.become(relu, "MaxPool", [pooled])
    relu.name = node.name
    known.remove(node)
    return relu


class _Chain:
    """What stands in the place of a MaxPool.

    Attributes:
        sums: of the channels that each one has become, how often each is in the largest so far.
    """

    def __init__(self, known: Known, node: ir.Node, channels: int, rank: int) -> None:
        self._known, self._node = known, node
        self._channels, self._rank = channels, rank
        self._value = node.inputs[0]
        self.sums = np.ones(1)

    def pool(self, axis: int, window: Window) -> None:
        """Take the largest along one axis."""
        along = [window if a == axis else Window(1) for a in range(self._rank)]
        taps = np.zeros([window.kernel, len(self.sums), *(one.kernel for one in along)])
        for tap, kernel in enumerate(taps):
            np.moveaxis(kernel, axis + 1, 0)[tap] = self.sums.reshape(-1, *[1] * (self._rank - 1))
        if window.kernel == 1:
            self._convolve(taps, along)
            self.sums = np.ones(1)
            return
        self._convolve(np.concatenate([taps[1:2] - taps[:1], taps[:1], taps[2:]]), along)
        self._relu()
        for left in range(window.kernel - 2, 0, -1):  # (difference, largest so far, other taps)
            step = np.zeros([1 + left, 2 + left])
            step[0, :3], step[1, :2], step[2:, 3:] = (-1, -1, 1), 1, np.eye(left - 1)
            self._convolve(step.reshape(*step.shape, *[1] * self._rank), [Window(1)] * self._rank)
            self._relu()
        self.sums = np.ones(2)

    def end(self) -> None:
        """Add up what each channel has become."""
        last = self.sums.reshape(1, -1, *[1] * self._rank)
        operands, given = self._operands(last, [Window(1)] * self._rank)
        self._known.become(self._node, "Conv", operands, given)

    def _convolve(self, kernel: NDArray[Any], windows: Sequence[Window]) -> None:
        operands, given = self._operands(kernel, windows)
        self._value = self._known.before(self._node, "Conv", operands, given)

    def _operands(
        self, kernel: NDArray[Any], windows: Sequence[Window]
    ) -> tuple[list[ir.Value | None], dict[str, int | list[int]]]:
        """Operands and attributes of a convolution that treats every channel alike."""
        of_all = np.tile(kernel, [self._channels, *[1] * (kernel.ndim - 1)])
        name = f"{self._node.outputs[0].name}/taps"
        made = self._known.constants({name: of_all}, self._node.outputs[0])
        assert made is not None, "0, 1 and -1 are in every type"  # noqa: S101 - for mypy
        shape = {"kernel_shape": [window.kernel for window in windows]}
        return [self._value, *made], {**settings_of(windows), **shape, "group": self._channels}

    def _relu(self) -> None:
        self._value = self._known.before(self._node, "Relu", [self._value])
