"""Large weights are in memory once, and are what the file says, bit for bit."""

from __future__ import annotations

import threading
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from convfc.errors import UnsupportedModelError
from convfc.formats.keras import internals
from convfc.formats.keras.loader import load
from convfc.formats.keras.memory import LARGE, held_once
from convfc.formats.keras.quiet import overheard
from tests.keras_models import FORMATS, convert, save, stock

DTYPES = ("float16", "bfloat16", "float32", "float64")


def _model(dtype: str = "float32") -> Any:
    """A small convolution and a Dense of 2**20 weights and some, compiled with Adam."""
    stack = [
        keras.Input((4, 3, 2)),
        layers.Conv2D(3, (3, 2), dtype=dtype),
        layers.Flatten(),
        layers.Dense(1030, dtype=dtype),
        layers.Dense(1030, dtype=dtype, name="large"),
    ]
    model = keras.Sequential(stack)
    model.compile("adam", "mse")
    return model


def _bytes(model: Any) -> list[bytes]:
    return [value.numpy().tobytes() for value in model.weights]


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [case for case in product(FORMATS, DTYPES) if case != (".h5", "bfloat16")],
)
def test_every_bit_comes_through(tmp_path: Path, suffix: str, dtype: str) -> None:
    model = _model(dtype)
    kernel = model.get_layer("large").kernel
    special = kernel.numpy()
    special[:3, 5] = -0.0, np.inf, np.nan
    kernel.assign(special)
    out = tmp_path / f"b{suffix}"
    assert convert(save(model, tmp_path / f"a{suffix}"), out) == []
    assert _bytes(stock(out)) == _bytes(model)


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_will_be_read_is_not_drawn_before(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(_model(), tmp_path / f"a{suffix}")
    drawn: list[int] = []
    original = keras.initializers.GlorotUniform.__call__

    def draw(self: Any, shape: tuple[int, ...], dtype: str | None = None) -> Any:
        drawn.append(int(np.prod(shape)) * 4)
        return original(self, shape, dtype)

    monkeypatch.setattr(keras.initializers.GlorotUniform, "__call__", draw)
    load(path)
    assert drawn
    assert max(drawn) < LARGE
    keras.saving.load_model(path, compile=False)
    assert max(drawn) >= LARGE


def _array(weight: Any) -> Any:
    with overheard():  # Keras' own way warns of numpy 2
        return keras.ops.convert_to_numpy(weight)


def test_a_view_is_no_copy() -> None:
    large = _model().get_layer("large")
    with held_once():
        views = [_array(large.kernel) for _ in range(2)]
        small = [_array(large.bias) for _ in range(2)]
    assert np.shares_memory(*views)
    assert not views[0].flags.writeable
    assert not np.shares_memory(*small)
    copies = [_array(large.kernel) for _ in range(2)]
    assert not np.shares_memory(*copies)


def test_bfloat16_in_hdf5_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = save(_model("bfloat16"), tmp_path / "a.h5")
    with pytest.raises(UnsupportedModelError, match=r"bfloat16.* save the model as \.keras"):
        load(path)


def test_a_weight_of_the_wrong_shape_is_refused(tmp_path: Path) -> None:
    path = save(_model(), tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        group = file["model_weights/large"]
        name = group.attrs["weight_names"][0]
        data = group[name][...]
        del group[name]
        group[name] = data[:-1]
    with pytest.raises(UnsupportedModelError, match="Shape mismatch"):
        load(path)


def test_other_threads_see_no_difference() -> None:
    made: list[Any] = []
    with held_once():
        zeros = _model().get_layer("large").kernel
        thread = threading.Thread(target=lambda: made.append(_model()))
        thread.start()
        thread.join()
    assert not np.any(zeros.numpy())
    assert np.all(np.std(made[0].get_layer("large").kernel.numpy(), axis=0) > 0)


def test_keras_is_left_as_it_was() -> None:
    def there() -> list[Any]:
        found = map(internals.find_function, internals.REPLACED)
        return [getattr(*each) for each in found if each is not None]

    before = there()
    assert len(before) == len(internals.REPLACED)
    with pytest.raises(ZeroDivisionError), held_once(), held_once():
        _ = 1 / sum(a is b for a, b in zip(before, there(), strict=True))
    assert there() == before


def test_a_keras_without_its_private_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internals, "find_module", {"keras": keras}.get)
    model = _model()
    assert _bytes(load(save(model, tmp_path / "a.h5")).model) == _bytes(model)


def test_an_optimizer_that_hdf5_does_not_keep_takes_no_room(tmp_path: Path) -> None:
    source = save(_model(), tmp_path / "a.h5")
    out = tmp_path / "b.h5"
    convert(source, out)
    assert out.stat().st_size < 1.1 * source.stat().st_size
    model = stock(out)
    x, y = np.ones((2, 4, 3, 2)), np.zeros((2, 1030))
    assert model.train_on_batch(x, y) > 0
