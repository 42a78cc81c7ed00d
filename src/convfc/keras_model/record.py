"""What can be read from a Keras file without Keras: its configuration and convfc's record."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from convfc.errors import FileError
from convfc.provenance import KEY, Provenance

HDF5, ZIP = ".h5", ".keras"
"""The two formats, named by the suffix by which Keras tells them apart."""

_MEMBER = f"{KEY}.json"


@dataclass(frozen=True)
class Envelope:
    """A Keras file, its weights unread.

    Attributes:
        file_format: `HDF5` or `ZIP`.
        config: the model's configuration, as Keras wrote it.
        version: of the Keras that wrote it; empty if the file does not say.
        provenance: convfc's record, if convfc made the file.
    """

    file_format: str
    config: dict[str, Any]
    version: str
    provenance: Provenance | None


def read_envelope(path: Path) -> Envelope:
    """Read all but the weights.

    Raises:
        FileError: the file is missing, damaged, or holds no Keras model.
    """
    read = _read_hdf5 if h5py.is_hdf5(path) else _read_zip
    try:
        return read(path)
    except FileNotFoundError as error:
        raise FileError(f"{path}: no such file") from error
    except zipfile.BadZipFile as error:
        raise FileError(
            f"{path}: neither an HDF5 file nor a .keras zip, or cut short; get a fresh copy of it"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(f"{path}: damaged or cut short; get a fresh copy of it") from error


def read_provenance(path: Path) -> Provenance | None:
    """The record in a file that convfc made; ``None`` in any other Keras file.

    Raises:
        FileError: see `read_envelope`.
    """
    return read_envelope(path).provenance


def write_provenance(path: Path, file_format: str, provenance: Provenance) -> None:
    """Store the record in a file that Keras wrote.

    Raises:
        OSError: the file cannot be written.
    """
    if file_format == HDF5:
        with h5py.File(path, "r+") as file:
            # A text of variable length, which HDF5 does not hold to its 64 KB for an attribute.
            file.attrs[KEY] = provenance.to_json()
    else:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(_MEMBER, provenance.to_json())


def _read_hdf5(path: Path) -> Envelope:
    with h5py.File(path) as file:
        attributes = {name: file.attrs.get(name) for name in ("model_config", "keras_version", KEY)}
    config, version, record = attributes.values()
    if config is None:
        raise FileError(
            f"{path}: holds weights and no model; "
            "load them into the model and save it whole, with model.save(...)"
        )
    if isinstance(version, bytes):
        version = version.decode()
    return Envelope(HDF5, json.loads(config), version or "", _provenance(record, path))


def _read_zip(path: Path) -> Envelope:
    with zipfile.ZipFile(path) as archive:
        members = archive.namelist()
        if "config.json" not in members:
            raise FileError(f"{path}: a zip file with no Keras model in it (no config.json)")
        config = json.loads(archive.read("config.json"))
        metadata = json.loads(archive.read("metadata.json"))
        record = archive.read(_MEMBER) if _MEMBER in members else None
    return Envelope(ZIP, config, metadata.get("keras_version", ""), _provenance(record, path))


def _provenance(record: str | bytes | None, path: Path) -> Provenance | None:
    return None if record is None else Provenance.from_json(record, path)
