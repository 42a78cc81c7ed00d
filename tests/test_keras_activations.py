"""Activations that are more than a function of one number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import convfc
from tests.keras_models import FORMATS, convert, integer_weights, save, stock
from tests.thinned import thinned


@keras.saving.register_keras_serializable("convfc_tests")  # type: ignore[untyped-decorator] # keras has no types
def above_the_mean(x: Any) -> Any:
    """Looks at all positions of a sample."""
    return x - keras.ops.mean(x, axis=(1, 2), keepdims=True)


ACTIVATIONS = {
    "along an axis": lambda: layers.Softmax(axis=1),
    "with weights": lambda: layers.PReLU(alpha_initializer="random_uniform"),
    "with weights and state": layers.BatchNormalization,
    "a layer": lambda: layers.LeakyReLU(0.5),
    "half as many filters": lambda: "glu",
    "one's own": lambda: above_the_mean,
    "along the filters": lambda: "softmax",
    "sorted filters": lambda: "sparsemax",
}


@pytest.mark.parametrize("suffix", thinned(FORMATS))
def test_an_activation_sees_what_it_saw(tmp_path: Path, suffix: str) -> None:
    """Also where the output is computed in blocks."""
    image = keras.Input((6, 7, 4))
    weights = ACTIVATIONS["with weights"]
    outputs = [layers.Conv2D(4, (3, 2), activation=make())(image) for make in ACTIVATIONS.values()]
    outputs.append(layers.Conv2D(4, 2, groups=4, activation=weights())(image))
    outputs.append(layers.Conv2DTranspose(2, 3, strides=2, activation=weights())(image))
    model = keras.Model(image, outputs)
    x = np.random.default_rng(1).integers(-2, 3, (2, 6, 7, 4)).astype(np.float32)
    model(x)  # builds what Keras builds late
    integer_weights(model)
    for weight in model.weights:
        if weight.name in ("alpha", "moving_variance"):
            weight.assign(np.random.default_rng(2).random(weight.shape))
    source = save(model, tmp_path / f"a{suffix}")
    expected = [np.asarray(y) for y in model(x)]
    for memory in (None, 200):
        out = tmp_path / f"b{memory}{suffix}"
        assert convert(source, out, memory=memory) == []
        for name, got, y in zip([*ACTIVATIONS, "", ""], stock(out)(x), expected, strict=True):
            np.testing.assert_allclose(got, y, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("suffix", thinned(FORMATS))
def test_the_numbers_of_an_activation_are_compared(tmp_path: Path, suffix: str) -> None:
    image = keras.Input((6, 7, 2))
    alpha = layers.PReLU(alpha_initializer="random_uniform")
    model = keras.Model(image, layers.Conv2D(3, (3, 2), activation=alpha, name="conv")(image))
    model(np.zeros((1, 6, 7, 2), np.float32))  # or it would have no numbers yet
    source = save(model, tmp_path / f"a{suffix}")
    out = convfc.convert(source).out
    assert convfc.verify(source, out, samples=2).equivalent
    stored = alpha.weights[0].numpy()
    alpha.weights[0].assign(np.nextafter(stored, np.float32(1)))
    other = save(model, tmp_path / f"other{suffix}")
    result = convfc.verify(other, out, samples=2)
    assert result.verdict is not convfc.Verdict.EQUIVALENT
    assert "has an activation that differs" in str(result.layers[0].structure)
