"""What a Keras file does not say: whose hard_sigmoid it means, which network its weights are of."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import convfc
from convfc import Verdict
from convfc.errors import FileError, UsageError
from convfc.formats.keras import open_keras
from convfc.formats.keras.quiet import importing, overheard
from convfc.formats.provenance import Provenance
from convfc.formats.reading import Reading
from convfc.formats.registry import provenance_of
from convfc.refusals import Code
from tests.keras_edits import members, write
from tests.keras_models import FORMATS, save, stock
from tests.onnx_models import conv_file
from tests.thinned import thinned

with importing():
    import keras
    from keras import layers

OLD = Path(__file__).with_name("data") / "old_keras.zip"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files that Keras 2 wrote, with what it computed beside them."""
    with zipfile.ZipFile(OLD) as archive:
        wanted = [
            name for name in archive.namelist() if name.startswith(("gates", "alone", "timed"))
        ]
        archive.extractall(tmp_path, wanted)
    return tmp_path


def error(path: Path, outputs: Path, reading: Reading | None = None) -> float:
    """How far a file is from what its Keras computed, as a part of the largest number."""
    model, arrays = open_keras(path, (), reading or Reading()), np.load(outputs)
    ((port,), (y,)) = model.inputs, model.run_once({model.inputs[0].name: arrays["i0"]}).values()
    assert port.shape is not None
    return float(np.abs(y - arrays["o0"]).max() / np.abs(arrays["o0"]).max())


@pytest.mark.parametrize("suffix", thinned(FORMATS))
def test_the_numbers_of_keras_2_are_kept_where_they_are_asked_for(
    folder: Path, suffix: str
) -> None:
    path, outputs = folder / f"gates_2.21.0{suffix}", folder / "gates_2.21.0.npz"
    out = folder / f"out{suffix}"
    assert error(path, outputs) > 0.01
    assert error(path, outputs, Reading(keras2_numbers=True)) < 1e-6
    done = convfc.convert(path, out, keep_keras2_numbers=True)
    assert done.complete
    for name in ("conv", "deep", "plain", "lstm", "gru", "dense", "simple"):
        kept = f"{name}: keeps the hard_sigmoid of Keras 2"
        assert any(note.startswith(kept) for note in done.notes), name
    assert error(out, outputs) < 1e-6
    arrays = np.load(outputs)
    np.testing.assert_allclose(
        np.asarray(stock(out)(arrays["i0"], training=False)), arrays["o0"], 1e-5
    )
    # The record says so: the original is read in the same way again.
    found = convfc.verify(path, out, samples=2)
    assert found.verdict is Verdict.EQUIVALENT
    assert any("simple: keeps the hard_sigmoid" in note for note in found.notes)


def test_a_file_of_2018_has_its_own_numbers(folder: Path) -> None:
    """Keras 2.2.4 wrote the file and its outputs; a GRU had that sigmoid by default."""
    path, outputs = folder / "timed_2.2.4.h5", folder / "timed_2.2.4.npz"
    assert error(path, outputs) > 0.001
    assert error(path, outputs, Reading(keras2_numbers=True)) < 1e-6
    out = convfc.convert(path, keep_keras2_numbers=True).out
    assert convfc.verify(path, out, samples=2).verdict is Verdict.EQUIVALENT


def rerecorded(path: Path, **fields: object) -> Path:
    """A file with something else in its record."""
    content = members(path)
    record = json.loads(content["convfc.json"]) | fields
    content["convfc.json"] = json.dumps(record).encode()
    return write(path, content)


def test_a_record_with_other_numbers_is_found_out(folder: Path) -> None:
    path, out = folder / "gates_2.21.0.keras", folder / "out.keras"
    convfc.convert(path, out, keep_keras2_numbers=True)
    assert json.loads(members(out)["convfc.json"])["keras2_numbers"] is True
    rerecorded(out, keras2_numbers=False)
    assert convfc.verify(path, out, samples=2).verdict is Verdict.NOT_EQUIVALENT
    convfc.convert(path, out)
    assert "keras2_numbers" not in json.loads(members(out)["convfc.json"])
    rerecorded(out, keras2_numbers=True)
    assert convfc.verify(path, out, samples=2).verdict is Verdict.NOT_EQUIVALENT


def test_where_there_is_nothing_to_keep_it_is_said(tmp_path: Path) -> None:
    gated = [keras.Input((6, 6, 1)), layers.Conv2D(2, 3, activation="hard_sigmoid")]
    path = save(keras.Sequential(gated), tmp_path / "new.keras")
    done = convfc.convert(path, keep_keras2_numbers=True)
    assert done.notes == (
        "No hard_sigmoid of Keras 2 is in it: keep_keras2_numbers changes nothing.",
    )
    assert convfc.verify(path, samples=2).verdict is Verdict.EQUIVALENT


def test_onnx_takes_neither(tmp_path: Path) -> None:
    conv = convfc.convolution([3, 3], channels=2, filters=2)
    path = conv_file(tmp_path / "m.onnx", conv, (6, 6))
    with pytest.raises(UsageError, match="are for Keras files"):
        convfc.convert(path, keep_keras2_numbers=True)
    with pytest.raises(UsageError, match="are for Keras files"):
        convfc.convert(path, architecture=path)


def alone(folder: Path, form: str) -> tuple[Path, Path]:
    """Weights of one of four forms, and what belongs to them; `alone.npz` is what they compute."""
    if form.startswith("2"):
        (folder / "alone_2.21.0.npz").rename(folder / "alone.npz")
        return folder / f"alone_2.21.0{form[1:]}", folder / "alone_2.21.0.json"
    stack = [layers.Conv2D(3, 3), layers.BatchNormalization(), layers.Conv2D(2, 3, padding="same")]
    model = keras.Sequential([keras.Input((7, 6, 2)), *stack, layers.Flatten(), layers.Dense(2)])
    x = np.random.default_rng(0).normal(size=(2, 7, 6, 2)).astype("float32")
    np.savez(folder / "alone.npz", i0=x, o0=np.asarray(model(x, training=False)))
    weights, text = folder / "new.weights.h5", folder / "new.json"
    with overheard():
        model.save_weights(weights)
    text.write_text(model.to_json())
    if form == "3.h5":  # as Keras wrote weights before, which Keras 3 still reads
        whole = save(model, folder / "whole.h5")
        weights = folder / "new.h5"
        with h5py.File(whole) as old, h5py.File(weights, "w") as new:
            group = old["model_weights"]
            for name in group:
                group.copy(name, new)
            new.attrs.update(group.attrs)
    return weights, text


@pytest.mark.parametrize("form", thinned(["2.h5", "2.weights.h5", "3.weights.h5", "3.h5"]))
def test_weights_become_a_model_with_their_network(folder: Path, form: str) -> None:
    path, text = alone(folder, form)
    assert error(path, folder / "alone.npz", Reading(architecture=text)) < 1e-6
    done = convfc.convert(path, architecture=text)
    assert done.complete
    assert [layer.site.kind for layer in done.layers] == ["Conv2D", "Conv2D"]
    assert error(done.out, folder / "alone.npz") < 1e-6
    for pair in ((path,), (done.out, path)):
        found = convfc.verify(*pair, samples=2)
        assert found.verdict is Verdict.EQUIVALENT
        assert found.original == path
    assert [one.converted for one in convfc.verify_folder(folder, samples=2)] == [done.out]


def test_a_network_may_be_a_text_in_a_text(folder: Path) -> None:
    """`json.dump(model.to_json(), file)` writes a text with quotes around it."""
    path, text = alone(folder, "2.h5")
    text.write_text(json.dumps(text.read_text()))
    assert error(path, folder / "alone.npz", Reading(architecture=text)) < 1e-6
    text.write_text(json.dumps("a text of another kind"))
    with pytest.raises(FileError, match="damaged or cut short"):
        open_keras(path, (), Reading(architecture=text))


def test_the_network_may_be_elsewhere(folder: Path) -> None:
    path, text = alone(folder, "2.h5")
    (folder / "texts").mkdir()
    text = text.rename(folder / "texts" / "net.json")
    done = convfc.convert(path, architecture=text)
    record = provenance_of(done.out)
    assert isinstance(record, Provenance)
    assert record.architecture == "net.json"
    with pytest.raises(FileError, match=r"net\.json: no such file"):
        convfc.verify(path, done.out)
    found = convfc.verify(path, done.out, architecture=text, samples=2)
    assert found.verdict is Verdict.EQUIVALENT
    # Spaces change the file and not the network.
    text.write_text(f" {text.read_text()}")
    found = convfc.verify(path, done.out, architecture=text, samples=2)
    assert found.verdict is Verdict.EQUIVALENT
    assert "'net.json' has changed since it was converted" in found.notes


def test_another_network_or_other_weights_are_found_out(folder: Path) -> None:
    path, text = alone(folder, "2.h5")
    done = convfc.convert(path, architecture=text)
    whole = text.read_text()
    text.write_text(whole.replace('"relu"', '"tanh"'))
    found = convfc.verify(path, done.out, samples=2)
    assert found.verdict is Verdict.NOT_EQUIVALENT
    text.write_text(whole)
    with h5py.File(path, "r+") as file:
        layer = file["conv2d_1/conv2d_1"]
        layer["kernel:0"][0, 0, 0, 0] += 1
    assert convfc.verify(path, done.out, samples=2).verdict is Verdict.NOT_EQUIVALENT


def test_what_is_not_a_network_is_refused(folder: Path) -> None:
    path, text = alone(folder, "2.h5")
    with pytest.raises(FileError, match="weights and no model") as caught:
        convfc.convert(path)
    assert caught.value.code is Code.WEIGHTS_ONLY
    assert "--architecture" in caught.value.remedy
    whole = folder / "gates_2.21.0.h5"
    with pytest.raises(UsageError, match="is a whole model and needs no architecture"):
        convfc.convert(whole, architecture=text)
    for said, words in (
        ("[1]", "is not what to_json of a Keras model writes"),
        ("{", "damaged or cut short"),
        (text.read_text().replace('"filters": 4', '"filters": 5'), "alone_2.21.0.h5: "),
    ):
        text.write_text(said)
        with pytest.raises(convfc.ConvfcError, match=words):
            convfc.convert(path, architecture=text)
    with pytest.raises(FileError, match=r"none\.json: no such file"):
        convfc.convert(path, architecture=folder / "none.json")


def test_a_lambda_in_a_network_is_not_run(folder: Path) -> None:
    path, text = alone(folder, "2.h5")
    net = json.loads(text.read_text())
    code = {"class_name": "Lambda", "config": {"name": "bad", "function": ["4wAAAA==", None, None]}}
    net["config"]["layers"].insert(2, code)
    text.write_text(json.dumps(net))
    with pytest.raises(convfc.UnsupportedModelError, match=r"alone_2\.21\.0\.h5: Lambda layer"):
        convfc.convert(path, architecture=text)


def test_a_look_needs_no_optimizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which has two numbers more for each weight; what is written is compiled all the same."""
    model = keras.Sequential([keras.Input((4, 5, 1)), layers.Conv2D(2, 3)])
    model.compile("adam", "mse")
    path = save(model, tmp_path / "m.keras")
    seen, load = list[bool](), keras.saving.load_model

    def recorded(*given: object, compile: bool = True, **more: object) -> object:  # noqa: A002
        made = load(*given, compile=compile, **more)
        seen.append(made.compiled)
        return made

    monkeypatch.setattr(keras.saving, "load_model", recorded)
    done = convfc.convert(path, form="dense")
    assert done.look is not None
    assert done.look.reason is None
    assert seen == [True, False]
    assert stock(done.out).compiled
