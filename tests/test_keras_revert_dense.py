"""There and back: what `revert` makes of Keras files in the dense form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import convfc
from convfc import Change, Code, Fate, FileError, UnsupportedModelError, Verdict
from convfc.formats.keras.archive import read_provenance, write_record
from convfc.formats.keras.outline import pack, unpack
from tests.keras_fields import fields, unlike
from tests.keras_models import FORMATS, edited, integer_weights, save, stock
from tests.program import Here
from tests.thinned import thinned

Ways = dict[str, tuple[Fate, Change, str | None]]
UNTOLD = "its matrix is made of {}, whose own numbers it does not tell"


def conv(name: str = "conv", filters: int = 3, **given: Any) -> Any:
    return layers.Conv2D(filters, 3, padding="same", name=name, **given)


def net(*inner: Any) -> Any:
    model = keras.Sequential([keras.Input((6, 5, 2)), *inner])
    integer_weights(model)
    return model


def plain() -> Any:
    """Nothing but convolutions, of three kinds."""
    deep = layers.DepthwiseConv2D(2, name="deep", use_bias=False)
    up = layers.Conv2DTranspose(2, 3, strides=2, name="up")
    norm = layers.LayerNormalization(name="norm")
    model = net(conv(activation="relu"), deep, layers.ReLU(), up, norm, conv("last"))
    model.compile("adam", "mse")
    return model


def mixed() -> Any:
    """A convolution with a neighbour in its matrix, and one without."""
    norm = layers.BatchNormalization(name="norm")
    model = net(
        conv(),
        norm,
        layers.Dropout(0.5, name="drop"),
        layers.ReLU(name="relu"),
        conv("alone"),
        layers.PReLU(name="prelu"),
    )
    norm.moving_variance.assign(np.ones(3))
    return model


def ways(done: convfc.Reversion) -> Ways:
    return {one.way.site.name: (one.fate, one.way.change, one.way.reason) for one in done.layers}


def there_and_back(path: Path, fc: Path, **given: Any) -> None:
    """A file that comes back as it was, with a proof."""
    back = convfc.revert(fc, verify=True, **given)
    assert back.complete, ways(back)
    assert {layer.way.change for layer in back.layers} == {Change.NOTHING}
    assert back.notes == ()
    assert back.verification is not None
    assert back.verification.verdict is Verdict.EQUIVALENT
    assert unlike(path, back.out) == []


@pytest.mark.parametrize("flat_io", thinned([False, True]))
@pytest.mark.parametrize("suffix", thinned(FORMATS))
def test_convolutions_come_back_without_the_original(
    tmp_path: Path, suffix: str, flat_io: bool
) -> None:
    path = save(plain(), tmp_path / f"m{suffix}")
    fc = convfc.convert(path, form="dense", flat_io=flat_io).out
    there_and_back(path.rename(tmp_path / f"gone{suffix}"), fc)


def test_a_file_that_takes_rows_is_looked_at_in_rows(tmp_path: Path) -> None:
    """Without `verify` as well, which reads the reverted file as the original was read."""
    path = save(net(conv(activation="relu"), conv("last")), tmp_path / "m.keras")
    back = convfc.revert(convfc.convert(path, form="dense", flat_io=True).out)
    assert back.written
    assert unlike(path, back.out) == []


def test_several_layers_in_one_matrix_take_the_original(tmp_path: Path) -> None:
    """It is beside the file, or is named."""
    path = save(mixed(), tmp_path / "m.keras")
    fc = convfc.convert(path, form="dense").out
    there_and_back(path, fc)
    gone = path.rename(tmp_path / "gone.keras")
    back = convfc.revert(fc, tmp_path / "none.keras")
    assert not back.written
    assert ways(back) == {
        "conv": (Fate.LEFT, Change.NOTHING, UNTOLD.format("'conv', 'norm'")),
        "alone": (Fate.REVERTED, Change.NOTHING, None),
    }
    assert back.layers[0].way.refusal is not None
    assert back.layers[0].way.refusal.code is Code.NO_OUTLINE
    there_and_back(gone, fc, like=gone, force=True)


def test_max_pooling_in_matrices_comes_back_as_a_whole(tmp_path: Path) -> None:
    model = net(layers.MaxPooling2D(2, name="pool"), layers.Flatten(), layers.Dense(2, name="top"))
    path = save(model, tmp_path / "m.keras")
    fc = convfc.convert(path, form="dense", flat_io=True, max_pool="relu").out
    there_and_back(path, fc)
    path.unlink()
    found = ways(convfc.revert(fc, tmp_path / "none.keras"))
    assert found["pool"][2] == "'pool' became several matrices, of which 'pool_3' is left"
    assert found["pool_3"][2] == UNTOLD.format("'pool', 'top'")


def outputs(path: Path, *, flat: bool = False) -> Any:
    x = np.random.default_rng(3).random((2, 6, 5, 2), dtype=np.float32)
    return np.asarray(stock(path)(x.reshape(2, -1) if flat else x, training=False))


@pytest.mark.parametrize("flat_io", thinned([False, True]))
def test_what_is_half_reverted_is_a_converted_file(tmp_path: Path, flat_io: bool) -> None:
    path = save(mixed(), tmp_path / "m.keras")
    fc = convfc.convert(path, form="dense", flat_io=flat_io).out
    gone = path.rename(tmp_path / "gone.keras")
    half = convfc.revert(fc, partial=True)
    assert half.written
    kinds = [type(layer) for layer in stock(half.out).layers]
    assert kinds.count(layers.Conv2D) == kinds.count(layers.Dense) == 1
    before, after = (outputs(one, flat=flat_io) for one in (fc, half.out))
    np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-4)
    assert convfc.verify(gone, half.out).verdict is Verdict.EQUIVALENT
    rest = convfc.revert(half.out, tmp_path / "rest.keras", like=gone)
    assert fields(rest.out) == fields(gone)


def dense(model: Any, name: str) -> Any:
    return next(x for x in model.layers if x.name == name)


def pruned(model: Any) -> None:
    """Small numbers become zeros, in all places; and another layer has other numbers."""
    kernel = dense(model, "alone").kernel
    kernel.assign(np.where(np.abs(kernel) > 1, kernel, 0))
    dense(model, "prelu").alpha.assign(dense(model, "prelu").alpha + 1)


def disagreeing(model: Any) -> None:
    """One of the places of a number of a kernel, a bias elsewhere, and a folded matrix."""
    for name in ("alone", "conv"):
        kernel = np.asarray(dense(model, name).kernel).copy()
        kernel[np.unravel_index(np.abs(kernel).argmax(), kernel.shape)] += 1
        dense(model, name).kernel.assign(kernel)


def test_changed_numbers(tmp_path: Path) -> None:
    path = save(mixed(), tmp_path / "m.keras")
    fc = edited(convfc.convert(path, form="dense").out, pruned)
    back = convfc.revert(fc, verify=True)
    assert ways(back) == {
        "conv": (Fate.REVERTED, Change.NOTHING, None),
        "alone": (Fate.REVERTED, Change.NUMBERS, None),
    }
    assert back.verification is not None
    assert back.verification.verdict is Verdict.EQUIVALENT
    np.testing.assert_allclose(outputs(fc), outputs(back.out), rtol=1e-5, atol=1e-4)
    assert not np.allclose(outputs(path), outputs(back.out), rtol=1e-2)


def test_numbers_that_are_none_of_a_convolution(tmp_path: Path) -> None:
    path = save(mixed(), tmp_path / "m.keras")
    fc = edited(convfc.convert(path, form="dense").out, disagreeing)
    found = ways(convfc.revert(fc))
    assert found["conv"][2] == (
        "its matrix is no longer what is made of 'conv', 'norm' in the original"
    )
    assert found["alone"][2] == "its kernel is not laid out as that of a convolution any more"


def test_a_bias_where_there_was_none(tmp_path: Path) -> None:
    """Rows have one in any case."""
    path = save(net(conv(use_bias=False)), tmp_path / "m.keras")
    fc = convfc.convert(path, form="dense", flat_io=True).out

    def shifted(model: Any) -> None:
        bias = model.layers[-1].bias
        bias.assign(bias + 1)

    (found,) = ways(convfc.revert(edited(fc, shifted))).values()
    assert found[2] == "it adds a bias, and 'conv' has none"


def test_another_model_is_refused(tmp_path: Path) -> None:
    """One layer more, or the original of something else."""
    path = save(mixed(), tmp_path / "m.keras")
    fc = convfc.convert(path, form="dense").out
    other = save(net(conv(filters=4), layers.ReLU(), conv("alone")), tmp_path / "other.keras")
    with pytest.raises(UnsupportedModelError, match="is not built like the dense form"):
        convfc.revert(fc, like=other)

    def longer(model: Any) -> Any:
        return keras.Model(model.inputs, layers.ReLU(name="more")(model.outputs[0]))

    with pytest.raises(UnsupportedModelError, match="is not built like the dense form") as caught:
        convfc.revert(edited(fc, longer))
    assert caught.value.code is Code.NO_CONVOLUTION


def test_a_shared_layer_beside_matrices_does_not_come_back(tmp_path: Path) -> None:
    x = keras.Input((6, 5, 2))
    shared = conv("shared", 2)
    path = save(keras.Model(x, conv()(shared(shared(x)))), tmp_path / "m.keras")
    fc = convfc.convert(path, form="dense").out
    with pytest.raises(UnsupportedModelError, match="layer 'shared' is within another one"):
        convfc.revert(fc)


def reforged(change: Callable[[Any], Any]) -> Callable[[str], str]:
    return lambda outline: pack(change(unpack(outline)))


def coded(content: Any) -> Any:
    """A Lambda layer among the others."""
    code = {"class_name": "Lambda", "module": "keras.layers", "config": {"function": "x"}}
    content["model"]["config"]["layers"].append(code)
    return content


@pytest.mark.parametrize(
    "damage",
    [
        lambda outline: outline[:-8],
        reforged(lambda _: {}),
        reforged(lambda _: {"model": {"class_name": "x"}, "digests": {}}),
        reforged(coded),
    ],
    ids=["short", "empty", "strange", "code"],
)
def test_a_damaged_outline(tmp_path: Path, damage: Callable[[str], str]) -> None:
    path = save(net(conv()), tmp_path / "m.keras")
    fc = convfc.convert(path, form="dense").out
    path.unlink()
    record = read_provenance(fc)
    assert record is not None
    text = json.dumps({**json.loads(record.to_json()), "outline": damage(record.outline)})
    save(stock(fc), fc)
    write_record(fc, ".keras", text)
    with pytest.raises(FileError, match="the outline in it") as caught:
        convfc.revert(fc)
    assert caught.value.code is Code.RECORD


def test_the_program(tmp_path: Path, golden: Callable[[str, str], None], here: Here) -> None:
    path = save(mixed(), tmp_path / "m.keras")
    fc = convfc.convert(path, form="dense").out
    path.rename(tmp_path / "gone.keras")
    done = here("revert", fc.name, cwd=tmp_path)
    assert done.returncode == 1
    golden("revert_dense", done.stdout)
    back = here("revert", fc.name, "--like", "gone.keras", "--json", cwd=tmp_path)
    assert back.returncode == 0
    document = json.loads(back.stdout)
    assert [layer["fate"] for layer in document["layers"]] == ["reverted", "reverted"]
    assert document["layers"][0]["lowering"]["form"] == "dense"


@pytest.mark.parametrize(
    ("suffix", "flat_io"),
    thinned(pytest.param(suffix, rows) for rows in (True, False) for suffix in FORMATS),
)
def test_a_file_that_keras_trained_and_saved_again(
    tmp_path: Path, suffix: str, flat_io: bool
) -> None:
    """The record is lost; the original tells what there was."""
    model = net(conv(activation="relu"), layers.LayerNormalization(name="norm"), conv("last"))
    path = save(model, tmp_path / f"m{suffix}")
    fc = convfc.convert(path, form="dense", flat_io=flat_io).out
    again = stock(fc)
    assert len(again.input_shape) == (2 if flat_io else 4)
    matrix = next(x for x in again.layers if isinstance(x, layers.Dense))
    bias = np.asarray(matrix.bias)
    matrix.bias.assign(bias * 2)
    fc.unlink()
    saved = save(again, tmp_path / f"trained{suffix}")
    back = convfc.revert(saved, like=path)
    assert back.written, [layer.way.reason for layer in back.layers]
    assert {layer.way.site.name: layer.way.change for layer in back.layers} == {
        "conv": Change.NUMBERS,
        "last": Change.NOTHING,
    }
    found, was = (stock(one).get_layer("conv") for one in (back.out, path))
    assert np.array_equal(found.kernel, was.kernel)
    assert np.array_equal(found.bias, np.asarray(was.bias) * 2)
