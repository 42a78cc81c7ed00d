"""The dense form of Keras files: one Dense per layer, proved, and the same by the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import convfc
from convfc import Code, Verdict
from convfc.errors import UsageError
from convfc.formats.keras.quiet import overheard
from tests.keras_edits import members, write
from tests.keras_models import FORMATS
from tests.thinned import thinned

Array = Any
CONVOLUTIONS = ("Conv", "Separable", "Depthwise")


def random_weights(model: Any) -> None:
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.uniform(-1, 1, weight.shape) + 0.01)


def saved(path: Path, inputs: Any, y: Any, **compiled: Any) -> Path:
    with overheard():
        model = keras.Model(inputs, y)
        random_weights(model)
        if compiled:
            model.compile(**compiled)
            shape = [3, *model.input_shape[1:]]
            model.fit(np.ones(shape), np.ones([3, *model.output_shape[1:]]), verbose=0)
        model.save(path)
    return path


def loaded(path: Path) -> Any:
    with overheard():
        return keras.saving.load_model(path)


def kinds(model: Any) -> list[str]:
    inner = [kinds(layer) for layer in model.layers if isinstance(layer, keras.Model)]
    return [type(layer).__name__ for layer in model.layers] + [x for one in inner for x in one]


def proved(path: Path, x: Array, **options: Any) -> Any:
    """The converted model, which is proved, holds no convolution and gives the same numbers."""
    done = convfc.convert(path, form="dense", force=True, **options)
    assert done.complete, [layer.reason for layer in done.layers]
    model = loaded(done.out)
    assert not [kind for kind in kinds(model) if kind.startswith(CONVOLUTIONS)]
    with overheard():
        expected, got = (one.predict(x, verbose=0) for one in (loaded(path), model))
    assert np.abs(got - expected).max() <= 1e-5 * max(np.abs(expected).max(), 1)
    found = convfc.verify(path, done.out, samples=2)
    assert found.verdict is Verdict.EQUIVALENT, found.reason
    assert all(layer.structure is None for layer in found.layers)
    return model


def image(*shape: int) -> Array:
    return np.random.default_rng(1).uniform(-1, 1, (3, *shape)).astype("float32")


@pytest.mark.parametrize("suffix", thinned(FORMATS))
def test_each_kind_of_layer(suffix: str, tmp_path: Path) -> None:
    x = keras.Input((7, 8, 3))
    y = layers.Conv2D(4, (3, 2), strides=(2, 1), padding="same", activation="relu")(x)
    y = layers.Conv2D(6, (1, 3), groups=2, dilation_rate=(1, 2), activation="softmax")(y)
    y = layers.SeparableConv2D(5, (2, 2), depth_multiplier=2, activation="gelu")(y)
    y = layers.DepthwiseConv2D((2, 1), use_bias=False)(y)
    y = layers.Conv2DTranspose(3, (3, 2), strides=(2, 1), activation="tanh")(y)
    y = layers.Dense(4)(layers.Flatten()(y))
    made = proved(saved(tmp_path / f"m{suffix}", x, y), image(7, 8, 3))
    first, second, *_ = (layer for layer in made.layers if isinstance(layer, keras.Model))
    assert kinds(first) == ["InputLayer", "Reshape", "Dense", "Reshape"]
    assert first.layers[2].activation is keras.activations.relu
    assert kinds(second) == ["InputLayer", "Reshape", "Dense", "Reshape", "Activation"]


@pytest.mark.parametrize("stack", thinned(["1-D", "3-D", "first", "shared", "timed", "slopes"], 2))
def test_other_ranks_and_places(stack: str, tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    if stack == "1-D":
        x = keras.Input((9, 2))
        y = layers.Conv1D(3, 4, padding="causal", dilation_rate=2)(x)
        proved(saved(path, x, y), image(9, 2))
    elif stack == "3-D":
        x = keras.Input((4, 5, 3, 2))
        y = layers.Conv3DTranspose(2, (2, 1, 3), strides=(1, 2, 1), padding="same")(x)
        proved(saved(path, x, layers.Conv3D(2, (2, 3, 1))(y)), image(4, 5, 3, 2))
    elif stack == "first":
        given: dict[str, Any] = {"data_format": "channels_first"}
        x = keras.Input((2, 6, 5))
        y = layers.Conv2D(4, (2, 3), strides=(2, 1), activation="softmax", **given)(x)
        made = proved(saved(path, x, y), image(2, 6, 5))
        assert "Permute" not in kinds(made)
    elif stack == "shared":
        x = keras.Input((6, 6, 2))
        conv = layers.Conv2D(2, 3, padding="same", name="twice")
        proved(saved(path, x, layers.Add()([conv(x), conv(conv(x))])), image(6, 6, 2))
    elif stack == "timed":
        x = keras.Input((3, 5, 4, 2))
        y = layers.TimeDistributed(layers.Conv2D(3, (2, 3), activation="elu"))(x)
        proved(saved(path, x, y), image(3, 5, 4, 2))
    else:
        x = keras.Input((5, 4, 2))
        slopes = layers.PReLU(shared_axes=[1, 2])
        proved(saved(path, x, layers.Conv2D(3, (2, 3), activation=slopes)(x)), image(5, 4, 2))


def test_what_depends_on_the_kernel_as_such_is_left_with_a_remark(tmp_path: Path) -> None:
    x = keras.Input((5, 4, 2))
    y = layers.Conv2D(3, (5, 4), kernel_regularizer="l2", kernel_constraint="non_neg")(x)
    path = saved(tmp_path / "m.keras", x, layers.Flatten()(y), optimizer="adam", loss="mse")
    done = convfc.convert(path, form="dense")
    notes = " ".join(done.notes)
    assert "its kernel regularizer L2 means something else on one matrix" in notes
    assert "its kernel constraint NonNeg means something else on one matrix" in notes
    assert "The optimizer's state" in notes
    assert convfc.verify(path, done.out, samples=2).verdict is Verdict.EQUIVALENT


def test_open_sizes_and_large_matrices_are_left(tmp_path: Path) -> None:
    x = keras.Input((None, 8, 2), name="x")
    path = saved(tmp_path / "m.keras", x, layers.SeparableConv2D(3, 3)(x))
    (layer,) = convfc.convert(path, form="dense").layers
    assert layer.refusal is not None
    assert layer.refusal.code is Code.OPEN_SIZE
    shapes = {"x": [1, 6, 8, 2]}
    (layer,) = convfc.convert(path, form="dense", shapes=shapes, dense_limit=20_000).layers
    # 96 x 48 numbers, and 48 x 72 for what is pointwise.
    assert "its matrices of 96 x 48 and 48 x 72 take 31.5 KiB" in (layer.reason or "")
    assert convfc.convert(path, form="dense", shapes=shapes, dense_limit=40_000).complete


def test_rows_are_for_onnx(tmp_path: Path) -> None:
    x = keras.Input((5, 4, 2))
    path = saved(tmp_path / "m.keras", x, layers.Conv2D(3, 2)(x))
    with pytest.raises(UsageError, match="--flat-io is for ONNX so far"):
        convfc.convert(path, form="dense", flat_io=True)


def weights(model: Any) -> Sequence[Any]:
    (made,) = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return list(made.weights)


@pytest.mark.parametrize("change", ["a last bit", "a zero", "a repeated weight", "a row", "a bias"])
def test_another_matrix_is_never_equivalent(change: str, tmp_path: Path) -> None:
    x = keras.Input((5, 4, 2))
    path = saved(tmp_path / "m.keras", x, layers.Conv2D(3, (2, 3))(x))
    out = convfc.convert(path, form="dense").out
    model = loaded(out)
    matrix, bias = weights(model)
    m, b = (np.asarray(one).copy() for one in (matrix, bias))
    if change == "a last bit":
        place = tuple(np.argwhere(m)[0])
        m[place] = np.nextafter(m[place], np.float32(9))
    elif change == "a zero":
        m[tuple(np.argwhere(m == 0)[0])] = 1e-30
    elif change == "a repeated weight":
        same = np.argwhere(m == m[tuple(np.argwhere(m)[0])])
        assert len(same) == 8  # positions
        m[tuple(same[3])] *= 2
    elif change == "a row":
        m = np.roll(m, 1, axis=0)
    else:
        b[-1] += 1
    matrix.assign(m)
    bias.assign(b)
    with overheard():
        model.save(tmp_path / "other.keras")
    record = {"convfc.json": members(out)["convfc.json"]}
    other = write(tmp_path / "other.keras", members(tmp_path / "other.keras") | record)
    found = convfc.verify(path, other, samples=2)
    assert found.verdict is Verdict.NOT_EQUIVALENT
