"""Calls of Keras models: large ones let go of what nobody reads any more."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from convfc.formats.keras.quiet import importing

with importing():
    import keras

    from convfc.formats.keras import calls
    from convfc.formats.keras.calls import Calls

PEAK = """
import resource, sys
import numpy as np
from convfc.formats.keras.quiet import importing
with importing():
    import keras
    from convfc.formats.keras.calls import Calls
x = inputs = keras.Input((2**20,))
for _ in range(40):
    x = keras.layers.ReLU()(x)
model = keras.Model(inputs, x)
call = Calls(model) if sys.argv[1] == "calls" else model
call(np.ones((1, 2**20), np.float32))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
call(np.ones((16, 2**20), np.float32))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def peak(way: str) -> int:
    """MiB that a model of 40 layers of 64 MiB takes."""
    command = [sys.executable, "-W", "ignore", "-c", PEAK, way]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
def test_a_large_model_is_not_held_in_memory_as_a_whole() -> None:
    assert peak("calls") < 20 * 64


@pytest.mark.slow
def test_keras_itself_holds_it() -> None:
    assert peak("model") > 20 * 64


def test_it_computes_the_same_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    model = keras.Sequential([keras.Input((5, 4, 2)), keras.layers.Conv2D(3, (2, 3))])
    x = np.random.default_rng(0).integers(-9, 9, (2, 5, 4, 2)).astype(np.float32)
    one_by_one = np.asarray(Calls(model)(x))
    monkeypatch.setattr(calls, "_MUCH", 0)
    assert np.allclose(np.asarray(Calls(model)(x)), one_by_one, atol=1e-6)
    model.layers[0].kernel.assign(model.layers[0].kernel * 0)  # those that it has at the call
    assert not np.asarray(Calls(model)(x)).any()
