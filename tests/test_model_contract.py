"""What every opened model does, whatever its format; a new format is added to `MAKERS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper

from convfc import UnsupportedModelError
from convfc.core.im2col import apply
from convfc.core.lowering import Lowering, PatchMethod, lower
from convfc.core.numpy_ops import NumpyOps
from convfc.core.quantization import Quantization
from convfc.formats.keras.quiet import importing
from convfc.formats.protocols import Model, Site
from convfc.formats.provenance import LayerRecord, Provenance
from convfc.formats.registry import format_of, open_model, provenance_of
from convfc.formats.suffixes import Format
from tests.onnx_models import integers
from tests.onnx_models import save as save_onnx

Array = NDArray[Any]

NAMES = ("z_first", "a_second")
"""In the order of execution, which is not that of the alphabet."""
SIZES = (11, 8)
KERNELS = {
    name: integers(shape, n)
    for n, (name, shape) in enumerate(zip(NAMES, [(3, 2, 2, 4), (2, 3, 4, 6)], strict=True))
}
"""By layer, in the order of Keras: taps, channels, filters."""
STRIDES = {"z_first": (2, 1), "a_second": (1, 2)}
BIASES = {"z_first": integers([4], 2), "a_second": integers([6], 3)}


def onnx_file(path: Path) -> Path:
    """Conv, Relu, Conv, of unequal strides and pads."""
    weights = {f"{name}_W": KERNELS[name].transpose(3, 2, 0, 1) for name in NAMES}
    weights |= {f"{name}_B": BIASES[name] for name in NAMES}
    first, second = (["x", "z_first_W", "z_first_B"], ["r", "a_second_W", "a_second_B"])
    nodes = [
        helper.make_node(
            "Conv", first, ["c"], "z_first", strides=STRIDES["z_first"], pads=[1, 0, 2, 1]
        ),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", second, ["y"], "a_second", strides=STRIDES["a_second"]),
    ]
    return save_onnx(path, nodes, {"x": ["batch", 2, *SIZES]}, ["y"], weights)


def keras_file(path: Path) -> Path:
    """The same model; channels first in its second layer alone."""
    with importing():
        import keras
        from keras import layers

    from tests.keras_models import save

    x = inputs = keras.Input((*SIZES, 2), name="x")
    x = layers.ZeroPadding2D(((1, 2), (0, 1)))(x)
    x = layers.Conv2D(4, (3, 2), STRIDES["z_first"], activation="relu", name="z_first")(x)
    x = layers.Permute((3, 1, 2))(x)
    order = "channels_first"
    x = layers.Conv2D(6, (2, 3), STRIDES["a_second"], data_format=order, name="a_second")(x)
    model = keras.Model(inputs, x)
    for name in NAMES:
        model.get_layer(name).set_weights([KERNELS[name], BIASES[name]])
    return save(model, path)


MAKERS: Mapping[str, Callable[[Path], Path]] = {
    ".onnx": onnx_file,
    ".keras": keras_file,
    ".h5": keras_file,
}


@pytest.fixture(params=MAKERS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The model in one format."""
    return MAKERS[request.param](tmp_path / f"m{request.param}")


@pytest.fixture
def model(path: Path) -> Model:
    return open_model(path)


def feed_of(model: Model, rows: int = 2) -> dict[str, Array]:
    """Integers, so that every result is exact."""
    (port,) = model.inputs
    assert port.shape is not None
    return {port.name: integers([rows, *(size or 1 for size in port.shape[1:])], 5)}


def lowered(site: Site) -> Lowering:
    assert site.convolution is not None
    found = lower(site.convolution, site.sizes, PatchMethod.AUTO, site.methods)
    assert isinstance(found, Lowering)
    return found


def converted(path: Path) -> Path:
    """The model with every site converted, in the same format."""
    opened = open_model(path)
    lowerings = {site.name: lowered(site) for site in opened.sites}
    out = path.with_name(f"m_fc{path.suffix}")
    assert sentences(opened.save_converted(out, lowerings, provenance(path, lowerings)))
    return out


def provenance(path: Path, lowerings: Mapping[str, Lowering]) -> Provenance:
    records = tuple(LayerRecord.of(name, lowering) for name, lowering in lowerings.items())
    return Provenance(path.name, "0" * 64, "1.0", records)


def sentences(said: object) -> bool:
    """Whether it is a sequence of texts, each with something in it and on one line."""
    assert isinstance(said, list | tuple)
    return all(isinstance(text, str) and text.strip() and "\n" not in text for text in said)


def same(left: Mapping[str, Array], right: Mapping[str, Array]) -> bool:
    assert left.keys() == right.keys()
    return all(np.array_equal(left[name], right[name]) for name in left)


def test_every_format_is_here() -> None:
    assert {kind.value[0] for kind in Format} == set(MAKERS)


def test_what_it_is(path: Path, model: Model) -> None:
    assert path.suffix in format_of(path).value
    assert model.path == path
    assert list(model.files) == [path]
    assert sentences(model.notes)
    assert sentences(model.freeze_weights())
    assert model.provenance is provenance_of(path) is None
    assert np.dtype(model.precision) == np.float32
    assert not model.has_steps


def test_its_ports_are_what_it_takes_and_gives(model: Model) -> None:
    found = model.run(feed_of(model))
    assert list(found) == [port.name for port in model.outputs]
    (port,) = model.inputs
    assert port.shape is not None
    assert port.shape[0] is None
    assert sorted(port.shape[1:], key=str) == sorted([2, *SIZES], key=str)
    assert port.shape[-1 if port.channels_last else 1] == 2
    for output in model.outputs:
        assert found[output.name].dtype == output.dtype == "float32"
        assert output.shape is None or len(output.shape) == found[output.name].ndim


def test_its_sites(model: Model) -> None:
    assert [site.name for site in model.sites] == list(NAMES)
    for site, sizes in zip(model.sites, [None, (6, 8)], strict=True):
        assert site.convolution is not None
        assert site.reason is None
        assert site.bias
        assert site.dtype == "float32"
        assert site.convolution.kernel_shape == KERNELS[site.name].shape
        assert tuple(w.stride for w in site.convolution.windows) == STRIDES[site.name]
        assert sizes is None or site.sizes == sizes


def test_all_ways_to_run_it_agree(model: Model) -> None:
    feed = feed_of(model)
    found = model.run(feed)
    assert any(array.any() for array in found.values())
    assert same(found, model.run_once(feed))
    wide = model.run_in_float64(feed)
    assert same(found, wide)
    assert {array.dtype for array in wide.values()} == {np.dtype("float64")}
    assert sentences(model.cautions(feed))


def test_what_its_layers_are_fed(model: Model) -> None:
    feed = feed_of(model)
    found = model.activations(feed, list(NAMES))
    assert found.keys() == set(NAMES)
    for site in model.sites:
        shape = found[site.name].shape
        assert site.sizes in (shape[1:-1], shape[2:])
    assert model.activations(feed, NAMES[1:]).keys() == {NAMES[1]}


@pytest.mark.parametrize("wrong", ["no input", "another name", "another rank", "other channels"])
def test_a_wrong_feed_is_refused(model: Model, wrong: str) -> None:
    ((name, x),) = feed_of(model).items()
    feeds = {
        "no input": {},
        "another name": {"other": x},
        "another rank": {name: x[0, 0]},
        "other channels": {name: np.concatenate([x, x], axis=1).repeat(2, axis=-1)},
    }
    with pytest.raises(UnsupportedModelError):
        model.run(feeds[wrong])


def test_what_is_saved_is_the_same_function(path: Path) -> None:
    original = open_model(path)
    bytes_before = path.read_bytes()
    out = converted(path)
    made = open_model(out)
    assert path.read_bytes() == bytes_before
    assert open_model(path).provenance is None
    assert made.provenance == provenance_of(out)
    assert made.provenance is not None
    assert [record.name for record in made.provenance.layers] == list(NAMES)
    assert list(made.sites) == []
    assert [port.name for port in made.inputs] == [port.name for port in original.inputs]
    feed = feed_of(original)
    assert same(original.run(feed), made.run(feed))
    assert same(original.run(feed), original.run_once(feed, out))


def test_a_site_that_is_not_named_stays(path: Path) -> None:
    opened = open_model(path)
    chosen = {site.name: lowered(site) for site in opened.sites[1:]}
    out = path.with_name(f"part{path.suffix}")
    opened.save_converted(out, chosen, provenance(path, chosen))
    made = open_model(out)
    assert [site.name for site in made.sites] == [NAMES[0]]
    assert [pair.site.name for pair in open_model(path).align(made).pairs] == [NAMES[1]]


def test_the_pairs_of_a_converted_model(path: Path) -> None:
    original = open_model(path)
    aligned = original.align(open_model(converted(path)))
    assert [pair.site for pair in aligned.pairs] == list(original.sites)
    assert (*aligned.differences, *aligned.unknown) == ()
    fed = original.activations(feed_of(original), list(NAMES))
    for pair in aligned.pairs:
        assert pair.structure is None
        assert pair.problem is None
        assert not pair.rounds_to_integers
        assert not isinstance(pair.quantization, Quantization)
        x = fed[pair.site.name]
        left, right = pair.run(x, {})
        assert np.array_equal(left, right)
        assert np.array_equal(left, pair.original(x, {}))


def test_layout_and_kernel_order_of_a_pair_are_its_own(path: Path) -> None:
    """With both, a convolution of numpy is the layer."""
    original = open_model(path)
    fed = original.activations(feed_of(original), list(NAMES))
    for pair in original.align(open_model(converted(path))).pairs:
        name = pair.site.name
        kernel, bias = pair.parameters.values()
        assert kernel is not None
        assert bias is not None
        assert np.array_equal(kernel.transpose(pair.kernel_order), KERNELS[name])
        x, y = fed[name], pair.original(fed[name], {})
        if not pair.channels_last:
            x, y = np.moveaxis(x, 1, -1), np.moveaxis(y, 1, -1)
        assert x.shape[1:-1] == pair.site.sizes
        assert np.array_equal(apply(NumpyOps(KERNELS[name], bias), x, lowered(pair.site)), y)
