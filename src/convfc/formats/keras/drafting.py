"""What a file has: its layers and operations, by the configuration in it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from convfc.formats.keras.archive import read_envelope

_CONTAINERS = {"Functional", "Model", "Sequential"}
_NOTHING = {"InputLayer"}


def operators_of(path: Path) -> Counter[str]:
    """How many layers and operations of each kind a file has, those in other layers, too.

    Raises:
        FileError: it cannot be read.
    """
    return operators_in(read_envelope(path).config)


def operators_in(config: Any) -> Counter[str]:
    """The same of a model's configuration.

    >>> inner = {"class_name": "Sequential", "config": {"layers": [{"class_name": "Dense"}]}}
    >>> operators_in({"config": {"layers": [{"class_name": "InputLayer"}, inner]}})
    Counter({'Dense': 1})
    """
    found: Counter[str] = Counter()
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
            layers = value.get("layers")
            inner = [value["layer"]] if isinstance(value.get("layer"), dict) else []
            for layer in [*(layers if isinstance(layers, list) else ()), *inner]:
                name = layer.get("class_name") if isinstance(layer, dict) else None
                if isinstance(name, str) and name not in _CONTAINERS | _NOTHING:
                    found[name] += 1
    return found
