"""Kinds of Keras files that people have: each made here of one that a Keras wrote, and judged.

A file counts as read where it computes what the Keras that wrote it computed, and where what is
made of it is proved; its twin is the same file with something else in it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import convfc
from convfc import Verdict
from convfc.errors import FileError, UnsupportedModelError
from convfc.formats.keras import open_keras
from tests.keras_edits import members, write

OLD = Path(__file__).with_name("data") / "old_keras.zip"


def old(name: str, folder: Path) -> Path:
    """A file that an old Keras wrote, with what it computed beside it."""
    with zipfile.ZipFile(OLD) as archive:
        for member in (name, f"{Path(name).stem}.npz"):
            archive.extract(member, folder)
    return folder / name


def error(path: Path, outputs: Path) -> float:
    """How far a file is from what its Keras computed, as a part of the largest number."""
    model, arrays = open_keras(path), np.load(outputs)
    feed = {port.name: arrays[f"i{place}"] for place, port in enumerate(model.inputs)}
    found = [y - arrays[f"o{place}"] for place, y in enumerate(model.run(feed).values())]
    largest = max(float(np.abs(arrays[f"o{place}"]).max()) for place in range(len(found)))
    return max(float(np.abs(y).max()) for y in found) / largest


def proved(path: Path, folder: Path) -> bool:
    """Whether what is made of a file is called equivalent."""
    out = folder / f"out{path.suffix}"
    convfc.convert(path, out, force=True)
    return convfc.verify(path, out, samples=2).verdict is Verdict.EQUIVALENT


def weights_edited(path: Path, target: Path, change: Callable[[h5py.File], None]) -> Path:
    """A copy of a `.keras` file with other weights."""
    content = members(path)
    weights = io.BytesIO(content["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        change(file)
    return write(target, {**content, "model.weights.h5": weights.getvalue()})


def as_on_windows(file: h5py.File) -> None:
    """`tf.io.gfile.join(inner_path, child)` there: saving_lib.py of Keras 2.12 to 2.15."""
    paths: list[str] = []
    file.visit(paths.append)
    for path in sorted(p for p in paths if p.endswith("/vars")):
        layer, _, _ = path.rpartition("/")
        if "/" in layer:
            file.move(path, f"{layer.replace('/', chr(92))}/vars")
    for name in [name for name in file if "\\" not in name and "vars" not in file[name]]:
        del file[name]


@pytest.mark.parametrize("name", ["mobile_2.13.1.keras", "nested_2.13.1.keras"])
def test_a_file_written_on_windows(tmp_path: Path, name: str) -> None:
    original = old(name, tmp_path)
    path = weights_edited(original, tmp_path / "windows.keras", as_on_windows)
    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as weights:
        assert "_layer_checkpoint_dependencies\\conv2d" in h5py.File(weights)
    assert error(path, original.with_suffix(".npz")) < 1e-6
    assert any("where Windows does" in note for note in open_keras(path).notes)
    assert proved(path, tmp_path)


def test_its_layers_are_told_apart(tmp_path: Path) -> None:
    first, second = (f"_layer_checkpoint_dependencies\\conv2d_transpose{x}" for x in ("", "_2"))

    def exchange(file: h5py.File) -> None:
        for source, target in ((first, "x"), (second, first), ("x", second)):
            file.move(source, target)

    def lose(file: h5py.File) -> None:
        del file[second]

    original = old("transposed_2.13.1.keras", tmp_path)
    path = weights_edited(original, tmp_path / "windows.keras", as_on_windows)
    assert error(path, original.with_suffix(".npz")) < 1e-6
    for number, change in enumerate((exchange, lose)):
        with pytest.raises(UnsupportedModelError, match="cannot load it"):
            open_keras(weights_edited(path, tmp_path / f"{number}.keras", change))


def test_paths_that_are_there_twice_are_damage(tmp_path: Path) -> None:
    def clash(file: h5py.File) -> None:
        file["_layer_checkpoint_dependencies\\conv2d\\vars"] = np.zeros(1)

    path = weights_edited(old("mobile_2.13.1.keras", tmp_path), tmp_path / "twice.keras", clash)
    with pytest.raises(FileError, match="get a fresh copy"):
        open_keras(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_configuration_that_an_editor_of_windows_saved(tmp_path: Path, encoding: str) -> None:
    """Keras reads it, as Python's json does."""
    original = old("mobile_2.13.1.keras", tmp_path)
    content = members(original)
    lines = content["config.json"].decode().replace(", ", ",\r\n")
    path = write(tmp_path / "edited.keras", {**content, "config.json": lines.encode(encoding)})
    assert error(path, original.with_suffix(".npz")) < 1e-6
