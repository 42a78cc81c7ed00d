"""Keras models, `.h5` / `.hdf5` and `.keras`: all that knows keras and h5py."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from convfc.errors import UsageError
from convfc.formats.keras.archive import read_provenance
from convfc.formats.keras.quiet import importing, own_state
from convfc.formats.protocols import Model
from convfc.formats.provenance import Provenance
from convfc.formats.reading import AS_IT_IS, Reading
from convfc.formats.reverted import Reverting
from convfc.formats.weights import Rewriting, Weighted
from convfc.system.atomic import temporary_folder
from convfc.system.surroundings import until_the_end

__all__ = [
    "import_keras",
    "open_keras",
    "open_reverting",
    "open_rewriting",
    "open_weighted",
    "read_provenance",
]


def open_keras(path: Path, imports: Sequence[str] = (), reading: Reading = AS_IT_IS) -> Model:
    """Load a `.h5`, `.hdf5` or `.keras` file.

    Args:
        path: the file.
        imports: modules that register custom classes.
        reading: what the file does not say itself.

    Raises:
        UsageError: one of the modules cannot be imported; or eager execution is off; or there is
            no such input, or one that takes another shape.
        FileError: the file is missing, damaged, or holds no Keras model.
        UnsupportedModelError: Keras cannot load what it holds.
    """
    with _with_keras(imports):
        from convfc.formats.keras.model import KerasModel

    return KerasModel(path, reading)


def open_reverting(
    path: Path, record: Provenance | None, like: Path | None = None, imports: Sequence[str] = ()
) -> Reverting:
    """Open a converted file for the way back.

    Args:
        path: the file.
        record: its record; ``None``: it was lost when Keras saved the file.
        like: the original, for a record without an outline or none at all.
        imports: modules that register custom classes.

    Raises:
        UsageError: one of the modules cannot be imported; or eager execution is off.
        FileError: a file or the record cannot be read, or there is nothing to go by.
        UnsupportedModelError: Keras cannot load one of them.
    """
    with _with_keras(imports):
        from convfc.formats.keras.reverting import open_reverting

    return open_reverting(path, record, like)


def open_weighted(path: Path, imports: Sequence[str] = (), reading: Reading = AS_IT_IS) -> Weighted:
    """Load a file to read and replace the numbers of its convolutions.

    Args:
        path: the file.
        imports: modules that register custom classes.
        reading: what the file does not say itself.

    Raises:
        UsageError: one of the modules cannot be imported; or eager execution is off; or there is
            no such input, or one that takes another shape.
        FileError: the file is missing, damaged, or holds no Keras model.
        UnsupportedModelError: Keras cannot load what it holds.
    """
    with _with_keras(imports):
        from convfc.formats.keras.weights import KerasWeighted

    return KerasWeighted(path, reading)


def open_rewriting(path: Path, record: Provenance, imports: Sequence[str] = ()) -> Rewriting:
    """Load a converted file to give its layers other numbers.

    Args:
        path: the file.
        record: its record.
        imports: modules that register custom classes.

    Raises:
        UsageError: one of the modules cannot be imported; or eager execution is off.
        FileError: the file or the record cannot be read, or it lacks what it takes.
        UnsupportedModelError: Keras cannot load what it holds.
    """
    with _with_keras(imports):
        from convfc.formats.keras.rewriting_weights import open_rewriting

    return open_rewriting(path, record)


def import_keras() -> None:
    """Import keras and its backend, for the public function that runs: see `own_state`.

    They take seconds to import, and reading convfc's record from a file does not need them.

    Raises:
        UsageError: eager execution is off in this process, or Keras' backend is not installed.
    """
    with temporary_folder():  # without a place for one, tensorflow cannot even be imported
        pass
    with importing():
        try:
            importlib.import_module("keras")
        except ImportError as error:
            backend = os.environ.get("KERAS_BACKEND", "tensorflow")
            raise UsageError(
                f"Keras cannot be imported with the backend {backend!r} ({error})",
                remedy="install what it needs, or set KERAS_BACKEND=tensorflow",
            ) from error
        tensorflow = importlib.import_module("tensorflow")
    if not tensorflow.compat.v1.executing_eagerly_outside_functions():
        raise UsageError(
            "this program has switched TensorFlow's eager execution off, which Keras 3 needs: "
            "call convfc in a process of its own"
        )
    until_the_end(own_state)


@contextmanager
def _with_keras(modules: Sequence[str]) -> Iterator[None]:
    """Import keras, what the block imports, and then a person's own modules."""
    import_keras()
    with importing():
        yield
    _register(modules)


def _register(modules: Sequence[str]) -> None:
    """Import a person's own modules, also from the current folder, as `python -m` does."""
    if modules:
        with _current_folder():
            for module in modules:
                _import(module)


@contextmanager
def _current_folder() -> Iterator[None]:
    """Imports of this thread look into the current folder first."""
    finder = _Finder(threading.get_ident())
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder:
    """Finds modules in the current folder for one thread.

    Were that folder in `sys.path` meanwhile, the imports of all threads would look into it.
    """

    def __init__(self, thread: int) -> None:
        self._thread = thread

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,
        target: object = None,  # noqa: ARG002 - importlib's
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        ours = path is None and threading.get_ident() == self._thread
        return PathFinder.find_spec(name, [""]) if ours else None


def _import(module: str) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:
        raise UsageError(
            f"--import {module}: {type(error).__name__}: {error}",
            remedy="give a module that is installed or in the current folder, without .py",
        ) from error
