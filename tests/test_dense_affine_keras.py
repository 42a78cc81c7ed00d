"""What is affine around the convolutions of a Keras file, in the dense form; chains of Dense."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import convfc
from convfc import Verdict
from convfc.formats.keras.affine import Move
from convfc.formats.keras.quiet import importing
from convfc.formats.keras.runs import Run
from convfc.formats.reading import Reading
from convfc.formats.registry import open_model, provenance_of
from tests.keras_edits import (
    columns,
    members,
    no_zero,
    renumber,
    rows,
    ulp,
    unequal,
    weights_edited,
    write,
)
from tests.keras_models import save, stock
from tests.thinned import thinned

with importing():
    import keras
    from keras import layers

Array = NDArray[Any]
FIRST: dict[str, Any] = {"data_format": "channels_first"}


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same numbers whatever tests ran before: layers draw theirs when they are made."""
    keras.utils.set_random_seed(3)


def conv(*given: Any, **settings: Any) -> Any:
    return layers.Conv2D(*given, bias_initializer="normal", name="conv", **settings)


def chain(*steps: Any, shape: Sequence[int] = (6, 7, 3)) -> Any:
    """A Sequential whose normalizations have learned something."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input(shape, name="image"), *steps])
    rng = np.random.default_rng(4)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 2, x.shape) for x in layer.get_weights()])
    return model


def kinds(path: Path) -> list[str]:
    """The classes of its layers, and what a Dense carries."""
    made = stock(path)
    return [
        type(layer).__name__
        if not isinstance(layer, layers.Dense) or layer.activation is keras.activations.linear
        else layer.activation.__name__
        for layer in made.layers
        if not isinstance(layer, layers.InputLayer)
    ]


def proved(model: Any, path: Path, suffix: str = ".keras", **options: Any) -> list[str]:
    """Convert and prove a model; the classes of the layers of what it became."""
    source = save(model, path / f"m{suffix}")
    done = convfc.convert(
        source, path / f"m_fc{suffix}", form="dense", force=True, check=False, **options
    )
    assert done.complete, [layer.reason for layer in done.layers]
    rng = np.random.default_rng(5)
    original, made = open_model(source), open_model(done.out)
    feed = {
        port.name: rng.normal(size=[3, *(size or 1 for size in (port.shape or ())[1:])]).astype(
            port.dtype
        )
        for port in original.inputs
    }
    both = [model.run_once(feed) for model in (original, made)]
    for a, b in zip(*(run.values() for run in both), strict=True):
        np.testing.assert_allclose(b, a.reshape(b.shape), rtol=1e-4, atol=1e-5)
    found = convfc.verify(source, done.out, samples=2)
    assert found.verdict is Verdict.EQUIVALENT, found.reason
    assert not [one for one in found.layers if one.structure or one.unchecked]
    return kinds(done.out)


CASES: dict[str, Callable[[], Any]] = {
    "normalized": lambda: chain(conv(4, 3), layers.BatchNormalization(), layers.ReLU()),
    "normalized before": lambda: chain(
        layers.BatchNormalization(), layers.ReLU(), layers.BatchNormalization(scale=False),
        conv(4, 3, padding="same"), layers.Activation("tanh"),
    ),
    "pooled": lambda: chain(conv(4, 3, activation="relu"), layers.AveragePooling2D(2)),
    "pooled to the edge": lambda: chain(
        conv(4, 2, activation="relu"), layers.AveragePooling2D(3, 2, padding="same")
    ),
    "pooled as a whole": lambda: chain(
        conv(4, 3, activation="relu"), layers.GlobalAveragePooling2D(), layers.Dropout(0.5),
        layers.Dense(5, activation="softmax"),
    ),
    "kept as axes": lambda: chain(conv(4, 3), layers.GlobalAveragePooling2D(keepdims=True)),
    "padded": lambda: chain(layers.ZeroPadding2D(((1, 0), (2, 1))), conv(4, 3, strides=2)),
    "cropped": lambda: chain(conv(4, 3), layers.Cropping2D(((1, 0), (0, 2)))),
    "enlarged": lambda: chain(layers.UpSampling2D((2, 1)), conv(4, 3)),
    "other axes": lambda: chain(layers.Permute((2, 3, 1)), conv(4, 2), layers.Permute((3, 1, 2))),
    "rescaled": lambda: chain(layers.Rescaling(1 / 8, offset=-0.5), conv(4, 3, padding="same")),
    "flat": lambda: chain(conv(4, 3), layers.Flatten(), layers.Dense(3, use_bias=False)),
    "by pixel": lambda: chain(conv(4, 3), layers.Dense(5, activation="relu"), layers.Flatten()),
    "shaped before": lambda: chain(
        layers.Reshape((7, 6, 3)), conv(4, (3, 2), activation="relu"), shape=(14, 9)
    ),
    "apart": lambda: chain(
        layers.SeparableConv2D(4, 3, strides=2, name="conv"), layers.BatchNormalization(),
        layers.ReLU(6.0),
    ),
    "back": lambda: chain(
        layers.Conv2DTranspose(3, 3, strides=2, name="conv"), layers.BatchNormalization(),
        layers.LeakyReLU(),
    ),
    "channels first": lambda: chain(
        layers.ZeroPadding2D(1, **FIRST), conv(4, 3, **FIRST), layers.BatchNormalization(axis=1),
        layers.ReLU(), layers.AveragePooling2D(2, padding="same", **FIRST), layers.Flatten(),
        layers.Dense(2),
        shape=(3, 6, 7),
    ),
    "a line": lambda: chain(
        layers.Conv1D(4, 3, padding="causal", activation="elu"), layers.AveragePooling1D(2),
        layers.UpSampling1D(2), layers.Cropping1D(1), layers.GlobalAveragePooling1D(),
        shape=(8, 3),
    ),
    "a solid": lambda: chain(
        layers.Conv3D(2, 2, activation="relu"), layers.AveragePooling3D((1, 2, 1)),
        layers.ZeroPadding3D(1), layers.Flatten(),
        shape=(3, 4, 3, 2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("suffix", thinned([".keras", ".h5"]))
@pytest.mark.parametrize("case", thinned(list(CASES), 9))
def test_a_chain_is_a_sequential_of_dense(case: str, suffix: str, tmp_path: Path) -> None:
    made = proved(CASES[case](), tmp_path, suffix, flat_io=True)
    others = {*made} - {"Dense", "relu", "tanh", "elu", "softmax"}
    assert others <= {"ReLU", "LeakyReLU", "Activation"}
    result = stock(tmp_path / f"m_fc{suffix}")
    assert type(result) is keras.Sequential
    assert all(layer.use_bias for layer in result.layers if isinstance(layer, layers.Dense))
    record = provenance_of(tmp_path / f"m_fc{suffix}")
    assert record is not None
    assert (record.flat_io, record.affine) == (True, True)


@pytest.mark.parametrize("cases", thinned([list(CASES)[1::2], list(CASES)]), ids=["half", "all"])
def test_what_is_affine_is_a_matrix(tmp_path: Path, cases: list[str]) -> None:
    """As branches of one model."""
    images, ends = [], []
    for name in cases:
        sequence = CASES[name]()
        name = name.replace(" ", "_")
        x = keras.Input(sequence.input_shape[1:], name=name)
        images.append(x)
        for layer in sequence.layers:
            given = {**layer.get_config(), "name": f"{name}_{layer.name}"}
            copy = type(layer).from_config(given)
            x = copy(x)
            copy.set_weights(layer.get_weights())
        ends.append(x)
    made = proved(keras.Model(images, ends), tmp_path)
    assert not {"AveragePooling2D", "Conv2D", "ZeroPadding2D"} & {*made}
    assert made.count("BatchNormalization") == 1  # on an image, before anything is a matrix


def test_neighbours_have_no_reshape_between_them(tmp_path: Path) -> None:
    """What looks at single numbers works on rows, a sum of two as well."""
    keras.utils.set_random_seed(6)
    image = keras.Input((6, 6, 2), name="image")
    x = layers.ReLU()(layers.Conv2D(3, 3, padding="same")(image))
    y = layers.Conv2D(3, 3, padding="same")(layers.LeakyReLU()(layers.Conv2D(4, 1)(x)))
    z = layers.Activation("relu")(layers.Add(name="add")([x, y]))
    z = layers.Dense(4)(layers.Flatten()(z))
    model = keras.Model(image, z)
    assert proved(model, tmp_path).count("Reshape") == 1
    assert "Reshape" not in proved(model, tmp_path, flat_io=True)
    done = convfc.convert(tmp_path / "m.keras", form="dense", flat_io=True, force=True, check=False)
    (why,) = (note for note in done.notes if note.startswith("It is no Sequential"))
    assert "is a Add" not in why
    assert "'add' is of class Add" in why


@pytest.mark.parametrize("kernel", thinned([(3, 2), (2, 2), (3, 1), (1, 4)], 4))
@pytest.mark.parametrize("negative", thinned([False, True]))
def test_a_max_pooling_in_relu(kernel: tuple[int, int], negative: bool, tmp_path: Path) -> None:
    pool = layers.MaxPooling2D(kernel, strides=(2, 1), padding="valid" if negative else "same")
    model = chain(conv(3, 2, activation=None if negative else "relu"), pool)
    made = proved(model, tmp_path, max_pool="relu", flat_io=True)
    assert {*made} == {"Dense", "relu"}
    assert "MaxPooling2D" in proved(model, tmp_path)


def test_pads_that_may_be_the_largest_stay(tmp_path: Path) -> None:
    model = chain(conv(3, 2), layers.MaxPooling2D(2, padding="same"))
    assert "MaxPooling2D" in proved(model, tmp_path, max_pool="relu", flat_io=True)


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (lambda: layers.MaxPooling2D(2), "'step' is of class MaxPooling2D; --max-pool relu"),
        (lambda: layers.Softmax(), "'step' is of class Softmax, and looks at an image"),
    ],
)
def test_what_stands_in_the_way_is_said(step: Any, why: str, tmp_path: Path) -> None:
    layer = step()
    layer.name = "step"
    model = chain(conv(3, 2), layer, layers.Conv2D(2, 2))
    proved(model, tmp_path, flat_io=True)
    done = convfc.convert(tmp_path / "m.keras", form="dense", flat_io=True, force=True, check=False)
    assert any(note.startswith(f"It is no Sequential of Dense: {why}") for note in done.notes)
    assert "'image' is flat now: a row has its 6x7x3 in that order." in done.notes


def test_what_is_left_stays_as_it_was(tmp_path: Path) -> None:
    """With what would have become part of it; the rest is converted."""
    second = layers.Conv2D(40, 3, name="large")
    model = chain(conv(3, 3), layers.ReLU(), second, layers.BatchNormalization(), layers.ReLU())
    source = save(model, tmp_path / "m.keras")
    done = convfc.convert(source, form="dense", dense_limit=60_000, partial=True)
    assert [layer.refusal is None for layer in done.layers] == [True, False]
    assert kinds(done.out)[-3:] == ["Conv2D", "BatchNormalization", "ReLU"]
    assert convfc.verify(source, done.out, samples=2).verdict is Verdict.EQUIVALENT


def test_a_flatten_that_moves_channels_does_so(tmp_path: Path) -> None:
    """Behind a matrix, and in front of what is one already."""
    steps = layers.Flatten(**FIRST), layers.Dense(2)
    model = chain(conv(4, 3, activation="relu", **FIRST), *steps, shape=(3, 6, 7))
    assert proved(model, tmp_path) == ["Reshape", "relu", "Reshape", "Flatten", "Dense"]
    assert proved(model, tmp_path, flat_io=True) == ["relu", "Dense"]


@pytest.mark.parametrize(
    "step",
    thinned([
        lambda: layers.Flatten(dtype="float16"), lambda: layers.Reshape((20, -1), dtype="float16"),
        lambda: layers.Dropout(0.1, dtype="float16"), lambda: layers.Identity(dtype="float16"),
        lambda: layers.GaussianNoise(0.1, dtype="float16"),
    ]),
)  # fmt: skip
def test_what_rounds_to_half_precision_stays(step: Callable[[], Any], tmp_path: Path) -> None:
    """Though it only hands on what it reads: what is beyond half precision becomes infinite."""
    layer = step()
    rows = type(layer) in (layers.Flatten, layers.Dropout, layers.Identity)
    shape = [] if isinstance(layer, layers.Reshape | layers.Flatten) else [layers.Flatten()]
    model = chain(conv(4, 3), layer, *shape, layers.ReLU(), layers.Dense(2))
    made = proved(model, tmp_path, flat_io=rows)
    assert type(layer).__name__ in made
    image = np.full((1, *model.input_shape[1:]), 1e6, np.float32)
    both = [
        one(image.reshape(1, *one.input_shape[1:]))
        for one in (model, stock(tmp_path / "m_fc.keras"))
    ]
    assert [np.isfinite(np.asarray(y)).all() for y in both] == [False, False]


@pytest.mark.parametrize("rows", [False, True])
def test_an_activation_behind_a_shape_is_no_shape(rows: bool, tmp_path: Path) -> None:
    """At the end, where a shape alone is dropped; samples as small as pixels tell nothing of 6."""
    limit = layers.Activation("relu6")
    model = chain(layers.Rescaling(50.0), conv(4, 3, activation="relu"), layers.Flatten(), limit)
    made = proved(model, tmp_path, flat_io=rows)
    assert made[-2:] == ["relu", "relu6"] or made[-1] == "Activation"


def test_random_numbers_meet_the_bound_of_an_activation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were it lost in the dense form, and so in what proves it, images would not tell.

    Nor would random numbers of every bound, so a second look at both files does.
    """
    forgets = property(lambda run: all(isinstance(s, Move) and s.stays for s in run.steps))
    monkeypatch.setattr(Run, "only_shapes", forgets)
    model = chain(conv(4, 3, activation="relu"), layers.Flatten(), layers.Activation("relu6"))
    path, out = save(model, tmp_path / "m.keras"), tmp_path / "out.keras"
    convfc.convert(path, out, form="dense", check=False)
    found = convfc.verify(path, out, samples=3)
    assert found.verdict is Verdict.NOT_EQUIVALENT
    assert "on random numbers" in str(found.reason)
    alignment = open_model(path, reading=Reading(affine=True)).align(open_model(out))
    assert any("is relu, not relu6" in words for words in alignment.unknown)


def named_outputs() -> dict[str, Any]:
    image = keras.Input((6, 7, 3), name="image")
    pooled = layers.GlobalMaxPooling2D(keepdims=True, name="pooled")(conv(4, 3)(image))
    row = layers.Flatten()(layers.BatchNormalization()(pooled))
    soft = layers.Softmax()(layers.Flatten()(conv(4, 3, activation="relu")(image)))
    shared, x = layers.Dense(4, name="shared"), layers.Flatten()(conv(4, (6, 7))(image))
    return {
        "read by a run as well": keras.Model(image, [row, pooled]),
        "of what does nothing": keras.Model(image, layers.Identity(name="same")(soft)),
        "of what is called twice": keras.Model(image, shared(layers.ReLU()(shared(x)))),
    }


@pytest.mark.parametrize("case", thinned(list(named_outputs())))
def test_outputs_of_rows_are_called_as_they_were(case: str, tmp_path: Path) -> None:
    proved(named_outputs()[case], tmp_path, flat_io=True)


def test_masks_are_heeded(tmp_path: Path) -> None:
    line = keras.Input((8,), dtype="int32", name="line")
    x = layers.Embedding(5, 3, mask_zero=True)(line)
    model = keras.Model(line, layers.GlobalAveragePooling1D()(x))
    source = save(model, tmp_path / "m.keras")
    assert not convfc.shapes(source, form="dense")


def axes(matrix: Array) -> None:
    """Rows in the order of channels first."""
    matrix[...] = matrix.reshape(6, 7, 3, -1).transpose(2, 0, 1, 3).reshape(matrix.shape)


def shifted(bias: Array) -> None:
    """What a folded normalization adds."""
    bias[0] = np.nextafter(bias[0], np.float32(9))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Any:
    steps = layers.BatchNormalization(), layers.ReLU(), layers.AveragePooling2D(2)
    model = chain(conv(4, 3, padding="same"), *steps, layers.Flatten(), layers.Dense(3))
    source = save(model, tmp_path_factory.mktemp("pair") / "m.keras")
    return source, convfc.convert(source, form="dense", flat_io=True).out


@pytest.mark.parametrize("change", [ulp, no_zero, unequal, rows, columns, axes, shifted])
def test_a_wrong_number_is_seen(
    pair: tuple[Path, Path], tmp_path: Path, change: Callable[[Array], None]
) -> None:
    source, out = pair

    def exchange(file: h5py.File) -> None:
        kept = file[f"layers/dense/vars/{1 if change is shifted else 0}"]
        assert len(kept) in (126, 168)
        renumber(kept, change)

    bad = weights_edited(out, tmp_path / "bad.keras", exchange)
    result = convfc.verify(source, bad, samples=2, quick=change is not ulp)
    assert result.verdict is Verdict.NOT_EQUIVALENT
    assert "its weights are not the convolution's" in str(result.reason)


@pytest.mark.parametrize("claim", [{"affine": False}, {"flat_io": True}])
def test_a_record_cannot_make_it_equivalent(claim: dict[str, Any], tmp_path: Path) -> None:
    model = chain(
        conv(3, 2, activation="relu"), layers.MaxPooling2D(2), layers.BatchNormalization()
    )
    source = save(model, tmp_path / "m.keras")
    out = convfc.convert(source, form="dense").out
    content = members(out)
    record = json.loads(content["convfc.json"])
    content["convfc.json"] = json.dumps({**record, **claim}).encode()
    bad = write(tmp_path / "bad.keras", content)
    assert convfc.verify(source, bad, samples=2).verdict is not Verdict.EQUIVALENT
