"""What a Keras model does beside affine maps, held against what was made of it, by other code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from convfc.core.whole import MaxPool
from convfc.formats.keras.quiet import importing

with importing():
    import keras
    from keras import layers

    from convfc.formats.keras.beside import forgotten


def line(*steps: Any) -> Any:
    return keras.Sequential([keras.Input((4, 5, 3), name="image"), *steps])


def conv(activation: Any = None, **settings: Any) -> Any:
    return layers.Conv2D(3, 2, padding="same", activation=activation, **settings)


def dense(activation: Any = None) -> Any:
    return layers.Dense(60, activation=activation)


def residual(*, swapped: bool = False) -> Any:
    image = keras.Input((4, 5, 3), name="image")
    both = [conv("relu")(image), conv("tanh")(image)]
    return keras.Model(image, layers.Subtract()(both[::-1] if swapped else both))


def nested(activation: str) -> Any:
    """A model in a model in a wrapper, called twice."""
    block = keras.Sequential([keras.Input((5, 3)), layers.Conv1D(3, 1, activation=activation)])
    image = keras.Input((4, 5, 3), name="image")
    timed = layers.TimeDistributed(block)
    return keras.Model(image, timed(layers.ReLU()(timed(image))))


def pool(*size: int, strides: Any = None) -> Any:
    return line(conv("relu"), layers.MaxPooling2D(size, strides=strides))


SAME: dict[str, Callable[[], tuple[Any, Any]]] = {
    "carried": lambda: (
        line(conv(), layers.BatchNormalization(), layers.ReLU(), layers.Dropout(0.1)),
        line(layers.Flatten(), dense("relu")),
    ),
    "limits": lambda: (
        line(conv(), layers.ReLU(6.0)),
        line(layers.Flatten(), dense(), layers.ReLU(6.0)),
    ),
    "a softmax on an image": lambda: (
        line(conv("softmax")),
        line(layers.Flatten(), dense(), layers.Reshape((4, 5, 3)), layers.Softmax()),
    ),
    "opened": lambda: (
        nested("elu"),
        line(*(layers.Dense(3, activation=one) for one in ("elu", "relu", "elu"))),
    ),
    "joined": lambda: (residual(), residual()),
    "the largest": lambda: (pool(2, 3), line(*(layers.Dense(3, "relu") for _ in range(4)))),
}  # fmt: skip


@pytest.mark.parametrize("case", SAME)
def test_what_is_the_same_is_so(case: str) -> None:
    assert not list(forgotten(*SAME[case](), MaxPool.RELU))


OTHER: dict[str, Callable[[], tuple[Any, Any]]] = {
    "relu, not relu6": lambda: (
        line(conv("relu"), layers.Flatten(), layers.Activation("relu6")),
        line(layers.Flatten(), dense("relu")),
    ),
    "relu, not input 'image'": lambda: (line(conv()), line(conv("relu"))),
    "other settings of LeakyReLU": lambda: (
        line(conv(), layers.LeakyReLU(0.1)), line(conv(), layers.LeakyReLU(0.2)),
    ),
    "tanh, not relu": lambda: (line(conv("tanh"), conv("relu")), line(conv("relu"), conv("tanh"))),
    "other settings of softmax": lambda: (
        line(conv("softmax")), line(layers.Flatten(), dense("softmax")),
    ),
    "a cast to float32": lambda: (
        line(layers.Flatten(dtype="float16"), dense()), line(layers.Flatten(), dense()),
    ),
    "tanh, not elu": lambda: (nested("elu"), nested("tanh")),
    "relu, not tanh": lambda: (residual(), residual(swapped=True)),
    "not MaxPooling2D": lambda: (pool(2, 3), line(*(layers.Dense(3, "relu") for _ in range(3)))),
}  # fmt: skip


@pytest.mark.parametrize("words", OTHER)
def test_what_is_forgotten_is_said(words: str) -> None:
    found = [*forgotten(*OTHER[words](), MaxPool.RELU)]
    assert found
    assert any(one.endswith(words) or words in one for one in found), found


def test_relu_stands_for_a_pooling_only_where_that_was_asked_for() -> None:
    pair = SAME["the largest"]()
    assert list(forgotten(*pair, MaxPool.KEEP))


@pytest.mark.parametrize("times", [1, 2, 3])
def test_an_axis_that_is_only_thinned_may_take_one_more(times: int) -> None:
    original = pool(2, 1, strides=2)
    made = line(*(layers.Dense(3, "relu") for _ in range(1 + times)))
    assert bool(list(forgotten(original, made, MaxPool.RELU))) == (times == 3)
