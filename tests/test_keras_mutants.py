"""Wrong conversions of Keras files, each by one thing: `verify` must catch every one."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import convfc
from convfc import Verdict
from convfc.formats.keras.quiet import importing, overheard
from convfc.formats.registry import open_model
from tests.thinned import thinned

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
            if key == "dtype" and isinstance(value, dict):
                narrow = {**value["config"], "name": "float16"}
                yield f"{where}/{key} float16", {**config, key: {**value, "config": narrow}}
            if key not in NOT_SETTINGS:
                for name, edited in setting_edits(value, f"{where}/{key}"):
                    yield name, {**config, key: edited}
    elif isinstance(config, list):
        places = range(len(config)) if len(config) < 9 else (0, len(config) // 2)
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


def survivors(tmp_path: Path, suffix: str, every: int) -> tuple[int, list[str]]:
    """How many wrong files there are, and those that verify takes for the original.

    A mutant that gives the true conversion's own numbers, to the bit, is not wrong.
    """
    path = network(tmp_path / f"net{suffix}")
    out = convfc.convert(path).out
    assert convfc.verify(path, out, samples=2).verdict is Verdict.EQUIVALENT
    true = tmp_path / f"true{suffix}"
    shutil.copy(out, true)
    x = np.random.default_rng(3).normal(size=(2, 7, 8, 2)).astype(np.float32)
    expected = open_model(true).run({"image": x})["scores"]
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
        elif not np.array_equal(open_model(out).run({"image": x})["scores"], expected):
            alive.append(name)
    return wrong, alive


@pytest.mark.slow
@pytest.mark.parametrize("suffix", thinned([".keras", ".h5"]))
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


def branches(path: Path) -> Path:
    """Two convolutions side by side, of the same shapes."""
    keras.utils.set_random_seed(6)
    image = keras.Input((5, 6, 2), name="image")
    shared = layers.BatchNormalization(name="norm")(image)
    left, right = (layers.Conv2D(2, 3, name=name)(shared) for name in ("left", "right"))
    gap = layers.Subtract(name="gap")([left, right])
    out = layers.LeakyReLU(name="out")(layers.Dropout(0.5, seed=1, name="drop")(gap))
    model = keras.Model(image, [out, layers.Permute((2, 1, 3), name="turned")(right)])
    with overheard():
        model.save(path)
    return path


def branch_edits() -> Iterator[tuple[str, Any]]:
    """Changes of the configuration in place, each a function of the layers by their names."""

    def reads(layer: str, old: str, new: str) -> Any:
        def change(found: dict[str, Any]) -> None:
            text = json.dumps(found[layer]["inbound_nodes"])
            found[layer]["inbound_nodes"] = json.loads(text.replace(f'"{old}"', f'"{new}"'))

        return change

    def setting(layer: str, key: str, value: Any) -> Any:
        return lambda found: found[layer]["config"].update({key: value})

    yield "a layer that reads around another", reads("right", "norm", "image")
    yield "a layer twice, the other never", reads("gap", "right", "left")
    yield "an output of the other", reads("turned", "right", "left")
    yield "an axis order", setting("turned", "dims", [1, 2, 3])
    yield "an epsilon", setting("norm", "epsilon", 0.002)
    yield "a slope", setting("out", "negative_slope", 0.31)


@pytest.mark.parametrize(
    "names",
    [
        ["a layer that reads around another", "a layer twice, the other never", "a slope"],
        pytest.param([name for name, _ in branch_edits()], marks=pytest.mark.slow),
    ],
)
def test_what_is_outside_and_how_it_is_connected(tmp_path: Path, names: list[str]) -> None:
    path = branches(tmp_path / "net.keras")
    out = convfc.convert(path).out
    assert convfc.verify(path, out, samples=2).equivalent
    with zipfile.ZipFile(out) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, change in branch_edits():
        if name not in names:
            continue
        config = json.loads(members["config.json"])
        change({layer["config"]["name"]: layer for layer in config["config"]["layers"]})
        with zipfile.ZipFile(out, "w") as archive:
            for member, content in members.items():
                new = json.dumps(config).encode() if member == "config.json" else content
                archive.writestr(member, new)
        verdict = convfc.verify(path, out, samples=2).verdict
        assert verdict is Verdict.NOT_EQUIVALENT, name
