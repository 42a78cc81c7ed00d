"""How the weights of a `.keras` zip are laid out."""

from __future__ import annotations

import re

import h5py

_OLD, _NEW = "_layer_checkpoint_dependencies", "layers"

_NUMBERED = re.compile(r"^(.+?)(?:_(\d+))?$")


def split_paths(file: h5py.File) -> bool:
    """Up to 2.15 a Keras on Windows took the path of a layer for one name, with backslashes in it.

    Args:
        file: may be written.
    """
    joined = sorted(name for name in file if "\\" in name)  # a layer before what is in it
    for name in joined:
        file.move(name, name.replace("\\", "/"))
    return bool(joined)


def renumber(group: h5py.Group) -> bool:
    """Up to 2.13 a layer with weights was counted twice: conv2d, conv2d_2, conv2d_4.

    Args:
        group: of a model, in a file that may be written.
    """
    if _OLD not in group:
        return False
    group.move(_OLD, _NEW)
    layers = group[_NEW]
    stems: dict[str, list[tuple[int, str]]] = {}
    for name in layers:
        stem, number = _NUMBERED.findall(name)[0]
        stems.setdefault(stem, []).append((int(number or 0), name))
    for stem, found in stems.items():
        for count, (_, name) in enumerate(sorted(found)):
            new = f"{stem}_{count}" if count else stem
            if new != name:
                layers.move(name, new)
            renumber(layers[new])
    return True
