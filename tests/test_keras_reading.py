"""Files that cannot be opened say why in a line or two, and nothing else reaches the terminal."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from convfc.errors import ConvfcError, FileError, UnsupportedModelError, UsageError
from convfc.formats.keras import open_keras
from convfc.formats.keras.quiet import overheard
from tests.keras_edits import members, weights_edited, write
from tests.keras_models import FORMATS, save


def _model(*stack: Any) -> Any:
    return keras.Sequential([keras.Input((6, 5, 2)), *stack])


def _refusal(path: Path, kind: type[ConvfcError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        open_keras(path)
    text = str(caught.value)
    assert str(path) in text
    assert len(text.splitlines()) <= 2
    for word in words:
        assert word in text


def _edit_hdf5(path: Path, old: str, new: str) -> None:
    with h5py.File(path, "r+") as file:
        config = file.attrs["model_config"]
        assert old in config
        file.attrs["model_config"] = config.replace(old, new)


def _edit_zip(path: Path, member: str, old: str, new: str) -> None:
    content = members(path)
    assert old.encode() in content[member]
    content[member] = content[member].replace(old.encode(), new.encode())
    write(path, content)


def test_missing(tmp_path: Path) -> None:
    _refusal(tmp_path / "none.h5", FileError, "no such file")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("content", [b"", b"not a model\n" * 20])
def test_no_model_at_all(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"text{suffix}"
    path.write_bytes(content)
    _refusal(path, FileError, "neither an HDF5 file nor a .keras zip")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("share", [0.2, 0.7, 0.98])
def test_truncated(tmp_path: Path, suffix: str, share: float) -> None:
    path = save(_model(layers.Conv2D(40, 3)), tmp_path / f"cut{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    _refusal(path, FileError, "cut short")


def test_weights_only(tmp_path: Path) -> None:
    path = tmp_path / "model.weights.h5"
    with overheard():
        _model(layers.Conv2D(1, 1)).save_weights(path)
    _refusal(path, FileError, "weights and no model", "model.save")


@pytest.mark.parametrize("way", ["link", "data", "virtual data"])
def test_weights_of_another_file_are_refused(tmp_path: Path, way: str) -> None:
    path = save(_model(layers.Conv2D(2, 3)), tmp_path / "a.h5")
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(80)))
    with h5py.File(path, "r+") as file:
        (group,) = [g for name, g in file["model_weights"].items() if name.startswith("conv")]
        (name,) = [name for name in group.attrs["weight_names"] if "bias" in str(name)]
        before = group.pop(name)[...]
        if way == "link":
            group[name] = h5py.ExternalLink(str(secret), "/bias")
        elif way == "data":
            place = [(str(secret), 0, before.nbytes)]
            group.create_dataset(name, before.shape, before.dtype, external=place)
        else:
            layout = h5py.VirtualLayout(before.shape, before.dtype)
            layout[:] = h5py.VirtualSource(str(secret), "bias", before.shape)
            group.create_virtual_dataset(name, layout)
    _refusal(path, FileError, "from another file", "save it again")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("shape", [(3, 2, 2, 1), (2, 3, 2, 4), (48,)])
def test_a_kernel_of_another_shape_is_refused(
    tmp_path: Path, suffix: str, shape: tuple[int, ...]
) -> None:
    path = save(_model(layers.Conv2D(4, (3, 2))), tmp_path / f"m{suffix}")

    def exchange(file: h5py.File) -> None:
        names: list[str] = []
        file.visit(names.append)
        (name,) = [n for n in names if getattr(file[n], "shape", None) == (3, 2, 2, 4)]
        del file[name]
        file[name] = np.zeros(shape, np.float32)

    if suffix == ".keras":
        weights_edited(path, path, exchange)
    else:
        with h5py.File(path, "r+") as file:
            exchange(file)
    _refusal(path, UnsupportedModelError, "(3, 2, 2, 4)", str(shape))


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    _refusal(path, FileError, "no Keras model")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_lambda_with_code_is_never_run(tmp_path: Path, suffix: str) -> None:
    layer = layers.Lambda(lambda x: x + 1, output_shape=lambda s: s, name="plus")
    path = save(_model(layers.Conv2D(1, 1), layer), tmp_path / f"code{suffix}")
    _refusal(path, UnsupportedModelError, "Lambda", "'plus'")


def test_unknown_classes_are_named(tmp_path: Path) -> None:
    path = save(_model(layers.Conv2D(1, 1)), tmp_path / "a.h5")
    _edit_hdf5(path, '"Conv2D"', '"FancyConv"')
    _refusal(path, UnsupportedModelError, "'FancyConv'", "--import MODULE")


@pytest.mark.parametrize("suffix", FORMATS)
def test_layers_that_keras_no_longer_has_are_named(tmp_path: Path, suffix: str) -> None:
    path = save(_model(layers.Conv2D(2, 3)), tmp_path / f"a{suffix}")
    if suffix == ".h5":
        _edit_hdf5(path, '"class_name": "Conv2D"', '"class_name": "LocallyConnected2D"')
    else:
        _edit_zip(path, "config.json", '"class_name": "Conv2D"', '"class_name": "CuDNNLSTM"')
    _refusal(path, UnsupportedModelError, "no longer has", "--import MODULE")


def test_unknown_registered_classes_are_named(tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("elsewhere")
    class FancyConv(layers.Conv2D):  # type: ignore[misc] # keras has no types
        pass

    path = save(_model(FancyConv(1, 1)), tmp_path / "a.keras")
    _edit_zip(path, "config.json", __name__, "elsewhere.layers")
    del keras.saving.get_custom_objects()["elsewhere>FancyConv"]
    _refusal(path, UnsupportedModelError, "'FancyConv'", "--import MODULE")


@pytest.mark.parametrize("name", ["Sort", "Add"])
def test_operations_in_hdf5_are_named(tmp_path: Path, name: str) -> None:
    """Also those that have the name of a layer, which Keras takes them for."""
    inputs = keras.Input((6, 2))
    outputs = keras.ops.sort(inputs) if name == "Sort" else inputs + 3.0
    path = save(keras.Model(inputs, outputs), tmp_path / "a.h5")
    _refusal(path, UnsupportedModelError, f"the operation {name!r}", "save it again as .keras")


OWN = """
import keras

@keras.saving.register_keras_serializable("{package}")
class Twice(keras.layers.Layer):
    def call(self, x):
        return 2 * x
"""


def test_a_module_with_the_classes_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the program does, in an interpreter of its own: here, the class would stay registered."""
    module = "own_layers"
    (tmp_path / f"{module}.py").write_text(OWN.format(package=module))
    monkeypatch.syspath_prepend(str(tmp_path))
    twice = __import__(module).Twice()
    save(_model(layers.Conv2D(1, 2), twice), tmp_path / "a.h5")
    script = """
import sys
from convfc.cli.main import main

for arguments in (["shapes", "a.h5"], ["convert", "a.h5", "--verify", "--import", "own_layers"]):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as end:
        print("exit code", end.code, flush=True)
"""
    # How much TensorFlow logs is for those who run it to say, and who runs the tests may have.
    own = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**own, "PYTHONPATH": str(Path(__file__).parents[1] / "src")},
    )
    codes = [line for line in done.stdout.splitlines() if line.startswith("exit code")]
    assert codes == ["exit code 2", "exit code 0"]
    assert len(done.stderr.splitlines()) == 2
    assert "--import MODULE" in done.stderr


@pytest.mark.parametrize(
    ("module", "text"), [("none_such", "No module named"), ("broken", "ZeroDivisionError")]
)
def test_a_module_that_cannot_be_imported(
    tmp_path: Path, module: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    path = save(_model(layers.Conv2D(1, 2)), tmp_path / "a.keras")
    before = list(sys.path)
    with pytest.raises(UsageError, match=rf"--import {module}: .*{text}"):
        open_keras(path, [module])
    assert sys.path == before


def test_anything_else_that_keras_refuses(tmp_path: Path) -> None:
    path = save(_model(layers.Conv2D(1, 1)), tmp_path / "a.keras")
    _edit_zip(path, "config.json", '"filters": 1', '"filters": -1')
    _refusal(path, UnsupportedModelError, keras.__version__, "filters=-1")


def test_unreadable_training_setup_is_a_note(tmp_path: Path) -> None:
    model = _model(layers.Conv2D(1, 1))
    model.compile("sgd", keras.losses.MeanSquaredError())
    path = save(model, tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["training_config"])
        config["loss"] = "no_such_loss"
        file.attrs["training_config"] = json.dumps(config)
    (note,) = open_keras(path).notes
    assert "training setup could not be read" in note


def test_unreadable_optimizer_state_is_a_note(tmp_path: Path) -> None:
    model = _model(layers.Conv2D(1, 1), layers.Flatten(), layers.Dense(1))
    model.compile("adam", keras.losses.MeanSquaredError())
    model.fit(np.zeros((2, 6, 5, 2)), np.zeros((2, 1)), verbose=0)
    path = save(model, tmp_path / "a.keras")

    def lose(file: h5py.File) -> None:
        del file["optimizer/vars/5"]

    weights_edited(path, path, lose)
    (note,) = open_keras(path).notes
    assert "optimizer" in note


def test_a_feed_that_does_not_fit(tmp_path: Path) -> None:
    model = open_keras(save(_model(layers.Conv2D(1, 1)), tmp_path / "a.keras"))
    (port,) = model.inputs
    with pytest.raises(UnsupportedModelError, match="cannot run it"):
        model.run({port.name: np.zeros((1, 6, 5, 3), np.float32)})


def test_nothing_but_our_text_reaches_the_terminal(tmp_path: Path) -> None:
    path = save(_model(layers.Conv2D(1, 2)), tmp_path / "a.h5")  # not compiled: Keras would say so
    script = f"""
from pathlib import Path
import sys
import numpy as np
from convfc.system import process
from convfc.formats.keras import open_keras, read_provenance
from convfc.formats.provenance import Provenance
process.claim()
assert read_provenance(Path({str(path)!r})) is None and "keras" not in sys.modules
model = open_keras(Path({str(path)!r}))
model.run({{model.inputs[0].name: np.zeros((1, 6, 5, 2), np.float32)}})
model.save_converted(Path({str(tmp_path / "b.h5")!r}), {{}}, Provenance("a", "", "", ()))
print("ours", file=sys.stderr)
"""
    settings = {key: value for key, value in os.environ.items() if not key.startswith("TF_CPP")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**settings, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout == ""
    assert done.stderr == "ours\n"


def test_overheard_ends() -> None:
    with overheard() as said:
        warnings.warn("within", stacklevel=1)
        logging.getLogger("tensorflow").warning("traced too often")
    assert said == ["within", "traced too often"]
    with pytest.warns(UserWarning, match="after"):
        warnings.warn("after", stacklevel=1)


def test_a_configuration_that_keras_never_writes_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    image = keras.Input((5, 6, 2))
    with overheard():
        keras.Model(image, layers.Conv2D(3, 2)(image)).save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][1] = {}
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(FileError, match="damaged: its configuration is none"):
        open_keras(path)
