"""A converted model trains on where the original stood."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from convfc.errors import FileError
from convfc.formats.keras import open_keras
from convfc.formats.keras.quiet import overheard
from convfc.formats.registry import open_model
from tests.keras_models import FORMATS, convert, loaded, save, stock
from tests.thinned import thinned

RNG = np.random.default_rng(4)
X = RNG.random((12, 8, 7, 2), dtype=np.float32)
Y = RNG.integers(0, 3, 12)


def _net() -> Any:
    keras.utils.set_random_seed(5)
    return keras.Sequential(
        [
            keras.Input((8, 7, 2)),
            layers.Conv2D(4, 3, strides=(2, 1), padding="same", activation="relu"),
            layers.Conv2D(4, 2, groups=2, kernel_regularizer="l2"),
            layers.DepthwiseConv2D(2, activation="tanh"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(3, activation="softmax"),
        ]
    )


def _trained(optimizer: Any) -> Any:
    model = _net()
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    _fit(model)
    return model


def _fit(model: Any) -> list[float]:
    history = model.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0).history
    return list(history["loss"])


@pytest.mark.slow
def test_training_goes_on_as_it_would_have(tmp_path: Path) -> None:
    source = save(_trained(keras.optimizers.Adam(0.02, use_ema=True)), tmp_path / "a.keras")
    out = tmp_path / "b.keras"
    assert convert(source, out) == []
    original, new = stock(source), stock(out)
    assert new.get_compile_config() == original.get_compile_config()
    assert int(new.optimizer.iterations) == 6
    for old, kept in zip(original.optimizer.variables, new.optimizer.variables, strict=True):
        assert np.asarray(old).tobytes() == np.asarray(kept).tobytes()
    # Six more steps of float32 sums in another order; a fresh optimizer would differ by percents.
    np.testing.assert_allclose(_fit(new), _fit(original), rtol=1e-4)


@pytest.mark.slow
def test_training_of_hdf5_starts_its_optimizer_afresh(tmp_path: Path) -> None:
    """Stock Keras loads no loss of that name from HDF5, nor trains on with an optimizer's state."""
    model = _net()
    model.compile("adam", "mse", metrics=["mae"], jit_compile=False)
    model.fit(X, np.eye(3)[Y], verbose=0)
    source, out = save(model, tmp_path / "a.h5"), tmp_path / "b.h5"
    assert any("afresh" in note for note in open_keras(source).notes)
    assert convert(source, out) == []
    original, new = loaded(source), stock(out)
    assert new.loss is original.loss is keras.losses.mean_squared_error
    before, after = (
        each.fit(X, np.eye(3)[Y], shuffle=False, batch_size=4, verbose=0).history["loss"]
        for each in (original, new)
    )
    np.testing.assert_allclose(after, before, rtol=1e-5)


@pytest.mark.slow
def test_state_that_depends_on_shapes_starts_afresh(tmp_path: Path) -> None:
    source = save(_trained(keras.optimizers.Adafactor()), tmp_path / "a.keras")
    (remark,) = convert(source, tmp_path / "b.keras")
    assert "optimizer" in remark


def test_phases_that_train_apart_are_a_remark(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((8, 7, 2)), layers.Conv2DTranspose(1, 3, 2, name="up")])
    model.compile("adam", keras.losses.MeanSquaredError(), jit_compile=False)
    model.fit(X, np.zeros((12, 17, 15, 1)), verbose=0)
    source = save(model, tmp_path / "a.keras")
    (phases, state) = convert(source, tmp_path / "b.keras")
    assert phases.startswith("up: each phase")
    assert "starts afresh" in state


def _nodes(exported: Any) -> set[str]:
    """What a SavedModel's graph holds."""
    graph = exported.signatures["serving_default"].graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    return {node.op for node in nodes}


@pytest.mark.parametrize("suffix", thinned(FORMATS))
def test_an_exported_model_holds_no_convolution(tmp_path: Path, suffix: str) -> None:
    """Nor can convfc read it; it says what to do with it."""
    import tensorflow as tf

    model = _net()
    source, out = save(model, tmp_path / f"a{suffix}"), tmp_path / f"b{suffix}"
    convert(source, out)
    kinds = []
    for path in (source, out):
        with overheard():
            folder = path.with_suffix(".saved")
            stock(path).export(folder, verbose=False)
            exported = tf.saved_model.load(folder)
        kinds.append({kind for kind in _nodes(exported) if "Conv" in kind or "Patches" in kind})
        np.testing.assert_allclose(exported.serve(tf.constant(X)), model(X), rtol=1e-5)
        with pytest.raises(FileError, match=r"SavedModel; save the Keras model as \.keras"):
            open_model(folder)
    assert kinds == [{"Conv2D", "DepthwiseConv2dNative"}, set()]


@pytest.mark.slow
def test_nor_does_one_exported_to_onnx(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("tf2onnx", reason="Keras exports to ONNX with tf2onnx")
    model = _net()
    source, out = save(model, tmp_path / "a.h5"), tmp_path / "b.h5"
    convert(source, out)
    file = tmp_path / "b.onnx"
    with overheard():
        new = stock(out)
        new(X)  # Keras exports no model that was never called
        new.export(file, format="onnx", verbose=False)
    assert not {node.op_type for node in onnx.load(file).graph.node if "Conv" in node.op_type}
    exported = open_model(file)
    (output,) = exported.run({exported.inputs[0].name: X}).values()
    np.testing.assert_allclose(output, model(X), rtol=1e-5)


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_uncompiled_model_stays_uncompiled(tmp_path: Path, suffix: str) -> None:
    model = keras.Sequential([keras.Input((8, 7, 2)), layers.Conv2D(1, 2)])
    source = save(model, tmp_path / f"a{suffix}")
    convert(source, tmp_path / f"b{suffix}")
    assert not stock(tmp_path / f"b{suffix}").compiled


def test_compiled_but_never_trained(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((8, 7, 2)), layers.Conv2D(1, 2)])
    model.compile("sgd", keras.losses.MeanSquaredError())
    source = save(model, tmp_path / "a.h5")
    assert convert(source, tmp_path / "b.h5") == []
    assert isinstance(stock(tmp_path / "b.h5").loss, keras.losses.MeanSquaredError)
