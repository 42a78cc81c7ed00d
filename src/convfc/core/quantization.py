"""What the integers of a quantized layer stand for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scaling:
    """What becomes of the integer sums s of a quantized layer with filters f.

    y = s * x_scale * kernel_scales[f] / y_scale, rounded, plus y_zero, kept within the limits.

    Attributes:
        x_scale: of the input.
        kernel_scales: (filters,).
        y_scale: of the output.
        y_zero: the integer that stands for 0 there.
        limits: the smallest and the largest integer of the output's type.
    """

    x_scale: float
    kernel_scales: NDArray[np.float32]
    y_scale: float
    y_zero: int
    limits: tuple[int, int]


@dataclass(frozen=True)
class Quantization:
    """Which integers of a quantized layer stand for 0; pads are the input's.

    Attributes:
        x_zero: of the input.
        kernel_zeros: (filters,) integers.
        scaling: what follows the sums; ``None``: they are the output.
    """

    x_zero: int
    kernel_zeros: NDArray[np.int64]
    scaling: Scaling | None = None
