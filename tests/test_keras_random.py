"""Layers drawn at random, in both formats, against stock Keras in a fresh interpreter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convfc.formats.keras import open_keras
from tests.keras_layers import drawn
from tests.keras_models import FORMATS, convert, many, read_without_convfc, save


def check(folder: Path, count: int, seed: int) -> None:
    """Convert models of drawn layers in both formats, and compare every bit."""
    rng = np.random.default_rng(seed)
    chosen = {f"layer{place}": drawn(rng) for place in range(count)}
    source = {suffix: save(many(chosen), folder / f"a{suffix}") for suffix in FORMATS}
    original = open_keras(source[".keras"])
    feed = {}
    for port in original.inputs:
        assert port.shape is not None
        shape = [2, *(size or int(rng.integers(10, 14)) for size in port.shape[1:])]
        feed[port.name] = rng.integers(-2, 3, shape).astype(port.dtype)
    expected = original.run(feed)
    assert expected.keys() == chosen.keys()
    files = [folder / f"b{suffix}" for suffix in FORMATS]
    for file in files:
        convert(source[file.suffix], file)
    found = read_without_convfc(folder, files, feed)
    assert [found[file.name]["convolutions"] for file in files] == [[], []]
    for file in files:
        outputs = np.load(f"{file}.npz")
        unequal = {
            name: (chosen[name][0], chosen[name][1].get_config())
            for name in expected
            if not np.array_equal(outputs[name], expected[name])
        }
        assert unequal == {}, file.suffix


@pytest.mark.slow
def test_random_layers(tmp_path: Path) -> None:
    check(tmp_path, 8, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 21))
def test_many_random_layers(tmp_path: Path, seed: int) -> None:
    check(tmp_path, 20, seed)
