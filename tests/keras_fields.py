"""All that a Keras file says and holds, to be compared with what another one does."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from convfc.formats.keras.likeness import plain
from convfc.formats.keras.sites import graph_of
from tests.keras_models import loaded, save, stock


def fields(path: Path) -> dict[str, Any]:
    """What stock Keras finds in a file, and what it wrote beside."""
    model = stock(path)
    found: dict[str, Any] = {
        "config": plain(model.get_config()),
        "class": type(model).__name__,
        "inputs": [(x.name, x.shape, x.dtype) for x in model.inputs],
        "outputs": graph_of(model).output_names,
        "weights": [(w.path, w.dtype, w.trainable, _bytes(w)) for w in model.weights],
        "compiled": plain(model.get_compile_config()) if model.compiled else None,
        "optimizer": [(w.path, _bytes(w)) for w in model.optimizer.variables]
        if model.compiled
        else None,
    }
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            found["written"] = plain(json.loads(archive.read("config.json")))
            found["members"] = sorted(set(archive.namelist()) - {"convfc.json"})
    else:
        with h5py.File(path) as file:
            found["written"] = plain(json.loads(file.attrs["model_config"]))
            found["attributes"] = sorted(set(file.attrs) - {"convfc"})
            found["training"] = plain(json.loads(file.attrs.get("training_config", "null")))
    return found


def unlike(path: Path, other: Path) -> list[str]:
    """Fields in which a file is not what convfc reads of another, saved without any change."""
    expected = fields(save(loaded(path), path.with_name(f"read{path.suffix}")))
    found = fields(other)
    return [name for name in expected if found[name] != expected[name]]


def _bytes(weight: keras.Variable) -> tuple[tuple[int, ...], bytes]:
    return tuple(weight.shape), np.asarray(weight).tobytes()
