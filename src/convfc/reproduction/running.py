"""The whole experiment: every network with every optimizer, then the numbers and the figures."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from convfc import arguments
from convfc._version import __version__
from convfc.errors import FileError, UsageError
from convfc.formats.registry import import_keras
from convfc.plotting import require_matplotlib
from convfc.refusals import Code
from convfc.reproduction import figures
from convfc.reproduction.results import Comparison, Experiment, Trained, compare, write_numbers
from convfc.reproduction.settings import NETWORKS, OPTIMIZERS, Images, Settings, load_images
from convfc.system.atomic import staged
from convfc.system.surroundings import undisturbed

SETTINGS_FILE = "settings.json"


@undisturbed()
def experiment(
    out: str | Path,
    *,
    optimizers: str | Sequence[str] = OPTIMIZERS,
    epochs: int = Settings.epochs,
    filters: int = Settings.filters,
    images: int = Settings.images,
    batch: int = Settings.batch,
    learning_rate: float | None = None,
    seed: int = 0,
    data: str = "mnist",
    resume: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Experiment:
    """Repeat the experiment of Ma & Lu (2017), section 5, and draw its figures.

    Three networks that reproduce their input start from the same weights and see the same batches
    in the same order: a CNN, the CNN converted by `convert`, and the paper's form of it, a Dense
    layer on patches cut beforehand. A fourth shows what rounding alone does; see `NETWORKS`.
    Keras' deterministic operations are switched on, for as long as the process lives.

    Args:
        out: the folder to write figures, numbers and states into; made if it is not there.
        optimizers: "sgd", "adam" or both.
        epochs: passes over the training images; the paper: 400.
        filters: of the convolution; the paper: 128.
        images: how many to train on, and as many others to validate on.
        batch: images per step.
        learning_rate: of both optimizers; ``None`` for Keras' own, as the paper.
        seed: of the starting weights and of the order of the images.
        data: "mnist", or what `load_images` reads.
        resume: go on with the experiment in `out`, which must have the same settings.
        progress: called with a few words after every epoch.

    Raises:
        UsageError: settings out of range; `out` holds an experiment, and `resume` is not set or
            the settings are others, or it holds other things; matplotlib is not installed.
        DataError: the images cannot be read or are too few.
        FileError: `out` cannot be written, or a state in it is damaged.
    """
    folder = arguments.path("out", out)
    chosen, source = arguments.texts("optimizers", optimizers), str(arguments.path("data", data))
    settings = Settings(chosen, epochs, filters, images, batch, learning_rate, seed, source)
    require_matplotlib()
    seen = load_images(settings.data, images)
    _open_folder(folder, settings, resume)
    import_keras()
    from convfc.reproduction.networks import deterministic

    with deterministic():
        trained = tuple(_train_all(settings, seen, folder / "state", progress))
        comparisons = tuple(_compare_all(settings, seen, trained))
    found = Experiment(
        settings=settings,
        images=seen.source,
        trained=trained,
        comparisons=comparisons,
        environment=_environment(),
        files=tuple(figures.draw(folder, settings, seen.shape, trained)),
    )
    return replace(found, files=(*found.files, *write_numbers(folder, found)))


def _open_folder(folder: Path, settings: Settings, resume: bool) -> None:
    """Make the folder and write the settings down, or see that they are those of the folder."""
    path = folder / SETTINGS_FILE
    wanted = json.loads(json.dumps(asdict(settings)))
    if not path.exists():
        if resume:
            raise UsageError(
                f"{folder}: holds no experiment to go on with", remedy="leave out --resume"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            taken = next(folder.iterdir(), None)
        except OSError as error:
            raise FileError(
                f"{folder}: cannot be made: {error.strerror}", code=Code.NOT_WRITTEN
            ) from error
        if taken is not None:
            raise UsageError(
                f"{folder}: holds other things, like {taken.name!r}",
                remedy="choose another with --out",
            )
        with staged(path) as stage:
            stage.write_text(json.dumps(wanted, indent=2) + "\n")
        return
    if not resume:
        raise UsageError(
            f"{folder}: holds an experiment already",
            remedy="go on with it with --resume, or choose another folder with --out",
        )
    try:
        held = json.loads(path.read_text())
        others = [name for name in wanted if held[name] != wanted[name]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(
            f"{path}: cannot be read", remedy="delete the folder to begin anew", code=Code.DAMAGED
        ) from error
    if others:
        were = ", ".join(f"{name} {held[name]}" for name in others)
        raise UsageError(
            f"{folder}: was begun with other settings ({were})", remedy="repeat them with --resume"
        )


def _train_all(
    settings: Settings, images: Images, states: Path, progress: Callable[[str], None]
) -> list[Trained]:
    from convfc.reproduction.training import Training, train

    states.mkdir(exist_ok=True)
    runs = [(optimizer, name) for optimizer in settings.optimizers for name in NETWORKS]
    found = []
    for number, (optimizer, name) in enumerate(runs, 1):
        what = f"{optimizer}, {NETWORKS[name]}"
        after = (len(runs) - number) * settings.epochs

        def say(state: Training, what: str = what, after: int = after) -> None:
            epochs_left = settings.epochs - state.epochs + after
            left = round(state.seconds / state.epochs * epochs_left)
            progress(
                f"{what}: epoch {state.epochs} of {settings.epochs}, "
                f"loss {state.training[-1]:.4g}, validation {state.validation[-1]:.4g}, "
                f"{left // 60}:{left % 60:02} left"
            )

        done = train(name, optimizer, settings, images, states / f"{optimizer}-{name}.npz", say)
        found.append(
            Trained(
                optimizer,
                name,
                np.asarray(done.training),
                np.asarray(done.validation),
                np.asarray(done.kernel),
                done.seconds,
            )
        )
    return found


def _compare_all(
    settings: Settings, images: Images, trained: Sequence[Trained]
) -> Iterator[Comparison]:
    from convfc.reproduction.networks import first_output

    for group in (trained[n : n + len(NETWORKS)] for n in range(0, len(trained), len(NETWORKS))):
        cnn, cnn_output = group[0], None
        for one in group:
            output = first_output(one.network, settings, one.kernel, images.new)
            cnn_output = output if cnn_output is None else cnn_output
            yield compare(one, output, cnn, cnn_output)


def _environment() -> dict[str, str]:
    packages = {name: version(name) for name in ("keras", "tensorflow", "numpy")}
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return {
        "convfc": __version__,
        "python": platform.python_version(),
        **packages,
        "machine": machine,
    }
