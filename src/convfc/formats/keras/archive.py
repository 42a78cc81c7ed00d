"""What can be read from a Keras file without Keras: its configuration and convfc's record."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from convfc.errors import FileError
from convfc.formats.keras.bounds import check_archive, check_hdf5, member, read_json, read_values
from convfc.formats.keras.refusals import NO_CONFIG, refusing
from convfc.formats.keras.rehearsal import rehearse
from convfc.formats.provenance import KEY, Provenance
from convfc.formats.suffixes import Format
from convfc.refusals import Code
from convfc.text.visible import visible

_SUFFIXES = {kind.value[0]: kind.value for kind in (Format.HDF5, Format.KERAS)}
HDF5, ZIP = _SUFFIXES
"""The two formats, named by the suffix by which Keras tells them apart."""

CONFIG = "config.json"
"""The member of a zip with the model's configuration."""

WEIGHTS = "model.weights.h5"
"""The member of a zip with the weights."""

MODEL_CONFIG, TRAINING_CONFIG = "model_config", "training_config"
"""The attributes of an HDF5 file with the configurations."""

OPTIMIZER_WEIGHTS = "optimizer_weights"
"""The group of an HDF5 file with the optimizer's state."""

METADATA = "metadata.json"
"""The member of a zip that names the Keras that wrote it."""

_MEMBER = f"{KEY}.json"


@dataclass(frozen=True)
class Envelope:
    """A Keras file, its weights unread.

    Attributes:
        file_format: `HDF5` or `ZIP`.
        config: the model's configuration, as Keras wrote it.
        training: what it was compiled with, as Keras wrote it; ``None`` if it was not.
        version: of the Keras that wrote it; empty if the file does not say.
        provenance: convfc's record, if convfc made the file.
    """

    file_format: str
    config: dict[str, Any]
    training: dict[str, Any] | None
    version: str
    provenance: Provenance | None

    @property
    def is_old(self) -> bool:
        """Whether a Keras before 3 wrote it; convfc never did, whatever its file says.

        Else a number in the file would have it read in another way than Keras reads it.
        """
        return self.provenance is None and self.version.split(".")[0] in ("", "0", "1", "2")


def read_envelope(path: Path) -> Envelope:
    """Read all but the weights.

    Raises:
        FileError: the file is missing, damaged, or holds no Keras model.
    """
    with refusing(path):
        is_hdf5 = h5py.is_hdf5(path) and not (format_named(path) == ZIP and _at_weights(path))
        if is_hdf5 and _has_zip(path):
            raise FileError(
                f"{path}: is HDF5 and a .keras zip at once, and Keras goes by its name",
                remedy="get a fresh copy of it",
                code=Code.DAMAGED,
            )
        try:
            return _read_hdf5(path) if is_hdf5 else _read_zip(path)
        except zipfile.BadZipFile as error:
            raise FileError(
                f"{path}: neither an HDF5 file nor a .keras zip, or cut short",
                remedy="get a fresh copy of it",
                code=Code.NO_MODEL,
            ) from error


def format_named(path: Path) -> str | None:
    """The format that Keras expects of a file of this name, `HDF5` or `ZIP`, if any."""
    kinds = (kind for kind, suffixes in _SUFFIXES.items() if path.name.endswith(suffixes))
    return next(kinds, None)


def with_suffix(path: Path, file_format: str) -> Path:
    """`path`, or a neighbour of it, with a name that tells Keras the format."""
    if format_named(path) == file_format:
        return path
    return path.with_name(path.name + file_format)


def check_weights(path: Path, file_format: str) -> None:
    """Refuse weights that are in other files, or far larger than the file.

    Args:
        path: the file, of which `read_envelope` has read the rest.
        file_format: of it.

    Raises:
        FileError: with the reason, or that the file is damaged.
    """
    with refusing(path):
        if file_format == ZIP:
            rehearse(path, ZIP)
        with _opened(path, file_format) as file:
            check_hdf5(file, path)


def read_through(path: Path, file_format: str) -> None:
    """Read all of a file's HDF5 that convfc or Keras may read, in the same way; for `rehearse`.

    Raises:
        FileError: as the functions that read it for good.
        Exception: whatever h5py raises.
    """
    with _opened(path, file_format) as file:
        _texts(file, path)
        check_hdf5(file, path)
        read_values(file, path)


@contextmanager
def _opened(path: Path, file_format: str) -> Iterator[h5py.File]:
    """The HDF5 file that a Keras file is, or has in it."""
    with ExitStack() as stack:
        inner: Any = path
        if file_format == ZIP:
            archive = stack.enter_context(zipfile.ZipFile(path))
            inner = stack.enter_context(member(archive, WEIGHTS, path))
        yield stack.enter_context(h5py.File(inner, "r"))


def read_provenance(path: Path) -> Provenance | None:
    """The record in a file that convfc made; ``None`` in any other Keras file.

    Raises:
        FileError: see `read_envelope`.
    """
    try:
        return read_envelope(path).provenance
    except FileError as error:
        if error.code is not Code.WEIGHTS_ONLY:
            raise
        return None


def write_record(path: Path, file_format: str, record: str) -> None:
    """Store the record in a file that Keras wrote.

    Raises:
        OSError: the file cannot be written.
    """
    if file_format == HDF5:
        with h5py.File(path, "r+") as file:
            # A text of variable length, which HDF5 does not hold to its 64 KB for an attribute.
            file.attrs[KEY] = record
    else:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(_MEMBER, record)


def _has_zip(path: Path) -> bool:
    """Whether there is a model in a zip, which may stand behind anything else."""
    try:
        with zipfile.ZipFile(path) as archive:
            return CONFIG in archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return False


def _at_weights(path: Path) -> bool:
    """Whether what HDF5 finds in a zip are its weights, which chance to begin where it looks.

    HDF5 looks at byte 0, 512, 1024, 2048, and so on, for the file behind somebody else's header.
    """
    with path.open("rb") as file, suppress(zipfile.BadZipFile, KeyError):
        place = zipfile.ZipFile(file).getinfo(WEIGHTS).header_offset
        file.seek(place)
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return False
        *_, name, extra = _HEADER.unpack(header)
        weights = place + _HEADER.size + name + extra
        for at in (0, *(2**power for power in range(9, weights.bit_length() + 1))):
            file.seek(at)
            if file.read(len(_SIGNATURE)) == _SIGNATURE:
                return bool(at == weights)
    return False


_SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""What an HDF5 file begins with (HDF5 file format specification, II.A)."""
_HEADER = struct.Struct("<26x2H")
"""The fixed part of the header before a member: it ends in the lengths of its name and of an extra
field (PKWARE's APPNOTE, 4.3.7)."""


def _read_hdf5(path: Path) -> Envelope:
    rehearse(path, HDF5)
    with _opened(path, HDF5) as file:
        config, training, version, record = _texts(file, path)
    if config is None:
        raise FileError(
            f"{path}: holds weights and no model",
            remedy="name what model.to_json() wrote with --architecture, or save the model whole, "
            "with model.save(...)",
            code=Code.WEIGHTS_ONLY,
        )
    setup = None if training is None else read_json(training, TRAINING_CONFIG)
    return _envelope(path, HDF5, read_json(config, MODEL_CONFIG), setup, version or "", record)


def _texts(file: h5py.File, path: Path) -> list[str | None]:
    """What an HDF5 file says beside the weights."""
    names = (MODEL_CONFIG, TRAINING_CONFIG, "keras_version", KEY)
    return [_text(file, name, path) for name in names]


def _text(file: h5py.File, name: str, path: Path) -> str | None:
    """An attribute that is a text, if the file has it."""
    if name not in file.attrs:
        return None
    attribute = file.attrs.get_id(name)
    if attribute.shape != () or h5py.check_string_dtype(attribute.dtype) is None:
        raise FileError(
            f"{path}: damaged: its {name} is no text",
            remedy="get a fresh copy of it",
            code=Code.DAMAGED,
        )
    value = file.attrs[name]
    return value.decode() if isinstance(value, bytes) else str(value)


def _read_zip(path: Path) -> Envelope:
    with zipfile.ZipFile(path) as archive:
        check_archive(archive, path)
        members = archive.namelist()
        if CONFIG not in members:
            raise FileError(
                f"{path}: a zip file with no Keras model in it (no {CONFIG})", code=Code.NO_MODEL
            )
        for name in {WEIGHTS, METADATA}.difference(members):
            raise FileError(
                f"{path}: damaged: it has no {name}",
                remedy="get a fresh copy of it",
                code=Code.DAMAGED,
            )
        config = read_json(archive.read(CONFIG), CONFIG)
        metadata = read_json(archive.read(METADATA), METADATA)
        record = archive.read(_MEMBER) if _MEMBER in members else None
    training = config.get("compile_config") if isinstance(config, dict) else None
    version = metadata.get("keras_version", "") if isinstance(metadata, dict) else metadata
    return _envelope(path, ZIP, config, training, version, record)


def _envelope(
    path: Path,
    file_format: str,
    config: Any,
    training: Any,
    version: Any,
    record: str | bytes | None,
) -> Envelope:
    """What was read, if it is of the types that Keras writes."""
    if not isinstance(version, str):
        raise FileError(
            f"{path}: damaged: its keras_version is no text",
            remedy="get a fresh copy of it",
            code=Code.DAMAGED,
        )
    inner = config.get("config") if isinstance(config, dict) else None
    if not isinstance(inner, dict | list) or not isinstance(config.get("class_name"), str):
        raise FileError(f"{path}: {NO_CONFIG}", remedy="get a fresh copy of it", code=Code.DAMAGED)
    # Without a training setup that it can read, Keras loads the model all the same.
    training = training if isinstance(training, dict) else None
    provenance = None if record is None else Provenance.from_json(record, path)
    return Envelope(file_format, config, training, visible(version)[:40], provenance)
