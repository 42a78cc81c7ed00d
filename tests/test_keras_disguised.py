"""Files that Keras reads otherwise than they look, and what Keras tells of a layer by name only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from convfc.errors import FileError
from convfc.formats.keras.quiet import overheard
from convfc.formats.registry import open_model, provenance_of
from tests.keras_edits import Change, aligned, layers_of, members, relayered, sets, write
from tests.keras_models import FORMATS, convert, save


def both(model: Any, folder: Path, suffix: str = ".keras") -> tuple[Path, Path]:
    source = save(model, folder / f"net{suffix}")
    out = folder / f"net_fc{suffix}"
    convert(source, out)
    return source, out


def dense(**given: Any) -> Any:
    stack = [
        keras.Input((5, 4, 2)),
        layers.Conv2D(3, 2, activation="gelu", name="conv"),
        layers.Dense(2, name="dense", **given),
    ]
    return keras.Sequential(stack, name="net")


OTHER_GELU = {"module": "keras.ops", "class_name": "function", "config": "gelu"}


@pytest.mark.parametrize(
    "change", [sets("dense", autocast=False), sets("dense", activation=OTHER_GELU)]
)
def test_what_keras_does_not_tell_of_a_layer(tmp_path: Path, change: Change) -> None:
    source, out = both(dense(activation="gelu", dtype="float16"), tmp_path)
    assert aligned(source, out).differences == ()
    [difference] = aligned(source, relayered(out, change)).differences
    assert "layer 'dense' has other settings" in difference


def test_a_function_of_the_same_name_is_not_the_activation(tmp_path: Path) -> None:
    source, out = both(dense(), tmp_path)

    def change(found: dict[str, Any]) -> None:
        [inner] = [x for x in found["conv"]["config"]["layers"] if x["class_name"] == "Dense"]
        inner["config"]["activation"] = OTHER_GELU

    [pair] = aligned(source, relayered(out, change)).pairs
    assert pair.structure is not None
    assert pair.unshown == "its activation is not the layer's, applied last of all"


def test_a_version_does_not_change_how_a_converted_file_is_read(tmp_path: Path) -> None:
    cell = layers.GRU(2, reset_after=False, use_bias=False, name="cell")
    stack = [keras.Input((5, 2)), layers.Conv1D(2, 2, name="conv"), cell]
    source, out = both(keras.Sequential(stack, name="net"), tmp_path, ".h5")
    with h5py.File(out, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        del layers_of(config)["cell"]["config"]["reset_after"]  # Keras 3 takes it for true
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.3.0"
    assert "reset_after" in " ".join(aligned(source, out).differences)


def test_two_models_in_one_file_are_refused(tmp_path: Path) -> None:
    whole = [both(dense(), tmp_path, suffix)[1].read_bytes() for suffix in FORMATS]
    path = tmp_path / "both.keras"
    path.write_bytes(b"".join(whole))  # HDF5 is read from its start, a zip from its end
    for read in (open_model, provenance_of):
        with pytest.raises(FileError, match="at once"):
            read(path)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_mask_that_is_an_input_ends_at_a_convolution(tmp_path: Path, suffix: str) -> None:
    x, mask = keras.Input((6, 3)), keras.Input((6,), dtype="bool")
    y = layers.SimpleRNN(4, return_sequences=True)(x, mask=mask)
    with overheard():  # Keras warns
        y = layers.Conv1D(2, 1, name="conv")(y)
    model = keras.Model([x, mask], layers.GlobalAveragePooling1D(name="mean")(y))
    source, out = both(model, tmp_path, suffix)
    first, again = open_model(source), open_model(out)
    x_name, mask_name = (port.name for port in first.inputs)
    numbers = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
    feed = {x_name: numbers, mask_name: np.arange(6) < np.array([[2], [5]])}
    np.testing.assert_allclose(first.run(feed)["mean"], again.run(feed)["mean"], rtol=1e-5)


def test_large_numbers_that_keras_does_not_save_are_as_their_layer_makes_them(
    tmp_path: Path,
) -> None:
    rises = layers.PReLU(alpha_initializer=keras.initializers.Constant(0.25))
    stack = [keras.Input((64, 64, 1)), layers.Conv2D(65, 1, activation=rises, name="conv")]
    source = save(keras.Sequential(stack, name="net"), tmp_path / "net.keras")
    model = open_model(source)
    [port] = model.inputs
    x = np.ones((1, 64, 64, 1), np.float32)
    expected = np.asarray(keras.saving.load_model(source)(x))
    assert expected.min() < 0
    np.testing.assert_array_equal(model.run({port.name: x})["conv"], expected)


def test_a_mask_is_not_handed_on(tmp_path: Path) -> None:
    x = layers.Masking(0.123)(keras.Input((6, 3), name="x"))
    with overheard():  # Keras warns
        y = layers.Conv1D(2, 1, name="conv")(x)
    source, out = both(keras.Model(x._keras_history.operation.input, layers.GRU(2)(y)), tmp_path)
    [pair] = aligned(source, out).pairs
    assert (pair.structure, pair.unshown) == (None, None)

    def change(found: dict[str, Any]) -> None:
        stack = found["conv"]["config"]["layers"]
        [ends] = [layer for layer in stack if layer["class_name"] == "Permute"]
        [kept] = [layer for layer in stack if layer["class_name"] == "Dense"]
        kept["inbound_nodes"] = ends["inbound_nodes"]
        found["conv"]["config"]["layers"] = [stack[0], kept]
        found["conv"]["config"]["output_layers"] = [kept["name"], 0, 0]

    [pair] = aligned(source, relayered(out, change)).pairs
    assert pair.unshown == "it hands on the mask on its input"


@pytest.mark.parametrize("block", [None, 5, "2", [0], [1.5], {}])
def test_a_record_with_a_strange_block(tmp_path: Path, block: Any) -> None:
    source, out = both(dense(), tmp_path)
    content = members(out)
    record = json.loads(content["convfc.json"])
    record["layers"][0]["block"] = block
    content["convfc.json"] = json.dumps(record).encode()
    with pytest.raises(FileError, match="layer 0 has a 'block' that is none"):
        aligned(source, write(tmp_path / "bad.keras", content))
