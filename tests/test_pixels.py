"""Pixels that models want on another scale: (pixel * scale - mean) / std, channel by channel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convfc import DataError, UsageError, arguments
from convfc.cli.parsing import numbers
from convfc.formats.protocols import Port
from convfc.samples.feeds import make_feeds
from convfc.samples.pixels import Pixels
from tests.onnx_models import Array
from tests.program import SAMPLES, Here

COLOURS = np.array([[[255, 0, 51], [102, 204, 153]]], np.uint8)
"""A picture of one row: each channel of it is told from the others."""
IMAGENET = Pixels(1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    Image.fromarray(COLOURS).save(tmp_path / "images" / "a.png")
    return tmp_path / "images"


def fed(port: Port, data: Path | str, pixels: Pixels) -> tuple[Array, str]:
    feeds = make_feeds([port], data=data, samples=1, pixels=pixels)
    (feed,) = feeds.batches()
    (said,) = feeds.said
    return feed[port.name], said


@pytest.mark.parametrize("last", [False, True])
def test_each_channel_has_its_mean_red_first(folder: Path, last: bool) -> None:
    shape = (None, 1, 2, 3) if last else (None, 3, 1, 2)
    found, said = fed(Port("x", shape, "float32", channels_last=last), folder, IMAGENET)
    wanted = (COLOURS / 255 - IMAGENET.mean) / IMAGENET.std
    np.testing.assert_allclose(
        found[0], wanted if last else np.moveaxis(wanted, -1, 0), rtol=1e-6, atol=1e-6
    )
    assert "(pixel * 1 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]" in said


def test_one_number_is_for_all_channels(folder: Path) -> None:
    port = Port("x", (None, 3, 1, 2), "float32")
    found, _ = fed(port, folder, Pixels(255.0, (127.5,), (127.5,)))
    np.testing.assert_allclose(found[0], np.moveaxis(COLOURS / 127.5 - 1, -1, 0), atol=1e-6)


def test_a_stream_of_pixels_has_no_channels(folder: Path) -> None:
    port = Port("x", (None, 6), "float32")
    found, _ = fed(port, folder, Pixels(1.0, (0.5,), (0.5,)))
    np.testing.assert_allclose(found[0], (COLOURS / 255 * 2 - 1).ravel(), atol=1e-6)
    with pytest.raises(DataError, match="--mean: 3 numbers, but input 'x' has 1 channel"):
        fed(port, folder, IMAGENET)


def test_numbers_for_other_channels_are_refused() -> None:
    port = Port("x", (None, 1, 28, 28), "float32")
    with pytest.raises(DataError, match=r"--std: 2 numbers, but input 'x' has 1 channel$"):
        fed(port, "mnist", Pixels(std=(1.0, 2.0)))


def test_what_is_no_real_number_stays_a_pixel(folder: Path) -> None:
    port, other = Port("x", (None, 3, 1, 2), "uint8"), Port("y", (None, 3, 1, 2), "float32")
    (feed,) = make_feeds([port, other], data=folder, pixels=IMAGENET).batches()
    assert np.array_equal(feed["x"][0], np.moveaxis(COLOURS, -1, 0))
    with pytest.raises(DataError, match="--scale, --mean and --std: no input of real numbers is"):
        make_feeds([port], data=folder, pixels=IMAGENET)
    given: dict[str, Any] = {"inputs": {"y": np.zeros((1, 3, 1, 2), np.float32)}}
    with pytest.raises(DataError, match="no input of real numbers is fed images"):
        make_feeds([port, other], data=folder, pixels=IMAGENET, **given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"scale": "2"}, "scale is .*'2'.*: it takes finite numbers"),
        ({"mean": []}, "mean is .*: it takes finite numbers"),
        ({"mean": [0.1, float("nan")]}, "mean is .*: it takes finite numbers"),
        ({"std": (1.0, 0.0)}, "std is .*: it takes numbers to divide by"),
    ],
)
def test_what_is_no_number_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        arguments.verifying(**given)


def test_numpy_s_numbers_are_numbers() -> None:
    found = arguments.pixels(np.float32(2), np.array([0.5, 0.25]), 4)
    assert found == (2.0, (0.5, 0.25), (4.0,))


def test_the_program_takes_them(tmp_path: Path, here: Here) -> None:
    path = SAMPLES / "mnist_cnn.onnx"
    options = ("--scale", "255", "--mean", "33.3", "--std", "78.6")
    done = here("verify", path, path, "--samples", "2", *options, cwd=tmp_path)
    assert done.returncode == 0
    assert ", (pixel * 255 - 33.3) / 78.6, " in done.stdout
    assert "values -0.42" in done.stdout


def test_what_is_typed_is_read() -> None:
    assert numbers("--mean", "0.5,-1e-2", 0.0) == [0.5, -0.01]
    assert numbers("--std", None, 1.0) == [1.0]
    for text in ("1,two", "1,", "nan", "inf", ""):
        with pytest.raises(UsageError, match=r"^--mean .*: write numbers with a comma between"):
            numbers("--mean", text, 0.0)
