"""A converted layer is, operation by operation, what the emitter writes, or that is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from convfc.core.lowering import PatchMethod
from convfc.formats.keras.layer_pair import KerasLayerPair
from convfc.formats.keras.linear import unshown
from convfc.formats.keras.quiet import overheard
from convfc.formats.protocols import LayerPair
from tests.keras_edits import Change, Config, aligned, edited, members, sets
from tests.keras_models import branches, convert, many, save
from tests.thinned import thinned

RELU = keras.activations.relu


def only_pair(source: Path, out: Path) -> LayerPair:
    [pair] = aligned(source, out).pairs
    return pair


def single(
    layer: Any, folder: Path, shape: tuple[int | None, ...], patches: PatchMethod = PatchMethod.AUTO
) -> tuple[Path, Path]:
    """A model of one layer called "c", and its conversion."""
    model = keras.Sequential([keras.Input(shape, name="image"), layer], name="net")
    for weight in model.weights:
        weight.assign(np.random.default_rng(4).normal(size=weight.shape))
    source, out = save(model, folder / "net.keras"), folder / "net_fc.keras"
    convert(source, out, patches)
    assert only_pair(source, out).structure is None
    return source, out


def separable() -> Any:
    return layers.SeparableConv2D(
        4, 3, activation="relu", padding="same", depth_multiplier=2, name="c"
    )


def inside(config: Config) -> list[Config]:
    """The layers of the model in the place of the only convolution."""
    found = next(x for x in config["config"]["layers"] if "layers" in x["config"])
    inner: list[Config] = found["config"]["layers"]
    return inner


def test_an_activation_that_moved(tmp_path: Path) -> None:
    source, out = single(layers.Conv2D(3, 2, activation="relu", name="c"), tmp_path, (5, 6, 2))

    def move(config: Config) -> None:
        [dense] = [x for x in inside(config) if x["class_name"] == "Dense"]
        dense["config"]["activation"] = "linear"

    pair = only_pair(source, edited(out, move))
    assert pair.structure == '\'c\' has other settings: activation became "linear", was "relu"'
    assert pair.problem is None
    assert pair.unshown == "its activation is not the layer's, applied last of all"


def test_an_activation_between_two_products(tmp_path: Path) -> None:
    source, out = single(separable(), tmp_path, (6, 6, 3))

    def move(config: Config) -> None:
        weighted = [x["config"] for x in inside(config) if "activation" in x["config"]]
        weighted[0]["activation"], weighted[-1]["activation"] = "relu", "linear"

    pair = only_pair(source, edited(out, move))
    assert pair.structure is not None
    assert pair.unshown is not None


def numbers_in(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of the integers in a configuration that say what is computed."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in ("keras_history", "build_config", "shape", "shared_object_id"):
                yield from numbers_in(item, (*place, key))
    elif isinstance(value, list):
        for key, item in enumerate(value):
            yield from numbers_in(item, (*place, key))
    elif type(value) is int:
        yield place


@pytest.mark.parametrize("patches", thinned([PatchMethod.GATHER, PatchMethod.SLICE]))
def test_every_integer_counts(tmp_path: Path, patches: PatchMethod) -> None:
    """Of index maps, slices, strides and shapes; those with which Keras does not load it aside."""
    layer = layers.Conv2D(6, 2, strides=(1, 2), groups=2, padding="same", name="c")
    source, out = single(layer, tmp_path, (5, 6, 4), patches)
    places = list(numbers_in(inside(json.loads(members(out)["config.json"]))))
    tried = 0
    for place in places[:: max(len(places) // 12, 1)]:

        def change(config: Config, place: tuple[Any, ...] = place) -> None:
            value: Any = inside(config)
            for key in place[:-1]:
                value = value[key]
            value[place[-1]] += 1

        try:
            alignment = aligned(source, edited(out, change))
        except Exception:  # noqa: S112 - Keras refuses it in many ways
            continue
        tried += 1
        assert alignment.pairs[0].structure is not None, place
    assert tried > 2


def test_names_and_the_order_of_a_list_do_not_count(tmp_path: Path) -> None:
    source, out = single(separable(), tmp_path, (6, 6, 3))
    first = next(
        x["name"]
        for x in inside(json.loads(members(out)["config.json"]))
        if "EinsumDense" in str(x)
    )

    def change(config: Config) -> None:
        text = json.dumps(inside(config)).replace(f'"{first}"', '"another"')
        inside(config)[:] = json.loads(text)
        inside(config).reverse()

    pair = only_pair(source, edited(out, change))
    assert (pair.structure, pair.problem) == (None, None)
    x = np.random.default_rng(2).integers(-3, 4, (3, 6, 6, 3)).astype(np.float32)
    drawn = {
        name: np.random.default_rng(3).integers(-3, 4, pair.parameter_shape(name))
        for name in pair.parameters
    }
    before, after = pair.run(x, drawn)
    assert np.array_equal(before, after)


def test_blocks_share_their_weights(tmp_path: Path) -> None:
    """The twin of the one Dense for all blocks: another one for one of them, of the same shape."""
    layer = layers.Conv2D(3, 2, name="c")
    model = keras.Sequential([keras.Input((6, 7, 2), name="image"), layer], name="net")
    source, out = save(model, tmp_path / "net.keras"), tmp_path / "net_fc.keras"
    convert(source, out, memory=400)
    pair = only_pair(source, out)
    assert isinstance(pair, KerasLayerPair)
    assert pair.structure is None
    dense = next(x for x in pair._made.layers if isinstance(x, layers.Dense))
    assert len(dense._inbound_nodes) > 1

    def split(config: Config) -> None:
        stack = inside(config)
        one = next(x for x in stack if x["class_name"] == "Dense")
        other = json.loads(json.dumps(one))
        other["name"] = other["config"]["name"] = "other"
        other["inbound_nodes"] = [one["inbound_nodes"].pop()]
        last = len(one["inbound_nodes"])
        text = json.dumps(stack).replace(f'["{one["name"]}", {last}, 0]', '["other", 0, 0]')
        stack[:] = [*json.loads(text), other]

    config = json.loads(members(out)["config.json"])
    split(config)
    with overheard():
        made = keras.models.model_from_json(json.dumps(config))
    made.set_weights([*pair._made.get_weights(), *(w + 1 for w in pair._made.get_weights())])
    again = KerasLayerPair(
        pair.site, pair._layer, made.layers[-1], pair._expected, pair._lowering, ends_masks=False
    )
    assert again.structure is not None
    assert again.unshown is not None


@pytest.mark.parametrize(
    "change",
    [sets("c", trainable=False), sets("c", kernel_regularizer=None, bias_constraint="non_neg")],
)
def test_what_matters_to_training_only_is_a_remark(tmp_path: Path, change: Change) -> None:
    source, out = single(layers.Conv2D(3, 2, name="c"), tmp_path, (5, 6, 2))

    def inner(config: Config) -> None:
        change({x["name"]: x for x in inside(config)})

    alignment = aligned(source, edited(out, inner))
    assert alignment.pairs[0].structure is None
    [remark] = alignment.remarks
    assert remark.startswith("computes the same, trains differently: layer 'c'")


def stand_in(source: Path, out: Path, x: Any, y: Any, weights: Any) -> KerasLayerPair:
    """The convolution of a file next to another model, of other layers."""
    made = keras.Model(x, y)
    for weight, value in zip(made.weights, weights, strict=True):
        weight.assign(np.reshape(value, weight.shape))
    found = only_pair(source, out)
    assert isinstance(found, KerasLayerPair)
    return KerasLayerPair(
        found.site, found._layer, made, found._expected, found._lowering, ends_masks=False
    )


def patches_of(image: Any) -> Any:
    """2x2 patches of an image of 5x6, side by side."""
    cuts = [((i, 1 - i), (j, 1 - j)) for i in range(2) for j in range(2)]
    return layers.Concatenate()([layers.Cropping2D(cut)(image) for cut in cuts])


def test_another_structure_that_is_linear_can_be_drawn(tmp_path: Path) -> None:
    layer = layers.Conv2D(3, 2, activation="relu", name="c")
    source, out = single(layer, tmp_path, (5, 6, 2))
    image = keras.Input((5, 6, 2))
    flat = layers.Reshape((20, 8))(patches_of(image))
    y = layers.Reshape((4, 5, 3))(layers.Dense(3, activation="relu")(flat))
    pair = stand_in(source, out, image, y, layer.get_weights())
    assert pair.structure is not None
    assert (pair.problem, pair.unshown) == (None, None)
    x = np.random.default_rng(2).integers(-3, 4, (3, 5, 6, 2)).astype(np.float32)
    before, after = pair.run(x, pair.parameters)  # type: ignore[arg-type] # all are known
    np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-6)


def test_other_numbers_are_a_problem_and_another_order_is_not_known(tmp_path: Path) -> None:
    layer = layers.Conv2D(3, 2, name="c")
    source, out = single(layer, tmp_path, (5, 6, 2))
    image = keras.Input((5, 6, 2))
    y = layers.Dense(3)(layers.Reshape((4, 5, 8))(patches_of(image)))
    kernel, bias = layer.get_weights()
    other = stand_in(source, out, image, y, [kernel + 1, bias])
    assert "its weights are not the convolution's" in str(other.problem)
    moved = stand_in(source, out, image, y, [kernel[::-1], bias])
    assert (moved.problem, moved.unshown) == (None, "its weights are in another order")


def dense(x: Any, **given: Any) -> Any:
    return layers.Dense(3, **given)(x)


def _unshown(model: Any, activation: Any, *, open_sizes: bool) -> str | None:
    """Of one product, where there are no masks."""
    return unshown(model, activation, 1, open_sizes=open_sizes, ends_masks=False)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda x: dense(layers.Dropout(0.1)(x)), "Dropout"),
        (lambda x: dense(layers.ReLU(max_value=1e4)(x)), "ReLU"),
        (lambda x: dense(keras.ops.clip(x, -1e4, 1e4)), "Clip"),
        (lambda x: dense(keras.ops.cast(x, "float16")), "Cast"),
        (lambda x: dense(layers.Permute((2, 1, 3), dtype="float16")(x)), "rounds to float16"),
        (lambda x: dense(layers.AveragePooling2D(2, strides=1)(x)), "AveragePooling2D"),
        (lambda x: dense(x + 1e-9), "Add"),
        (lambda x: dense(x[:3, :, :]), "GetItem"),
        (lambda x: dense(keras.ops.take(x, [0], axis=0)), "Take"),
        (lambda x: dense(keras.ops.reshape(x, (-1, 2))), None),
        (lambda x: dense(layers.Multiply()([x, x])), "multiplies more than 1 times"),
        (lambda x: dense(dense(x)), "multiplies more than 1 times"),
        (lambda x: dense(dense(x, activation="relu")), "multiplies more than 1 times"),
        (lambda x: layers.ZeroPadding2D(1)(dense(x, activation="relu")), "activation"),
        (lambda x: layers.Activation("relu")(dense(x, activation="relu")), "activation"),
        (lambda x: layers.Activation("relu")(dense(x)), None),
        (lambda x: layers.Permute((2, 1, 3))(dense(x, activation="relu")), None),
        (lambda x: dense(layers.Permute((2, 1, 3))(x), activation="tanh"), "activation"),
    ],
)
def test_what_may_not_be_drawn(make: Any, said: str | None) -> None:
    x = keras.Input((5, 6, 2))
    y = make(x)
    activation = RELU if "relu" in json.dumps(keras.Model(x, y).get_config()) else None
    activation = RELU if said == "activation" else activation or keras.activations.linear
    found = _unshown(keras.Model(x, y), activation, open_sizes=False)
    assert (found is None) if said is None else (said in str(found))


def test_with_open_sizes_a_constant_might_be_made_for_one() -> None:
    x = keras.Input((None, None, 2))
    pointwise = keras.Model(x, dense(x))
    assert _unshown(pointwise, keras.activations.linear, open_sizes=True) is None
    cropped = keras.Model(x, dense(layers.Cropping2D(1)(x)))
    assert _unshown(cropped, keras.activations.linear, open_sizes=True) is not None
    assert _unshown(cropped, keras.activations.linear, open_sizes=False) is None


def test_an_activation_along_an_axis_must_be_the_very_last() -> None:
    x = keras.Input((5, 6, 2))
    softmax = keras.activations.softmax
    last = keras.Model(x, dense(x, activation="softmax"))
    assert _unshown(last, softmax, open_sizes=False) is None
    moved = keras.Model(x, layers.Permute((3, 2, 1))(dense(x, activation="softmax")))
    assert _unshown(moved, softmax, open_sizes=False) is not None


@pytest.mark.parametrize(
    "name", thinned(["first", "first1d", "first_depthwise", "first_separable", "first_transposed"])
)
def test_channels_first_needs_no_kernels_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """TensorFlow has none on some processors; the function is the same one channels last."""
    source = save(many({name: branches()[name]}), tmp_path / "net.keras")
    convert(source, tmp_path / "net_fc.keras")
    pair = only_pair(source, tmp_path / "net_fc.keras")
    rng = np.random.default_rng(5)
    drawn = {key: rng.integers(-2, 3, pair.parameter_shape(key)) for key in pair.parameters}
    for function in ("conv", "depthwise_conv", "separable_conv", "conv_transpose"):
        own = getattr(keras.ops, function)

        def last(*args: Any, own: Any = own, **given: Any) -> Any:
            assert given["data_format"] == "channels_last"
            return own(*args, **given)

        monkeypatch.setattr(f"keras.src.ops.{function}", last)
    for batch in (1, 3):
        shape = [batch, *(size or 5 for size in branches()[name][0])]
        x = rng.integers(-2, 3, shape).astype(np.float32)
        before, after = pair.run(x, drawn)
        assert np.array_equal(before, after)
        assert before.shape[0] == batch
