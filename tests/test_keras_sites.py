"""Every convolution of a Keras model is listed, and those that are left say why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from convfc.formats.keras import open_keras
from convfc.formats.protocols import Port, Site
from convfc.refusals import Code
from tests.keras_models import convert, save


@keras.saving.register_keras_serializable("convfc_tests")
class Doubled(layers.Conv2D):  # type: ignore[misc] # keras has no types
    """A custom class that computes something else than its base class."""

    def call(self, inputs: Any) -> Any:
        return 2 * super().call(inputs)


@keras.saving.register_keras_serializable("convfc_tests")
class Holder(layers.Layer):  # type: ignore[misc] # keras has no types
    """A custom class with a stock convolution inside."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(2, 2, name="held")

    def build(self, shape: Any) -> None:
        self.conv.build(shape)

    def call(self, inputs: Any) -> Any:
        return self.conv(inputs)

    def compute_output_shape(self, shape: Any) -> Any:
        return self.conv.compute_output_shape(shape)


IMAGE, FILM = (8, 7, 2), (3, 8, 7, 2)


@pytest.mark.parametrize(
    ("shape", "layer", "name", "reason"),
    [
        (FILM, layers.ConvLSTM2D(2, 2, name="x"), "x", "recurrent"),
        (
            FILM,
            layers.Bidirectional(layers.ConvLSTM2D(2, 2, name="cell"), name="x"),
            "x/forward_cell",
            "inside a Bidirectional",
        ),
        (
            FILM,
            layers.TimeDistributed(Holder(name="in"), name="x"),
            "x/in/held",
            "inside a Holder",
        ),
        (
            IMAGE,
            layers.SpectralNormalization(layers.Conv2D(2, 2, name="in", dtype="float16"), name="x"),
            "x/in",
            "inside a SpectralNormalization",
        ),
        ((600, 1), layers.STFTSpectrogram(window=None, name="x"), "x", "spectrogram"),
        (IMAGE, Doubled(2, 2, name="x"), "x", "Doubled is a custom class"),
        (IMAGE, Holder(name="x"), "x/held", "inside a Holder"),
        (IMAGE, layers.Conv2D(2, 2, lora_rank=1, name="x"), "x", "LoRA"),
    ],
)
def test_what_is_left_says_why(
    tmp_path: Path, shape: tuple[int, ...], layer: Any, name: str, reason: str
) -> None:
    site = _sites(tmp_path, keras.Sequential([keras.Input(shape), layer]))[0]
    assert site.name == name
    assert site.convolution is None
    assert site.reason is not None
    assert reason in site.reason


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_recurrent_cell_is_left_as_the_page_says(tmp_path: Path, rank: int) -> None:
    """docs/refusals.md says why no stock file holds its patches."""
    layer = getattr(layers, f"ConvLSTM{rank}D")(2, 2)
    (site,) = _sites(tmp_path, keras.Sequential([keras.Input((3, *[4] * rank, 1)), layer]))
    assert site.refusal is not None
    assert site.refusal.code is Code.FOREIGN
    page = (Path(__file__).parents[1] / "docs" / "refusals.md").read_text()
    assert f'(`{site.refusal.code.value}`: "{site.reason}")' in page
    assert f"`{type(layer).__name__}`" in page


def _sites(folder: Path, model: Any, suffix: str = ".keras") -> list[Site]:
    return list(open_keras(save(model, folder / f"model{suffix}")).sites)


def test_operations_are_seen(tmp_path: Path) -> None:
    inputs = keras.Input(IMAGE)
    kernel = np.ones((2, 2, 2, 1), np.float32)
    x = keras.ops.conv(inputs, kernel)
    patches = keras.ops.image.extract_patches(x, 2)
    sites = _sites(tmp_path, keras.Model(inputs, patches))
    assert [site.kind for site in sites] == ["Conv", "ExtractPatches"]
    assert all("operation" in str(site.reason) for site in sites)


def test_a_layer_that_is_also_called_where_nobody_sees_it_is_left(tmp_path: Path) -> None:
    image = keras.Input(IMAGE)
    conv = layers.Conv2D(2, 2, name="both")
    model = keras.Model(image, [conv(image), layers.SpectralNormalization(conv)(image)])
    (site,) = _sites(tmp_path, model)
    assert "inside a SpectralNormalization" in str(site.reason)


def test_order_names_and_geometry(tmp_path: Path) -> None:
    inputs = keras.Input((16, 12, 3))
    block = keras.Sequential(
        [keras.Input((8, 12, 4)), layers.DepthwiseConv2D(3, depth_multiplier=2, name="deep")],
        name="block",
    )
    x = layers.Conv2D(4, (5, 3), strides=(2, 1), padding="same", name="first")(inputs)
    x = keras.Sequential([keras.Input((8, 12, 4)), block], name="outer")(x)
    model = keras.Model(inputs, layers.Conv2D(6, 1, groups=2, use_bias=False, name="last")(x))
    first, deep, last = _sites(tmp_path, model)
    assert [s.name for s in (first, deep, last)] == ["first", "outer/block/deep", "last"]
    assert [s.kind for s in (first, deep, last)] == ["Conv2D", "DepthwiseConv2D", "Conv2D"]
    assert (first.sizes, deep.sizes, last.sizes) == ((16, 12), (8, 12), (6, 10))
    assert (first.bias, deep.bias, last.bias) == (True, True, False)
    assert first.convolution is not None
    assert first.convolution.output(first.sizes) == (8, 12)
    assert deep.convolution is not None
    assert (deep.convolution.groups, deep.convolution.filters) == (4, 8)
    assert last.convolution is not None
    assert last.convolution.kernel_shape == (1, 1, 4, 6)


def test_ports(tmp_path: Path) -> None:
    image = keras.Input((2, 8, 7), name="image", dtype="float16")
    count = keras.Input((None,), name="count", dtype="int32")
    x = layers.Conv2D(2, 2, data_format="channels_first", name="maps")(image)
    y = layers.LSTM(3, return_state=True, name="states")(layers.Embedding(4, 2)(count))
    model = open_keras(save(keras.Model([image, count], [x, *y]), tmp_path / "ports.keras"))
    assert model.inputs == [
        Port("image", (None, 2, 8, 7), "float16", channels_last=False),
        Port("count", (None, None), "int32", channels_last=False),
    ]
    assert [port.name for port in model.outputs] == ["maps", "states", "states:1", "states:2"]
    feed: dict[str, Any] = {
        "image": np.ones((1, 2, 8, 7), np.float16),
        "count": np.ones((1, 5), np.int32),
    }
    assert [y.shape for y in model.run(feed).values()] == [(1, 2, 7, 6), (1, 3), (1, 3), (1, 3)]


def test_each_input_has_the_layout_of_its_own_convolutions(tmp_path: Path) -> None:
    first, last = keras.Input((3, 8, 8), name="first"), keras.Input((8, 8, 3), name="last")
    flag = keras.Input((2,), name="flag")
    maps = layers.Conv2D(2, 2, data_format="channels_first", name="a")(layers.ReLU()(first))
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 2, name="b")], name="inner")
    both = layers.Concatenate()([layers.Flatten()(maps), layers.Flatten()(inner(last)), flag])
    outputs = [inner(last), maps, layers.Dense(2)(both)]
    model = open_keras(save(keras.Model([last, first, flag], outputs), tmp_path / "two.keras"))
    assert [port.channels_last for port in model.inputs] == [True, False, True]
    assert [port.channels_last for port in model.outputs][:2] == [True, False]


def test_a_fixed_batch_stays(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input(batch_shape=(3, *IMAGE)), layers.Conv2D(2, 2)])
    source = save(model, tmp_path / "a.h5")
    convert(source, tmp_path / "b.h5")
    opened = open_keras(tmp_path / "b.h5")
    assert opened.inputs[0].shape == (3, *IMAGE)
    assert opened.outputs[0].shape == (3, 7, 6, 2)


def test_a_model_of_a_custom_class(tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("convfc_tests")
    class Own(keras.Model):  # type: ignore[misc] # keras has no types
        pass

    inputs = keras.Input(IMAGE)
    (site,) = _sites(tmp_path, Own(inputs, layers.Conv2D(2, 2, name="conv")(inputs)))
    assert (site.name, site.reason is None) == ("conv", False)
