"""The input of a Sequential that does not say what it looks like: its first kernel does in part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py

from convfc.formats.keras.internals import guarded_dataset, weight_names

Config = dict[str, Any]

_KERNELS = {
    **{f"Conv{rank}D": (rank, -2) for rank in (1, 2, 3)},
    **{f"SeparableConv{rank}D": (rank, -2) for rank in (1, 2)},
    **{f"DepthwiseConv{rank}D": (rank, -2) for rank in (1, 2)},
    **{f"Conv{rank}DTranspose": (rank, -1) for rank in (1, 2, 3)},
}
"""By the class of a convolution: its spatial axes, and which axis of its kernel is channels."""

_KEEPS_CHANNELS = (
    *("Activation", "BatchNormalization", "Dropout", "ELU", "GaussianDropout", "GaussianNoise"),
    *("LeakyReLU", "Masking", "ReLU", "ThresholdedReLU"),
    *(
        f"{kind}{rank}D"
        for rank in (1, 2, 3)
        for kind in (
            *("AveragePooling", "Cropping", "MaxPooling", "SpatialDropout"),
            *("UpSampling", "ZeroPadding"),
        )
    ),
)
"""Layers that may stand before a convolution: as many channels and axes come out as go in."""

_FIXES_SIZES = ("Flatten", "Reshape")


def open_input(path: Path, config: Config) -> Config | None:
    """An input layer of as many channels as the first convolution has, its sizes open.

    Args:
        path: an HDF5 file, whose weights have been checked.
        config: of the Sequential in it.

    Returns:
        ``None``: nothing in the file says what comes in, or something in the model needs sizes.
    """
    stack = config["config"]["layers"]
    kinds = [layer["class_name"] for layer in stack]
    ends = next((i for i, kind in enumerate(kinds) if kind.startswith("Global")), len(kinds))
    if any(kind in _FIXES_SIZES for kind in kinds[:ends]):
        return None
    first = next((x for x in stack if x["class_name"] not in _KEEPS_CHANNELS), None)
    if first is None or first["class_name"] not in _KERNELS:
        return None
    rank, axis = _KERNELS[first["class_name"]]
    kernel = _first_weight(path, first["config"]["name"])
    if kernel is None or len(kernel) != rank + 2:
        return None
    channels = kernel[axis] * int(first["config"].get("groups") or 1)
    last = first["config"].get("data_format") != "channels_first"
    sizes: list[int | None] = [None] * rank
    return {
        "class_name": "InputLayer",
        "module": "keras.layers",
        "registered_name": None,
        "config": {
            "batch_shape": [None, *sizes, channels] if last else [None, channels, *sizes],
            "dtype": "float32",
            "name": f"{stack[0]['config']['name']}_input",
        },
    }


def _first_weight(path: Path, layer: str) -> Sequence[int] | None:
    """The shape of a layer's first weight."""
    with h5py.File(path) as file:
        groups = file.get("model_weights")
        if groups is None or layer not in groups:
            return None
        names = weight_names(groups[layer])
        return tuple(guarded_dataset(groups[layer], names[0]).shape) if names else None
