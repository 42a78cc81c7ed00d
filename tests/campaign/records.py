"""Forges the record that says how a file was converted."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

from tests.campaign.trees import change_somewhere


def forged(text: str, other: str, random: Random) -> tuple[str, str]:
    """Another record for the same file, and what is wrong with it.

    Args:
        text: the right one.
        other: that of another conversion of the same model, or of another model.
        random: where the choices come from.
    """
    record = json.loads(text)
    layers: list[Any] = record["layers"]
    if not (isinstance(layers, list) and layers and all(isinstance(one, dict) for one in layers)):
        record, where = change_somewhere(record, random)  # it was forged before
        return json.dumps(record, separators=(",", ":")), f"any: {where}"
    how = random.choice(["method", "block", "geometry", "sizes", "lost", "name", "twice", "made up",
                         "other", "version", "source", "any", "any", "any"])  # fmt: skip
    layer = random.choice(layers)
    if how == "method":
        layer["patches"] = random.choice(
            ["none", "reshape", "gather", "rows", "slice", "taps", "shift", "auto", "x"]
        )
    elif how == "block":
        layer["block"] = random.choice([[1], [2], [1, 1], [3, 2], [10**6], [0], [-1], [2, 2, 2, 2]])
    elif how == "geometry":
        layer["geometry"], _ = change_somewhere(layer["geometry"], random)
    elif how == "sizes":
        sizes = layer["geometry"]["sizes"]
        sizes[random.randrange(len(sizes))] = random.choice([None, 1, 5, 66])
    elif how == "lost":
        layers.remove(layer)
    elif how == "name":
        layer["name"] = random.choice([f"{layer['name']}x", "", layers[0]["name"], "scores", "act"])
    elif how == "twice":
        layers.append(copy.deepcopy(layer) | {"patches": "slice"})
    elif how == "made up":
        layers.append(copy.deepcopy(layer) | {"name": random.choice(["act", "add", "norm", "y"])})
    elif how == "other":
        record["layers"] = json.loads(other)["layers"]
    elif how == "version":
        record["version"] = random.choice(["0.0.1", "99.0", ""])
    elif how == "source":
        record["source"] = "another.onnx"
        record["sha256"] = "0" * 64
    else:
        record, where = change_somewhere(record, random)
        how = f"any: {where}"
    return json.dumps(record, separators=(",", ":")), how
