"""Trains one network and keeps its state on disk, so that an interrupted training goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from convfc.core.arrays import Array
from convfc.errors import DataError, FileError
from convfc.refusals import Code
from convfc.reproduction.networks import first_kernel, network, prepared
from convfc.reproduction.settings import Images, Settings
from convfc.samples.files import read_arrays
from convfc.system.atomic import staged

SAVE_EVERY = 60.0
"""Seconds of training that an interruption may cost."""


_ALWAYS = ("training", "validation", "seconds")
"""What a state holds at any time; besides, the variables or, in the end, the kernel."""


@dataclass
class Training:
    """How far the training of a network has come.

    Attributes:
        training: the loss of each epoch: the mean over its images, each before its step.
        validation: the loss on the validation images after each epoch.
        seconds: how long it took.
        variables: weights and the optimizer's moments; none once it is finished.
        kernel: the filter matrix of the first layer, once it is finished.
    """

    training: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    seconds: float = 0.0
    variables: list[Array] = field(default_factory=list)
    kernel: Array | None = None

    @property
    def epochs(self) -> int:
        """Epochs done."""
        return len(self.training)

    def save(self, path: Path) -> None:
        """Write it; the old file or the new one is there, whatever happens.

        Raises:
            FileError: the folder is not writable, or the disk is full.
        """
        arrays: dict[str, Any] = {f"variable_{n}": array for n, array in enumerate(self.variables)}
        if self.kernel is not None:
            arrays["kernel"] = self.kernel
        arrays |= {name: getattr(self, name) for name in _ALWAYS}
        with staged(path) as stage:
            np.savez(stage, **arrays)

    @classmethod
    def load(cls, path: Path) -> Training:
        """Read it; a beginning if there is no such file.

        Raises:
            FileError: the file is damaged.
        """
        if not path.exists():
            return cls()
        try:
            held = read_arrays(path)
            return cls(
                training=held["training"].tolist(),
                validation=held["validation"].tolist(),
                seconds=float(held["seconds"]),
                variables=[held[name] for name in held if name.startswith("variable_")],
                kernel=held.get("kernel"),
            )
        except (DataError, KeyError) as error:
            raise FileError(
                f"{path}: is no state of a training",
                remedy="delete it and resume",
                code=Code.DAMAGED,
            ) from error


def train(
    name: str,
    optimizer: str,
    settings: Settings,
    images: Images,
    path: Path,
    progress: Callable[[Training], None],
) -> Training:
    """Train a network to reproduce its input, or go on with it.

    Args:
        name: a key of `NETWORKS`.
        optimizer: "sgd" or "adam".
        settings: the epochs and what is in them.
        images: what to train and to validate on.
        path: where the state is, or will be.
        progress: called after every epoch.

    Returns:
        The finished training.

    Raises:
        FileError: `path` is damaged or cannot be written.
    """
    state = Training.load(path)
    if state.kernel is not None:
        return state
    model = network(name, settings, images.shape)
    model.compile(_optimizer(optimizer, settings), loss="mean_squared_error")
    model.optimizer.build(model.trainable_variables)
    variables = [*model.weights, *model.optimizer.variables]
    for variable, array in zip(variables, state.variables, strict=False):
        variable.assign(array)
    inputs = prepared(name, settings, images.training)
    others = prepared(name, settings, images.validation)
    saved = began = time.monotonic()
    while state.epochs < settings.epochs:
        squares = 0.0
        for rows in settings.batches(state.epochs):
            seen = rows[::-1] if name == "again" else rows
            model.reset_metrics()  # some versions of Keras go on averaging from batch to batch
            squares += len(rows) * float(model.train_on_batch(inputs[seen], images.training[seen]))
        state.training.append(squares / settings.images)
        state.validation.append(float(model.test_on_batch(others, images.validation)))
        now = time.monotonic()
        state.seconds, began = state.seconds + now - began, now
        if now - saved > SAVE_EVERY and state.epochs < settings.epochs:
            state.variables = [np.asarray(variable) for variable in variables]
            state.save(path)
            saved = time.monotonic()
        progress(state)
    state.variables, state.kernel = [], first_kernel(model)
    state.save(path)
    return state


def _optimizer(name: str, settings: Settings) -> Any:
    kind = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[name]
    rate = settings.learning_rate
    return kind() if rate is None else kind(rate)
