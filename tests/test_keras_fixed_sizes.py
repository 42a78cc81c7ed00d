"""Open sizes of Keras models, fixed at the conversion."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import convfc
from convfc import UnsupportedModelError, UsageError, Verdict
from convfc.formats.keras.quiet import importing
from tests.keras_models import save, stock

with importing():
    import keras
    from keras import layers

SHAPE = (2, 17, 13, 3)


@pytest.fixture(scope="module", params=[".keras", ".h5"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unequal strides and sizes; a second input, which stays as it is."""
    x, more = keras.Input((None, None, 3), name="x"), keras.Input((4,), name="more")
    y = layers.Conv2D(6, (3, 2), strides=(2, 1), padding="same", name="plain")(x)
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise")(y)
    y = layers.Conv2DTranspose(4, (2, 3), strides=(2, 3), name="up")(y)
    y = layers.Add()([layers.GlobalAveragePooling2D()(y), more])
    path = tmp_path_factory.mktemp("fixed") / f"m{request.param}"
    return save(keras.Model([x, more], y), path)


def edited(path: Path, shapes: object) -> Path:
    """A copy of a `.keras` file whose record says other shapes; none at all if ``None``."""
    out = path.with_name("edited.keras")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for member in old.infolist():
            data = old.read(member)
            if member.filename == "convfc.json":
                record = json.loads(data)
                del record["shapes"]
                data = json.dumps(record | ({"shapes": shapes} if shapes else {})).encode()
            new.writestr(member.filename, data)
    return out


def test_open_sizes_are_fixed_and_a_record_of_others_is_not_believed(model: Path) -> None:
    done = convfc.convert(model, shapes={"x": SHAPE}, client="crown")
    assert done.complete
    assert done.notes[:2] == (
        "What 'crown' sets is for ONNX: it makes no difference to a Keras file.",
        "Sizes were fixed: it takes x=2x17x13x3 and nothing else.",
    )
    if model.suffix == ".keras":
        methods = [layer.lowering and layer.lowering.method.value for layer in done.layers]
        assert methods == ["gather", "gather", "none"]
    loaded = stock(done.out)
    assert [one.shape for one in loaded.inputs] == [SHAPE, (None, 4)]
    generator = np.random.default_rng(0)
    feed = [generator.random(SHAPE, np.float32), generator.random((2, 4), np.float32)]
    expected, got = (np.asarray(one(feed)) for one in (stock(model), loaded))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    found = convfc.verify(model, done.out, samples=2)
    assert (found.verdict, dict(found.shapes)) == (Verdict.EQUIVALENT, {"x": SHAPE})
    if model.suffix == ".keras":
        for told in (None, {"x": [2, 17, 14, 3]}):
            found = convfc.verify(model, edited(done.out, told), samples=1)
            assert found.verdict is Verdict.NOT_EQUIVALENT
            assert "layer 'x' has other settings: batch_shape" in str(found.reason)
        found = convfc.verify(model, edited(done.out, {"z": [1]}), samples=1)
        assert found.verdict is Verdict.COULD_NOT_CHECK


def test_a_shape_that_cannot_be(model: Path) -> None:
    words = "there is no input 'z'; there are: x, more"
    with pytest.raises(UsageError, match=words):
        convfc.convert(model, shapes={"z": SHAPE})
    with pytest.raises(
        UsageError, match=r"takes the shape \(any, any, any, 3\), not \(1, 9, 9, 4\)"
    ):
        convfc.convert(model, shapes={"x": (1, 9, 9, 4)})


def test_sizes_of_which_nothing_can_be_made(tmp_path: Path) -> None:
    stack = keras.Sequential([keras.Input((None, 3), name="x"), layers.Conv1D(2, 4)])
    path = save(stack, tmp_path / "m.keras")
    with pytest.raises(UnsupportedModelError, match=r"cannot be built for x=1x3x3: .*negative"):
        convfc.convert(path, shapes={"x": (1, 3, 3)})
    done = convfc.convert(path, shapes={"x": (1, 4, 3)})
    assert done.complete
    assert stock(done.out).inputs[0].shape == (1, 4, 3)


def test_that_no_weight_is_an_input_is_said(tmp_path: Path) -> None:
    net = keras.Sequential([keras.Input((5, 4, 2)), keras.layers.Conv2D(2, 3)])
    source = save(net, tmp_path / "m.keras")
    notes = convfc.convert(source, freeze_weights=True, check=False).notes
    assert notes == ("No weight of a Keras model is an input: --freeze-weights changes nothing.",)
    assert convfc.convert(source, check=False).notes == ()
