"""With rows for its ports, the models within a Keras model are opened, if they are called once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import convfc
from convfc import Fate, Verdict
from convfc.formats.keras.opening import opened
from convfc.formats.keras.quiet import importing
from tests.keras_models import integer_weights, save, stock
from tests.thinned import thinned

with importing():
    import keras
    from keras import layers


def conv(name: str, filters: int, size: int = 2) -> Any:
    return layers.Conv2D(filters, size, name=name)


def net() -> Any:
    """A Functional in a Sequential in a Functional, which ends in another Sequential."""
    image = keras.Input((4, 5, 2), name="seen")
    deep = keras.Model(image, layers.ReLU(name="relu")(conv("inner", 3)(image)), name="deep")
    block = keras.Sequential([keras.Input((4, 5, 2)), deep, conv("outer", 2)], name="block")
    ends = [layers.Flatten(name="flatten"), layers.Dense(3, name="dense")]
    head = keras.Sequential([keras.Input((2, 3, 2)), *ends], name="head")
    x = given = keras.Input((5, 5, 2), name="image")
    x = layers.Conv2D(2, (2, 1), activation="relu", name="first")(x)
    model = keras.Model(given, head(block(x)))
    integer_weights(model)
    return model


def twice() -> Any:
    given = keras.Input((4, 5, 2), name="image")
    block = keras.Sequential(
        [keras.Input((4, 5, 2)), layers.Conv2D(2, 3, padding="same", name="conv")], name="block"
    )
    return keras.Model(given, conv("last", 2)(block(block(given))))


@pytest.mark.parametrize("suffix", thinned([".keras", ".h5"]))
def test_models_in_models_are_one_chain_there_and_back(suffix: str, tmp_path: Path) -> None:
    model = net()
    source = save(model, tmp_path / f"m{suffix}")
    done = convfc.convert(source, form="dense", flat_io=True)
    names = ["first", "block/deep/inner", "block/outer"]
    assert [layer.site.name for layer in done.layers] == names
    made = stock(done.out)
    assert type(made) is keras.Sequential
    assert [(type(x), x.name) for x in made.layers] == [
        *((layers.Dense, name) for name in ("first", "inner", "head"))
    ]
    assert convfc.verify(source, done.out, samples=2).verdict is Verdict.EQUIVALENT
    back = convfc.revert(done.out, tmp_path / f"back{suffix}", like=source)
    assert {layer.fate for layer in back.layers} == {Fate.REVERTED}
    found = stock(back.out)
    assert [x.name for x in found.layers] == [x.name for x in model.layers]
    for ours, theirs in zip(model.get_weights(), found.get_weights(), strict=True):
        assert (ours == theirs).all()


def test_a_wrong_number_in_what_was_nested_is_found(tmp_path: Path) -> None:
    source = save(net(), tmp_path / "m.keras")
    done = convfc.convert(source, form="dense", flat_io=True, check=False)
    from tests.campaign.keras_files import Parts

    parts = Parts.read(done.out)
    with parts.weights() as weights:
        name = next(n for n, data in weights.items() if data.shape == (40, 36))
        weights[name][0, 0] += 1
    done.out.unlink()
    parts.write(done.out)
    assert convfc.verify(source, done.out, samples=2).verdict is Verdict.NOT_EQUIVALENT


def test_what_is_called_twice_stays(tmp_path: Path) -> None:
    source = save(twice(), tmp_path / "m.keras")
    done = convfc.convert(source, form="dense", flat_io=True)
    assert "It is no Sequential of Dense: 'block' is of class Sequential." in done.notes
    assert [layer.site.name for layer in done.layers] == ["block/conv", "last"]
    assert convfc.verify(source, done.out, samples=2).verdict is Verdict.EQUIVALENT


def block_of(*ports: Any, made: Any) -> Any:
    return keras.Model([*ports] if len(ports) > 1 else ports[0], made, name="block")


def told() -> Any:
    """A model that drops numbers whatever the whole is called for."""
    image, given = keras.Input((4, 5, 2)), keras.Input((4, 5, 2), name="image")
    block = block_of(image, made=layers.Dropout(0.5, name="drop")(conv("inner", 3)(image)))
    return keras.Model(given, conv("last", 2)(block(given, training=True)))


def by_name() -> Any:
    """z is the first, whatever the order of the letters."""
    ports = z, a = [keras.Input((4, 5, 2), name=name) for name in "za"]
    block = block_of(*ports, made=layers.Subtract(name="less")([conv("inner", 2, 1)(z), a]))
    given = [keras.Input((4, 5, 2), name=name) for name in ("x", "y")]
    return keras.Model(given, conv("last", 2)(block(dict(zip("za", given, strict=True)))))


@pytest.mark.parametrize("make", [told, by_name])
def test_a_model_that_is_told_more_than_its_layers_stays(make: Any) -> None:
    model = make()
    assert opened(model) == (model, {})


def test_a_layer_that_is_told_to_train_stays_as_it_is(tmp_path: Path) -> None:
    given = keras.Input((4, 5, 2), name="image")
    x = layers.Dropout(0.5, name="drop")(conv("first", 2)(given), training=True)
    source = save(keras.Model(given, conv("last", 2)(x)), tmp_path / "m.keras")
    done = convfc.convert(source, form="dense", flat_io=True)
    (call,) = stock(done.out).get_layer("drop")._inbound_nodes
    assert call.arguments.kwargs["training"] is True
    assert convfc.verify(source, done.out, samples=1).verdict is Verdict.EQUIVALENT
