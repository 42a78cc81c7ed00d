"""Which format a file is in, decided by its bytes, and the package that opens it.

The packages are imported when they are needed: keras takes seconds, and nobody who converts an
ONNX file should wait for it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from convfc import arguments
from convfc.errors import FileError, UsageError
from convfc.formats.protocols import Model
from convfc.formats.provenance import Provenance
from convfc.formats.reading import AS_IT_IS, Reading
from convfc.formats.reverted import Reverting
from convfc.formats.suffixes import SUFFIXES, Format
from convfc.gates import gated, require_file
from convfc.refusals import Code


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
    from convfc.formats.keras import open_keras

    return open_keras(path, imports, reading)


@gated
def open_reverting(path: Path, record: Provenance, like: Path | None = None) -> Reverting:
    """Open a converted file for the way back.

    Args:
        path: the file.
        record: its record.
        like: the original, where the record does not tell what it looked like.

    Raises:
        UsageError: the file is of a format that has no way back.
        FileError: a file or the record cannot be read, or it lacks what it takes.
        UnsupportedModelError: it holds something that convfc cannot load.
    """
    if format_of(path) is not Format.ONNX:
        raise UsageError(f"{path}: revert is for ONNX so far")
    from convfc.formats import onnx

    return onnx.open_reverting(path, record, like)


@gated
def provenance_of(path: Path) -> Provenance | None:
    """The record in a file that convfc made; ``None`` if convfc did not make it.

    Raises:
        FileError: the file or the record cannot be read.
    """
    if format_of(path) is Format.ONNX:
        from convfc.formats import onnx

        return onnx.read_provenance(path)
    from convfc.formats import keras

    return keras.read_provenance(path)


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
    """Import keras, and keep what it and tensorflow say then off the terminal."""
    from convfc.formats import keras

    keras.import_keras()
