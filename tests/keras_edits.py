"""Changes of Keras files by hand, which convfc would not make."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from convfc.formats.protocols import Alignment
from convfc.formats.registry import open_model

Array = NDArray[Any]
Config = dict[str, Any]
Change = Callable[[dict[str, Config]], None]
"""Changes layers in place, which it finds by their names."""


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in content.items():
            archive.writestr(name, member)
    return path


def weights_edited(path: Path, target: Path, change: Callable[[h5py.File], None]) -> Path:
    """A copy of a `.keras` file with other weights."""
    content = members(path)
    weights = io.BytesIO(content["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        change(file)
    return write(target, {**content, "model.weights.h5": weights.getvalue()})


def renumber(kept: h5py.Dataset, change: Callable[[Array], None]) -> None:
    """Change the numbers of a weight in a file."""
    array = kept[()]
    change(array)
    assert array.tobytes() != kept[()].tobytes()
    kept[...] = array


def edited(path: Path, change: Callable[[Config], None]) -> Path:
    """A copy of a `.keras` file, beside it, with another configuration."""
    content = members(path)
    config = json.loads(content["config.json"])
    change(config)
    content["config.json"] = json.dumps(config).encode()
    return write(path.with_name(f"bad_{path.name}"), content)


def relayered(path: Path, change: Change) -> Path:
    """A copy of a `.keras` file, beside it, with other layers."""
    return edited(path, lambda config: change(layers_of(config)))


def layers_of(config: Config) -> dict[str, Config]:
    """All layers of a configuration by their names, at any depth; outer ones before inner ones."""
    stack = config["config"]["layers"]
    found = {layer.get("name", layer["config"].get("name")): layer for layer in stack}
    for layer in stack:
        if "layers" in layer["config"]:
            found = {**layers_of(layer), **found}
    return found


def reads(layer: str, *others: str) -> Change:
    """A layer reads others than it did, in the order of its arguments, at their first call."""

    def change(found: dict[str, Config]) -> None:
        given = found[layer]["inbound_nodes"][0]["args"][0]
        given = given if isinstance(given, list) else [given]
        for tensor, other in zip(given, others, strict=True):
            tensor["config"]["keras_history"] = [other, 0, 0]

    return change


def sets(layer: str, **values: Any) -> Change:
    """Settings of a layer."""
    return lambda found: found[layer]["config"].update(values)


def ulp(matrix: Array) -> None:
    at = tuple(np.argwhere(matrix)[0])
    matrix[at] = np.nextafter(matrix[at], np.float32(9))


def no_zero(matrix: Array) -> None:
    matrix[tuple(np.argwhere(matrix == 0)[0])] = 1e-30


def unequal(matrix: Array) -> None:
    """Two entries of one weight, of which one takes another weight's number."""
    numbers, counts = np.unique(matrix[matrix != 0], return_counts=True)
    often = numbers[counts > 1]
    matrix[tuple(np.argwhere(matrix == often[0])[0])] = often[1]


def rows(matrix: Array) -> None:
    matrix[[0, -1]] = matrix[[-1, 0]]


def columns(matrix: Array) -> None:
    matrix[:, [0, -1]] = matrix[:, [-1, 0]]


def aligned(original: Path, converted: Path) -> Alignment:
    return open_model(original).align(open_model(converted))
