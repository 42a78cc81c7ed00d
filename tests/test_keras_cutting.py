"""What is around the converted layers: who reads whom, by call; settings; all that Keras saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from convfc.formats.keras.quiet import overheard
from convfc.formats.protocols import Alignment
from tests.keras_edits import (
    Change,
    Config,
    aligned,
    edited,
    members,
    reads,
    relayered,
    sets,
    write,
)
from tests.keras_models import FORMATS, convert, save
from tests.thinned import thinned

Conv = layers.Conv2D


def both(model: Any, folder: Path, suffix: str = ".keras") -> tuple[Path, Path]:
    """A model and its conversion, in files."""
    source = save(model, folder / f"net{suffix}")
    out = folder / f"net_fc{suffix}"
    convert(source, out)
    return source, out


def assert_same(alignment: Alignment) -> None:
    assert (alignment.differences, alignment.unknown, alignment.remarks) == ((), (), ())
    assert [pair.structure for pair in alignment.pairs] == [None] * len(alignment.pairs)


def siamese() -> Any:
    shared = Conv(4, 3, padding="same", name="shared")
    a, b = keras.Input((8, 8, 2), name="a"), keras.Input((5, 9, 2), name="b")
    ends = layers.GlobalMaxPooling2D(name="most"), layers.GlobalAveragePooling2D(name="mean")
    return keras.Model(
        [a, b], layers.Subtract(name="gap")([ends[0](shared(a)), ends[1](shared(b))])
    )


def image_model(*stack: Any) -> Any:
    return keras.Sequential([keras.Input((8, 7, 2), name="image"), *stack], name="net")


def side_by_side() -> Any:
    """Layers with settings and numbers of their own around two convolutions of one kind."""
    image = keras.Input((5, 6, 2), name="image")
    left, right = (Conv(2, 3, padding="same", name=name)(image) for name in ("left", "right"))
    left = layers.BatchNormalization(name="norm")(left)
    gap = layers.Dropout(0.5, seed=1, name="drop")(layers.Subtract(name="gap")([left, right]))
    doubled = keras.ops.multiply(right, 2.0)
    return keras.Model(image, {"gap": gap, "other": layers.Add(name="sum")([doubled, right])})


def nested() -> Any:
    inner = keras.Sequential(
        [keras.Input((5, 6, 2)), Conv(2, 2, name="in"), layers.LeakyReLU(name="leaky")],
        name="inner",
    )
    frames = keras.Input((3, 5, 6, 2), name="frames")
    image = keras.Input((5, 6, 2), name="image")
    twice = layers.Subtract(name="gap")([inner(image), inner(layers.ReLU(name="cut")(image))])
    timed = layers.TimeDistributed(Conv(2, 2, name="each"), name="timed")(frames)
    return keras.Model([frames, image], [timed, twice])


def masked() -> Any:
    words = keras.Input((9,), dtype="int32", name="words")
    x = layers.Embedding(7, 4, mask_zero=True, name="embedded")(words)
    with overheard():  # a convolution ends masks, and Keras warns of that
        y = layers.Conv1D(4, 3, padding="same", name="conv")(x)
    return keras.Model(words, [layers.LSTM(2, name="past")(x), layers.Flatten(name="flat")(y)])


@pytest.mark.parametrize(
    ("model", "suffix"),
    [*((model, suffix) for model in (siamese, nested) for suffix in FORMATS), (masked, ".keras")],
)
def test_a_conversion_has_no_fault_and_no_remark(tmp_path: Path, model: Any, suffix: str) -> None:
    assert_same(aligned(*both(model(), tmp_path, suffix)))


def test_neither_is_a_compiled_one(tmp_path: Path) -> None:
    model = side_by_side()
    model.compile("adam", {"gap": "mse", "other": "mae"})
    assert_same(aligned(*both(model, tmp_path)))


def test_calls_of_a_shared_layer_are_told_apart(tmp_path: Path) -> None:
    shared = Conv(4, 3, name="shared")
    a, b = keras.Input((8, 8, 2), name="a"), keras.Input((8, 8, 2), name="b")
    model = keras.Model([a, b], layers.Subtract(name="gap")([shared(a), shared(b)]))
    source, out = both(model, tmp_path)

    def exchange(found: dict[str, Config]) -> None:
        found["gap"]["inbound_nodes"][0]["args"][0].reverse()

    assert aligned(source, relayered(out, exchange)).differences


def relisted(config: Config) -> None:
    """The same graph, its layers listed the other way round, and calls of a shared one, too."""
    config["config"]["layers"].reverse()


def test_the_order_of_a_list_does_not_matter(tmp_path: Path) -> None:
    source, out = both(side_by_side(), tmp_path)
    assert_same(aligned(source, edited(out, relisted)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (reads("gap", "norm", "left"), "'left'"),
        (reads("gap", "right", "norm"), "'norm'"),
        (reads("left", "right"), "'right'"),
        (reads("drop", "norm"), "'norm'"),
        (sets("norm", epsilon=0.002), "epsilon"),
        (sets("drop", dtype="float64"), "dtype"),
        (sets("image", batch_shape=[3, 5, 6, 2]), "batch_shape"),
    ],
)
def test_wiring_and_settings_are_differences(tmp_path: Path, change: Change, said: str) -> None:
    source, out = both(side_by_side(), tmp_path)
    alignment = aligned(source, relayered(out, change))
    assert any(said in words for words in (*alignment.differences, *alignment.unknown))


def test_a_constant_in_a_call_is_a_difference(tmp_path: Path) -> None:
    source, out = both(side_by_side(), tmp_path)

    def change(found: dict[str, Config]) -> None:
        [call] = next(x for name, x in found.items() if "multiply" in name)["inbound_nodes"]
        call["args"][1] = 2.5

    assert aligned(source, relayered(out, change)).differences


def test_a_mask_that_comes_from_elsewhere(tmp_path: Path) -> None:
    """The convolution would end it; the model in its place might hand it on."""
    words = keras.Input((9,), dtype="int32", name="words")
    x = layers.Embedding(7, 4, mask_zero=True, name="embedded")(words)
    plain = layers.Embedding(7, 4, name="plain")(words)
    y = layers.LSTM(2, name="after")(layers.Conv1D(4, 3, padding="same", name="conv")(plain))
    source, out = both(keras.Model(words, [layers.LSTM(2, name="past")(x), y]), tmp_path)
    assert_same(aligned(source, out))

    def mask(found: dict[str, Config]) -> None:
        given = found["past"]["inbound_nodes"][0]["kwargs"]["mask"]
        found["conv"]["inbound_nodes"][0]["kwargs"]["mask"] = given

    assert aligned(source, relayered(out, mask)).differences


def test_keys_of_outputs_are_the_functions_own(tmp_path: Path) -> None:
    source, out = both(side_by_side(), tmp_path)

    def rename(config: Config) -> None:
        named = config["config"]["output_layers"]
        named["another"] = named.pop("other")

    assert aligned(source, edited(out, rename)).differences


def test_a_layer_in_one_file_only_is_not_known_to_matter(tmp_path: Path) -> None:
    source, out = both(nested(), tmp_path)

    def pass_by(found: dict[str, Config]) -> None:
        [tensor] = found["inner"]["inbound_nodes"][1]["args"]
        tensor["config"]["keras_history"] = ["image", 0, 0]

    alignment = aligned(source, relayered(out, pass_by))
    assert "layer 'cut' is in one of the files only" in alignment.unknown


def test_a_shared_convolution_that_is_two(tmp_path: Path) -> None:
    """Both would have to be looked at, and only one is."""
    source = save(siamese(), tmp_path / "net.keras")
    a, b = keras.Input((8, 8, 2), name="a"), keras.Input((5, 9, 2), name="b")
    made = [Conv(4, 3, padding="same", name=name) for name in ("shared", "other")]
    ends = layers.GlobalMaxPooling2D(name="most"), layers.GlobalAveragePooling2D(name="mean")
    y = layers.Subtract(name="gap")([ends[0](made[0](a)), ends[1](made[1](b))])
    other = save(keras.Model([a, b], y), tmp_path / "two.keras")
    alignment = aligned(source, other)
    assert alignment.unknown + alignment.differences


@pytest.mark.parametrize(
    "change",
    thinned(
        [
            sets("drop", rate=0.25),
            sets("drop", seed=2),
            sets("norm", momentum=0.5),
            sets("norm", trainable=False),
            sets("norm", beta_constraint="non_neg"),
        ]
    ),
)
def test_what_matters_to_training_only_is_a_remark(tmp_path: Path, change: Change) -> None:
    source, out = both(side_by_side(), tmp_path)
    alignment = aligned(source, relayered(out, change))
    assert (alignment.differences, alignment.unknown) == ((), ())
    [remark] = alignment.remarks
    assert remark.startswith("computes the same, trains differently: layer '")


def test_it_is_no_remark_where_the_layer_always_trains(tmp_path: Path) -> None:
    image = keras.Input((8, 7, 2), name="image")
    y = layers.Dropout(0.5, name="drop")(Conv(2, 3, name="conv")(image), training=True)
    source, out = both(keras.Model(image, y), tmp_path)
    assert_same(aligned(source, out))
    assert aligned(source, relayered(out, sets("drop", rate=0.25))).differences


def test_so_are_a_name_and_the_training_setup(tmp_path: Path) -> None:
    model = image_model(Conv(2, 3, name="conv"), layers.Flatten(name="flat"))
    model.compile("sgd", "mse")
    source, out = both(model, tmp_path)

    def change(config: Config) -> None:
        config["compile_config"]["loss"] = "mae"
        config["config"]["layers"][-1]["config"]["name"] = "other"

    alignment = aligned(source, edited(out, change))
    assert (alignment.differences, alignment.unknown) == ((), ())
    assert ["trains" in remark for remark in alignment.remarks] == [True, False]


def test_state_that_is_in_no_configuration(tmp_path: Path) -> None:
    numbers = layers.IntegerLookup(name="numbers")
    numbers.adapt(np.array([5, 7, 7, 9, 9, 9, 30]))
    words = layers.TextVectorization(
        output_mode="int", output_sequence_length=4, name="words", standardize=None
    )
    words.adapt(np.array(["one two two", "three three three"]))
    given = keras.Input((6,), dtype="int64", name="given")
    text = keras.Input((), dtype="string", name="text")
    x = layers.Embedding(9, 3, name="embedded")(numbers(given))
    model = keras.Model([given, text], [layers.Conv1D(2, 3, name="conv")(x), words(text)])
    source, out = both(model, tmp_path)
    assert_same(aligned(source, out))
    content = members(out)
    for kind in ("integer_lookup", "text_vectorization"):
        other = dict(content)
        for name in [name for name in content if kind in name and name.endswith("vocabulary.txt")]:
            *lines, a, b = content[name].splitlines()
            other[name] = b"\n".join([*lines, b, a])
        assert other != content
        alignment = aligned(source, write(tmp_path / "bad.keras", other))
        assert "vocabulary.txt" in " ".join(alignment.differences)


def test_state_of_a_layer_in_a_layer(tmp_path: Path) -> None:
    model = image_model(
        Conv(3, 3, name="conv"),
        layers.Reshape((-1, 3), name="rows"),
        layers.Bidirectional(layers.GRU(2, name="cell"), name="ways"),
    )
    source, out = both(model, tmp_path)
    other = keras.saving.load_model(out)
    kernel = other.get_layer("ways").weights[-1]
    kernel.assign(kernel + 1)
    alignment = aligned(source, save(other, tmp_path / "bad.keras"))
    assert "ways" in " ".join(alignment.differences)
