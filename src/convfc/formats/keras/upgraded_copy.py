"""A file as today's Keras loads it: the right name, and what it says and holds up to date."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py

from convfc.errors import FileError
from convfc.formats.keras.archive import (
    CONFIG,
    HDF5,
    MODEL_CONFIG,
    OPTIMIZER_WEIGHTS,
    TRAINING_CONFIG,
    WEIGHTS,
)
from convfc.formats.keras.upgrades import WEIGHTS_STEPS, Upgraded
from convfc.formats.keras.upgrades.classes import leave_score
from convfc.formats.keras.upgrades.hdf5 import leave_masks_to_keras, name_modules
from convfc.refusals import Code
from convfc.system.atomic import OTHER_PLACE, temporary_folder


@dataclass(frozen=True)
class UpgradedCopy:
    """What Keras is to load.

    Attributes:
        path: of a copy, or of a link to the file itself.
        done: what was brought up to date, the weights too, a phrase each.
    """

    path: Path
    done: tuple[str, ...]


@contextmanager
def upgraded_copy(path: Path, file_format: str, upgraded: Upgraded) -> Iterator[UpgradedCopy]:
    """What takes the place of a file while the block runs.

    Args:
        path: the file; it stays as it is.
        file_format: of it, which its name need not tell.
        upgraded: what it is to say.

    Raises:
        FileError: the copy that an older file needs cannot be written.
    """
    try:
        with temporary_folder() as folder:
            named = folder / f"model{file_format}"
            done = upgraded.done
            if not (done or upgraded.altered):
                # Keras goes by the file's name, convfc by its bytes: a link has the right name.
                named.symlink_to(path.resolve())
            elif file_format == HDF5:
                _copy_hdf5(path, named, upgraded)
            else:
                done += _copy_zip(path, named, upgraded)
            yield UpgradedCopy(named, done)
    except OSError as error:
        if error.errno is None:  # h5py's, of a damaged file
            raise
        what = error.strerror or error
        raise FileError(
            f"{path}: cannot be brought up to date: {what}",
            remedy=OTHER_PLACE,
            code=Code.NOT_WRITTEN,
        ) from error


def _copy_hdf5(source: Path, target: Path, upgraded: Upgraded) -> None:
    # Keras follows no link out of a file, so the weights are copied too.
    shutil.copyfile(source, target)
    with h5py.File(target, "r+") as file:
        file.attrs[MODEL_CONFIG] = json.dumps(upgraded.config)
        if upgraded.training is not None:
            file.attrs[TRAINING_CONFIG] = json.dumps(upgraded.training)


def _copy_zip(source: Path, target: Path, upgraded: Upgraded) -> tuple[str, ...]:
    """Copy a zip, and bring its weights up to date; what was done there, a phrase each."""
    config = {**upgraded.config, "compile_config": upgraded.training}
    done: tuple[str, ...] = ()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.infolist():
            if member.filename == CONFIG:
                new.writestr(CONFIG, json.dumps(config))
                continue
            copy = target.with_name("member")
            with old.open(member) as data, copy.open("wb") as file:
                shutil.copyfileobj(data, file, 2**20)
            if member.filename == WEIGHTS:
                with h5py.File(copy, "r+") as weights:
                    done = tuple(step.says for step in WEIGHTS_STEPS if step.change(weights))
            new.write(copy, member.filename)
    return done


def make_loadable(path: Path, own: Set[str] = frozenset()) -> None:
    """Take out of an HDF5 file what Keras wrote into it and cannot load.

    That is the optimizer's state, with which nobody can go on training, and what
    `leave_masks_to_keras`, `name_modules` and `leave_score` say. The model came from such a file.

    Args:
        path: the file, as Keras wrote it.
        own: the operations that the model came with, by their names.

    Raises:
        OSError: the file cannot be written.
    """
    with h5py.File(path, "r+") as file:
        file.pop(OPTIMIZER_WEIGHTS, None)
        config = json.loads(file.attrs[MODEL_CONFIG])
        if leave_masks_to_keras(config, own) | name_modules(config) | leave_score(config):
            file.attrs[MODEL_CONFIG] = json.dumps(config)
