"""Keras layers by chance."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers

from tests.keras_models import Branch


def drawn(rng: np.random.Generator) -> Branch:
    """The shape of a sample and a layer that Keras can run on a CPU."""

    def numbers(count: int, low: int, high: int) -> tuple[int, ...]:
        return tuple(int(number) for number in rng.integers(low, high + 1, count))

    def one_of(*choices: Any) -> Any:
        return choices[rng.integers(len(choices))]

    kind = one_of("Conv", "Conv", "DepthwiseConv", "SeparableConv", "ConvTranspose")
    rank = int(rng.integers(1, 3 if kind in ("DepthwiseConv", "SeparableConv") else 4))
    first = bool(rng.integers(4) == 0)
    kernel = numbers(rank, 1, 4)
    # Keras knows only one of them above 1, and equal strides where they are depthwise.
    strides, dilations = (1,) * rank, (1,) * rank
    if rng.integers(2):
        strides = numbers(rank, 1, 3)
    elif not (kind == "ConvTranspose" and (first or rank == 3)):
        dilations = numbers(rank, 1, 3)
    if kind in ("DepthwiseConv", "SeparableConv"):
        strides = strides[:1] * rank
    groups = one_of(1, 1, 2, 3) if kind == "Conv" else 1
    padding = one_of("valid", "same", *(["causal"] if kind == "Conv" and rank == 1 else []))
    if padding == "causal":
        first = False
    filters = groups * int(rng.integers(1, 4))
    config: dict[str, Any] = {
        "kernel_size": kernel,
        "strides": strides,
        "dilation_rate": dilations,
        "padding": padding,
        # With channels first, Keras adds it to the wrong axis where that is as long.
        "use_bias": bool(rng.integers(2)) and not first,
        "activation": one_of(None, "relu"),
        "data_format": "channels_first" if first else "channels_last",
    }
    if kind == "Conv":
        config |= {"filters": filters, "groups": groups}
    elif kind == "ConvTranspose":
        config |= {"filters": filters}
        added = [int(rng.integers(stride)) for stride in strides]
        # TensorFlow on a CPU runs none beyond the last window where windows leave gaps.
        gaps = any(stride > taps for stride, taps in zip(strides, kernel, strict=True))
        if rng.integers(2) and max(added) > 0 and padding == "valid" and not gaps:
            config["output_padding"] = tuple(added)
    elif kind == "SeparableConv":
        config |= {"filters": filters, "depth_multiplier": int(rng.integers(1, 3))}
    else:
        config |= {"depth_multiplier": int(rng.integers(1, 3))}
    name = f"Conv{rank}DTranspose" if kind == "ConvTranspose" else f"{kind}{rank}D"
    # Longer than any window.
    sizes: list[int | None] = [int(size) for size in rng.integers(10, 14, rank)]
    if rng.integers(3) == 0:
        sizes = [one_of(size, None, None) for size in sizes]
    channels = groups * int(rng.integers(1, 4))
    shape = (channels, *sizes) if first else (*sizes, channels)
    return shape, getattr(layers, name)(**config)
