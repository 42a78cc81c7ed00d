"""The hard_sigmoid of Keras before 3: 0.2x + 0.5 between 0 and 1, which Keras 3 draws flatter."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from convfc.formats.keras.upgrades.classes import arguments

Config = dict[str, Any]

OTHER = (
    "Keras 3 has another hard_sigmoid (x/6 + 0.5) than Keras 2 (0.2x + 0.5), which "
    "--keep-keras2-numbers keeps."
)
KEPT = "keeps the hard_sigmoid of Keras 2 (0.2x + 0.5), as a Rescaling and a ReLU."

_ARGUMENTS = ("activation", "recurrent_activation")
_NAME = "hard_sigmoid"


def users(config: Config) -> list[str]:
    """The names of all layers with a hard_sigmoid."""
    return [given.get("name", kind) for kind, given, _ in _uses(config)]


def keep(config: Config) -> None:
    """Give each layer with a hard_sigmoid a chain of stock layers in its place.

    It computes the same numbers, bit for bit: TensorFlow multiplies, adds and cuts there, too.
    """
    _say_backward_layers(config)
    for _, given, names in list(_uses(config)):
        for name in names:
            given[name] = _as_layers(given.get("dtype"))


def _say_backward_layers(config: Config) -> None:
    """Let each Bidirectional say its second layer, as Keras makes it.

    Both would share an activation that is a layer, and no longer do once they are saved.
    """
    for kind, given in arguments(config):
        if kind == "Bidirectional" and given.get("backward_layer") is None and users(given):
            second = copy.deepcopy(given["layer"])
            name = f"backward_{second['config']['name'].removeprefix('backward_')}"
            second["config"] |= {"go_backwards": True, "name": name}
            given["backward_layer"] = second


def _uses(config: Config) -> Iterator[tuple[str, Config, list[str]]]:
    for kind, given in arguments(config):
        names = [name for name in _ARGUMENTS if given.get(name) == _NAME]
        if names:
            yield kind, given, names


def _as_layers(dtype: Any) -> Config:
    stack = [("Rescaling", {"scale": 0.2, "offset": 0.5}), ("ReLU", {"max_value": 1.0})]
    typed = {} if dtype is None else {"dtype": dtype}
    layers = [
        {
            "class_name": kind,
            "module": "keras.layers",
            "registered_name": None,
            "config": {"name": f"{_NAME}_{kind.lower()}", **typed, **config},
        }
        for kind, config in stack
    ]
    # A Sequential would say another thing of itself once it was called, with an input layer.
    return {
        "class_name": "Pipeline",
        "module": "keras.layers",
        "registered_name": None,
        "config": {"name": _NAME, "layers": layers},
    }
