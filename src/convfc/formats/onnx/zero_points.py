"""What the integers of a quantized convolution stand for: its zero points and scales."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from convfc.core.quantization import Quantization, Scaling
from convfc.errors import UnsupportedModelError
from convfc.formats.onnx.operators import operands
from convfc.formats.onnx.standalone import tensor_of
from convfc.refusals import Code

_SPOKEN = {"zero": "zero point", "scale": "scale", "x": "input", "y": "output"}


def quantization_of(node: ir.Node, filters: int) -> Quantization:
    """Zero points and, of a QLinearConv, the scales.

    Args:
        node: a ConvInteger or QLinearConv.
        filters: how many it has.

    Raises:
        UnsupportedModelError: one of them is computed at run time.
    """
    given = operands(node)

    def known(role: str) -> NDArray[Any]:
        if role not in given:
            return np.zeros((), np.int64)  # only zero points can be left out
        tensor = tensor_of(given[role])
        if tensor is None:
            words = " ".join(_SPOKEN.get(word, word) for word in role.split("_"))
            raise UnsupportedModelError(f"the {words} is computed at run time", code=Code.RUN_TIME)
        return tensor.numpy()

    def each(role: str) -> NDArray[Any]:
        return np.broadcast_to(known(role).reshape(-1), (filters,))

    scaling = None
    if "y_scale" in given:
        zero = known("y_zero")
        limits = np.iinfo(zero.dtype)
        scaling = Scaling(
            float(known("x_scale").item()),
            each("kernel_scale"),
            float(known("y_scale").item()),
            int(zero.item()),
            (int(limits.min), int(limits.max)),
        )
    return Quantization(int(known("x_zero").item()), each("kernel_zero").astype(np.int64), scaling)
