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

CONFIG = "config.json"
"""The member of a zip with the model's configuration."""

WEIGHTS = "model.weights.h5"
"""The member of a zip with the weights."""

MODEL_CONFIG, TRAINING_CONFIG = "model_config", "training_config"
"""The attributes of an HDF5 file with the configurations."""

OPTIMIZER_WEIGHTS = "optimizer_weights"
"""The group of an HDF5 file with the optimizer's state."""

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
    is_hdf5 = h5py.is_hdf5(path)
    if is_hdf5 and _has_zip(path):
        raise FileError(
            f"{path}: is HDF5 and a .keras zip at once, and Keras goes by its name; "
            "get a fresh copy of it"
        )
    try:
        return _read_hdf5(path) if is_hdf5 else _read_zip(path)
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


def _has_zip(path: Path) -> bool:
    """Whether there is a model in a zip, which may stand behind anything else."""
    try:
        with zipfile.ZipFile(path) as archive:
            return CONFIG in archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return False


def _read_hdf5(path: Path) -> Envelope:
    with h5py.File(path) as file:
        for name in _from_elsewhere(file):
            raise FileError(
                f"{path}: takes {name!r} from another file, which convfc does not open; "
                "load the model where it was made and save it again, with model.save(...)"
            )
        names = (MODEL_CONFIG, TRAINING_CONFIG, "keras_version", KEY)
        config, training, version, record = (file.attrs.get(name) for name in names)
    if config is None:
        raise FileError(
            f"{path}: holds weights and no model; "
            "load them into the model and save it whole, with model.save(...)"
        )
    if isinstance(version, bytes):
        version = version.decode()
    setup = None if training is None else json.loads(training)
    return Envelope(HDF5, json.loads(config), setup, version or "", _provenance(record, path))


def _from_elsewhere(file: h5py.File) -> list[str]:
    """Names of the links and the data by which HDF5 would read other files."""
    links: list[str] = []

    def visit(name: str, link: object) -> None:
        links.extend([name] if isinstance(link, h5py.ExternalLink) else [])

    file.visititems_links(visit)
    elsewhere = (data for data in datasets(file) if data.external or data.is_virtual)
    return [*links, *(data.name.removeprefix("/") for data in elsewhere)]


def datasets(group: h5py.Group) -> list[h5py.Dataset]:
    """All data in a group of an HDF5 file, at any depth."""
    found: list[h5py.Dataset] = []

    def visit(_: str, item: h5py.Group | h5py.Dataset) -> None:
        found.extend([item] if isinstance(item, h5py.Dataset) else [])

    group.visititems(visit)
    return found


def _read_zip(path: Path) -> Envelope:
    with zipfile.ZipFile(path) as archive:
        members = archive.namelist()
        if CONFIG not in members:
            raise FileError(f"{path}: a zip file with no Keras model in it (no {CONFIG})")
        config = json.loads(archive.read(CONFIG))
        metadata = json.loads(archive.read("metadata.json"))
        record = archive.read(_MEMBER) if _MEMBER in members else None
    version = metadata.get("keras_version", "")
    return Envelope(ZIP, config, config.get("compile_config"), version, _provenance(record, path))


def _provenance(record: str | bytes | None, path: Path) -> Provenance | None:
    return None if record is None else Provenance.from_json(record, path)
