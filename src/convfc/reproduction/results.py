"""What the experiment found, in numbers, and the files that hold them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convfc.core.arrays import Array
from convfc.reproduction.settings import Settings
from convfc.system.atomic import staged
from convfc.text.jsontext import json_text


@dataclass(frozen=True)
class Trained:
    """One network after its training.

    Attributes:
        optimizer: "sgd" or "adam".
        network: a key of `NETWORKS`.
        training: the loss of each epoch: the mean over its images, each before its step.
        validation: the loss on the validation images after each epoch.
        kernel: (16 * channels, filters), the filter matrix of the first layer.
        seconds: how long the training took.
    """

    optimizer: str
    network: str
    training: Array
    validation: Array
    kernel: Array
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """A network next to the CNN that was trained with the same optimizer.

    Attributes:
        optimizer: "sgd" or "adam".
        network: a key of `NETWORKS`; "cnn" is compared with itself.
        training_loss: of the last epoch.
        validation_loss: after the last epoch.
        curve_distance: the largest difference between the two training curves or the two
            validation curves, at any epoch.
        weight_distance: the Frobenius norm of the difference of the first layers' filter matrices.
        output_distance: the mean, over the new images, of the Frobenius norm of the difference of
            the first layers' outputs, before the ReLU.
        weight_norm: the Frobenius norm of this network's own filter matrix, for scale.
        output_norm: the mean norm of this network's own outputs, for scale.
        seconds: how long the training took.
    """

    optimizer: str
    network: str
    training_loss: float
    validation_loss: float
    curve_distance: float
    weight_distance: float
    output_distance: float
    weight_norm: float
    output_norm: float
    seconds: float


@dataclass(frozen=True)
class Experiment:
    """Everything that `experiment` found.

    Attributes:
        settings: what was asked for.
        images: one phrase that says what the networks saw.
        trained: the networks, in the order of training.
        comparisons: one for each of them.
        environment: versions and machine, by name.
        files: figures and numbers that were written.
    """

    settings: Settings
    images: str
    trained: tuple[Trained, ...]
    comparisons: tuple[Comparison, ...]
    environment: Mapping[str, str]
    files: tuple[Path, ...]


def compare(
    network: Trained, output: Array, reference: Trained, reference_output: Array
) -> Comparison:
    """Compare a network with another one; see `Comparison`.

    Args:
        network: the one that the result speaks of.
        output: what its first layer makes of the new images: (images, positions, filters).
        reference: the CNN.
        reference_output: the same of the CNN.
    """
    return Comparison(
        optimizer=network.optimizer,
        network=network.network,
        training_loss=float(network.training[-1]),
        validation_loss=float(network.validation[-1]),
        curve_distance=max(
            float(np.max(np.abs(network.training - reference.training))),
            float(np.max(np.abs(network.validation - reference.validation))),
        ),
        weight_distance=_norm(network.kernel - reference.kernel),
        output_distance=_mean_norm(output - reference_output),
        weight_norm=_norm(network.kernel),
        output_norm=_mean_norm(output),
        seconds=network.seconds,
    )


def _norm(matrix: Array) -> float:
    """Frobenius norm, summed in double precision."""
    return float(np.linalg.norm(matrix.astype(np.float64)))


def _mean_norm(matrices: Array) -> float:
    """The mean over the first axis of the Frobenius norms of what lies along it."""
    flat = matrices.reshape(len(matrices), -1)
    return float(np.mean([_norm(row) for row in flat]))


def experiment_json(found: Experiment) -> dict[str, Any]:
    """Everything that was found, as JSON types; the weights of the first layers are left out."""
    return {
        "settings": asdict(found.settings),
        "images": found.images,
        "environment": dict(found.environment),
        "comparisons": [asdict(one) for one in found.comparisons],
        "curves": [
            {
                "optimizer": one.optimizer,
                "network": one.network,
                "training": one.training.tolist(),
                "validation": one.validation.tolist(),
            }
            for one in found.trained
        ],
        "files": [str(file) for file in found.files],
    }


def write_numbers(folder: Path, found: Experiment) -> list[Path]:
    """Write the curves and the comparisons as CSV, and everything as JSON.

    Raises:
        FileError: the folder is not writable, or the disk is full.
    """
    curves = [["optimizer", "network", "epoch", "training_loss", "validation_loss"]]
    for trained in found.trained:
        pairs = zip(trained.training, trained.validation, strict=True)
        for epoch, losses in enumerate(pairs, 1):
            name = [trained.optimizer, trained.network, str(epoch)]
            curves.append([*name, *(repr(float(loss)) for loss in losses)])
    rows = [asdict(one) for one in found.comparisons]
    return [
        _write(folder / "losses.csv", _csv(curves)),
        _write(folder / "comparisons.csv", _csv([list(rows[0]), *(row.values() for row in rows)])),
        _write(folder / "result.json", json_text(experiment_json(found), indent=1)),
    ]


def _csv(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _write(path: Path, text: str) -> Path:
    with staged(path) as stage:
        stage.write_text(text)
    return path
