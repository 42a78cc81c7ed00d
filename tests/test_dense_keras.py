"""The dense form of Keras files: a Dense for all positions, the same numbers, proved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import convfc
from convfc import Code, Verdict
from convfc.core.whole import Whole
from convfc.formats.keras.quiet import importing
from convfc.formats.reading import Reading
from convfc.formats.registry import open_model, provenance_of
from tests.keras_edits import (
    Config,
    columns,
    no_zero,
    relayered,
    renumber,
    rows,
    ulp,
    unequal,
    weights_edited,
)
from tests.keras_layers import drawn
from tests.keras_models import dense_of_before, many, save, stock
from tests.thinned import thinned

with importing():
    import keras
    from keras import layers

    from convfc.formats.keras.convolutions import CONVOLUTIONS
    from convfc.formats.keras.internals import flat_layers

Array = NDArray[Any]


def network() -> Any:
    """A layer of every kind, in wrappers and shared, with activations of every kind."""
    keras.utils.set_random_seed(7)
    image, line, solid = keras.Input((6, 7, 4)), keras.Input((9, 3)), keras.Input((4, 3, 5, 2))
    given = {"bias_initializer": "normal"}
    x = layers.Conv2D(4, 3, padding="same", activation="softmax", name="one", **given)(image)
    x = layers.Conv2D(6, (3, 2), strides=2, groups=2, activation="relu", name="groups", **given)(x)
    prelu = layers.PReLU("normal", shared_axes=[1, 2])
    x = layers.SeparableConv2D(4, 2, depth_multiplier=2, activation=prelu, name="apart", **given)(x)
    x = layers.Conv2DTranspose(3, 3, strides=2, activation="tanh", name="back", **given)(x)
    x = layers.DepthwiseConv2D(2, depth_multiplier=2, activation="glu", name="depth", **given)(x)
    shared = layers.Conv1D(3, 3, dilation_rate=2, padding="causal", name="causal", **given)
    inner = layers.Conv1D(3, 2, strides=2, name="inner", **given)
    y = keras.Sequential([keras.Input((9, 3)), inner], name="nested")(shared(shared(line)))
    each = layers.Conv2D(2, 2, activation="log_softmax", name="each", **given)
    z = layers.TimeDistributed(each, name="steps")(solid)
    w = layers.Conv3D(2, 2, activation=own, name="solid", activity_regularizer="l2", **given)(solid)
    model = keras.Model([image, line, solid], [x, y, z, w])
    model([np.zeros((1, *each.shape[1:]), np.float32) for each in model.inputs])  # for PReLU
    return model


def own(x: Any) -> Any:
    """Looks at more than one position."""
    return x - keras.ops.max(x, axis=(1, 2, 3), keepdims=True)


keras.saving.register_keras_serializable("convfc_tests")(own)


def first() -> Any:
    """Layers with channels first, one of which has as many positions as its bias has filters."""
    keras.utils.set_random_seed(8)
    image = keras.Input((3, 6, 5))
    given = {"data_format": "channels_first"}
    x = layers.Conv2D(4, 3, padding="same", activation="softmax", name="one", **given)(image)
    x = layers.SeparableConv2D(5, 2, activation="relu", name="apart", **given)(x)
    x = layers.Conv2DTranspose(3, 2, strides=2, name="back", **given)(x)
    return keras.Model(image, x)


def masked() -> Any:
    """A mask that a convolution ends, and what would heed it."""
    keras.utils.set_random_seed(9)
    line = keras.Input((8,), dtype="int32")
    x = layers.Embedding(5, 3, mask_zero=True)(line)
    x = layers.Conv1D(4, 3, activation="relu", padding="same", name="one")(x)
    return keras.Model(line, layers.GlobalAveragePooling1D()(x))


def feed_of(path: Path) -> dict[str, Array]:
    rng, feed = np.random.default_rng(3), {}
    for port in open_model(path).inputs:
        assert port.shape is not None
        shape = [2, *(size or 12 for size in port.shape[1:])]
        feed[port.name] = rng.integers(0, 4, shape).astype(port.dtype)
    return feed


def agree(source: Path, out: Path) -> None:
    """Both files make the same numbers, rounding apart."""
    feed = feed_of(source)
    before, after = (list(open_model(path).run_once(feed).values()) for path in (source, out))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*does not support masking")
@pytest.mark.parametrize("suffix", thinned([".h5", ".keras"]))
@pytest.mark.parametrize("make", thinned([network, first, masked]))
def test_a_model_is_the_same_in_one_matrix_per_layer(
    tmp_path: Path, make: Callable[[], Any], suffix: str
) -> None:
    source = save(make(), tmp_path / f"m{suffix}")
    done = convfc.convert(source, form="dense")
    assert done.complete, [layer.reason for layer in done.layers]
    made = stock(done.out)
    assert not [x for x in flat_layers(made) if isinstance(x, CONVOLUTIONS)]
    assert not [x for x in flat_layers(made) if isinstance(x, layers.Permute)]
    provenance = provenance_of(done.out)
    assert provenance is not None
    assert {layer.form for layer in provenance.layers} == {"dense"}
    agree(source, done.out)
    found = convfc.verify(source, done.out, samples=3)
    assert found.verdict is Verdict.EQUIVALENT
    assert [(layer.structure, layer.reason, layer.unchecked) for layer in found.layers] == [
        (None, None, None) for _ in done.layers
    ]


@pytest.mark.parametrize("suffix", thinned([".keras", ".h5"]))
def test_layers_by_chance(tmp_path: Path, suffix: str) -> None:
    """Of lines and images; matrices of what is solid take gigabytes, and one is in `network`."""
    rng = np.random.default_rng(18)
    flat = (branch for branch in iter(lambda: drawn(rng), None) if len(branch[0]) < 4)
    chosen = {f"l{number}": branch for number, branch in zip(range(6), flat, strict=False)}
    source = save(many(chosen), tmp_path / f"m{suffix}")
    done = convfc.convert(source, form="dense", partial=True)
    for layer in done.layers:
        assert (layer.refusal is None) == (None not in layer.site.sizes), layer.reason
    agree(source, done.out)
    assert convfc.verify(source, done.out, samples=2).verdict is Verdict.EQUIVALENT


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_the_matrix_is_in_the_layers_own_order(tmp_path: Path, data_format: str) -> None:
    """Where the window is the whole input, it has as many numbers as the kernel."""
    keras.utils.set_random_seed(1)
    layer = layers.Conv2D(2, 3, data_format=data_format, activation="relu", name="c")
    model = keras.Sequential([keras.Input((3, 3, 3)), layer])
    source = save(model, tmp_path / "m.keras")
    made = stock(convfc.convert(source, form="dense").out)
    assert [type(each) for each in made.layers[1:]] == [
        layers.Reshape,
        layers.Dense,
        layers.Reshape,
    ]
    (site,) = open_model(source).sites
    assert site.convolution is not None
    kernel, bias = layer.get_weights()
    whole, own = Whole(site.convolution, site.sizes), data_format == "channels_first"
    dense = made.layers[2]
    np.testing.assert_array_equal(dense.kernel, whole.matrix(kernel, channels_first=own))
    np.testing.assert_array_equal(dense.bias, bias)
    assert dense.activation is keras.activations.relu


def test_training_begins_afresh_and_says_so(tmp_path: Path) -> None:
    """Of the window above, the state of the kernel would fit the matrix by its size."""
    given: dict[str, Any] = {"kernel_regularizer": "l2", "bias_constraint": "non_neg"}
    layer = layers.Conv2D(2, 3, data_format="channels_first", name="c", **given)
    model = keras.Sequential([keras.Input((3, 3, 3)), layer])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(5)
    source = save(model, tmp_path / "m.keras")
    done = convfc.convert(source, form="dense")
    told = "\n".join(done.notes)
    assert "c: its kernel regularizer L2 means something else" in told
    assert "c: its bias constraint NonNeg means something else" in told
    assert "c: its matrix trains on as a whole" in told
    assert "it starts afresh" in told
    made = stock(done.out)
    assert int(made.optimizer.iterations) == 0
    dense = made.layers[2]
    assert (dense.kernel_regularizer, dense.bias_constraint) == (None, None)


def test_both_matrices_of_a_separable_layer_are_one(tmp_path: Path) -> None:
    layer = layers.SeparableConv1D(2, 3, use_bias=False, name="c")
    source = save(keras.Sequential([keras.Input((6, 1)), layer]), tmp_path / "m.keras")
    (shown,) = convfc.shapes(source, form="dense")
    assert shown.lowering is not None
    assert shown.lowering.whole is not None
    assert shown.lowering.whole.shape == (6, 8)
    (left,) = convfc.convert(source, form="dense", dense_limit=6 * 8 * 4 - 1).layers
    assert left.refusal is not None
    assert left.refusal.code is Code.DENSE_LIMIT
    assert left.reason == "its matrix of 6 x 8 takes 192 B, and 191 B is the limit"
    done = convfc.convert(source, form="dense", dense_limit=6 * 8 * 4)
    assert [weight.shape for weight in stock(done.out).get_weights()] == [(6, 8)]


def test_the_limit_counts_what_a_file_holds(tmp_path: Path) -> None:
    """In mixed precision, numbers of 16 bits are held in 32."""
    layer = layers.Conv1D(2, 3, dtype="mixed_float16", name="c")
    source = save(keras.Sequential([keras.Input((6, 1)), layer]), tmp_path / "m.keras")
    (left,) = convfc.convert(source, form="dense", dense_limit=6 * 8 * 4 - 1).layers
    assert left.reason == "its matrix of 6 x 8 takes 192 B, and 191 B is the limit"
    done = convfc.convert(source, form="dense", dense_limit=6 * 8 * 4)
    assert convfc.verify(source, done.out, samples=2).verdict is Verdict.EQUIVALENT


def test_open_sizes_are_left_until_they_are_fixed(tmp_path: Path) -> None:
    image = keras.Input((None, 5, 2), name="image")
    source = save(keras.Model(image, layers.Conv2D(2, 3, name="c")(image)), tmp_path / "m.keras")
    (left,) = convfc.convert(source, form="dense").layers
    assert left.refusal is not None
    assert left.refusal.code is Code.OPEN_SIZE
    assert left.reason == "one matrix needs every size, and some are open"
    done = convfc.convert(source, form="dense", shapes={"image": (1, 6, 5, 2)}, verify=True)
    assert done.complete


def minus_zero(matrix: Array) -> None:
    matrix[tuple(np.argwhere(matrix == 0)[0])] = -0.0


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model on images whose border is dark, and what becomes of it."""
    keras.utils.set_random_seed(2)
    image = keras.Input((6, 6, 1), name="image")
    x = layers.Conv2D(2, 3, padding="same", activation="softmax", name="one")(image)
    x = layers.Conv2D(2, 2, activation="relu", name="two")(x)
    source = save(keras.Model(image, x), tmp_path_factory.mktemp("pair") / "m.keras")
    return source, convfc.convert(source, form="dense").out


@pytest.mark.parametrize("quick", thinned([False, True]))
@pytest.mark.parametrize("change", [ulp, no_zero, minus_zero, unequal, rows, columns])
def test_a_wrong_number_in_the_matrix_is_seen(
    pair: tuple[Path, Path], tmp_path: Path, change: Callable[[Array], None], quick: bool
) -> None:
    source, out = pair

    def exchange(file: h5py.File) -> None:
        found: list[h5py.Dataset] = []
        file.visititems(lambda _, item: found.append(item) if _matrix(item, 36) else None)
        (kept,) = found
        renumber(kept, change)

    bad = weights_edited(out, tmp_path / "bad.keras", exchange)
    result = convfc.verify(source, bad, samples=2, quick=quick)
    assert result.verdict is Verdict.NOT_EQUIVALENT
    assert "its weights are not the convolution's" in str(result.layers[0].reason)


def _matrix(item: Any, size: int) -> bool:
    return isinstance(item, h5py.Dataset) and item.ndim == 2 and item.shape[0] == size


def test_a_softmax_over_all_positions_is_seen(pair: tuple[Path, Path]) -> None:
    source, out = pair

    def fused(found: dict[str, Config]) -> None:
        given = found["one"]["config"], found["one_activation"]["config"]
        given[0]["activation"], given[1]["activation"] = given[1]["activation"], "linear"

    bad = relayered(out, fused)
    assert convfc.verify(source, bad, samples=2).verdict is not Verdict.EQUIVALENT
    assert np.ptp(_numbers(source) - _numbers(bad)) > 1e-3


def _numbers(path: Path) -> Array:
    (found,) = open_model(path).run_once(feed_of(path)).values()
    return found


def test_matrices_that_no_machine_could_hold_are_not_made(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = pair
    original = open_model(source, reading=Reading(affine=True))
    made = open_model(out)
    monkeypatch.setattr("convfc.system.capacity.memory", lambda: 48 * 72 * 50 - 1)
    found = original.align(made)
    assert not found.pairs
    assert "the matrices of the dense form: " in found.unknown[-1]


@pytest.mark.parametrize("make", thinned([network, first]))
def test_files_of_before_are_proved(tmp_path: Path, make: Callable[[], Any]) -> None:
    """Each layer a model of three, by a record that says nothing of neighbours."""
    source = save(make(), tmp_path / "m.keras")
    out = dense_of_before(source, tmp_path / "m_fc.keras")
    found = convfc.verify(source, out, samples=2)
    assert found.verdict is Verdict.EQUIVALENT
    assert len(found.layers) == len(open_model(source).sites)
