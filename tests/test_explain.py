"""One layer explained: its own numbers, on the terminal, in a picture, in a page."""

from __future__ import annotations

import html.parser
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from rich.console import Console

import convfc
from convfc.explanation import page, picture
from convfc.explanation.drawing import draw
from convfc.explanation.lines import explanation_lines
from convfc.explanation.pieces import image_text
from convfc.samples.files import packed_mnist
from tests.browser import BROWSER, in_the_browser, shown
from tests.onnx_models import conv_file, integers, save
from tests.program import SAMPLES, Here, cli

PAPER = ["explain", "--input", "28x28x1", "--kernel", "14", "--stride", "14", "--digit", "7"]


def small(digit: int = 7) -> convfc.Explanation:
    """The example of the paper, with two filters."""
    conv = convfc.convolution([14, 14], channels=1, filters=2, strides=[14, 14])
    return convfc.explain_convolution(conv, (28, 28), digit=digit)


def unequal(groups: int = 1) -> convfc.Explanation:
    """Padding, stride and dilation, each different per axis."""
    conv = convfc.convolution(
        [3, 2],
        channels=2,
        filters=4,
        strides=[2, 3],
        dilations=[2, 1],
        padding=[(1, 2), (0, 1)],
        groups=groups,
    )
    return convfc.explain_convolution(conv, (12, 11), sample=5)


def by_hand(explained: convfc.Explanation, kernel: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A convolution by its definition: a loop over output places and taps."""
    conv, pads = explained.convolution, explained.pads
    image = np.pad(explained.image.astype(np.float64), [*pads, (0, 0)])
    output = np.zeros((*explained.outputs, conv.filters))
    depth = conv.channels // conv.groups
    for y, x in np.ndindex(*explained.outputs):
        for i, j in np.ndindex(*conv.kernel):
            row = y * conv.windows[0].stride + i * conv.windows[0].dilation
            column = x * conv.windows[1].stride + j * conv.windows[1].dilation
            output[y, x] += image[row, column, :depth] @ kernel[i, j]
    return output


@pytest.mark.parametrize(
    ("kind", "layer"),
    [("onnx", "conv_unequal"), ("keras", "conv_strided"), ("h5", "conv_unequal")],
)
def test_the_numbers_are_those_of_the_layer_itself(kind: str, layer: str) -> None:
    """The layer's input is 32 or 16 channels deep, strided, padded; both have a bias."""
    explained = convfc.explain_model(SAMPLES / f"mnist_cnn.{kind}", layer, sample=2)
    assert explained.bias is not None
    computed = explained.patches.astype(np.float64) @ explained.filters + explained.bias
    scale = np.abs(explained.output).max()
    np.testing.assert_array_equal(explained.output, computed)
    assert explained.own is not None
    assert explained.agreement is not None
    assert explained.agreement.difference == np.abs(explained.own - computed).max()
    assert 0 < explained.agreement.share < 1

    model = onnx.load(SAMPLES / "mnist_cnn.onnx")
    node = next(node for node in model.graph.node if node.name == layer)
    model.graph.output.append(helper.make_empty_tensor_value_info(node.output[0]))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    image = packed_mnist()["x_test"][2][None, None].astype(np.float32) / 255
    (whole,) = session.run([node.output[0]], {"image": image})
    expected = np.moveaxis(whole[0], 0, -1).reshape(explained.output.shape)
    np.testing.assert_allclose(explained.output, expected, atol=1e-5 * scale)


@pytest.mark.parametrize("groups", [1, 2])
def test_windows_and_filters_lie_where_the_definition_says(groups: int) -> None:
    explained = unequal(groups)
    conv = explained.convolution
    depth = conv.channels // groups
    kernel = explained.filters.reshape(*conv.kernel, depth, -1)
    whole = np.concatenate([kernel, np.zeros_like(kernel)], -1) if groups > 1 else kernel
    expected = by_hand(explained, whole)[..., : conv.filters // groups]
    np.testing.assert_allclose(
        explained.output, expected.reshape(explained.output.shape), atol=1e-6
    )
    padded = np.pad(explained.image, [*explained.pads, (0, 0)])
    for position in range(len(explained.patches)):
        row, column = explained.corner(position)
        row, column = row + explained.pads[0][0], column + explained.pads[1][0]
        window = padded[row : row + 5 : 2, column : column + 2, depth - 1]
        np.testing.assert_array_equal(explained.patch_image(position, depth - 1), window)


def test_the_last_axis_alone_is_an_image_of_one_row(tmp_path: Path) -> None:
    path = conv_file(tmp_path / "n.onnx", convfc.convolution([3], channels=2, filters=3), (9,))
    explained = convfc.explain_model(path)
    assert (explained.image.shape, explained.outputs) == ((1, 9, 2), (1, 7))
    assert explained.agreement is not None
    assert explained.remarks == ("its one axis is drawn as an image of one row",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain"], "give a model and perhaps --layer, or --input"),
        ([*PAPER, "--sample", "3"], "give --sample or --digit, not both"),
        ([*PAPER[:-2], "--digit", "11"], "no sample with the label 11"),
        ([*PAPER[:-2], "--sample", "1000"], "sample 1000: there are only 1000"),
        ([*PAPER, "--out", "a.gif"], "a.gif: give it a name that ends in .png, .svg or .html"),
        (["explain", "--input", "1 2; 3", "--kernel", "1"], "write rows of equally many numbers"),
        (["explain", "mnist_cnn.onnx", "--layer", "dense"], "no convolution 'dense' in it; there"),
        (["explain", "nothing.onnx"], "no such file"),
    ],
)
def test_what_cannot_be_explained_is_said(arguments: list[str], message: str, here: Here) -> None:
    done = here(*arguments, cwd=SAMPLES)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert not (SAMPLES / "a.gif").exists()


def test_a_transposed_layer_is_refused(tmp_path: Path) -> None:
    weights = {"W": integers([1, 1, 2, 2])}
    node = helper.make_node("ConvTranspose", ["x", "W"], ["y"], name="up")
    path = save(tmp_path / "up.onnx", [node], {"x": [1, 1, 4, 5]}, ["y"], weights)
    with pytest.raises(convfc.UnsupportedModelError, match="is a transposed convolution"):
        convfc.explain_model(path)


def test_an_image_of_one_value_is_seen_on_any_terminal() -> None:
    """Alone, and as the darkest or the brightest of several."""
    pair = np.stack([np.zeros((2, 2)), np.ones((2, 2))])
    found = [image_text(image, True, limits) for image in pair for limits in (None, (0, 1))]
    styles = {str(span.style) for text in found for span in text.spans}
    greys = {int(level) for style in styles for level in re.findall(r"\d+", style)}
    assert len(greys) == 2
    assert 32 < min(greys) < max(greys) < 223


def test_the_terminal_shows_every_step(tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    done = cli(*PAPER, "--filters", "2", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    golden("explain", "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines()))


def test_a_large_layer_is_shown_in_part_and_in_colours() -> None:
    explained = convfc.explain_model(SAMPLES / "mnist_cnn.onnx", "conv_same", digit=0)
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="truecolor")
    for line in explanation_lines(explained, colour=True):
        console.print(line)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "the first 4 of 784 windows" in text
    assert "the first 4 of 16 filters" in text
    assert "38;2;255;255;255;48;2;" in text, "a white pixel above another one"


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_picture_is_drawn_the_same_every_time(tmp_path: Path, suffix: str) -> None:
    one, other = (draw(unequal(2), tmp_path / f"{n}{suffix}") for n in "ab")
    assert one.read_bytes() == other.read_bytes()
    assert one.stat().st_size > 10_000


def test_the_picture_holds_the_numbers_and_says_what_is_left_out() -> None:
    explained = convfc.explain_model(SAMPLES / "mnist_cnn.onnx", "conv_same", digit=0)
    position, number = explained.most_telling
    figure = picture.picture(explained)
    titles = [axes.get_title() for axes in figure.axes]
    assert "patch matrix P, 784×9\nrows" in titles[1]
    texts = "\n".join(text.get_text() for text in figure.texts)
    assert f"the bias, = {explained.output[position, number]:.4g}" in texts
    assert "+ b =" in texts
    drawn = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    np.testing.assert_array_equal(drawn[4], explained.patch_image(position))
    np.testing.assert_array_equal(drawn[5], explained.filter_image(number))
    np.testing.assert_array_equal(drawn[6], explained.output_image(number))


def test_the_page_holds_the_numbers_and_asks_nobody_for_anything(tmp_path: Path) -> None:
    explained = unequal()
    text = draw(explained, tmp_path / "page.html").read_text()
    held = json.loads(text.split('type="application/json">')[1].split("</script>")[0])
    np.testing.assert_array_equal(np.float32(held["patches"]), explained.patches)
    np.testing.assert_array_equal(np.float32(held["filters"]), explained.filters)
    np.testing.assert_allclose(held["products"], explained.output, rtol=1e-8)
    assert held["part"] == ""
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<link rel=.style", text)
    ids: list[str] = []

    class Ids(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            del tag
            ids.extend(value for name, value in attrs if name == "id" and value)

    Ids().feed(text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'by\("([a-z-]+)"\)', text)) <= set(ids)


def test_a_page_of_a_large_layer_holds_a_part_and_hostile_names_are_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "CELLS", 60)
    conv = convfc.convolution([3, 3], channels=1, filters=9)
    path = conv_file(tmp_path / "<b>.onnx", conv, (8, 8))
    explained = convfc.explain_model(path)
    contents = page.contents(explained)
    assert contents["part"] == "A part of it: the first 6 of 36 windows, the first 6 of 9 filters."
    assert len(contents["patches"]) == 6
    assert contents["position"] < 6
    assert "<b>" not in draw(explained, tmp_path / "p.html").read_text().split("<script>")[0]


@pytest.mark.skipif(not BROWSER, reason="no Chromium or Chrome is installed")
def test_a_real_browser_steps_through_the_page(tmp_path: Path) -> None:
    explained = unequal()
    path = draw(explained, tmp_path / "page.html")
    hover = """
      const stage = by("rows"), box = stage.getBoundingClientRect();
      const at = 8.5 / data.patches.length * box.height + box.top;
      stage.dispatchEvent(new PointerEvent("pointermove",
        {clientX: box.left + 5, clientY: at, bubbles: true}));
      document.title = by("image").querySelector("rect:last-child").getAttribute("x") + "," +
        by("image").querySelector("rect:last-child").getAttribute("y");
    """
    dom = in_the_browser(path, hover, "#filter=1")
    row, column = explained.corner(8)
    assert shown(dom, "where") == (
        f"Window 8 of {len(explained.patches)}: rows {row} to {row + 4} in steps of 2, "
        f"columns {column} to {column + 1} of the image; it becomes row 8 of P."
    )
    products = explained.products(8, 1)
    assert shown(dom, "sum").endswith(
        f": these are 4 of 12 products, all add up to {explained.output[8, 1]:.4g}."
    )
    assert (
        f"6 of 12 products, those of channel 0: they add up to {products[::2].sum():.4g}; "
        f"all 12 make {explained.output[8, 1]:.4g}"
    ) in dom
    assert shown(dom, "filter-shown") == "1"
    # The marked window, in the padded image: one row of zeros above it, none to its left.
    assert f"<title>{column},{row + 1}</title>" in dom

    keys = """
      for (const key of ["Home", "ArrowDown", "ArrowDown", "ArrowUp"]) {
        by("rows").dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
      }
      by("on").click();
      by("channel").value = 1;
      by("channel").dispatchEvent(new Event("input"));
    """
    dom = in_the_browser(path, keys)
    assert shown(dom, "position-shown") == "2"
    assert shown(dom, "channel-shown") == "1"
    assert 'aria-valuenow="2"' in dom
