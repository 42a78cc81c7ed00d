"""A file as today's Keras loads it: the right name, and a configuration that is up to date."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py

from convfc.errors import UnsupportedModelError
from convfc.formats.keras.archive import (
    CONFIG,
    HDF5,
    MODEL_CONFIG,
    OPTIMIZER_WEIGHTS,
    TRAINING_CONFIG,
    WEIGHTS,
    ZIP,
    Envelope,
)
from convfc.formats.keras.upgrades import (
    HDF5_STEPS,
    MODEL_STEPS,
    TRAINING_STEPS,
    WEIGHTS_STEPS,
    Config,
    upgrade,
)
from convfc.formats.keras.upgrades.classes import leave_score, use_other_sigmoid
from convfc.formats.keras.upgrades.graphs import lacks_input
from convfc.formats.keras.upgrades.hdf5 import leave_masks_to_keras, name_slices
from convfc.formats.keras.upgrades.operations import left_over
from convfc.system.atomic import temporary_folder

_SUFFIXES = {HDF5: (".h5", ".hdf5"), ZIP: (".keras",)}


def format_named(path: Path) -> str | None:
    """The format that Keras expects of a file of this name, `HDF5` or `ZIP`, if any."""
    kinds = (kind for kind, suffixes in _SUFFIXES.items() if path.name.endswith(suffixes))
    return next(kinds, None)


def with_suffix(path: Path, file_format: str) -> Path:
    """`path`, or a neighbour of it, with a name that tells Keras the format."""
    if format_named(path) == file_format:
        return path
    return path.with_name(path.name + file_format)


@dataclass(frozen=True)
class Staged:
    """What Keras is to load.

    Attributes:
        path: the file itself or its stand-in.
        done: what was brought up to date, a phrase each.
        cautions: what Keras 3 computes otherwise, a sentence each.
    """

    path: Path
    done: tuple[str, ...]
    cautions: tuple[str, ...]


@contextmanager
def staged(path: Path, envelope: Envelope) -> Iterator[Staged]:
    """What takes the place of a file while the block runs.

    Args:
        path: the file; it stays as it is.
        envelope: what it holds.

    Raises:
        UnsupportedModelError: its graph holds operations that no stock layer stands for.
        OSError: the copy that an older file needs cannot be written.
    """
    config, training = envelope.config, envelope.training
    done: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    if envelope.is_old:
        config, done = upgrade(config, MODEL_STEPS)
        cautions = tuple(
            f"{name}: Keras 3 has another hard_sigmoid (x/6 + 0.5) than Keras 2 (0.2x + 0.5)."
            for name in use_other_sigmoid(config)
        )
        if lacks_input(config):
            raise UnsupportedModelError(
                f"{path}: does not say what its input looks like; "
                "build the model with an Input of known channels and save it again"
            )
        for name, operation in left_over(config):
            raise UnsupportedModelError(
                f"{path}: layer {name!r} is the TensorFlow operation {operation!r}, which "
                "Keras 3 does not load; build the model with a stock layer and save it again"
            )
    elif envelope.file_format == HDF5:
        config, done = upgrade(config, HDF5_STEPS)
    if training is not None and (envelope.is_old or envelope.file_format == HDF5):
        training, more = upgrade(training, TRAINING_STEPS)
        done += more
    with temporary_folder() as folder:
        named = folder / f"model{envelope.file_format}"
        if not done:
            # Keras goes by the file's name, convfc by its bytes: a link has the right name.
            named.symlink_to(path.resolve())
        elif envelope.file_format == HDF5:
            # Keras follows no link out of a file, so the weights are copied too.
            shutil.copyfile(path, named)
            with h5py.File(named, "r+") as file:
                file.attrs[MODEL_CONFIG] = json.dumps(config)
                if training is not None:
                    file.attrs[TRAINING_CONFIG] = json.dumps(training)
        else:
            done += _copy_zip(path, named, {**config, "compile_config": training})
        yield Staged(named, done, cautions)


def _copy_zip(source: Path, target: Path, config: Config) -> tuple[str, ...]:
    """Copy a zip with another configuration; what was brought up to date in its weights."""
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


def make_loadable(path: Path) -> None:
    """Take out of an HDF5 file what Keras wrote into it and cannot load.

    That is the optimizer's state, with which nobody can go on training, and what
    `leave_masks_to_keras`, `name_slices` and `leave_score` say. The model came from such a file.

    Raises:
        OSError: the file cannot be written.
    """
    with h5py.File(path, "r+") as file:
        file.pop(OPTIMIZER_WEIGHTS, None)
        config = json.loads(file.attrs[MODEL_CONFIG])
        if leave_masks_to_keras(config) | name_slices(config) | leave_score(config):
            file.attrs[MODEL_CONFIG] = json.dumps(config)
