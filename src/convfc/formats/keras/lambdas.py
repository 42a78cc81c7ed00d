"""What a Lambda that holds code seems to do, from the names in it; the code is never run."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

_STOCK = {
    **dict.fromkeys(("l2_normalize", "normalize"), "UnitNormalization"),
    **dict.fromkeys(("expand_dims", "squeeze", "reshape", "flatten"), "Reshape"),
    **dict.fromkeys(("permute_dimensions", "transpose"), "Permute"),
    **dict.fromkeys(("resize", "resize_bilinear", "resize_images"), "Resizing"),
    **dict.fromkeys(("relu", "relu6", "sigmoid", "softmax", "softplus", "tanh"), "Activation"),
    **dict.fromkeys(("concat", "concatenate"), "Concatenate"),
    **dict.fromkeys(("mean", "reduce_mean"), "GlobalAveragePooling2D"),
    **dict.fromkeys(("max", "reduce_max"), "GlobalMaxPooling2D"),
    **dict.fromkeys(("batch_dot", "dot"), "Dot"),
    **dict.fromkeys(("pad", "spatial_2d_padding"), "ZeroPadding2D"),
    "preprocess_input": "Rescaling",
}
"""What people call in a Lambda, and the layer that does it; where the rank decides, the usual."""

_OPERATIONS = (
    *("abs", "depth_to_space", "exp", "log", "split"),
    *("sqrt", "square", "stack", "sum", "tile"),
)
"""What has no layer, and is an operation of Keras 3 by that name."""


_SAVE = "save the model again"


def layers_with_code(config: Any) -> Iterator[tuple[str, str]]:
    """The Lambda layers whose function is code, and not a name.

    Returns:
        The name of each, and what to do about it.
    """
    if isinstance(config, dict):
        inner = config.get("config")
        if (
            config.get("class_name") == "Lambda"
            and isinstance(inner, dict)
            and not isinstance(inner.get("function"), str)
        ):
            yield inner.get("name", "lambda"), _instead(inner.get("function"))
        config = list(config.values())
    if isinstance(config, list):
        for value in config:
            yield from layers_with_code(value)


def _instead(function: Any) -> str:
    names = _names(function)
    for known, layer in _STOCK.items():
        if known in names:
            return f"it seems to call {known!r}: put the layer {layer} in its place and {_SAVE}"
    for known in _OPERATIONS:
        if known in names:
            return f"it seems to call {known!r}: call keras.ops.{known} instead and {_SAVE}"
    return f"replace it by a stock layer and {_SAVE}"


def _names(function: Any) -> set[str]:
    """All that may be a name in the compiled code, which is in base64; it is not unmarshalled."""
    if isinstance(function, dict):
        function = function.get("config")
    if isinstance(function, dict):
        function = function.get("code")
    text = function[0] if isinstance(function, list) and function else function
    if not isinstance(text, str):
        return set()
    try:
        code = base64.b64decode(text)
    except (binascii.Error, ValueError):
        return set()
    return {name.decode() for name in re.findall(rb"[A-Za-z_][A-Za-z0-9_]{1,40}", code)}
