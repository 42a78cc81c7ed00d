from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from convfc.errors import DataError
from convfc.formats.protocols import Port
from convfc.samples.feeds import Feeds, load_samples, make_feeds

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MNIST = np.stack([*load_samples(count=100).images])
RAMP = np.arange(4 * 6 * 6, dtype=np.float32).reshape(4, 6, 6)


def port(
    *shape: int | None, name: str = "x", dtype: str = "float32", channels_last: bool | None = None
) -> Port:
    return Port(name, shape, dtype, channels_last)


def feed(*ports: Port, **options: Any) -> Feeds:
    return make_feeds(ports, **options)


def whole(feeds: Feeds) -> dict[str, NDArray[Any]]:
    """All samples at once."""
    return feeds.take(range(feeds.rows))


def shapes_of(feeds: Feeds) -> list[dict[str, tuple[int, ...]]]:
    return [{name: a.shape for name, a in batch.items()} for batch in feeds.batches()]


def save(path: Path, **arrays: NDArray[Any]) -> Path:
    named: dict[str, Any] = arrays
    np.savez(path, **named)
    return path


# Images


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (port(None, 28, 28, 1), (5, 28, 28, 1)),
        (port(None, 1, 28, 28), (5, 1, 28, 28)),
        (port(None, 28, 28, 1, channels_last=True), (5, 28, 28, 1)),
        (port(None, 3, 32, 40), (5, 3, 32, 40)),
        (port(None, 3, 8, 3), (5, 3, 8, 3)),
        (port(None, 64, 7, 9, channels_last=False), (5, 64, 7, 9)),
        (port(None, 7, 9, 64, channels_last=True), (5, 7, 9, 64)),
        (port(None, None, None, None), (5, 3, 64, 64)),
        (port(None, None, None, 3), (5, 64, 64, 3)),
        (port(None, None, None, None, channels_last=True), (5, 64, 64, 3)),
        (port(None, 1, None, 20, 20), (5, 1, 16, 20, 20)),
        (port(None, None, 20, 20, 2, channels_last=True), (5, 16, 20, 20, 2)),
        (port(None, 784), (5, 784)),
        (port(None, None), (5, 32)),
        (port(None, 28, 28), (5, 28, 28)),
        (port(None, None, 40), (5, 32, 40)),
        (port(None), (5,)),
        (port(), ()),
    ],
)
def test_float_inputs_of_any_rank_get_digits(given: Port, expected: tuple[int, ...]) -> None:
    feeds = feed(given, samples=5)
    array = whole(feeds)["x"]
    assert array.shape == expected
    assert array.dtype == np.float32
    assert 0 <= array.min() <= array.max() <= 1
    assert array.ndim < 2 or array.max() > 0.4


def test_images_of_the_right_size_are_untouched() -> None:
    for given in (
        port(None, 28, 28, 1),
        port(None, 1, 28, 28),
        port(None, 28, 28),
        port(None, 784),
    ):
        array = whole(feed(given))["x"]
        np.testing.assert_array_equal(array.reshape(MNIST.shape), MNIST)


def test_resizing_is_pillows_and_channels_repeat() -> None:
    array = whole(feed(port(None, 3, 224, 200), samples=2))["x"]
    expected = Image.fromarray(MNIST[1]).resize((200, 224), Image.Resampling.BILINEAR)
    for channel in range(3):
        np.testing.assert_array_equal(array[1, channel], np.asarray(expected))


def test_volumes_repeat_the_image_along_the_depth() -> None:
    first = whole(feed(port(None, 1, 4, 28, 28), samples=2))["x"]
    last = whole(feed(port(None, 5, 28, 28, 1), samples=2))["x"]
    for depth in range(4):
        np.testing.assert_array_equal(first[:, 0, depth], MNIST[:2])
        np.testing.assert_array_equal(last[:, depth, ..., 0], MNIST[:2])


def test_colour_stays_to_three_channels_and_is_averaged_to_others(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    data = save(tmp_path / "a.npz", images=pixels)
    scaled: NDArray[Any] = pixels / np.float32(255)
    rgb = whole(feed(port(None, 3, 8, 8), data=data))["x"]
    np.testing.assert_allclose(rgb, np.moveaxis(scaled, -1, 1), rtol=1e-6)
    for channels in (1, 5):
        grey = whole(feed(port(None, channels, 8, 8, channels_last=False), data=data))["x"]
        expected = np.broadcast_to(scaled.mean(-1)[:, None], grey.shape)
        np.testing.assert_allclose(grey, expected, rtol=1e-6)


def test_channels_first_and_rgba_samples(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((2, 4, 8, 9), np.float32)
    np.save(tmp_path / "a.npy", pixels)
    array = whole(feed(port(None, 8, 9, 3), data=tmp_path / "a.npy"))["x"]
    np.testing.assert_array_equal(array, np.moveaxis(pixels[:, :3], 1, -1))


def test_a_folder_of_mixed_images(tmp_path: Path) -> None:
    Image.fromarray(np.full((5, 9), 255, np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.full((30, 20, 3), [255, 0, 0], np.uint8)).save(tmp_path / "b.png")
    feeds = feed(port(None, 3, 10, 10), data=tmp_path)
    assert feeds.rows == 2
    assert feeds.labels is None
    np.testing.assert_allclose(whole(feeds)["x"][0], 1)
    np.testing.assert_allclose(whole(feeds)["x"][1].mean((1, 2)), [1, 0, 0])
    assert "several sizes -> 10x10 on 3 channels" in feeds.said[0]


def test_what_pillow_says_of_tags_is_not_said(tmp_path: Path) -> None:
    """A tag of 65,535 bytes in a file of fewer: warnings are errors here."""
    tags = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\xff\xff\0\0\x1a\0\0\0\0\0\0\0"
    path = tmp_path / "m.jpg"
    Image.fromarray(np.full((4, 5), 7, np.uint8)).save(path, exif=tags)
    (image,) = load_samples(path).images
    assert image.shape == (4, 5)


def test_samples_that_are_no_images(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((3, 7), np.float32))
    with pytest.raises(DataError, match=r"'x' takes images, but a sample has the shape \(7,\)"):
        feed(port(None, 1, 8, 8), data=tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.ones((3, 7, 7, 7), np.float32))
    with pytest.raises(DataError, match=r"takes images, but a sample has the shape \(7, 7, 7\)"):
        feed(port(None, 1, 8, 8), data=tmp_path / "b.npy")
    rows = whole(feed(port(None, 7), data=tmp_path / "a.npy"))["x"]
    np.testing.assert_array_equal(rows, np.ones((3, 7)))


@pytest.mark.parametrize("samples", [1, 4, 100])
@pytest.mark.parametrize("shape", [(None, 1, 28, 28), (1, 1, 20, 20), (None, 5, 7), (2, 1, 64)])
def test_no_two_inputs_are_fed_the_same(shape: tuple[int | None, ...], samples: int) -> None:
    feeds = feed(*(port(*shape, name=name) for name in "abc"), samples=samples)
    a, b, c = whole(feeds).values()
    for other in (b, c):
        assert (a != other).reshape(len(a), -1).any(axis=1).all()
    assert (b != c).reshape(len(a), -1).any(axis=1).all()
    assert [" from number " in line for line in feeds.said] == [False, True, True]


def test_one_image_makes_two_that_differ(tmp_path: Path) -> None:
    Image.fromarray(np.arange(90, dtype=np.uint8).reshape(9, 10)).save(tmp_path / "a.png")
    feeds = feed(*(port(None, 1, 9, 10, name=name) for name in "abc"), data=tmp_path / "a.png")
    a, b, c = whole(feeds).values()
    assert feeds.rows == 1
    assert (a != b).any()
    assert (b != c).any()
    assert (a != c).any()


# Streams, scalars, types


def test_sequences_are_pixel_streams_that_start_again(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", RAMP)
    array = whole(feed(port(None, 5, 9), data=tmp_path / "a.npy"))["x"]
    assert array.shape == (4, 5, 9)
    for row, values in enumerate(array.reshape(4, 45)):
        expected = np.take(RAMP, range(36 * row, 36 * row + 45), mode="wrap")
        np.testing.assert_array_equal(values, expected)
    np.save(tmp_path / "a.npy", RAMP[:1])
    array = whole(feed(port(None, 5, 9), data=tmp_path / "a.npy"))["x"]
    np.testing.assert_array_equal(array.ravel(), np.resize(RAMP[0], 45))


def test_a_short_stream_comes_from_the_middle_of_its_image(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", RAMP)
    array = whole(feed(port(None, 2), data=tmp_path / "a.npy"))["x"]
    np.testing.assert_array_equal(array[:, 0], RAMP[:, 2, 5])
    np.testing.assert_array_equal(array[:, 1], RAMP[:, 3, 0])


def test_a_stream_of_no_ink_comes_from_where_there_is_some(tmp_path: Path) -> None:
    image = np.zeros((1, 6, 6), np.float32)
    image[0, 5, 3:5] = 1
    np.save(tmp_path / "a.npy", image)
    array = whole(feed(port(None, 3), data=tmp_path / "a.npy"))["x"]
    np.testing.assert_array_equal(array, [[0, 1, 1]])


def test_a_scalar_is_the_mean_of_an_image_and_has_no_batch() -> None:
    feeds = feed(port(), port(None, 4, name="y"), port(name="z"), samples=3)
    assert feeds.axes == {"x": None, "y": 0, "z": None}
    np.testing.assert_allclose(whole(feeds)["x"], MNIST[0].mean(), rtol=1e-5)
    np.testing.assert_allclose(whole(feeds)["z"], MNIST[2].mean(), rtol=1e-5)
    assert all(batch["x"].shape == () for batch in feeds.batches())


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16", "float8_e4m3fn"])
def test_float_types(dtype: str) -> None:
    array = whole(feed(port(None, 28, 28, 1, dtype=dtype), samples=3))["x"]
    assert array.dtype.name == dtype
    np.testing.assert_allclose(array.astype("f4")[..., 0], MNIST[:3], atol=0.05)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("uint8", np.rint(MNIST[:3] * 255)),
        ("int8", np.rint(MNIST[:3] * 255) - 128),
        ("bool", MNIST[:3] >= 0.5),
    ],
)
def test_what_has_eight_bits_holds_pixels_too(dtype: str, expected: NDArray[Any]) -> None:
    feeds = feed(port(None, 28, 28, 1, dtype=dtype), samples=3)
    assert whole(feeds)["x"].dtype.name == dtype
    np.testing.assert_array_equal(whole(feeds)["x"][..., 0], expected)
    assert feeds.labels is not None


@pytest.mark.parametrize("dtype", ["int64", "int32", "int4"])
def test_other_types_are_zeros_and_one_sample_of_them_is_enough(dtype: str) -> None:
    feeds = feed(port(None, 3, None, 20, dtype=dtype))
    assert whole(feeds)["x"].dtype.name == dtype
    assert whole(feeds)["x"].shape == (1, 3, 64, 20)
    assert not whole(feeds)["x"].any()
    assert feeds.labels is None
    assert feeds.said == (f"x ({dtype}): zeros, 1x3x64x20",)


def test_text_has_to_be_given(tmp_path: Path) -> None:
    text = port(None, 2, name="t", dtype="string")
    with pytest.raises(DataError, match="'t' takes text: give it some with --input t=TEXT"):
        feed(text)
    for value in ("3", 3):
        feeds = feed(text, inputs={"t": value})
        assert whole(feeds)["t"].tolist() == [["3", "3"]]
    np.save(tmp_path / "t.npy", np.array([["a", "b"], ["c", "d"]]))
    feeds = feed(text, inputs={"t": str(tmp_path / "t.npy")})
    assert whole(feeds)["t"].tolist() == [["a", "b"], ["c", "d"]]
    assert whole(feeds)["t"].dtype == object


# Batches


def test_any_batch_is_cut_to_thirty_two_in_order() -> None:
    feeds = feed(port(None, 28, 28, 1))
    batches = list(feeds.batches())
    assert [len(batch["x"]) for batch in batches] == [32, 32, 32, 4]
    together = np.concatenate([batch["x"] for batch in batches])
    np.testing.assert_array_equal(together[..., 0], MNIST)
    assert all(batch["x"].flags.c_contiguous for batch in batches)
    assert (feeds.rows, feeds.batch) == (100, None)


def test_large_inputs_make_small_batches() -> None:
    feeds = feed(port(None, 3, 1500, 1500), samples=3)
    assert [len(batch["x"]) for batch in feeds.batches()] == [2, 1]


@pytest.mark.parametrize(
    ("batch", "samples", "rows"), [(1, 3, 3), (4, 11, 8), (4, 3, 4), (7, 7, 7), (2000, 1, 2000)]
)
def test_a_fixed_batch_is_kept(batch: int, samples: int, rows: int) -> None:
    feeds = feed(port(batch, 2), samples=samples)
    assert feeds.rows == rows
    assert feeds.batch == batch
    assert {shape["x"] for shape in shapes_of(feeds)} == {(batch, 2)}
    assert feeds.labels is not None
    assert len(feeds.labels) == rows


def test_few_samples_are_repeated_to_fill_a_fixed_batch(tmp_path: Path) -> None:
    data = save(tmp_path / "a.npz", x=RAMP, y=np.arange(4))
    feeds = feed(port(6, 6, 6), data=data)
    np.testing.assert_array_equal(whole(feeds)["x"], RAMP[[0, 1, 2, 3, 0, 1]])
    assert feeds.labels is not None
    assert feeds.labels.tolist() == [0, 1, 2, 3, 0, 1]


def test_a_file_with_fewer_samples_feeds_those(tmp_path: Path) -> None:
    data = save(tmp_path / "a.npz", x=RAMP, y=np.arange(4))
    assert feed(port(None, 6, 6), data=data).rows == 4
    assert feed(port(3, 6, 6), data=data).rows == 3


def test_states_and_rates_go_with_every_batch() -> None:
    feeds = feed(
        port(2, 1, 64, name="state"),
        port(1, name="rate"),
        port(None, 1, 28, 28, name="image"),
        samples=40,
    )
    assert feeds.axes == {"state": None, "rate": None, "image": 0}
    expected = {"state": (2, 1, 64), "rate": (1,)}
    assert shapes_of(feeds) == [
        {**expected, "image": (32, 1, 28, 28)},
        {**expected, "image": (8, 1, 28, 28)},
    ]


def test_the_batch_of_a_recurrent_state_may_stand_second() -> None:
    feeds = feed(
        port(None, None), port(2, None, 8, name="h"), port(name="rate", dtype="int64"), samples=40
    )
    assert feeds.axes == {"x": 0, "h": 1, "rate": None}
    assert shapes_of(feeds) == [
        {"x": (32, 32), "h": (2, 32, 8), "rate": ()},
        {"x": (8, 32), "h": (2, 8, 8), "rate": ()},
    ]


def test_a_shape_that_fixes_the_batch_fixes_that_of_the_state() -> None:
    ports = port(None, None), port(2, None, 8, name="h")
    feeds = feed(*ports, shapes={"x": (1, 512)}, samples=3)
    assert shapes_of(feeds) == [{"x": (1, 512), "h": (2, 1, 8)}] * 3


def test_an_image_says_the_batch_before_other_inputs() -> None:
    feeds = feed(port(None, 4, name="boxes"), port(1, 3, 8, 8), samples=2)
    assert shapes_of(feeds) == [{"boxes": (1, 4), "x": (1, 3, 8, 8)}] * 2


def test_a_model_without_inputs() -> None:
    feeds = make_feeds([])
    assert list(feeds.batches()) == [{}]
    assert (feeds.rows, feeds.said) == (1, ())


def test_memory_is_that_of_a_batch(tmp_path: Path) -> None:
    """Mapped files, images and repeated arrays: nothing is made before its batch."""
    np.save(tmp_path / "a.npy", np.zeros((4000, 20, 20), np.float32))
    ports = port(None, 3, 40, 40), port(None, 50, name="m")
    tracemalloc.start()
    try:
        feeds = feed(*ports, data=tmp_path / "a.npy", inputs={"m": np.ones((1, 50))}, samples=3500)
        count = sum(len(batch["x"]) for batch in feeds.batches())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 3500
    assert peak < 4 * 32 * 3 * 40 * 40 * 4, "a few copies of a batch"
    assert "3500x3x40x40, values 0..0" in feeds.said[0]


def test_what_is_wrong_further_on_is_told_when_it_comes(tmp_path: Path) -> None:
    for number in range(40):
        Image.fromarray(np.zeros((5, 9), np.uint8)).save(tmp_path / f"{number:02}.png")
    (tmp_path / "35.png").write_bytes(b"x" * 99)
    batches = feed(port(None, 1, 8, 8), data=tmp_path).batches()
    assert len(next(batches)["x"]) == 32
    with pytest.raises(DataError, match=r"35\.png"):
        next(batches)


def test_samples_may_be_fewer_or_come_one_by_one() -> None:
    feeds = feed(port(None, 28, 28, 1), samples=40)
    assert [len(batch["x"]) for batch in feeds.singly().batches()] == [1] * 40
    few = feeds.limited(7)
    assert [len(batch["x"]) for batch in few.batches()] == [7]
    assert few.labels is not None
    assert len(few.labels) == 7
    assert (feeds.rows, feeds.rows_per_batch) == (40, 32)
    assert feed(port(3, 2), samples=9).limited(7).rows == 6
    assert feed(port(3, 2), samples=9).limited(1).rows == 3
    assert feed(port(3, 2), samples=9).singly().rows_per_batch == 3


def named(name: str, **sizes: int | None) -> Port:
    """An input whose sizes have names; those of one letter are open."""
    return Port(name, tuple(sizes.values()), "float32", symbols=tuple(sizes))


def test_sizes_of_one_name_are_one_size() -> None:
    emb = named("emb", one=1, S=None, eight=8)
    maps = named("maps", one=1, three=3, S=None, T=None)
    lead = named("lead", S=None, four=4)
    assert shapes_of(feed(emb, maps, lead, samples=1)) == [
        {"emb": (1, 64, 8), "maps": (1, 3, 64, 64), "lead": (64, 4)}
    ]
    for options in ({"shapes": {"emb": (1, 5, 8)}}, {"inputs": {"emb": np.ones((1, 5, 8))}}):
        (shapes,) = shapes_of(feed(emb, maps, lead, samples=1, **options))
        assert shapes == {"emb": (1, 5, 8), "maps": (1, 3, 5, 64), "lead": (5, 4)}


def test_the_name_of_the_batch_is_the_batch_wherever_it_stands() -> None:
    image = named("image", N=None, one=1, eight=8, nine=9)
    ports = (
        image,
        named("mask", N=None, also=None),
        named("pairs", four=4, N=None),
        named("h", two=2, N=None, eight=8),
        Port("near", (None, None), "float32", symbols=("N", "N")),
    )
    expected = {"mask": (3, 32), "pairs": (4, 3), "h": (2, 3, 8), "near": (3, 3)}
    assert shapes_of(feed(*ports, samples=3)) == [{"image": (3, 1, 8, 9), **expected}]


@pytest.mark.parametrize("word", ["?", "None", "unknown", "-1", ""])
def test_what_exporters_write_for_no_name_is_none(word: str) -> None:
    x = Port("x", (None, 3, None, None), "float32", symbols=(word, None, word, word))
    h = Port("h", (2, None, 8), "float32", symbols=(None, word, None))
    assert shapes_of(feed(x, h, samples=2)) == [{"x": (2, 3, 64, 64), "h": (2, 2, 8)}]


# What the caller sets


def test_shapes_fill_open_sizes() -> None:
    feeds = feed(port(None, 3, None, None), shapes={"x": (1, 3, 20, 30)}, samples=3)
    assert shapes_of(feeds) == [{"x": (1, 3, 20, 30)}] * 3
    unknown = Port("x", None, "float32")
    assert whole(feed(unknown, shapes={"x": [2, 5]}, samples=4))["x"].shape == (4, 5)
    with pytest.raises(DataError, match="'x' has no known shape: give it one with --shape x=DIMS"):
        feed(unknown)


@pytest.mark.parametrize("shape", [(1, 4, 20, 20), (1, 3, 20), (1, 3, 0, 5)])
def test_shapes_that_contradict_the_model(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"'x' takes the shape \(any, 3, any, any\), not \(1, "):
        feed(port(None, 3, None, None), shapes={"x": shape})


@pytest.mark.parametrize("option", ["shapes", "inputs"])
def test_unknown_names_are_told_with_the_known_ones(option: str) -> None:
    with pytest.raises(DataError, match="no input 'z'; its inputs: x, y"):
        feed(port(None), port(None, name="y"), **{option: {"z": (1,)}})


def test_no_samples() -> None:
    with pytest.raises(DataError, match="at least one"):
        feed(port(None), samples=0)


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        ("3", "int64", 3),
        ("-2", "float32", -2),
        ("1e-3", "float32", 1e-3),
        ("true", "bool", True),
        (False, "bool", False),
        (0.5, "float16", 0.5),
        (np.float64(0.25), "bfloat16", 0.25),
        ("9007199254740993", "int64", 2**53 + 1),
    ],
)
def test_values_fill_an_input(value: str | float, dtype: str, expected: object) -> None:
    feeds = feed(port(None, 2, dtype=dtype), inputs={"x": value})
    assert whole(feeds)["x"].dtype.name == dtype
    assert whole(feeds)["x"].astype(object).tolist() == [
        [pytest.approx(expected), pytest.approx(expected)]
    ]
    assert f"{expected} everywhere" in feeds.said[0]


@pytest.mark.parametrize(
    ("value", "dtype"),
    [("1.5", "int64"), (300, "uint8"), (-1, "uint64"), (2, "bool"), (2**24 + 1, "float32")],
)
def test_values_that_the_type_cannot_hold(value: str | float, dtype: str) -> None:
    with pytest.raises(DataError, match=f"'x' takes {dtype}, which cannot hold"):
        feed(port(None, 2, dtype=dtype), inputs={"x": value})


def test_arrays_and_files_for_an_input(tmp_path: Path) -> None:
    mask = np.arange(6).reshape(3, 2)
    np.save(tmp_path / "m.npy", mask)
    save(tmp_path / "m.npz", only=mask)
    for value in (mask, tmp_path / "m.npy", str(tmp_path / "m.npz")):
        ports = port(None, 28, 28, 1), port(None, 2, name="mask", dtype="int32")
        feeds = feed(*ports, inputs={"mask": value})
        np.testing.assert_array_equal(whole(feeds)["mask"], mask)
        np.testing.assert_array_equal(whole(feeds)["x"][..., 0], MNIST[:3])
    assert feeds.labels is not None
    assert feeds.said[1] == f"mask (int32): from {tmp_path / 'm.npz'}, 3x2"


def test_one_given_sample_goes_with_all_others() -> None:
    feeds = feed(port(None, 3), port(None, 2, name="m"), inputs={"m": [[1.0, 2.0]]}, samples=4)
    np.testing.assert_array_equal(whole(feeds)["m"], [[1, 2]] * 4)


def test_an_image_file_for_one_input(tmp_path: Path) -> None:
    Image.fromarray(np.full((9, 9), 51, np.uint8)).save(tmp_path / "a.png")
    inputs = {"x": tmp_path / "a.png"}
    array = whole(feed(port(None, 3, 4, 4), inputs=inputs))["x"]
    np.testing.assert_allclose(array, np.full((1, 3, 4, 4), 0.2), rtol=1e-6)
    array = whole(feed(port(None, 4, 4, 3, dtype="uint8"), inputs=inputs))["x"]
    np.testing.assert_array_equal(array, np.full((1, 4, 4, 3), 51))


def test_given_arrays_must_fit(tmp_path: Path) -> None:
    message = r"'x' takes the shape \(any, 3, any\), but is given \(5, 4, 2\)"
    with pytest.raises(DataError, match=message):
        feed(port(None, 3, None), inputs={"x": np.ones((5, 4, 2))})
    with pytest.raises(DataError, match="but is given"):
        feed(port(None, 3), inputs={"x": np.ones((0, 3))})
    data = save(tmp_path / "a.npz", a=RAMP, b=RAMP)
    with pytest.raises(DataError, match="holds 2 arrays; input 'x' needs a file with one"):
        feed(port(None, 3), inputs={"x": data})
    with pytest.raises(DataError, match="no such file"):
        feed(port(None, 3), inputs={"x": "nothing_of_this_name"})


def test_npz_that_names_the_inputs_feeds_them_as_they_are(tmp_path: Path) -> None:
    pixels = np.arange(2 * 3 * 3).astype(np.uint8).reshape(2, 3, 3, 1)
    data = save(tmp_path / "a.npz", img=pixels, k=np.array([4, 5]), y=np.array([8, 9]))
    ports = port(None, 3, 3, 1, name="img"), port(None, name="k", dtype="int64")
    feeds = feed(*ports, data=data)
    np.testing.assert_array_equal(whole(feeds)["img"], pixels)
    assert whole(feeds)["img"].dtype == np.float32
    assert whole(feeds)["k"].tolist() == [4, 5]
    assert feeds.labels is not None
    assert feeds.labels.tolist() == [8, 9]
    assert whole(feed(port(None, 3, 3, 1, name="img", dtype="uint8"), data=data))["img"].any()
    with pytest.raises(DataError, match=r"'img' takes the shape \(any, 4, 4, 1\), but is given"):
        feed(port(None, 4, 4, 1, name="img"), data=data)


def test_npz_whose_labels_are_an_input(tmp_path: Path) -> None:
    data = save(tmp_path / "a.npz", x=RAMP, y=np.arange(4))
    feeds = feed(port(None, 6, 6), port(None, name="y", dtype="int64"), data=data)
    assert feeds.labels is None
    assert whole(feeds)["y"].tolist() == [0, 1, 2, 3]


def test_npz_that_names_nothing(tmp_path: Path) -> None:
    data = save(tmp_path / "a.npz", a=RAMP, b=RAMP)
    with pytest.raises(DataError, match=r"needs an array x_test, .* \(x\); it holds a, b"):
        feed(port(None, 6, 6), data=data)


# What is said


def test_what_was_fed_is_said_in_a_line_each() -> None:
    feeds = feed(
        port(None, 3, 224, 224, name="image"),
        port(None, 5, 7, name="seq"),
        port(name="rate"),
        port(None, 9, name="mask", dtype="int64"),
    )
    source = "100 MNIST test images (1000 packed with convfc)"
    assert feeds.said[0] == (
        f"image: {source}, 28x28 -> 224x224 on 3 channels, 100x3x224x224, values 0..1"
    )
    (said,) = feed(port(None, 28, 28, 1), samples=1).said
    assert said.endswith("(1000 packed with convfc), 28x28 on 1 channel, 1x28x28x1, values 0..1")
    assert feeds.said[1].startswith(
        f"seq: {source} from number 1 on, their values one after another, 100x5x7, "
    )
    mean = f"the mean value {MNIST[2].mean():.3g} of the first"
    assert feeds.said[2] == f"rate: {source} from number 2 on, {mean}"
    assert feeds.said[3] == "mask (int64): zeros, 100x9"


def test_feeds_are_the_same_every_time() -> None:
    first, second = (feed(port(None, 3, 50, 50), port(None, 4, name="y")) for _ in range(2))
    assert first.said == second.said
    for name, array in whole(first).items():
        np.testing.assert_array_equal(array, whole(second)[name])
