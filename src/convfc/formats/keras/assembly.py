"""Weights alone and the network that they belong to become one file, as Keras saves a model."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from convfc.errors import FileError, UsageError
from convfc.formats.keras.archive import CONFIG, HDF5, METADATA, MODEL_CONFIG, WEIGHTS, ZIP
from convfc.formats.keras.bounds import MOST_TEXT, check_hdf5, read_json
from convfc.formats.keras.refusals import refusing
from convfc.formats.keras.rehearsal import rehearse
from convfc.gates import require_file
from convfc.refusals import Code
from convfc.system.atomic import temporary_folder

_LAYER_NAMES = "layer_names"
"""The attribute of a file of weights that lists its layers, as Keras wrote it before 3."""


@contextmanager
def assembled(weights: Path, architecture: Path) -> Iterator[Path]:
    """A model file while the block runs, in the format that its weights have.

    Args:
        weights: what `save_weights` wrote, of any Keras.
        architecture: what `to_json` of the model wrote.

    Raises:
        FileError: one of the two cannot be read, or is not what it should be.
        UsageError: the weights have their network with them.
    """
    network = _network(architecture)
    rehearse(weights, HDF5)
    with temporary_folder() as folder:
        with h5py.File(weights, "r") as file:
            check_hdf5(file, weights)
            if MODEL_CONFIG in file.attrs:
                raise UsageError(f"{weights}: is a whole model and needs no architecture")
            by_layers = any(name.startswith(_LAYER_NAMES) for name in file.attrs)
            whole = folder / f"model{HDF5 if by_layers else ZIP}"
            if by_layers:
                _write_hdf5(file, network, whole)
        if not by_layers:
            _write_zip(weights, network, whole)
        yield whole


def _network(path: Path) -> dict[str, Any]:
    """What `to_json` wrote, with the version of the Keras that did."""
    require_file(path)
    with refusing(path), path.open("rb") as file:
        found = read_json(file.read(MOST_TEXT + 1), "text")
        if isinstance(found, str):  # of somebody who wrote the text with json.dump
            found = read_json(found, "text")
    if not isinstance(found, dict) or not {"class_name", "config"} <= found.keys():
        raise FileError(
            f"{path}: is not what to_json of a Keras model writes",
            remedy="write it anew, with Path(..).write_text(model.to_json())",
            code=Code.DAMAGED,
        )
    if "module" in found:  # of Keras 3, which does not say so
        found.setdefault("keras_version", "3")
    return found


def _write_hdf5(weights: h5py.File, network: dict[str, Any], whole: Path) -> None:
    with h5py.File(whole, "w") as file:
        group = file.create_group("model_weights")
        for name in weights:
            weights.copy(name, group)
        for name, value in weights.attrs.items():
            group.attrs[name] = value
        file.attrs[MODEL_CONFIG] = json.dumps(network)
        file.attrs["keras_version"] = str(network.get("keras_version", ""))


def _write_zip(weights: Path, network: dict[str, Any], whole: Path) -> None:
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr(METADATA, json.dumps({"keras_version": network.get("keras_version", "")}))
        archive.writestr(CONFIG, json.dumps(network))
        with weights.open("rb") as data, archive.open(WEIGHTS, "w", force_zip64=True) as file:
            shutil.copyfileobj(data, file, 2**20)
