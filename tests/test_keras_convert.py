"""Every kind of layer, patch method and format, read back by stock Keras, equal in each bit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convfc.core.lowering import Lowering, PatchMethod
from convfc.formats.keras import open_keras
from convfc.refusals import Refusal
from tests.keras_edits import aligned
from tests.keras_models import (
    FORMATS,
    branches,
    convert,
    integer_feed,
    integer_weights,
    lowering,
    many,
    read_without_convfc,
    save,
)
from tests.thinned import thinned

# AUTO makes slices in .h5 and gathers in .keras; both make no patches at all for a pointwise
# branch and a reshape for the patch embedding.
FILES = [(".h5", PatchMethod.AUTO), (".keras", PatchMethod.AUTO)]
SLICED = (".keras", PatchMethod.SLICE)


KNOWN = {name for name in branches() if not name.startswith("unknown")}
"""Where the sizes are not known, AUTO makes slices anyway."""


SMOOTH = {
    name
    for name, (_, layer) in branches().items()
    if layer.get_config().get("activation") == "softmax"
}
"""Whose outputs are no integers: a processor may take other exponentials of a matrix's rows."""

ASTRAY = {"unknown_first"}
"""Whose bias Keras adds along another axis where that happens to be as long."""


@dataclass(frozen=True)
class Outcome:
    folder: Path
    expected: dict[str, dict[str, NDArray[Any]]]
    """By file, and by branch."""
    found: dict[str, Any]


@pytest.fixture(scope="module", params=thinned([2, 1]), ids=["halves", "all"])
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """All branches in both formats; in the quick suite one half in each, as neighbours are akin."""
    folder = tmp_path_factory.mktemp("many")
    every = list(branches().items())
    chosen = {
        suffix: dict(every[at % request.param :: request.param])
        for at, suffix in enumerate(FORMATS)
    }
    sources = {suffix: save(many(chosen[suffix]), folder / f"many{suffix}") for suffix in FORMATS}
    return converted(folder, {key: sources[key[0]] for key in FILES})


@pytest.fixture(scope="module")
def sliced(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("known")
    known = {name: branch for name, branch in branches().items() if name in KNOWN}
    return converted(folder, {SLICED: save(many(known), folder / "known.keras")})


def converted(folder: Path, sources: dict[tuple[str, PatchMethod], Path]) -> Outcome:
    files: list[Path] = []
    feeds: dict[str, NDArray[Any]] = {}
    expected = {}
    for (suffix, method), source in sources.items():
        original = open_keras(source)
        feed = integer_feed(original)
        feeds |= feed
        files.append(folder / f"{method.value}{suffix}")
        expected[files[-1].name] = original.run_once(feed)
        remarks = convert(source, files[-1], method)
        named = {remark.split(":")[0] for remark in remarks}
        assert named == named & ASTRAY, remarks
    return Outcome(folder, expected, read_without_convfc(folder, files, feeds))


@pytest.mark.parametrize(("suffix", "method"), FILES)
def test_equal_in_every_bit_and_without_convolution(
    outcome: Outcome, suffix: str, method: PatchMethod
) -> None:
    require_equal(outcome, suffix, method)


@pytest.mark.slow
def test_slices_are_equal_in_every_bit(sliced: Outcome) -> None:
    require_equal(sliced, *SLICED)
    assert [set(outputs) for outputs in sliced.expected.values()] == [KNOWN]


def require_equal(outcome: Outcome, suffix: str, method: PatchMethod) -> None:
    name = f"{method.value}{suffix}"
    assert outcome.found[name]["convolutions"] == []
    outputs, expected = np.load(outcome.folder / f"{name}.npz"), outcome.expected[name]
    assert set(outputs) == set(expected)
    unequal = {
        branch
        for branch, output in outputs.items()
        if not np.array_equal(output, expected[branch].astype(np.float64))
    }
    assert unequal - SMOOTH == set()
    for branch in unequal:
        np.testing.assert_allclose(outputs[branch], expected[branch], rtol=1e-6)


@pytest.mark.parametrize(("suffix", "method"), FILES)
def test_dtypes_stay(outcome: Outcome, suffix: str, method: PatchMethod) -> None:
    name = f"{method.value}{suffix}"
    found = outcome.found[name]["dtypes"]
    assert found == {branch: str(y.dtype) for branch, y in outcome.expected[name].items()}


@pytest.mark.parametrize(("suffix", "method"), FILES)
def test_of_every_kind_of_layer_it_is_the_emitters(
    outcome: Outcome, suffix: str, method: PatchMethod
) -> None:
    name = f"{method.value}{suffix}"
    pairs = aligned(outcome.folder / f"many{suffix}", outcome.folder / name).pairs
    assert len(pairs) == len(outcome.expected[name])
    assert {(pair.problem, pair.structure) for pair in pairs} == {(None, None)}


@pytest.mark.parametrize("suffix", FORMATS)
def test_methods_of_the_format(outcome: Outcome, suffix: str) -> None:
    sites = {site.name: site for site in open_keras(outcome.folder / f"many{suffix}").sites}
    fits = {
        method: {name for name, site in sites.items() if _fits(lowering(site, method), method)}
        for method in PatchMethod
    }
    assert set(sites) & {"patch_embedding"} == fits[PatchMethod.RESHAPE]
    assert fits[PatchMethod.SLICE] == set(sites) - {"pointwise", "transposed_tiles"}
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


@pytest.mark.parametrize("suffix", thinned(FORMATS))
def test_same_padding_of_unknown_sizes_is_found_at_run_time(tmp_path: Path, suffix: str) -> None:
    import keras
    from keras import layers

    image = keras.Input((None, None, 2))
    y = layers.Conv2D(3, (4, 3), strides=(3, 2), padding="same")(image)
    deep = layers.DepthwiseConv2D(5, strides=4, padding="same")(image)
    point = layers.Conv2D(2, 1, strides=(3, 2), padding="same")(image)
    up = layers.Conv2DTranspose(2, (3, 2), strides=(2, 3), padding="same")(image)
    model = keras.Model(image, [y, deep, point, up])
    integer_weights(model)
    original = open_keras(save(model, tmp_path / f"a{suffix}"))
    out = tmp_path / f"b{suffix}"
    assert convert(original.path, out) == []
    new = open_keras(out)
    assert new.sites == []
    (port,) = original.inputs
    rng = np.random.default_rng(6)
    for height in range(1, 13):  # every remainder of 2, 3 and 4, several times
        x = rng.integers(-2, 3, (2, height, 13 - height, 2)).astype(np.float32)
        expected, got = original.run({port.name: x}), new.run({port.name: x})
        for name in expected:
            np.testing.assert_array_equal(got[name], expected[name], err_msg=str(x.shape))


def test_unknown_sizes_as_long_as_a_known_one(tmp_path: Path) -> None:
    """Keras on TensorFlow adds a vector along axis 1 if that is as long."""
    import keras
    from keras import layers

    volume = keras.Input((None, 7, None, 2))
    model = keras.Model(volume, layers.Conv3DTranspose(2, 3, strides=(3, 3, 1))(volume))
    integer_weights(model)
    original = open_keras(save(model, tmp_path / "a.keras"))
    convert(original.path, tmp_path / "b.keras")
    new = open_keras(tmp_path / "b.keras")
    (port,), (output,) = original.inputs, original.outputs
    for width in (4, 5, 6):
        feed = {port.name: np.random.default_rng(7).integers(-2, 3, (1, 4, 7, width, 2))}
        got, expected = new.run(feed)[output.name], original.run(feed)[output.name]
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("suffix", thinned(FORMATS))
def test_blocks(tmp_path: Path, suffix: str) -> None:
    """Patches of some positions of a row at a time."""
    import keras
    from keras import layers

    image = keras.Input((17, 8, 4))
    same = layers.Conv2D(4, (3, 2), strides=(2, 1), padding="same", activation="relu")(image)
    y = layers.Conv2D(6, (3, 2), strides=(2, 1), padding="same", groups=2)(image)
    up = layers.Conv2DTranspose(2, 3, strides=2)(layers.MaxPooling2D(4)(image))
    model = keras.Model(image, [layers.Dense(2)(layers.Flatten()(same)), y, up])
    integer_weights(model)
    source = save(model, tmp_path / f"a{suffix}")
    original = open_keras(source)
    made = [lowering(site, memory=400) for site in original.sites]
    assert all(isinstance(each, Lowering) and each.blocks > 2 for each in made)
    feed = integer_feed(original)
    expected = original.run(feed)
    out = tmp_path / f"b{suffix}"
    assert convert(source, out, memory=400) == []
    new = open_keras(out)
    for name, got in new.run(feed).items():
        np.testing.assert_array_equal(got, expected[name])
    assert [port.shape for port in new.outputs] == [port.shape for port in original.outputs]


@pytest.mark.parametrize("suffix", thinned(FORMATS))
def test_blocks_of_several_sizes_along_two_axes(tmp_path: Path, suffix: str) -> None:
    """Seven columns in threes; all share one layer."""
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input((4, 8, 4)), layers.Conv2D(6, 2, groups=2)])
    integer_weights(model)
    source = save(model, tmp_path / f"a{suffix}")
    original = open_keras(source)
    (site,) = original.sites
    made = lowering(site, memory=200)
    assert isinstance(made, Lowering)
    assert made.block == (1, 3)
    out = tmp_path / f"b{suffix}"
    assert convert(source, out, memory=200) == []
    feed = integer_feed(original)
    (expected,), (got,) = original.run(feed).values(), open_keras(out).run(feed).values()
    np.testing.assert_array_equal(got, expected)
