"""What a conversion keeps: names, bytes, flags, regularizers, structure, masks, the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers

import convfc
from convfc.core.geometry import Convolution, Window
from convfc.core.lowering import Lowering, lower
from convfc.errors import FileError, UnsupportedModelError
from convfc.formats.keras import open_keras, read_provenance
from convfc.formats.keras.carried_settings import reshaped_axes
from convfc.formats.keras.quiet import overheard
from convfc.formats.keras.upgraded_copy import make_loadable
from convfc.formats.provenance import LayerRecord, Provenance
from tests.keras_models import FORMATS, convert, converted, integer_weights, save, stock
from tests.thinned import thinned

RNG = np.random.default_rng(3)


def _sequential(*stack: Any) -> Any:
    return keras.Sequential([keras.Input((8, 7, 2)), *stack], name="net")


def _dense(model: Any, name: str) -> Any:
    """The layer with the weights in place of the convolution of that name."""
    return model.get_layer(name).get_layer(name)


@pytest.mark.parametrize("suffix", FORMATS)
def test_names_flags_and_bytes(tmp_path: Path, suffix: str) -> None:
    model = _sequential(
        layers.Conv2D(3, 3, name="frozen", trainable=False),
        layers.BatchNormalization(name="norm"),
        layers.DepthwiseConv2D(2, name="deep"),
        layers.Flatten(name="flat"),
        layers.Dense(2, name="head", trainable=False),
    )
    model.get_layer("norm").moving_mean.assign([0.1, 0.2, 0.3])
    new = converted(model, tmp_path, suffix)
    assert new.name == "net"
    assert [layer.name for layer in new.layers] == [layer.name for layer in model.layers]
    assert [layer.trainable for layer in new.layers] == [False, True, True, True, False]
    kernel, bias = ((4, 1, 3), (3,)) if suffix == ".h5" else ((1, 4, 3), (1, 1, 3))
    assert [w.shape for w in new.trainable_weights] == [(3,), (3,), kernel, bias]
    assert [w.path.split("/")[-2].removesuffix("_bias") for w in new.weights] == [
        w.path.split("/")[-2] for w in model.weights
    ]
    for old, kept in zip(model.weights, new.weights, strict=True):
        assert old.numpy().tobytes() == kept.numpy().tobytes()
    assert new.get_layer("head").get_config() == model.get_layer("head").get_config()


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_frozen_model_with_an_unfrozen_layer_stays_so(tmp_path: Path, suffix: str) -> None:
    inputs = keras.Input((8, 7, 2))
    free = layers.Conv2D(3, 3, name="free")
    inner = keras.Model(inputs, free(layers.Conv2D(3, 3, name="frozen")(inputs)), name="inner")
    model = _sequential(inner, layers.Conv2D(2, 2, name="last"))
    inner.trainable = False
    free.trainable = True
    new = converted(model, tmp_path, suffix)
    inner = new.get_layer("inner")
    assert not inner.trainable
    assert inner.get_layer("free").trainable
    assert not inner.get_layer("frozen").trainable
    names = [w.path.split("/")[-2] for w in new.trainable_weights]
    assert names == ["free", "free", "last", "last"]


def test_regularizers_initializers_and_activity(tmp_path: Path) -> None:
    model = _sequential(
        layers.Conv2D(
            3,
            2,
            name="plain",
            kernel_regularizer=keras.regularizers.L1L2(0.1, 0.2),
            bias_regularizer="l2",
            activity_regularizer=keras.regularizers.L1(0.3),
            kernel_initializer="he_normal",
        ),
        layers.DepthwiseConv2D(
            2,
            name="deep",
            depthwise_regularizer=keras.regularizers.L2(0.4),
            activity_regularizer=keras.regularizers.L2(0.5),
        ),
    )
    new = converted(model, tmp_path)
    x = RNG.random((2, 8, 7, 2), dtype=np.float32)
    model(x), new(x)
    assert len(new.losses) == len(model.losses) == 5
    np.testing.assert_allclose(sum(new.losses), sum(model.losses), rtol=1e-5)  # sums reordered
    assert isinstance(_dense(new, "plain").kernel_initializer, keras.initializers.HeNormal)


def test_reshaped_axes() -> None:
    kernel, matrix = (3, 2, 4, 6), (24, 6)
    assert reshaped_axes([0, 1, 2], kernel, matrix) == [0]
    assert reshaped_axes([3], kernel, matrix) == [1]
    assert reshaped_axes([-1], kernel, matrix) == [1]
    assert reshaped_axes([0], kernel, matrix) is None
    assert reshaped_axes([0], (5, 1, 4, 2), (5, 1, 4, 2)) == [0]
    assert reshaped_axes([0, 2], (5, 1, 4, 2), (5, 1, 8)) is None
    assert reshaped_axes([3], kernel, (6, 4, 2, 3)) == [2, 3]


def test_constraints_that_mean_the_same_and_the_others(tmp_path: Path) -> None:
    per_filter = keras.constraints.MaxNorm(0.5, axis=[0, 1, 2])
    model = _sequential(
        layers.Conv2D(3, 2, name="a", kernel_constraint=per_filter, bias_constraint="non_neg"),
        layers.DepthwiseConv2D(
            (3, 1), name="b", depthwise_constraint=keras.constraints.UnitNorm(0)
        ),
        layers.Conv2D(2, 2, name="c", kernel_constraint=keras.constraints.MaxNorm(0.5, axis=0)),
        layers.Conv2D(2, 1, name="d", kernel_initializer=keras.initializers.Constant(2.0)),
    )
    source = save(model, tmp_path / "constrained.keras")
    remarks = convert(source, tmp_path / "out.keras")
    assert [remark.split(":")[0] for remark in remarks] == ["c", "d"]
    assert "kernel constraint MaxNorm" in remarks[0]
    assert "kernel initializer Constant" in remarks[1]
    new = stock(tmp_path / "out.keras")
    assert isinstance(_dense(new, "a").bias_constraint, keras.constraints.NonNeg)
    for name in ("a", "b"):
        old, now = model.get_layer(name), _dense(new, name)
        rule = getattr(old, "kernel_constraint", None) or old.depthwise_constraint
        expected = rule(old.kernel.numpy() + 1)
        got = now.kernel_constraint(now.kernel.numpy() + 1)
        np.testing.assert_array_equal(np.ravel(expected), np.ravel(got))


def test_activation_sits_in_the_dense_where_it_can(tmp_path: Path) -> None:
    model = _sequential(
        layers.Conv2D(4, 2, name="plain", activation="relu"),
        layers.Conv2D(4, 2, name="grouped", groups=2, activation="relu"),
        layers.DepthwiseConv2D(2, name="linear"),
    )
    new = converted(model, tmp_path)
    last = {name: new.get_layer(name).layers[-1] for name in ("plain", "grouped", "linear")}
    assert type(last["plain"]) is layers.Dense
    assert last["plain"].activation is keras.activations.relu
    assert type(last["grouped"]) is layers.Activation
    assert type(last["linear"]) is layers.Reshape


def _tangled() -> Any:
    """Nested and shared layers and models, two inputs by name, two outputs by name."""
    inner = keras.Sequential(
        [keras.Input((None, None, 2)), layers.Conv2D(2, 3, padding="same", name="conv")],
        name="inner",
    )
    left = keras.Input((8, 6, 2), name="left")
    right = keras.Input((4, 5, 2), name="right")
    shared = layers.Conv2D(2, (2, 1), name="shared")
    a, b = shared(inner(left)), shared(inner(inner(right)))
    outer = keras.ops.max(a, axis=(1, 2)) + keras.ops.max(b, axis=(1, 2))
    outputs = {"sum": layers.Dense(2, name="sum")(outer), "map": b}
    model = keras.Model({"left": left, "right": right}, outputs)
    integer_weights(model)
    return model


def test_nested_shared_and_named(tmp_path: Path) -> None:
    """A layer that is called at several sizes is one slice layer that is called as often."""
    path = save(_tangled(), tmp_path / "tangled.keras")
    original = open_keras(path)
    sites = {site.name: site.sizes for site in original.sites}
    assert sites == {"inner/conv": (None, None), "shared": (None, None)}
    assert [port.name for port in original.inputs] == ["left", "right"]
    feed = {
        "left": RNG.integers(-3, 4, (2, 8, 6, 2)).astype("float32"),
        "right": RNG.integers(-3, 4, (2, 4, 5, 2)).astype("float32"),
    }
    expected = original.run(feed)
    out = tmp_path / "out.keras"
    assert convert(path, out) == []
    got = open_keras(out).run(feed)
    assert list(got) == list(expected)
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name])
    new = stock(out)
    assert new.count_params() == _tangled().count_params()
    assert list(new(feed)) == list(_tangled()(feed))


@pytest.mark.parametrize("suffix", thinned(FORMATS))
def test_a_mask_ends_where_it_ended(tmp_path: Path, suffix: str) -> None:
    """A convolution ends it, and what else gets it gets it again, in a .h5 too."""
    inputs = keras.Input((6, 2))
    with overheard():  # Keras warns of it
        masked = layers.Masking()(inputs)
        ended = [layers.Conv1D(3, width, name=f"conv{width}")(masked) for width in (1, 2)]
        model = keras.Model(inputs, [layers.LSTM(4)(x) for x in (masked, *ended)])
        source = save(model, tmp_path / f"a{suffix}")
        if suffix == ".h5":
            make_loadable(source)  # as Keras 2 wrote it
        original, out = open_keras(source), tmp_path / f"b{suffix}"
        feed = {original.inputs[0].name: RNG.random((2, 6, 2), dtype=np.float32)}
        feed[original.inputs[0].name][:, 3:] = 0
        expected = original.run(feed)
        assert convert(source, out) == []
        new = open_keras(out)
        outputs = model(*feed.values())
    assert new.sites == []
    for (name, got), output in zip(new.run(feed).items(), outputs, strict=True):
        # A mask would change the result by percents; the order of summation does by 1e-7.
        np.testing.assert_allclose(got, expected[name], atol=1e-6)
        np.testing.assert_allclose(got, output, atol=1e-6)
    alignment = original.align(new)
    assert (len(alignment.pairs), alignment.differences) == (2, ())


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_keras_saves_in_its_own_way_stays(tmp_path: Path, suffix: str) -> None:
    """A SpatialDropout does not say that it is trainable; a score is taken for a function."""
    steps = keras.Input((6, 2))
    x = layers.SpatialDropout1D(0.5)(layers.Conv1D(4, 3)(steps))
    new = converted(keras.Model(steps, layers.Attention()([x, x])), tmp_path, suffix)
    kinds = [type(layer).__name__ for layer in new.layers]
    assert kinds == ["InputLayer", "Functional", "SpatialDropout1D", "Attention"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_record_of_any_length(tmp_path: Path, suffix: str) -> None:
    source = save(_sequential(layers.Conv2D(1, 1)), tmp_path / f"a{suffix}")
    lowering = lower(Convolution((Window(1),), 1, 1), (5,))
    assert isinstance(lowering, Lowering)
    layer = LayerRecord.of("x" * 100_000, lowering)
    record = Provenance("a", "0" * 64, "1.0", (layer,))
    out = tmp_path / f"b{suffix}"
    open_keras(source).save_converted(out, {}, record)
    assert read_provenance(out) == record == open_keras(out).provenance
    assert read_provenance(source) is None
    stock(out)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_by_another_name_becomes_what_its_name_says(tmp_path: Path, suffix: str) -> None:
    other = {".h5": ".keras", ".keras": ".h5"}[suffix]
    original = save(_sequential(layers.Conv2D(1, 2, padding="same")), tmp_path / f"a{suffix}")
    misnamed = original.rename(tmp_path / f"misnamed{other}")
    out = tmp_path / f"out{other}"
    done = convfc.convert(misnamed, out, verify=True)
    assert "by another name" in done.notes[0]
    assert done.verification is not None
    assert done.verification.equivalent
    assert h5py.is_hdf5(out) == (other == ".h5")
    stock(out)  # Keras goes by the name
    assert sorted(path.name for path in tmp_path.iterdir()) == [misnamed.name, out.name]


def test_a_zip_named_h5_with_operations_is_refused(tmp_path: Path) -> None:
    image = keras.Input((8, 7, 2))
    model = keras.Model(image, keras.ops.square(layers.Conv2D(1, 2)(image)))
    misnamed = save(model, tmp_path / "a.keras").rename(tmp_path / "a.h5")
    with pytest.raises(UnsupportedModelError, match=r"'Square'.* rename it to end in \.keras"):
        open_keras(misnamed)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_list_in_a_sequential_in_a_model(tmp_path: Path, suffix: str) -> None:
    """Keras itself cannot save what it loaded from such an .h5."""
    vary = keras.Sequential([layers.RandomContrast(0.5, value_range=(0, 1))])
    new = converted(_sequential(vary, layers.Conv2D(1, 2)), tmp_path, suffix)
    assert list(new.layers[0].layers[0].value_range) == [0, 1]


def test_what_keras_cannot_save_is_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_keras(save(_sequential(layers.Conv2D(1, 2)), tmp_path / "a.h5"))

    def fail(*_: Any) -> None:
        raise TypeError("no way\nat all")

    monkeypatch.setattr(keras.saving, "save_model", fail)
    with pytest.raises(UnsupportedModelError, match=r"a\.h5: Keras cannot save it again: no way$"):
        model.save_converted(tmp_path / "b.h5", {}, Provenance("a", "", "", ()))


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_disk_that_fills_up_is_an_oserror(tmp_path: Path, suffix: str) -> None:
    resource = pytest.importorskip("resource")
    source = save(_sequential(layers.Conv2D(500, 7)), tmp_path / f"a{suffix}")
    model = open_keras(source)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            model.save_converted(tmp_path / f"b{suffix}", {}, Provenance("a", "", "", ()))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_sizes_that_only_the_call_of_a_nested_model_knows(tmp_path: Path) -> None:
    """The Dense after Flatten needs to know them when the file is loaded again."""
    inner = keras.Sequential([keras.Input((None, None, 2)), layers.DepthwiseConv2D(3, name="deep")])
    new = converted(_sequential(inner, layers.Flatten(), layers.Dense(2)), tmp_path, ".h5")
    assert new.output_shape == (None, 2)
    (site,) = open_keras(tmp_path / "original.h5").sites
    assert site.sizes == (8, 7)


def test_damaged_record(tmp_path: Path) -> None:
    import h5py

    path = save(_sequential(layers.Conv2D(1, 1)), tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["convfc"] = "{"
    with pytest.raises(FileError, match="record is damaged"):
        open_keras(path)
