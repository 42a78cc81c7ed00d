"""TensorFlow functions for which Keras has a stock layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convfc.formats.keras.upgrades.graphs import is_reference
from convfc.formats.keras.upgrades.tensorflow_calls import Call, Stock


def stock_layer(call: Call) -> Stock | None:
    """The stock layer that does what a call does; ``None`` if there is none."""
    make = _LAYERS.get(call.name)
    return make(call) if make else None


def _scaled(scale: Any, offset: Any) -> Stock:
    return Stock("Rescaling", {"scale": scale, "offset": offset})


def _binary(kind: str | None, scaled: Callable[[float, bool], Stock | None]) -> Any:
    """A merging layer for two tensors, or a scaling for a tensor and a number."""

    def make(call: Call) -> Stock | None:
        plain = len(call.operands) == 2 and call.says_only()
        first, second = call.operands if plain else (None, None)
        if is_reference(first) and is_reference(second):
            return Stock(kind, {}) if kind else None
        number, leads = (second, False) if is_reference(first) else (first, True)
        return scaled(number, leads) if isinstance(number, (int, float)) else None

    return make


def _activation(call: Call) -> Stock | None:
    plain = call.says_only("axis") and call.options.get("axis") in (None, -1)
    plain &= len(call.operands) == 1
    return Stock("Activation", {"activation": call.name}) if plain else None


_ACTIVATIONS = (
    *("relu", "relu6", "elu", "selu", "silu", "swish"),
    *("sigmoid", "tanh", "softmax", "softplus", "softsign"),
)


def _sum(call: Call) -> Stock | None:
    fits = len(call.tensors) == len(call.operands) > 1 and call.says_only()
    return Stock("Add", {}) if fits else None


def _nothing(call: Call) -> Stock | None:
    return Stock("Identity", {}) if len(call.tensors) == 1 and call.says_only() else None


def _whole(call: Call) -> Stock | None:
    """A split into a single part, whose only output is its input."""
    sizes = call.options.get("num_or_size_splits")
    one = sizes == 1 or (isinstance(sizes, list) and len(sizes) == 1)
    fits = one and len(call.tensors) == len(call.operands) == 1
    return Stock("Identity", {}) if fits and call.says_only("axis", "num_or_size_splits") else None


def _leaky_relu(call: Call) -> Stock | None:
    slope = call.options.get("alpha", 0.2)
    return Stock("LeakyReLU", {"negative_slope": slope}) if call.says_only("alpha") else None


def _clip(call: Call) -> Stock | None:
    low, high = (call.options.get(f"clip_value_{end}") for end in ("min", "max"))
    fits = low == 0 and isinstance(high, (int, float))
    return Stock("ReLU", {"max_value": high}) if fits else None


def _resize(call: Call) -> Stock | None:
    size, method = call.options.get("size"), call.options.get("method") or "bilinear"
    if not isinstance(size, list) or method not in ("bilinear", "nearest"):
        return None
    if any(call.options.get(name) for name in _OTHER_RESIZING):
        return None
    if not call.options.get("half_pixel_centers", True):
        return None
    config = {"height": size[0], "width": size[1], "interpolation": method}
    return Stock("Resizing", {**config, "data_format": "channels_last"})


_OTHER_RESIZING = ("preserve_aspect_ratio", "antialias", "align_corners")


def _concat(call: Call) -> Stock | None:
    axis = {"axis": call.options.get("axis", -1)}
    return Stock("Concatenate", axis) if len(call.tensors) == len(call.operands) else None


def _pooling(kind: str) -> Callable[[Call], Stock | None]:
    """A reduction over all spatial axes."""

    def make(call: Call) -> Stock | None:
        axes = call.options.get("axis")
        kept = bool(call.options.get("keepdims") or call.options.get("keep_dims"))
        for rank in (1, 2, 3):
            for data_format, start in (("channels_last", 1), ("channels_first", 2)):
                if axes == [*range(start, start + rank)]:
                    config = {"data_format": data_format, "keepdims": kept}
                    return Stock(f"Global{kind}Pooling{rank}D", config)
        return None

    return make


def _pad(call: Call) -> Stock | None:
    pads = call.options.get("paddings")
    zeros = call.options.get("mode", "CONSTANT") == "CONSTANT"
    zeros &= not call.options.get("constant_values")
    if not zeros or not isinstance(pads, list) or not 3 <= len(pads) <= 5:
        return None
    if any(pads[0]) or any(pads[-1]):
        return None
    inner = pads[1:-1]
    padding = inner[0] if len(inner) == 1 else inner
    config = {"padding": padding, "data_format": "channels_last"}
    return Stock(f"ZeroPadding{len(inner)}D", config)


def _transpose(call: Call) -> Stock | None:
    order = call.options.get("perm")
    fits = isinstance(order, list) and order[0] == 0 and not call.options.get("conjugate")
    return Stock("Permute", {"dims": order[1:]}) if fits and order else None


def _reshape(call: Call) -> Stock | None:
    shape = call.options.get("shape")
    fits = isinstance(shape, list) and shape[0] == -1
    return Stock("Reshape", {"target_shape": shape[1:]}) if fits and shape else None


_LAYERS: dict[str, Callable[[Call], Stock | None]] = {
    "multiply": _binary("Multiply", lambda c, _: _scaled(c, 0.0)),
    "add": _binary("Add", lambda c, _: _scaled(1.0, c)),
    "add_n": _sum,
    "identity": _nothing,
    "subtract": _binary(
        "Subtract", lambda c, leads: _scaled(-1.0, c) if leads else _scaled(1.0, -c)
    ),
    "truediv": _binary(None, lambda c, leads: _scaled(1 / c, 0.0) if c and not leads else None),
    "maximum": _binary("Maximum", lambda c, _: Stock("ReLU", {}) if c == 0 else None),
    "minimum": _binary(
        "Minimum",
        lambda c, _: Stock("ReLU", {"max_value": c, "negative_slope": 1.0}) if c >= 0 else None,
    ),
    **dict.fromkeys(_ACTIVATIONS, _activation),
    "leaky_relu": _leaky_relu,
    "clip_by_value": _clip,
    "concat": _concat,
    "reduce_mean": _pooling("Average"),
    "reduce_max": _pooling("Max"),
    "split": _whole,
    "resize": _resize,
    "pad": _pad,
    "transpose": _transpose,
    "reshape": _reshape,
}
"""By the name of TensorFlow's Python function."""
