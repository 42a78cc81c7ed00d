"""What `explain` shows of the paper beyond P F + b: flipped filters, index map, batches, slices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convfc
from convfc.explanation import batch_picture
from convfc.explanation.drawing import draw
from convfc.explanation.lines import explanation_lines
from convfc.explanation.values import value_lines
from tests import schemas
from tests.onnx_models import conv_file
from tests.program import exit_code
from tests.reference import convolve
from tests.test_explain_truth import printed

DOCS = Path(__file__).parents[1] / "docs"
IMAGE, FILTER = "1 2 0 1; 0 1 3 1; 4 0 1 2", "1 0; 2 -1"
UNEQUAL = convfc.convolution(
    [3, 2],
    channels=4,
    filters=6,
    strides=[2, 3],
    dilations=[2, 1],
    padding=[(1, 2), (0, 1)],
    groups=2,
)


def told(explained: convfc.Explanation, width: int = 80) -> list[str]:
    return printed([*explanation_lines(explained, colour=False), *value_lines(explained)], width)


def test_layers_correlate_and_mathematics_convolves() -> None:
    """numpy has both, for one axis."""
    x, w = np.array([3, 1, 4, 1, 5, 9]), np.array([2, 7, -1])
    conv = convfc.convolution([3], channels=1, filters=1)
    explained = convfc.explain_convolution(conv, (6,), x=x, kernel=w)
    assert explained.output[:, 0].tolist() == np.correlate(x, w, "valid").tolist()
    assert explained.flipped.output[:, 0].tolist() == np.convolve(x, w, "valid").tolist()
    assert explained.output.dtype == np.int64, "numbers that are whole stay so"
    assert explained.flipped.flipped.output.tolist() == explained.output.tolist()


def test_integers_too_large_for_exact_sums_are_real_numbers() -> None:
    conv = convfc.convolution([2], channels=1, filters=1)
    explained = convfc.explain_convolution(conv, (2,), x=[2**53 - 1] * 2, kernel=[1, 1])
    assert explained.output.tolist() == [[2**54 - 2]]
    assert explained.output.dtype == np.float64
    huge = np.array([2**64 - 1, 0], np.uint64)
    explained = convfc.explain_convolution(conv, (2,), x=huge, kernel=[1, 1])
    assert explained.output.item() == 2.0**64


@pytest.mark.parametrize(
    "given",
    [
        {"x": [1, 2, 3]},
        {"x": [[1, 2], [3]]},
        {"x": ["a", "b"]},
        {"kernel": [[[[1]]]]},
        {"x": [1, 2], "sample": 0},
        {"x": [1, 2], "batch": 2},
    ],
)
def test_arrays_that_do_not_fit_are_refused(given: dict[str, Any]) -> None:
    conv = convfc.convolution([1], channels=1, filters=1)
    with pytest.raises(convfc.UsageError, match=r"takes numbers of shape|give them or x"):
        convfc.explain_convolution(conv, (2,), **given)


def test_the_index_map_and_the_one_matrix_make_the_same_numbers() -> None:
    explained = convfc.explain_convolution(UNEQUAL, (12, 11), sample=5)
    flat = explained.image.reshape(-1)
    found = np.append(flat, 0)[explained.index_map]
    np.testing.assert_array_equal(found, explained.patches)
    whole = explained.dense_part(range(flat.size), range(explained.output.size))
    np.testing.assert_allclose(flat @ whole, explained.output.reshape(-1), atol=1e-6)
    assert np.count_nonzero(whole) > explained.filters.size
    lines = told(explained)
    assert max(map(len, lines)) <= 80
    assert "  I(r, k) = ((2u + 2i - 1) · 11 + 3v + j) · 4 + c" in lines
    assert "  r = u · 4 + v,  k = (i · 2 + j) · 2 + c" in lines
    assert "  y[u, v] = sum of x[2u + 2i - 1, 3v + j, c] · w[2 - i, 1 - j, c]" in lines


def test_of_three_axes_a_slice_is_shown(tmp_path: Path) -> None:
    """With a kernel that no axis shares, of two groups, in the padding along the first axis."""
    conv = convfc.convolution(
        [3, 2, 1],
        channels=4,
        filters=2,
        strides=[3, 1, 2],
        dilations=[2, 1, 1],
        padding=[(4, 0), (1, 0), (0, 0)],
        groups=2,
    )
    path = conv_file(tmp_path / "m.onnx", conv, (5, 4, 7))
    x = np.random.default_rng(3).integers(-9, 9, (1, 4, 5, 4, 7)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    explained = convfc.explain_model(path, data=tmp_path / "x.npz")
    assert explained.remarks[0] == (
        "along axis 1, this is slice 1 of the 2 of the output; the 3 of the input that it sees "
        "are channels here, one behind the other"
    )
    assert explained.agreement is not None
    assert explained.own is not None
    kernel = np.random.default_rng(4).integers(-5, 5, conv.kernel_shape)
    images = np.moveaxis(x, 1, -1).astype(np.int64)
    again = convfc.explain_convolution(conv, (5, 4, 7), x=images[0], kernel=kernel)
    whole = convolve(images, kernel, None, conv)
    np.testing.assert_array_equal(again.output_image(0), whole[0, 1, :, :, 0])
    np.testing.assert_array_equal(again.image, explained.image)
    assert not again.image[..., 0].any(), "the first tap lies in the padding"
    assert again.image[..., 2].any()


def test_a_batch_is_a_block_of_rows_for_each_image(tmp_path: Path) -> None:
    path = conv_file(tmp_path / "m.onnx", UNEQUAL, (12, 11))
    explained = convfc.explain_model(path, sample=2, batch=3)
    single = convfc.explain_model(path, sample=4)
    assert len(explained.batch) == 3
    np.testing.assert_array_equal(explained.batch[2].patches, single.patches)
    assert explained.bias is not None
    with np.load(draw(explained, tmp_path / "e.npz")) as file:
        held = {name: file[name] for name in file}
    assert [*held] == ["x", "P", "F", "b", "y", "own", "index_map"]
    assert (held["x"].shape, held["P"].shape) == ((3, 12, 11, 4), (72, 12))
    product = held["P"].astype(np.float64) @ held["F"] + held["b"]
    np.testing.assert_allclose(product, held["y"], rtol=1e-12)
    for n, image in enumerate(held["x"]):
        block = held["P"][24 * n : 24 * (n + 1)]
        np.testing.assert_array_equal(np.append(image, 0)[held["index_map"]], block)
    np.testing.assert_array_equal(held["own"][48:], single.own)
    assert schemas.faults(explained.to_dict()) == []
    lines = told(explained)
    assert "A batch of 3 images (figure 5): 24 rows of P for each (the first of 4 channels)" in (
        told(explained, 200)
    )
    assert max(map(len, lines)) <= 80
    assert "the first image of 3: P of the batch is 72×12" in lines


def test_the_picture_of_a_batch_has_a_block_for_each_image() -> None:
    conv = convfc.convolution([14, 14], channels=1, filters=3, strides=[14, 14])
    explained = convfc.explain_convolution(conv, (28, 28), batch=5)
    figure = batch_picture.picture(explained)
    drawn = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    np.testing.assert_array_equal(
        drawn[0], np.concatenate([one.patches for one in explained.batch[:4]])
    )
    np.testing.assert_array_equal(drawn[5], explained.batch[2].image[..., 0])
    texts = [text.get_text() for text in figure.texts]
    assert "the first 4 of 5 images" in texts
    assert figure.axes[5].get_xlabel() == "image 2: rows 8 to 11"


def test_a_window_as_large_as_the_image_is_a_fully_connected_layer() -> None:
    conv = convfc.convolution([3, 4], channels=2, filters=5)
    lines = told(convfc.explain_convolution(conv, (3, 4)))
    assert "P is the image as one row, 1×24, and F has a column for each output" in lines


def test_one_s_own_numbers_step_by_step(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    golden: Callable[[str, str], None],
) -> None:
    """The page on the paper shows the same."""
    line = ["explain", "--input", IMAGE, "--kernel", FILTER, "--values"]
    assert exit_code(monkeypatch, *line) == 0
    text = "".join(f"{line.rstrip()}\n" for line in capsys.readouterr().out.splitlines())
    golden("explain_values", text)
    assert max(map(len, text.splitlines())) <= 80
    assert text in (DOCS / "paper.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--input", "1 2; 3 x", "--kernel", "1"], 'equally many numbers, like "1 2; 3 4"'),
        (["--input", "1 inf", "--kernel", "1"], 'equally many numbers, like "1 2; 3 4"'),
        (["--input", "3x3x2", "--kernel", "1 2"], "numbers of a filter, give HxWx1"),
        (["--input", "1 2", "--kernel", "1", "--batch", "2"], "--input gives one already"),
        (["--input", "3x3x1", "--kernel", "1 2", "--filters", "2"], "are one filter"),
        (["--input", "3x3x1", "--kernel", "1", "--values", "-o", "a.npz"], "is for the terminal"),
    ],
)
def test_numbers_that_cannot_be_meant(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    assert exit_code(monkeypatch, "explain", *arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
