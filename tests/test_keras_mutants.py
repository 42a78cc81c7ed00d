"""Wrong conversions of Keras files, each by one thing: `verify` must catch every one."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import convfc
from convfc import Verdict
from convfc.formats import open_model
from convfc.keras_model.quiet import importing, overheard

with importing():
    import keras
    from keras import layers

NOT_SETTINGS = {"name", "module", "registered_name", "build_config", "keras_history", "dtype"}
"""Keys of a configuration that say nothing about what is computed, or that no file survives."""


def network(path: Path) -> Path:
    """Convolutions of several kinds between other layers, with real weights."""
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [
            keras.Input((7, 8, 2), name="image"),
            layers.Rescaling(0.5, name="half"),
            layers.Conv2D(4, (2, 3), strides=(1, 2), padding="same", activation="relu", name="one"),
            layers.DepthwiseConv2D((3, 2), bias_initializer="normal", name="two"),
            layers.Conv2D(2, 1, activation="tanh", use_bias=False, name="three"),
            layers.Flatten(name="flat"),
            layers.Dense(3, name="scores"),
        ]
    )
    with overheard():
        model.save(path)
    return path


def network_of_any_size(path: Path) -> Path:
    """Layers that do arithmetic with sizes that they do not know."""
    keras.utils.set_random_seed(6)
    model = keras.Sequential(
        [
            keras.Input((None, None, 2), name="image"),
            layers.Conv2D(4, (2, 3), strides=(3, 2), padding="same", name="one"),
            layers.DepthwiseConv2D((1, 2), depth_multiplier=2, padding="same", name="two"),
            layers.Conv2D(4, (2, 1), groups=2, padding="same", name="three"),
            layers.Conv2DTranspose(2, (2, 3), strides=(1, 2), padding="same", name="four"),
            layers.GlobalAveragePooling2D(name="flat"),
            layers.Dense(3, name="scores"),
        ]
    )
    with overheard():
        model.save(path)
    return path


def arrays(file: h5py.File) -> list[str]:
    found: list[str] = []
    file.visititems(
        lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None
    )
    return [name for name in found if file[name].size and file[name].dtype.kind == "f"]


def number_edits(array: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """One number changed, or two swapped."""
    for place in sorted({0, array.size - 1}):
        value = array.flat[place]
        for name, number in (
            ("ulp", np.nextafter(value, np.float32(np.inf))),
            ("1e-3", value + np.float32(1e-3)),
        ):
            edited = array.copy()
            edited.flat[place] = number
            yield f"[{place}] {name}", edited
    if array.size > 1:
        edited = array.copy()
        edited.flat[[0, -1]] = array.flat[[-1, 0]]
        yield "swapped", edited


def setting_edits(config: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """A copy of a configuration for each of its settings, with that one changed."""
    if isinstance(config, dict):
        for key, value in config.items():
            if key not in NOT_SETTINGS:
                for name, edited in setting_edits(value, f"{where}/{key}"):
                    yield name, {**config, key: edited}
    elif isinstance(config, list):
        places = range(len(config)) if len(config) < 9 else range(0, len(config), 3)
        for i in places:
            for name, edited in setting_edits(config[i], f"{where}/{i}"):
                yield name, [*config[:i], edited, *config[i + 1 :]]
    elif isinstance(config, bool):
        yield where, not config
    elif isinstance(config, int | float):
        yield f"{where} + 1", config + 1
    elif config in ("relu", "tanh"):
        yield f"{where} dropped", "linear"


def mutants(true: Path, wrong: Path) -> Iterator[str]:
    """Write every mutant of a converted file, one after the other; yields what is wrong."""
    if true.suffix == ".h5":
        with h5py.File(true) as file:
            names, config = arrays(file), json.loads(file.attrs["model_config"])
            values = {name: file[name][()] for name in names}
        for name, value in values.items():
            for how, edited in number_edits(value):
                shutil.copy(true, wrong)
                with h5py.File(wrong, "r+") as file:
                    file[name][...] = edited
                yield f"{name}{how}"
        for how, edited_config in setting_edits(config["config"]):
            shutil.copy(true, wrong)
            with h5py.File(wrong, "r+") as file:
                file.attrs["model_config"] = json.dumps({**config, "config": edited_config})
            yield how
        return
    with zipfile.ZipFile(true) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def write(name: str, content: bytes) -> None:
        with zipfile.ZipFile(wrong, "w") as archive:
            for member, old in members.items():
                archive.writestr(member, content if member == name else old)

    weights, settings = "model.weights.h5", "config.json"
    with h5py.File(io.BytesIO(members[weights])) as file:
        values = {name: file[name][()] for name in arrays(file)}
    for name, value in values.items():
        for how, edited in number_edits(value):
            stored = io.BytesIO(members[weights])
            with h5py.File(stored, "r+") as file:
                file[name][...] = edited
            write(weights, stored.getvalue())
            yield f"{name}{how}"
    config = json.loads(members[settings])
    for how, edited_config in setting_edits(config["config"]):
        write(settings, json.dumps({**config, "config": edited_config}).encode())
        yield how


def survivors(
    tmp_path: Path, suffix: str, every: int, make: Callable[[Path], Path] = network
) -> tuple[int, list[str]]:
    """How many wrong files there are, and those that verify takes for the original.

    A mutant that gives the true conversion's own numbers, to the bit, is not wrong.
    """
    path = make(tmp_path / f"net{suffix}")
    out = convfc.convert(path).out
    assert convfc.verify(path, out, samples=2).verdict is Verdict.EQUIVALENT
    true = tmp_path / f"true{suffix}"
    shutil.copy(out, true)
    rng, sizes = np.random.default_rng(3), [(7, 8)] if make is network else [(7, 8), (8, 9), (9, 7)]
    xs = [rng.normal(size=(2, *size, 2)).astype(np.float32) for size in sizes]

    def scores(file: Path) -> list[NDArray[Any]]:
        model = open_model(file)
        return [model.run({"image": x})["scores"] for x in xs]

    expected = scores(true)
    alive, wrong = [], 0
    for number, name in enumerate(mutants(true, out)):
        if number % every:
            continue
        try:
            verdict = convfc.verify(path, out, samples=2).verdict
        except convfc.ConvfcError:
            verdict = Verdict.COULD_NOT_CHECK  # Keras does not load it
        if verdict is not Verdict.EQUIVALENT:
            wrong += 1
        elif not all(map(np.array_equal, scores(out), expected)):
            alive.append(name)
    return wrong, alive


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_some_mutants_do_not_pass(tmp_path: Path, suffix: str) -> None:
    wrong, alive = survivors(tmp_path, suffix, every=13)
    assert wrong >= 5
    assert alive == []


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_no_mutant_passes(tmp_path: Path, suffix: str) -> None:
    wrong, alive = survivors(tmp_path, suffix, every=1)
    assert wrong > 70
    assert alive == []


@pytest.mark.slow
def test_no_mutant_of_any_size_passes(tmp_path: Path) -> None:
    wrong, alive = survivors(tmp_path, ".h5", 1, network_of_any_size)
    assert wrong > 70
    assert alive == []
