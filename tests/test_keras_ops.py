"""What `.keras` may hold beyond stock layers, and why: the graph that TensorFlow runs."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import convfc
from convfc.core.builders import convolution, named_transposed_window
from convfc.core.lowering import Lowering, PatchMethod
from convfc.core.transposed import TransposedConvolution
from convfc.formats.keras.convolutions import convolutions_of
from convfc.formats.keras.keras_ops import KerasOps
from convfc.formats.keras.layer_ops import StockOps
from convfc.formats.keras.sites import graph_of
from tests.keras_models import convert, converted, integer_weights, save, stock
from tests.thinned import thinned


def _nodes(model: Any) -> dict[str, Any]:
    """The nodes of a model's graph for two samples, by name."""
    import tensorflow as tf

    run = tf.function(lambda x: model(x, training=False))
    spec = tf.TensorSpec((2, *model.inputs[0].shape[1:]), model.inputs[0].dtype)
    return {node.name: node for node in run.get_concrete_function(spec).graph.as_graph_def().node}


def _steps(nodes: dict[str, Any]) -> set[int]:
    """The steps of all strided slices."""
    import tensorflow as tf

    strides = [nodes[node.input[3]] for node in nodes.values() if node.op == "StridedSlice"]
    return {int(n) for node in strides for n in tf.make_ndarray(node.attr["value"].tensor).flat}


@pytest.mark.parametrize(("dtype", "steps"), [("float32", {1}), ("float64", {1, 2})])
def test_a_slice_takes_its_steps_by_pooling(tmp_path: Path, dtype: str, steps: set[int]) -> None:
    layer = layers.Conv2D(2, (3, 2), strides=(2, 3), dtype=dtype)
    model = keras.Sequential([keras.Input((9, 8, 2), dtype=dtype), layer])
    integer_weights(model)
    out = tmp_path / "b.keras"
    assert convert(save(model, tmp_path / "a.keras"), out, PatchMethod.SLICE) == []
    new = stock(out)
    x = np.random.default_rng(1).integers(-3, 4, (2, 9, 8, 2)).astype(dtype)
    x[0, 4, 3] = np.nan, np.inf
    np.testing.assert_array_equal(new(x), model(x))
    assert _steps(_nodes(new)) == steps


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_what_cuts_out_a_tap_is_called_by_it(tmp_path: Path, suffix: str) -> None:
    """A stride of 2 along the second axis: its first two taps are neighbours and stay together."""
    layer = layers.Conv2D(2, (2, 3), strides=(1, 2), name="conv")
    model = keras.Sequential([keras.Input((5, 8, 2)), layer])
    integer_weights(model)
    out = tmp_path / f"b{suffix}"
    assert convert(save(model, tmp_path / f"a{suffix}"), out, PatchMethod.SLICE) == []
    names = [operation.name for operation in graph_of(stock(out).layers[-1]).operations]
    told = [name.rpartition("_")[0] for name in names if "tap" in name]
    rows, columns = ["axis_1_tap_0", "axis_1_tap_1"], ["axis_2_taps_0_to_1", "axis_2_tap_2"]
    assert sorted({*told}) == sorted(f"conv_{which}" for which in [*rows, *columns])
    assert len(names) == len({*names})


def test_a_file_from_before_taps_had_names_is_the_same(tmp_path: Path) -> None:
    layer = layers.Conv2D(2, (2, 3), strides=(1, 2), name="conv")
    model = keras.Sequential([keras.Input((5, 8, 2)), layer])
    new, old = tmp_path / "a_fc.keras", tmp_path / "old.keras"
    assert convert(save(model, tmp_path / "a.keras"), new, PatchMethod.SLICE) == []
    with zipfile.ZipFile(new) as source, zipfile.ZipFile(old, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name == "config.json":
                data, count = re.subn(rb"conv_axis_\w+_(\d+)", rb"get_item_\1", data)
                assert count > 4
            target.writestr(name, data)
    found = convfc.verify(tmp_path / "a.keras", old, samples=2)
    assert (found.equivalent, found.proved, found.layers[0].structure) == (True, True, None)
    assert convfc.revert(old, tmp_path / "back.keras").complete


@pytest.mark.parametrize(("suffix", "before"), [(".keras", "MatMul"), (".h5", "Reshape")])
def test_a_bias_follows_the_product_of_matrices(tmp_path: Path, suffix: str, before: str) -> None:
    """Only then TensorFlow fuses them, and the activation behind."""
    model = keras.Sequential(
        [keras.Input((7, 6, 2)), layers.Conv2D(3, 3, activation="relu"), layers.Conv2D(4, 1)]
    )
    nodes = _nodes(converted(model, tmp_path, suffix))
    above = [nodes[node.input[0]].op for node in nodes.values() if node.op == "BiasAdd"]
    assert above == [before, before]
    (relu,) = (nodes[node.input[0]].op for node in nodes.values() if node.op == "Relu")
    assert relu == "BiasAdd"


@pytest.mark.parametrize("filters", thinned([1, 2]))
@pytest.mark.parametrize("memory", [None, 1])
def test_depthwise_is_a_sum_of_products(
    tmp_path: Path, filters: int, memory: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many channels as rows, for Keras guesses where a bias goes; two samples, one or none."""
    if memory is not None:
        monkeypatch.setattr("convfc.core.limits.default_memory", lambda _: memory)
    layer = layers.DepthwiseConv2D(
        (3, 2), depth_multiplier=filters, padding="same", activation="relu"
    )
    model = keras.Sequential([keras.Input((4, 5, 4)), layer])
    integer_weights(model)
    new = converted(model, tmp_path)
    assert [weight.path.split("/")[-2:] for weight in new.weights] == [
        [layer.name, "kernel"],
        [f"{layer.name}_bias", "kernel"],
    ]
    x = np.random.default_rng(2).integers(-3, 4, (2, 4, 5, 4)).astype(np.float32)
    np.testing.assert_array_equal(new(x), model(x))
    np.testing.assert_array_equal(new(x[1:]), model(x[1:]))
    assert new(x[2:]).shape == (0, 4, 5, 4 * filters)
    stock_layers = converted(model, tmp_path, ".h5")
    products = {"Einsum", "Mul"}
    made = [{n.op for n in _nodes(each).values()} & products for each in (new, stock_layers)]
    assert made == [{"Mul"}, {"Einsum"}]


def test_penalties_and_limits_of_a_depthwise_layer_stay(tmp_path: Path) -> None:
    layer = layers.DepthwiseConv2D(
        2,
        depthwise_regularizer=keras.regularizers.L2(0.4),
        bias_regularizer=keras.regularizers.L1(0.3),
        depthwise_constraint="non_neg",
        bias_initializer="ones",
    )
    model = keras.Sequential([keras.Input((4, 5, 3)), layer])
    layer.bias.assign([1.0, -2.0, 3.0])
    new = converted(model, tmp_path)
    x = np.ones((1, 4, 5, 3), np.float32)
    model(x), new(x)
    np.testing.assert_allclose(sum(new.losses), sum(model.losses), rtol=1e-6)
    holders = [each for each in new._flatten_layers() if isinstance(each, layers.EinsumDense)]
    kernel, bias = sorted(holders, key=lambda each: each.name)
    assert isinstance(kernel.kernel_constraint, keras.constraints.NonNeg)
    assert bias.kernel_constraint is None
    assert isinstance(bias.kernel_initializer, keras.initializers.Ones)


# The worked examples in the docstrings.


def _made(y: Any, x: Any, *values: float) -> list[float]:
    """The numbers that a graph from x to y makes of a line of them."""
    shape = [1, *(-1 if size is None else size for size in x.shape[1:])]
    made = keras.Model(x, y)(np.array(values, np.float32).reshape(shape))
    return [float(number) for number in made.numpy().ravel()]


@pytest.mark.parametrize("kind", [StockOps, KerasOps])
def test_the_example_of_pads_that_depend_on_a_size(kind: type[StockOps]) -> None:
    x = keras.Input((None, 1))
    y = kind("c", "float32", 1).pad(x, [((0, 1), (1, 1))])
    assert _made(y, x, 1, 2, 3, 4) == [1, 2, 3, 4, 0, 0]
    assert _made(y, x, 1, 2, 3, 4, 5) == [0, 1, 2, 3, 4, 5, 0]


def test_the_example_of_a_grid_of_rows() -> None:
    x = keras.Input((None, None, 2, 5))
    y = KerasOps("c", "float32", 2).reshape(x, [None, None, 10])
    given = np.arange(60, dtype=np.float32).reshape(1, 2, 3, 2, 5)
    np.testing.assert_array_equal(keras.Model(x, y)(given), given.reshape(1, 2, 3, 10))


def test_the_example_of_interleaved_phases() -> None:
    windows = (named_transposed_window("valid", 2, 2), named_transposed_window("valid", 1, 1))
    x = keras.Input((None, None, 2))
    conv = TransposedConvolution(windows, 1, 1)
    y = StockOps("c", "float32", 2).interleave(x, conv, (None, None))
    made = keras.Model(x, y)(np.array([10, 20, 11, 21], np.float32).reshape(1, 2, 1, 2))
    assert made.numpy().ravel().tolist() == [10, 20, 11, 21]
    assert made.shape == (1, 4, 1, 1)


def test_the_example_of_a_kernel_in_groups() -> None:
    ops = StockOps("c", "float32", 2)
    ops.weigh(lambda *_: {"use_bias": False})
    conv = convolution([3, 3], channels=4, filters=6, groups=2)
    ops.product(keras.Input((7, 7, 36)), conv, (7, 7))
    dense = ops._made_dense
    assert dense.equation == "bxytgi,tigo->bxygo"
    assert dense.kernel.shape == (9, 2, 2, 3)


def test_the_example_of_a_matrix_for_every_phase() -> None:
    layer = layers.Conv2DTranspose(4, 2, strides=2)
    layer.build((None, None, None, 3))
    assert layer.kernel.shape == (2, 2, 4, 3)
    (weighted,) = convolutions_of(layer)
    its = Lowering(weighted.geometry, (None, None), PatchMethod.NONE)
    kernel, bias = weighted.inner_weights(its, channels_first=False)
    assert (kernel.shape, bias.shape) == ((1, 1, 3, 16), (16,))
