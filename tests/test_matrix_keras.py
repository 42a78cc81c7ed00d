"""The matrices of Keras files: they compute what the layers compute, and can be replaced."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convfc
from convfc import Code, Matrix, UnsupportedModelError
from convfc.formats.keras import open_keras
from convfc.formats.keras.quiet import importing
from tests.keras_models import branches, integer_feed, integer_weights, many, save, stock

with importing():
    import keras
    from keras import layers

KINDS = {
    name: branch
    for name, branch in branches().items()
    if name
    in (
        *("same", "dilated", "patch_embedding", "grouped", "depthwise", "causal", "conv3d"),
        *("separable", "transposed", "transposed1d", "first", "first_separable"),
    )
}
"""A layer of each kind, on known sizes, without an activation: see `linear`."""


def linear(layer: Any) -> Any:
    """The same without an activation."""
    return type(layer).from_config({**layer.get_config(), "activation": None})


def through(matrices: list[Matrix], x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What a layer makes of samples by its matrices on whole ones, one after the other."""
    for matrix in matrices:
        conv = matrix.convolution
        outputs = [size or 0 for size in conv.output(matrix.sizes)]
        y = x.reshape(len(x), -1) @ matrix.whole().dense().astype(np.float64)
        first = matrix.channels_first
        y = y.reshape(len(x), *([conv.filters, *outputs] if first else [*outputs, conv.filters]))
        if matrix.b is not None:
            y = y + (matrix.b.reshape(-1, *[1] * conv.rank) if first else matrix.b)
        x = y
    return x


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chosen = {name: (shape, linear(layer)) for name, (shape, layer) in KINDS.items()}
    return save(many(chosen), tmp_path_factory.mktemp("matrices") / "m.keras")


@pytest.fixture(scope="module")
def converted(model: Path) -> Path:
    done = convfc.convert(model, check=False)
    assert done.complete
    return done.out


def biases(matrix: Matrix) -> list[float] | None:
    return None if matrix.b is None else matrix.b.tolist()


def doubled(matrix: Matrix) -> tuple[Any, Any]:
    """Other numbers."""
    return 2 * matrix.F, None if matrix.b is None else matrix.b - 1


def by_layer(found: dict[str, Matrix]) -> dict[str, list[Matrix]]:
    layers_: dict[str, list[Matrix]] = {}
    for matrix in found.values():
        layers_.setdefault(matrix.layer, []).append(matrix)
    return layers_


def test_layers_are_their_matrices(model: Path) -> None:
    opened = open_keras(model)
    feed = integer_feed(opened)
    outputs = opened.run_once(feed)
    found = by_layer(convfc.matrices(model))
    assert found.keys() == KINDS.keys()
    for name, own in found.items():
        assert len(own) == (2 if "separable" in name else 1)
        np.testing.assert_array_equal(through(own, feed[f"{name}_in"]), outputs[name], name)


def test_a_converted_file_has_the_same(model: Path, converted: Path) -> None:
    before, after = convfc.matrices(model), convfc.matrices(converted)
    assert [*before] == [*after]
    for name, matrix in before.items():
        assert np.array_equal(matrix.F, after[name].F), name
        assert biases(matrix) == biases(after[name])


def test_both_take_other_numbers(model: Path, converted: Path, tmp_path: Path) -> None:
    found = convfc.matrices(model)
    chosen = ("grouped", "depthwise", "separable/depthwise", "transposed", "first", "conv3d")
    given = {name: doubled(found[name]) for name in chosen}
    files = [convfc.with_matrices(one, given, tmp_path / one.name) for one in (model, converted)]
    original, other = (open_keras(file) for file in files)
    feed = integer_feed(original)
    outputs, changed = original.run_once(feed), other.run_once(feed)
    own = by_layer(convfc.matrices(files[0]))
    for name in KINDS:
        np.testing.assert_array_equal(outputs[name], changed[name], name)
        np.testing.assert_array_equal(outputs[name], through(own[name], feed[f"{name}_in"]), name)
    assert not np.array_equal(own["conv3d"][0].F, found["conv3d"].F)


def test_the_dense_form_takes_none(tmp_path: Path) -> None:
    network = keras.Sequential([keras.Input((6, 5, 2)), layers.Conv2D(3, 3, name="conv")])
    dense = convfc.convert(save(network, tmp_path / "m.keras"), form="dense").out
    given = {"conv": doubled(convfc.matrices(dense)["conv"])}
    with pytest.raises(UnsupportedModelError, match="is in the dense form") as caught:
        convfc.with_matrices(dense, given, tmp_path / "o.keras")
    assert caught.value.code is Code.NOT_KEPT


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_what_was_trained_stays_compiled(tmp_path: Path, suffix: str) -> None:
    network = keras.Sequential(
        [
            keras.Input((6, 5, 2)),
            layers.Conv2D(3, 3, name="conv"),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    network.compile("adam", "mse")
    integer_weights(network)
    path = save(network, tmp_path / f"m{suffix}")
    matrix = convfc.matrices(path)["conv"]
    out = convfc.with_matrices(path, {"conv": (matrix.F + 1, matrix.b)}, tmp_path / f"o{suffix}")
    again = stock(out)
    assert keras.losses.get(again.loss) is keras.losses.get("mse")
    assert np.array_equal(again.get_layer("conv").kernel, network.get_layer("conv").kernel + 1)
    dense, own = (one.layers[-1].get_weights() for one in (again, network))
    assert all(map(np.array_equal, dense, own))


def chain(tmp_path: Path, *between: Any) -> convfc.Measurement:
    """What is measured of two convolutions with layers between."""
    stack = [keras.Input((9, 8, 1)), layers.Conv2D(2, 3, name="one"), *between]
    network = keras.Sequential([*stack, layers.Conv2D(2, 2, name="two")])
    return convfc.measure(save(network, tmp_path / "m.keras"))


def test_a_chain_has_a_product(tmp_path: Path) -> None:
    found = chain(tmp_path, layers.ReLU(), layers.MaxPooling2D(2), layers.Dropout(0.5))
    assert (found.chain.broken, found.chain.layers) == (None, ("one", "two"))
    assert found.chain.between == ("ReLU", "MaxPooling2D", "Dropout")
    norms = [matrix.norm.value for matrix in found.matrices.values() if matrix.norm is not None]
    assert found.product == pytest.approx(norms[0] * norms[1])


@pytest.mark.parametrize(
    ("between", "words"),
    [
        (layers.MaxPooling2D(2, strides=1), r"\(MaxPooling2D\) comes next"),
        (layers.LeakyReLU(2.0), r"\(LeakyReLU\) comes next"),
        (layers.BatchNormalization(), r"\(BatchNormalization\) comes next"),
        (layers.Activation("gelu"), "the activation of '.*' may expand"),
    ],
)
def test_what_may_expand_breaks_a_chain(tmp_path: Path, between: Any, words: str) -> None:
    found = chain(tmp_path, between)
    assert (found.product, found.chain.layers) == (None, ("one",))
    assert found.chain.broken is not None
    assert re.search(words, found.chain.broken)
