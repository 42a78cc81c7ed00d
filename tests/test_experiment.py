"""The paper's experiment at a tiny size: what the networks see, what is measured, what is kept."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convfc
from convfc.formats.registry import import_keras
from convfc.reproduction import figures
from convfc.reproduction.results import Trained, compare
from convfc.reproduction.settings import NETWORKS, Settings, load_images
from convfc.samples.files import packed_mnist
from tests.program import cli

import_keras()
import keras  # noqa: E402 - after its greetings are off

from convfc.reproduction import networks, training  # noqa: E402

# Keras' own: its variables do not know a keyword of numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TINY: dict[str, Any] = {"epochs": 3, "filters": 3, "images": 20, "batch": 8, "seed": 5}
STEPS = TINY["epochs"] * 3


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than training."""
    monkeypatch.setattr(figures, "draw", lambda *_: [])


@dataclass(frozen=True)
class Watched:
    """An experiment with one optimizer: what it found, and what each step was given."""

    found: convfc.Experiment
    seen: list[tuple[Any, Any, list[Any]]]
    """Images, targets, and the weights before."""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    seen: list[tuple[Any, Any, list[Any]]] = []
    step = keras.Model.train_on_batch

    def spy(model: Any, x: Any, y: Any) -> Any:
        seen.append((x, y, [weights.reshape(-1) for weights in model.get_weights()]))
        return step(model, x, y)

    out = tmp_path_factory.mktemp("watched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "draw", lambda *_: [])
        patch.setattr(keras.Model, "train_on_batch", spy)
        found = convfc.experiment(out, optimizers=("sgd",), learning_rate=0.3, **TINY)
    return Watched(found, seen)


def test_the_networks_start_alike_and_see_the_same_batches_in_the_same_order(
    watched: Watched,
) -> None:
    seen = watched.seen
    assert len(seen) == len(NETWORKS) * STEPS
    cnn, converted, patches, again = (seen[n * STEPS : (n + 1) * STEPS] for n in range(4))
    for first, second, third, backwards in zip(cnn, converted, patches, again, strict=True):
        x, target, _ = first
        np.testing.assert_array_equal(x, target)
        for images, targets, _ in (first, second, (x, third[1], None)):
            np.testing.assert_array_equal(images, x)
            np.testing.assert_array_equal(targets, target)
        windows = np.lib.stride_tricks.sliding_window_view(x[..., 0], (4, 4), axis=(1, 2))
        np.testing.assert_array_equal(third[0], windows[:, ::2, ::2].reshape(len(x), 169, 16))
        np.testing.assert_array_equal(backwards[0][::-1], x)
        np.testing.assert_array_equal(backwards[1][::-1], target)
    for network in (converted, patches, again):
        for expected, found in zip(cnn[0][2], network[0][2], strict=True):
            np.testing.assert_array_equal(found, expected)
    epochs = [np.concatenate([x for x, _, _ in cnn[n : n + 3]]) for n in range(0, STEPS, 3)]
    assert not np.array_equal(epochs[0], epochs[1]), "every epoch has its own order"
    one, other = (np.sort(epoch.reshape(TINY["images"], -1), axis=0) for epoch in epochs[:2])
    np.testing.assert_array_equal(one, other, "of the same images")


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_an_interrupted_training_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = convfc.experiment(tmp_path / "whole", optimizers=("adam",), **TINY)
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)

    def interrupt(words: str) -> None:
        if words.startswith("adam, CNN converted by convfc: epoch 2 of 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convfc.experiment(tmp_path / "cut", optimizers=("adam",), progress=interrupt, **TINY)
    half = training.Training.load(tmp_path / "cut" / "state" / "adam-converted.npz")
    assert (half.epochs, half.kernel) == (2, None)
    told: list[str] = []
    cut = convfc.experiment(
        tmp_path / "cut", optimizers=("adam",), resume=True, progress=told.append, **TINY
    )
    assert told[0].startswith("adam, CNN converted by convfc: epoch 3 of 3, loss 0.")
    assert len(told) == 1 + 2 * TINY["epochs"], "what was done is not done again"
    for one, other in zip(whole.trained, cut.trained, strict=True):
        np.testing.assert_array_equal(one.training, other.training)
        np.testing.assert_array_equal(one.validation, other.validation)
        np.testing.assert_array_equal(one.kernel, other.kernel)


def test_the_figures_of_the_table_are_those_of_plain_numpy(watched: Watched) -> None:
    found = watched.found
    new = packed_mnist()["x_train"][20:40].astype(np.float64) / 255
    cnn, *others = found.trained
    for one, row in zip(others, found.comparisons[1:], strict=True):
        weights, outputs, own = 0.0, [], []
        difference = one.kernel.astype(np.float64) - cnn.kernel
        for tap in difference.reshape(-1):
            weights += float(tap) ** 2
        for image in new:
            rows = [
                image[2 * i : 2 * i + 4, 2 * j : 2 * j + 4].reshape(-1)
                for i in range(13)
                for j in range(13)
            ]
            outputs.append(np.sqrt(np.sum((np.array(rows) @ difference) ** 2)))
            own.append(np.sqrt(np.sum((np.array(rows) @ one.kernel) ** 2)))
        assert row.weight_distance == pytest.approx(weights**0.5, rel=1e-12)
        # The layers compute in single precision, in which the two outputs cancel.
        assert row.output_distance == pytest.approx(np.mean(outputs), abs=2e-6)
        assert row.output_norm == pytest.approx(np.mean(own), rel=1e-5)
        assert row.training_loss == one.training[-1]
        assert row.validation_loss == one.validation[-1]
    assert [one.network for one in found.trained] == list(NETWORKS)


def test_networks_that_differ_have_distances() -> None:
    """The twin of the tables full of tiny numbers."""

    def trained(losses: list[float], kernel: float) -> Trained:
        curves = np.array(losses), np.array(losses[::-1])
        return Trained("sgd", "patches", *curves, np.full((2, 2), kernel, np.float32), 1.0)

    row = compare(
        trained([1.0, 0.5], 1.5),
        np.full((3, 4, 1), 2.0),
        trained([1.0, 0.25], 1.0),
        np.zeros((3, 4, 1)),
    )
    assert (row.curve_distance, row.weight_distance, row.output_distance) == (0.25, 1.0, 4.0)


def test_the_loss_of_an_epoch_is_the_mean_over_its_images(tmp_path: Path) -> None:
    """With a learning rate of almost nothing it is the loss on all training images at once."""
    settings = Settings(epochs=1, filters=3, images=20, batch=8, learning_rate=1e-30)
    images = load_images("mnist", 20)
    done = training.train("patches", "sgd", settings, images, tmp_path / "s.npz", lambda _: None)
    model = networks.network("patches", settings, images.shape)
    output = np.asarray(model(networks.prepared("patches", settings, images.training)))
    expected = np.mean((output.astype(np.float64) - images.training) ** 2)
    assert done.training == [pytest.approx(expected, rel=1e-6)]


def test_a_training_twice_is_the_same_bit_for_bit_and_backwards_it_rounds_otherwise(
    tmp_path: Path,
) -> None:
    settings = Settings(epochs=4, filters=3, images=60, batch=20)
    images = load_images("mnist", 60)
    states = [
        training.train(name, "adam", settings, images, tmp_path / f"{n}.npz", lambda _: None)
        for n, name in enumerate(["cnn", "cnn", "again"])
    ]
    once, twice, backwards = (np.asarray(state.kernel) for state in states)
    np.testing.assert_array_equal(once, twice)
    assert states[0].training == states[1].training
    assert not np.array_equal(once, backwards)
    np.testing.assert_allclose(once, backwards, atol=1e-5)


@pytest.mark.slow
def test_the_command_writes_figures_and_numbers_and_says_what_they_are(tmp_path: Path) -> None:
    sizes = ["--epochs", "2", "--filters", "2", "--images", "12", "--batch", "8"]
    options = [*sizes, "--optimizer", "sgd", "--out", "a/b"]
    done = cli("experiment", *options, "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document == json.loads((tmp_path / "a/b/result.json").read_text()) | {
        "files": document["files"]
    }
    assert document["settings"]["epochs"] == 2
    assert {Path(file).name for file in document["files"]} == {
        *(
            f"{n}.{kind}"
            for n in ("architectures", "losses_sgd", "weights_sgd")
            for kind in ("png", "svg")
        ),
        "losses.csv",
        "comparisons.csv",
        "result.json",
    }
    assert all((tmp_path / file).stat().st_size > 100 for file in document["files"])
    with (tmp_path / "a/b/losses.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 2
    assert float(rows[1]["training_loss"]) == document["curves"][0]["training"][1]
    svg = (tmp_path / "a/b/losses_sgd.svg").read_bytes()

    refused = cli("experiment", *options, cwd=tmp_path)
    assert refused.returncode == 2
    assert "a/b: holds an experiment already" in refused.stderr
    other = cli("experiment", *options, "--resume", "--seed", "1", cwd=tmp_path)
    assert other.returncode == 2
    assert "a/b: was begun with other settings (seed 0)" in other.stderr

    again = cli("experiment", *options, "--resume", cwd=tmp_path)
    assert again.returncode == 0
    assert (tmp_path / "a/b/losses_sgd.svg").read_bytes() == svg, "the same picture, byte for byte"
    assert "CNN converted by convfc" in again.stdout
    assert "mean over the new images" in again.stdout


def test_without_matplotlib_it_says_so_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(convfc.UsageError, match=r"pip install 'convfc\[plots\]'"):
        convfc.experiment(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizers": ("rmsprop",)}, "optimizer rmsprop"),
        ({"optimizers": ()}, "optimizer none"),
        ({"optimizers": "rmsprop"}, "optimizer rmsprop"),
        ({"optimizers": None}, "optimizers is None: it takes a text or a list of texts"),
        ({"epochs": 0}, "at least 1"),
        ({"epochs": "x"}, "epochs is 'x': it takes a whole number"),
        ({"learning_rate": "x"}, "learning_rate is 'x': it takes a number"),
        ({"learning_rate": float("nan")}, "learning rate nan"),
        ({"images": 5000}, "too few images"),
        ({"data": "nothing.npz"}, "no such file"),
        ({"resume": True}, "no experiment to go on with"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(convfc.ConvfcError, match=message):
        convfc.experiment(tmp_path / "out", **{**TINY, **options})


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    path = tmp_path / "sgd-cnn.npz"
    path.write_bytes(b"PK\x03\x04 not quite")
    with pytest.raises(convfc.FileError, match=r"sgd-cnn\.npz: .* delete it"):
        training.Training.load(path)


def test_images_come_from_any_samples_and_new_ones_are_new(tmp_path: Path) -> None:
    packed = packed_mnist()
    images = load_images("mnist", 30)
    np.testing.assert_array_equal(images.training[..., 0] * 255, packed["x_train"][:30])
    np.testing.assert_array_equal(images.validation[..., 0] * 255, packed["x_test"][:30])
    np.testing.assert_array_equal(images.new[..., 0] * 255, packed["x_train"][30:60])
    everything = load_images("mnist", 1000)
    np.testing.assert_array_equal(everything.new, everything.validation)
    assert "the validation images as new ones" in everything.source
    colours = np.random.default_rng(0).random((9, 8, 6, 3), np.float32)
    np.savez(tmp_path / "colours.npz", x=colours)
    own = load_images(str(tmp_path / "colours.npz"), 3)
    np.testing.assert_array_equal(np.concatenate([own.training, own.validation, own.new]), colours)
    assert own.shape == (8, 6, 3)
