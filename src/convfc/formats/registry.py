"""Which format a file is in, decided by its bytes, and the package that opens it.

The packages are imported when they are needed: keras takes seconds, and nobody who converts an
ONNX file should wait for it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from convfc import arguments
from convfc.errors import FileError, UnsupportedModelError, UsageError
from convfc.formats.protocols import Model
from convfc.formats.provenance import Provenance
from convfc.formats.reading import AS_IT_IS, Reading
from convfc.formats.reverted import Reverting
from convfc.formats.suffixes import SUFFIXES, Format
from convfc.formats.weights import Rewriting, Weighted
from convfc.gates import gated, require_file
from convfc.refusals import Code

_KERAS = ("h5py", "keras", "tensorflow")
"""What Keras files take, and ONNX files do not."""


def format_of(path: Path) -> Format:
    """Recognise a file.

    Raises:
        FileError: it is missing, unreadable, empty, or of no format that convfc knows.
    """
    if os.path.isfile(path / "saved_model.pb"):  # noqa: PTH113 - this one takes any text
        raise FileError(
            f"{path}: a TensorFlow SavedModel",
            remedy="save the Keras model as .keras, or export it to .onnx, and convert that",
            code=Code.NO_MODEL,
        )
    require_file(path)
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}", code=Code.NO_FILE) from error
    if not head:
        raise FileError(f"{path}: the file is empty", code=Code.NO_MODEL)
    if head == b"\x89HDF\r\n\x1a\n":
        return Format.HDF5
    if head.startswith(b"PK\x03\x04"):
        return Format.KERAS
    if path.suffix.lower() in Format.ONNX.value:
        return Format.ONNX  # a protobuf message has no signature
    raise FileError(
        f"{path}: not a model file that convfc knows (it reads {', '.join(SUFFIXES)})",
        code=Code.NO_MODEL,
    )


def converted_format(source: Path) -> Format:
    """The format of what a file is converted to: Keras goes by the name of a file.

    So a file that is named like the other Keras format is converted to that.

    Raises:
        FileError: see `format_of`.
    """
    kind = format_of(source)
    named = [other for other in (Format.HDF5, Format.KERAS) if source.suffix in other.value]
    return named[0] if named and kind is not Format.ONNX else kind


def default_out(source: Path) -> Path:
    """The name of a converted file: `model.h5` -> `model_fc.h5`, beside it."""
    return source.with_name(f"{source.stem}_fc{source.suffix}")


def default_reverted(source: Path) -> Path:
    """The name of a reverted file: `model_fc.h5` -> `model_conv.h5`, beside it."""
    return source.with_name(f"{source.stem.removesuffix('_fc')}_conv{source.suffix}")


@gated
def open_model(path: Path, imports: Sequence[str] = (), reading: Reading = AS_IT_IS) -> Model:
    """Open a model file of any known format.

    Args:
        path: the file.
        imports: modules that register custom Keras classes.
        reading: what the file does not say itself.

    Raises:
        UsageError: one of the modules cannot be imported; or there is no such input, or it takes
            another shape; or what `reading` says is not for such files.
        FileError: see `format_of`; or the file is damaged.
        UnsupportedModelError: it holds something that convfc cannot load.
    """
    imports = arguments.texts("imports", imports)
    if format_of(path) is Format.ONNX:
        from convfc.formats.onnx import open_onnx

        if reading.keras2_numbers or reading.architecture is not None:
            raise UsageError(f"{path}: architecture and keep_keras2_numbers are for Keras files")
        return open_onnx(path, reading)
    _require(*_KERAS, why=f"{path}: a Keras file")
    from convfc.formats.keras import open_keras

    return open_keras(path, imports, reading)


@gated
def open_reverting(
    path: Path, record: Provenance | None, like: Path | None = None, imports: Sequence[str] = ()
) -> Reverting:
    """Open a converted file for the way back.

    Args:
        path: the file.
        record: its record; ``None`` if that was lost.
        like: the original, where the record does not tell what it looked like.
        imports: modules that register custom Keras classes.

    Raises:
        UsageError: one of the modules cannot be imported.
        FileError: a file or the record cannot be read, or it lacks what it takes.
        UnsupportedModelError: it holds something that convfc cannot load.
    """
    is_onnx = format_of(path) is Format.ONNX
    if record is None and (is_onnx or like is None):
        remedy = "name a file that convfc convert wrote"
        raise FileError(
            f"{path}: was not made by convfc, or its record was lost",
            remedy=remedy
            if is_onnx
            else f"{remedy}; if Keras has saved it again, add --like ORIGINAL",
            code=Code.NO_OUTLINE,
        )
    if record is None or not is_onnx:
        _require(*_KERAS, why=f"{path}: a Keras file")
        from convfc.formats import keras

        return keras.open_reverting(path, record, like, arguments.texts("imports", imports))
    from convfc.formats import onnx

    return onnx.open_reverting(path, record, like)


@gated
def open_weighted(path: Path, imports: Sequence[str] = (), reading: Reading = AS_IT_IS) -> Weighted:
    """Open a model file with convolutions, to read and replace their numbers.

    Args:
        path: the file.
        imports: modules that register custom Keras classes.
        reading: what the file does not say itself.

    Raises:
        UsageError: one of the modules cannot be imported.
        FileError: see `format_of`; or the file is damaged.
        UnsupportedModelError: it holds something that convfc cannot load.
    """
    imports = arguments.texts("imports", imports)
    if format_of(path) is Format.ONNX:
        from convfc.formats.onnx import OnnxWeighted

        return OnnxWeighted(path, reading)
    _require(*_KERAS, why=f"{path}: a Keras file")
    from convfc.formats.keras import open_weighted as open_keras_weighted

    return open_keras_weighted(path, imports, reading)


@gated
def open_rewriting(path: Path, record: Provenance, imports: Sequence[str] = ()) -> Rewriting:
    """Open a converted file to give its layers other numbers.

    Args:
        path: the file.
        record: its record.
        imports: modules that register custom Keras classes.

    Raises:
        UsageError: one of the modules cannot be imported.
        FileError: a file or the record cannot be read, or it lacks what it takes.
        UnsupportedModelError: it holds something that convfc cannot load.
    """
    if format_of(path) is Format.ONNX:
        from convfc.formats.onnx import open_rewriting as open_onnx_rewriting

        return open_onnx_rewriting(path, record)
    _require(*_KERAS, why=f"{path}: a Keras file")
    from convfc.formats.keras import open_rewriting as open_keras_rewriting

    return open_keras_rewriting(path, record, imports)


@gated
def provenance_of(path: Path) -> Provenance | None:
    """The record in a file that convfc made; ``None`` if convfc did not make it.

    Raises:
        FileError: the file or the record cannot be read.
        UnsupportedModelError: it is HDF5, and h5py is not installed.
    """
    if format_of(path) is Format.ONNX:
        from convfc.formats import onnx

        return onnx.read_provenance(path)
    _require("h5py", why=f"{path}: a Keras file")
    from convfc.formats import keras

    return keras.read_provenance(path)


def put(model: Any, folder: Path) -> Path:  # noqa: ANN401 - of either library
    """Write a model that a program holds into a folder: an onnx.ModelProto or a keras.Model.

    Raises:
        OSError: it cannot be written.
        UsageError: it is neither, or too large for a file.
        UnsupportedModelError: Keras cannot save it.
    """
    kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(model).__mro__}
    if "onnx.ModelProto" in kinds:
        from convfc.formats.onnx import in_memory

        return in_memory.put(model, folder)
    if "keras.Model" in kinds:
        import_keras()
        from convfc.formats.keras import in_memory as in_keras

        return in_keras.put(model, folder)
    raise arguments.wrong("model", model, "a path, an onnx.ModelProto or a keras.Model")


def taken(path: Path) -> Any:  # noqa: ANN401 - of either library
    """The model in a file, as `put` takes it."""
    if format_of(path) is Format.ONNX:
        from convfc.formats.onnx import in_memory

        return in_memory.taken(path)
    from convfc.formats.keras import in_memory as in_keras

    return in_keras.taken(path)


def data_names(path: Path) -> frozenset[str]:
    """Names of the files beside a model file that hold weights of it.

    Raises:
        FileError: the file cannot be read.
    """
    if format_of(path) is not Format.ONNX:
        return frozenset()
    from convfc.formats import onnx

    return onnx.read_data_names(path)


def import_keras() -> None:
    """Import keras, and keep what it and tensorflow say then off the terminal.

    Raises:
        UnsupportedModelError: it or what it needs is not installed.
        UsageError: eager execution is off in this process, or Keras' backend is not installed.
    """
    _require(*_KERAS, why="a network in Keras")
    from convfc.formats import keras

    keras.import_keras()


def _require(*packages: str, why: str) -> None:
    """Refuse what takes packages that are not there: who has ONNX files alone need not have them.

    Raises:
        UnsupportedModelError: one is not installed.
    """
    missing = [package for package in packages if not _is_installed(package)]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise UnsupportedModelError(
            f"{why} needs {', '.join(missing)}, which {are} not installed",
            remedy=Code.NO_KERAS.remedy,
            code=Code.NO_KERAS,
        )


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # it is forbidden, or there is no more of it than a name
        return False
