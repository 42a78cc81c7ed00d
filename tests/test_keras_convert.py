"""Every kind of layer, patch method and format, read back by stock Keras, equal in each bit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convfc.keras_model import open_keras
from convfc.lowering import Lowering, PatchMethod, Refusal
from tests.keras_models import (
    FORMATS,
    branches,
    convert,
    integer_feed,
    lowering,
    many,
    read_without_convfc,
    save,
)

# AUTO makes slices in .h5 and gathers in .keras; both make no patches at all for a pointwise
# branch and a reshape for the patch embedding.
FILES = [(".h5", PatchMethod.AUTO), (".keras", PatchMethod.AUTO), (".keras", PatchMethod.SLICE)]


@dataclass(frozen=True)
class Outcome:
    folder: Path
    expected: dict[str, NDArray[Any]]
    found: dict[str, Any]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("many")
    model = many(branches())
    sources = {suffix: save(model, folder / f"many{suffix}") for suffix in FORMATS}
    original = open_keras(sources[".keras"])
    feed = integer_feed(original)
    files = []
    for suffix, method in FILES:
        files.append(folder / f"{method.value}{suffix}")
        assert convert(sources[suffix], files[-1], method) == []
    return Outcome(folder, original.run(feed), read_without_convfc(folder, files, feed))


@pytest.mark.parametrize(("suffix", "method"), FILES)
def test_equal_in_every_bit_and_without_convolution(
    outcome: Outcome, suffix: str, method: PatchMethod
) -> None:
    name = f"{method.value}{suffix}"
    assert outcome.found[name]["convolutions"] == []
    outputs = np.load(outcome.folder / f"{name}.npz")
    assert list(outputs) == list(outcome.expected)
    unequal = {
        branch
        for branch, expected in outcome.expected.items()
        if not np.array_equal(outputs[branch], expected.astype(np.float64))
    }
    assert unequal == set()


@pytest.mark.parametrize(("suffix", "method"), FILES)
def test_dtypes_stay(outcome: Outcome, suffix: str, method: PatchMethod) -> None:
    dtypes = {name: str(value.dtype) for name, value in outcome.expected.items()}
    assert outcome.found[f"{method.value}{suffix}"]["dtypes"] == dtypes


@pytest.mark.parametrize("suffix", FORMATS)
def test_methods_of_the_format(outcome: Outcome, suffix: str) -> None:
    sites = {site.name: site for site in open_keras(outcome.folder / f"many{suffix}").sites}
    fits = {
        method: {name for name, site in sites.items() if _fits(lowering(site, method), method)}
        for method in PatchMethod
    }
    assert {"patch_embedding"} == fits[PatchMethod.RESHAPE]
    assert fits[PatchMethod.SLICE] == set(sites) - {"pointwise"}
    unknown = {name for name in sites if name.startswith("unknown")}
    gathered = fits[PatchMethod.SLICE] - unknown if suffix == ".keras" else set()
    assert fits[PatchMethod.GATHER] == gathered


def _fits(made: Lowering | Refusal, method: PatchMethod) -> bool:
    return isinstance(made, Lowering) and made.method is method


def test_no_gather_for_an_index_that_would_bloat_the_file(tmp_path: Path) -> None:
    import keras

    model = keras.Sequential([keras.Input((300, 300, 1)), keras.layers.Conv2D(1, 4)])
    (site,) = open_keras(save(model, tmp_path / "large.keras")).sites
    made = lowering(site, PatchMethod.AUTO)
    assert isinstance(made, Lowering)
    assert made.method is PatchMethod.SLICE


def test_strided_double_precision_volume_is_refused_in_stock_layers(tmp_path: Path) -> None:
    import keras

    layer = keras.layers.Conv3D(2, 3, strides=2, dtype="float64")
    model = keras.Sequential([keras.Input((5, 5, 5, 2)), layer])
    for suffix, expected in ((".h5", Refusal), (".keras", Lowering)):
        (site,) = open_keras(save(model, tmp_path / f"volume{suffix}")).sites
        assert isinstance(lowering(site, PatchMethod.AUTO), expected)
