"""Keras models, `.h5` / `.hdf5` and `.keras`: all that knows keras and h5py."""

from __future__ import annotations

from pathlib import Path

from convfc.keras_model.quiet import importing
from convfc.keras_model.record import read_provenance
from convfc.model import Model

__all__ = ["open_keras", "read_provenance"]


def open_keras(path: Path) -> Model:
    """Load a `.h5`, `.hdf5` or `.keras` file.

    Raises:
        FileError: the file is missing, damaged, or holds no Keras model.
        UnsupportedModelError: Keras cannot load what it holds.
    """
    # Keras takes seconds to import, and reading convfc's record from a file does not need it.
    with importing():
        from convfc.keras_model.opened import KerasModel

    return KerasModel(path)
