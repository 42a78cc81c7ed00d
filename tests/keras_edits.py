"""Changes of Keras files by hand, which convfc would not make."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convfc.formats.protocols import Alignment
from convfc.formats.registry import open_model

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


def aligned(original: Path, converted: Path) -> Alignment:
    return open_model(original).align(open_model(converted))
