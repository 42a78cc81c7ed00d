"""Keras models, `.h5` / `.hdf5` and `.keras`: all that knows keras and h5py."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from convfc.errors import UsageError
from convfc.keras_model.quiet import importing
from convfc.keras_model.record import read_provenance
from convfc.model import Model
from convfc.writing import temporary_folder

__all__ = ["import_keras", "open_keras", "read_provenance"]


def open_keras(path: Path, imports: Sequence[str] = ()) -> Model:
    """Load a `.h5`, `.hdf5` or `.keras` file.

    Args:
        path: the file.
        imports: modules that register custom classes.

    Raises:
        UsageError: one of the modules cannot be imported.
        FileError: the file is missing, damaged, or holds no Keras model.
        UnsupportedModelError: Keras cannot load what it holds.
    """
    with temporary_folder():  # without a place for one, tensorflow cannot even be imported
        pass
    # Keras takes seconds to import, and reading convfc's record from a file does not need it.
    with importing():
        from convfc.keras_model.opened import KerasModel

    _register(imports)
    return KerasModel(path)


def import_keras() -> None:
    """Import keras and its backend without what they say on the terminal."""
    with importing():
        importlib.import_module("keras")


def _register(modules: Sequence[str]) -> None:
    """Import a person's own modules, also from the current folder, as `python -m` does."""
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        for module in modules:
            _import(module)
    finally:
        if added:
            sys.path.remove(here)


def _import(module: str) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:
        raise UsageError(
            f"--import {module}: {type(error).__name__}: {error}; give a module that is installed "
            "or in the current folder, without .py"
        ) from error
