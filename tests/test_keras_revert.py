"""There and back: what `revert` makes of converted Keras files."""

from __future__ import annotations

import json
import zipfile
import zlib
from base64 import b64encode
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import convfc
from convfc import Change, Code, Fate, FileError, UsageError, Verdict
from convfc.formats.keras.archive import write_record
from convfc.formats.keras.internals import run_through
from convfc.formats.keras.quiet import overheard
from convfc.formats.provenance import KEY
from tests.keras_fields import fields, unlike
from tests.keras_layers import drawn
from tests.keras_models import (
    FORMATS,
    branches,
    dense_of_before,
    edited,
    integer_weights,
    many,
    save,
    stock,
)
from tests.program import Here
from tests.thinned import thinned

RNG = np.random.default_rng(7)
X = RNG.random((6, 8, 7, 2), dtype=np.float32)
FEW = (
    "same",
    "depthwise",
    "causal",
    "separable",
    "transposed",
    "first",
    "timed",
    "unknown_grouped",
)


def there_and_back(path: Path, **options: Any) -> convfc.Reversion:
    """A file that comes back as it was."""
    done = convfc.convert(path, force=True, check=False, **options)
    assert done.complete, [layer.reason for layer in done.layers]
    back = convfc.revert(done.out, force=True)
    assert back.complete, [layer.way.reason for layer in back.layers]
    assert {layer.way.change for layer in back.layers} == {Change.NOTHING}
    assert back.notes == ()
    assert unlike(path, back.out) == []
    return back


def net(*inner: Any, shape: tuple[int, ...] = (8, 7, 2)) -> Any:
    """Some layers in a row, with integers as weights."""
    model = keras.Sequential([keras.Input(shape), *inner])
    integer_weights(model)
    return model


def conv(filters: int = 4, name: str = "conv", **given: Any) -> Any:
    return layers.Conv2D(filters, 3, name=name, **{"padding": "same", **given})


@pytest.mark.parametrize("suffix", thinned(FORMATS))
def test_every_kind_of_layer_comes_back(tmp_path: Path, suffix: str) -> None:
    chosen = {name: branch for name, branch in branches().items() if name in FEW}
    there_and_back(save(many(chosen), tmp_path / f"m{suffix}"))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS)
def test_all_layers_come_back(tmp_path: Path, suffix: str) -> None:
    there_and_back(save(many(branches()), tmp_path / f"m{suffix}"))


@pytest.mark.parametrize("suffix", thinned(FORMATS[::-1]))
def test_random_layers_come_back(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(FORMATS.index(suffix))
    chosen = {f"layer{place}": drawn(rng) for place in range(4)}
    there_and_back(save(many(chosen), tmp_path / f"m{suffix}"))


@pytest.mark.parametrize("suffix", thinned(FORMATS[::-1]))
def test_layers_in_blocks(tmp_path: Path, suffix: str) -> None:
    model = net(
        conv(activation="relu"),
        layers.Conv2DTranspose(3, 3, strides=2, name="up"),
        layers.SeparableConv2D(2, 2, name="separable", activation="tanh"),
    )
    there_and_back(save(model, tmp_path / f"m{suffix}"), patches="slice", patch_memory=900)


@pytest.mark.parametrize("suffix", thinned(FORMATS[::-1]))
def test_the_dense_form_of_before(tmp_path: Path, suffix: str) -> None:
    """A model of Reshape, Dense, Reshape in the place of each layer."""
    source = save(net(conv(activation="relu"), conv(3, name="other")), tmp_path / f"m{suffix}")
    fc = dense_of_before(source, tmp_path / f"m_fc{suffix}")
    back = convfc.revert(fc, verify=True)
    assert back.verification is not None
    assert back.verification.verdict is Verdict.EQUIVALENT
    kernels = [np.asarray(stock(one).get_layer("conv").kernel) for one in (source, back.out)]
    np.testing.assert_array_equal(kernels[0], kernels[1])


def nested(suffix: str) -> Any:
    """Shared layers, models in models, in wrappers and, where a file can hold it, behind masks."""
    x = keras.Input((4, 8, 7, 2), name="frames")
    block = keras.Sequential([keras.Input((8, 7, 2)), conv(2, name="inner")], name="block")
    shared = layers.TimeDistributed(block, name="timed")
    again = layers.TimeDistributed(conv(2, name="bare"), name="each")
    masked = layers.Masking(name="mask")(x) if suffix == ".keras" else x
    y = shared(shared(masked))
    with overheard():  # a layer that knows no masks says so
        y = layers.Reshape((8, 7, 8), name="flat")(again(y))
    y = layers.SpectralNormalization(conv(3, name="normal"), name="normed")(y)
    model = keras.Model(x, layers.Add(name="sum")([y, conv(3, name="last")(y)]), name="nested")
    model.get_layer("normed").trainable = False
    integer_weights(model)
    return model


@pytest.mark.parametrize("suffix", thinned(FORMATS))
def test_shared_and_nested_layers_come_back(tmp_path: Path, suffix: str) -> None:
    there_and_back(save(nested(suffix), tmp_path / f"m{suffix}"))


def trained(path: Path, *inner: Any) -> Path:
    """A file of a model that has been trained on, as Keras saves it."""
    model = net(*inner, layers.GlobalAveragePooling2D(), layers.Dense(3, name="top"))
    loss = keras.losses.MeanSquaredError()
    model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=False)
    fit(model)
    return save(model, path)


def fit(model: Any) -> None:
    with overheard():
        model.fit(X, np.ones((6, 3)), batch_size=3, epochs=2, verbose=0)


@pytest.mark.parametrize("suffix", thinned(FORMATS[::-1]))
def test_what_a_model_was_compiled_with_comes_back(tmp_path: Path, suffix: str) -> None:
    path = trained(tmp_path / f"m{suffix}", conv(), layers.DepthwiseConv2D(2, name="deep"))
    back = there_and_back(path)
    if suffix == ".keras":
        assert int(stock(back.out).optimizer.iterations) == 4


def outputs(path: Path, x: Any = X) -> Any:
    with overheard():
        return np.asarray(stock(path)(x, training=False))


def proves(fc: Path, out: Path, original: Path) -> None:
    """That a reverted file is the converted one, and no longer the original."""
    assert np.allclose(outputs(fc), outputs(out), rtol=1e-5, atol=1e-5)
    assert not np.allclose(outputs(original), outputs(out), rtol=1e-3, atol=1e-3)
    assert not any(isinstance(x, layers.EinsumDense) for x in stock(out).layers)


@pytest.mark.parametrize("suffix", thinned(FORMATS))
def test_a_file_that_was_trained_on(tmp_path: Path, suffix: str) -> None:
    """Keras saves no record: the original tells what there was."""
    path = trained(tmp_path / f"m{suffix}", conv(activation="relu"), conv(3, name="second"))
    fc = convfc.convert(path).out
    model = stock(fc)
    fit(model)
    model.get_layer("conv").name = "renamed"
    save(model, fc)
    with pytest.raises(FileError, match="its record was lost") as caught:
        convfc.revert(fc)
    assert caught.value.code is Code.NO_OUTLINE
    assert "--like" in str(caught.value)
    back = convfc.revert(fc, like=path)
    assert {layer.way.change for layer in back.layers} == {Change.NUMBERS}
    proves(fc, back.out, path)
    before, after = stock(fc), stock(back.out)
    if suffix == ".keras":
        assert back.notes == ()
        for old, new in zip(before.optimizer.variables, after.optimizer.variables, strict=True):
            assert np.asarray(old).tobytes() == np.asarray(new).tobytes()
    else:
        assert "Keras restores no optimizer from HDF5" in back.notes[0]


def weighted(model: Any, name: str = "conv") -> Any:
    """The Dense of a converted layer."""
    return next(x for x in model.get_layer(name).layers if x.weights)


@pytest.mark.parametrize("suffix", thinned(FORMATS[::-1]))
def test_changed_numbers(tmp_path: Path, suffix: str) -> None:
    """Pruned ones stay zero, and the program says which layer it was."""
    path = save(net(conv(), conv(3, name="other")), tmp_path / f"m{suffix}")

    def prune(model: Any) -> None:
        kernel = weighted(model).kernel
        kernel.assign(np.where(np.abs(kernel) > 1, kernel, 0))

    fc = edited(convfc.convert(path).out, prune)
    back = convfc.revert(fc, verify=True)
    assert [layer.way.change for layer in back.layers] == [Change.NUMBERS, Change.NOTHING]
    assert back.verification is not None
    assert back.verification.verdict is Verdict.EQUIVALENT
    kernel, was = (np.asarray(stock(p).get_layer("conv").kernel) for p in (back.out, path))
    assert np.array_equal(kernel, np.where(np.abs(was) > 1, was, 0))
    assert convfc.verify(fc, back.out).proved


def test_repeated_numbers_that_disagree_are_no_kernel(tmp_path: Path) -> None:
    path = save(net(conv()), tmp_path / "m.keras")

    def change(model: Any) -> None:
        kernel = np.asarray(weighted(model).kernel).copy()
        kernel[0, 0] += 1
        weighted(model).kernel.assign(kernel)

    fc = dense_of_before(path, tmp_path / "m_fc.keras")
    (layer,) = convfc.revert(edited(fc, change)).layers
    assert layer.fate is Fate.LEFT
    assert layer.way.reason == "its kernel is not laid out as that of a convolution any more"


def spliced(fc: Path, other: Any, folder: Path) -> Path:
    """A converted file with the layer of another network in the place of its own."""
    given = convfc.convert(save(net(other), folder / f"other{fc.suffix}")).out
    new = stock(given).get_layer(other.name)
    return edited(fc, lambda model: replaced(model, {other.name: new}))


def replaced(model: Any, new: dict[str, Any]) -> Any:
    def chosen(layer: Any) -> Any:
        return new.get(layer.name, layer)

    return keras.models.clone_model(model, clone_function=chosen)


@pytest.mark.parametrize("suffix", thinned(FORMATS[::-1]))
@pytest.mark.parametrize(
    "given", thinned([{"filters": 6}, {"use_bias": False}]), ids=["filters", "bias"]
)
def test_another_number_of_filters_or_no_bias(
    tmp_path: Path, suffix: str, given: dict[str, Any]
) -> None:
    model = net(conv(), layers.GlobalMaxPooling2D(name="top"))
    path = save(model, tmp_path / f"m{suffix}")
    fc = spliced(convfc.convert(path).out, conv(**given), tmp_path)
    back = convfc.revert(fc, verify=True)
    assert [layer.way.change for layer in back.layers] == [Change.FORM]
    layer = stock(back.out).get_layer("conv")
    assert (layer.filters, layer.use_bias) == (given.get("filters", 4), "filters" in given)
    assert np.array_equal(outputs(fc), outputs(back.out))
    assert back.verification is not None
    assert back.verification.proved


def factored(dense: Any, *, nested: bool) -> Any:
    """What stands for a Dense of rank two, as one layer or as two."""
    u, _, v = np.linalg.svd(np.asarray(dense.kernel), full_matrices=False)
    first = layers.Dense(2, use_bias=False, name="u")
    second = layers.Dense(dense.units, activation=dense.activation, name="v")
    both = keras.Sequential([keras.Input(u.shape[:1]), first, second], name="uv")
    first.kernel.assign(u[:, :2])
    second.kernel.assign(v[:2])
    second.bias.assign(dense.bias)
    return both if nested else lambda x: second(first(x))


def moved(model: Any) -> Any:
    """One number of the second factor moves a little."""
    kernel = model.get_layer("conv").layers[-1].kernel
    numbers = np.asarray(kernel).copy()
    numbers.flat[0] *= 1 + 2**-20
    kernel.assign(numbers)
    return model


@pytest.mark.parametrize(
    ("kind", "nested"), [("conv", False), ("separable", True)], ids=["conv", "separable"]
)
def test_a_product_in_two_is_two_convolutions(tmp_path: Path, kind: str, nested: bool) -> None:
    layer = conv(activation="relu")
    if kind == "separable":
        layer = layers.SeparableConv2D(4, 3, name="conv", activation="relu")
    path = save(net(layer), tmp_path / "m.keras")

    def split(model: Any) -> Any:
        inner = model.get_layer("conv")
        dense = next(x for x in inner.layers if type(x) is layers.Dense)
        instead = factored(dense, nested=nested)
        made = run_through(inner, inner.inputs, lambda x: instead if x is dense else x)
        return replaced(model, {"conv": keras.Model(inner.inputs, made, name="conv")})

    fc = edited(convfc.convert(path).out, split)
    back = convfc.revert(fc)
    assert [layer.way.change for layer in back.layers] == [Change.FORM]
    first, second = stock(back.out).get_layer("conv").layers
    assert (first.filters, second.filters, second.kernel_size) == (2, 4, (1, 1))
    assert np.allclose(outputs(fc), outputs(back.out), rtol=1e-5, atol=1e-4)
    checked = convfc.verify(fc, back.out, samples=2)
    assert checked.verdict is Verdict.EQUIVALENT, checked.reason
    assert [layer.structure for layer in checked.layers] == ["its product is split"]
    edited(back.out, moved)
    assert convfc.verify(fc, back.out, samples=2).verdict is not Verdict.EQUIVALENT


def test_what_is_no_product_of_patches_is_left(tmp_path: Path, here: Here) -> None:
    """Dropout on the patches; the program says so and ends with 1."""
    path = save(net(conv(), conv(3, name="other")), tmp_path / "m.keras")

    def drop(model: Any) -> Any:
        inner, dense = model.get_layer("conv"), weighted(model)
        dropped = layers.Dropout(0.5, name="drop")
        made = run_through(
            inner, inner.inputs, lambda x: (lambda p: dense(dropped(p))) if x is dense else x
        )
        return replaced(model, {"conv": keras.Model(inner.inputs, made, name="conv")})

    fc = edited(convfc.convert(path).out, drop)
    done = here("revert", fc, "--json", cwd=tmp_path)
    assert done.returncode == 1
    left, reverted = json.loads(done.stdout)["layers"]
    assert (left["fate"], reverted["fate"]) == ("left", "reverted")
    assert left["reason"] == "'drop' is a Dropout, not a Reshape"
    assert not (tmp_path / "m_conv.keras").exists()
    half = convfc.revert(fc, partial=True)
    assert [layer.fate for layer in half.layers] == [Fate.LEFT, Fate.REVERTED]
    assert np.allclose(outputs(fc), outputs(half.out), rtol=1e-6, atol=1e-4)


def test_some_layers(tmp_path: Path) -> None:
    """What is half reverted is a converted file still, and comes back as well."""
    path = save(net(conv(), conv(3, name="other")), tmp_path / "m.keras")
    fc = convfc.convert(path).out
    some = convfc.revert(fc, tmp_path / "some.keras", only="other")
    assert [layer.fate for layer in some.layers] == [Fate.SKIPPED, Fate.REVERTED]
    assert convfc.verify(path, some.out).equivalent
    rest = convfc.revert(some.out, tmp_path / "rest.keras")
    assert fields(rest.out) == fields(path)
    with pytest.raises(UsageError, match="was made by revert"):
        convfc.revert(rest.out, tmp_path / "again.keras")


@pytest.mark.parametrize("suffix", thinned(FORMATS))
def test_a_file_that_keras_has_saved_again(tmp_path: Path, suffix: str) -> None:
    """As .keras, whatever it was; nothing tells of methods and blocks then."""
    layer = layers.DepthwiseConv2D(2, name="deep")
    path = save(net(conv(), layer, conv(2, name="wide")), tmp_path / f"m{suffix}")
    done = convfc.convert(path, patches="slice", patch_memory=900)
    blocks = [layer.lowering.blocks for layer in done.layers if layer.lowering]
    assert min(blocks) > 1
    back = convfc.revert(save(stock(done.out), tmp_path / "m_fc2.keras"), like=path)
    assert {layer.way.change for layer in back.layers} == {Change.NOTHING}
    assert np.array_equal(outputs(path), outputs(back.out))


def with_outline(fc: Path, outline: str) -> None:
    record = json.loads(zipfile.ZipFile(fc).read(f"{KEY}.json"))
    save(stock(fc), fc)
    write_record(fc, ".keras", json.dumps({**record, "outline": outline}))


def test_a_record_without_an_outline_takes_the_original(tmp_path: Path) -> None:
    path = save(net(conv()), tmp_path / "m.keras")
    fc = convfc.convert(path).out
    with_outline(fc, "")
    assert fields(convfc.revert(fc).out) == fields(path)
    moved = path.rename(tmp_path / "elsewhere.keras")
    with pytest.raises(FileError, match="does not tell what the original looked like"):
        convfc.revert(fc)
    assert fields(convfc.revert(fc, like=moved).out) == fields(moved)
    other = save(net(conv(name="another")), tmp_path / "other.keras")
    (layer,) = convfc.revert(fc, like=other).layers
    assert layer.way.reason == "there is no convolution of that name in the original"


def forged(**given: Any) -> str:
    """An outline of one layer that is none."""
    layer = {"module": "keras.layers", "class_name": "Conv2D", "config": {}, "build_config": {}}
    one = {"name": "conv", "path": "conv", "digests": [], "layer": {**layer, **given}}
    return b64encode(zlib.compress(json.dumps([one]).encode())).decode()


@pytest.mark.parametrize(
    "outline",
    [
        "x",
        "AAAA",
        forged(),
        forged(build_config={"input_shape": 3}),
        forged(class_name="Dense", build_config={"input_shape": []}),
        forged(module="os", build_config={"input_shape": []}),
    ],
)
def test_a_damaged_outline(tmp_path: Path, outline: str) -> None:
    fc = convfc.convert(save(net(conv()), tmp_path / "m.keras")).out
    with_outline(fc, outline)
    with pytest.raises(FileError, match="the outline in it") as caught:
        convfc.revert(fc)
    assert caught.value.code is Code.RECORD


def test_an_outline_of_another_layer(tmp_path: Path) -> None:
    """It is well written, and fits nothing in the file."""
    fc = convfc.convert(save(net(conv()), tmp_path / "m.keras")).out
    huge = layers.Conv2D(2**20, 99, name="conv").get_config()
    given = {"config": huge, "build_config": {"input_shape": [None, 8, 7, 2]}}
    with_outline(fc, forged(**given))
    (layer,) = convfc.revert(fc).layers
    assert layer.fate is Fate.LEFT
    assert str(layer.way.reason).startswith("its convolution cannot be made again")


def test_a_file_in_which_nothing_was_converted(tmp_path: Path) -> None:
    path = save(net(layers.Flatten(name="flat")), tmp_path / "m.keras")
    back = convfc.revert(convfc.convert(path).out)
    assert back.complete
    assert back.layers == ()
    assert fields(back.out) == fields(path)
