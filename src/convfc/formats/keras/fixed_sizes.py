"""Open sizes of a model's inputs fixed, in its configuration."""

from __future__ import annotations

import copy
from typing import Any

from convfc.errors import UsageError
from convfc.formats.shapes import Shapes, unlike

Config = dict[str, Any]


def fixed(config: Config, shapes: Shapes) -> Config:
    """A configuration whose input layers have such shapes.

    What a layer was built for (`build_config`) stays as it is: Keras makes its weights of it, which
    no open size determines.

    Raises:
        UsageError: there is no such input, or it takes another shape.
    """
    config = copy.deepcopy(config)
    layers = (layer for layer in config["config"].get("layers", []) if isinstance(layer, dict))
    inputs = {
        layer["config"].get("name"): layer["config"]
        for layer in layers
        if layer.get("class_name") == "InputLayer"
    }
    for name, wanted in shapes.items():
        if name not in inputs:
            there = ", ".join(map(str, inputs)) or "none that says its sizes"
            raise UsageError(f"there is no input '{name}'; there are: {there}")
        own = inputs[name]
        key = next((key for key in _KEYS if key in own), _KEYS[0])
        wrong = unlike(name, own.get(key), wanted)
        if wrong is not None:
            raise UsageError(wrong)
        own[key] = list(wanted)
    return config


_KEYS = ("batch_shape", "batch_input_shape")
"""What an input layer calls its shape, today and in Keras 2."""
