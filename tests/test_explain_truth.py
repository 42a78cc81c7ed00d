"""What is shown of a layer is so: zero points, sums to the last digit, layouts, types."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table
from rich.text import Text

import convfc
from convfc.core.quantization import Scaling
from convfc.explanation import page, sources, wording
from convfc.explanation.agreement import DisagreementError, agreement
from convfc.explanation.drawing import draw
from convfc.explanation.lines import explanation_lines
from convfc.explanation.numbers import explanation
from convfc.formats.keras.quiet import importing
from tests.browser import BROWSER, in_the_browser, shown
from tests.keras_models import save as save_keras
from tests.onnx_models import attributes, kernel_shape, save
from tests.program import exit_code
from tests.reference import convolve

Array = NDArray[Any]
SIZES = (7, 9)
PADDED = convfc.convolution(
    [3, 2], channels=4, filters=6, strides=[2, 1], dilations=[1, 2], padding=[(1, 2), (0, 1)]
)


def quantized(
    path: Path, conv: convfc.Convolution, types: str, *, each: bool = False, integer: bool = False
) -> dict[str, Array]:
    """A QLinearConv or ConvInteger behind a QuantizeLinear, and its numbers by their names.

    Args:
        path: where it goes.
        conv: its geometry.
        types: of input and kernel: uint8 or int8.
        each: whether each filter has a scale and a zero point of its own.
        integer: a ConvInteger.
    """
    x, kernel = (np.dtype(name) for name in types.split())
    random = np.random.default_rng(7)
    limits = np.iinfo(kernel)
    several = (conv.filters,) if each else ()
    # onnxruntime wants no zero point but 0 of a kernel with a sign.
    zeros = random.integers(1, 200 if kernel == np.uint8 else 2, several)
    numbers: dict[str, Array] = {
        "xs": np.array(0.004, np.float32),
        "xz": np.array(7, x),
        "W": random.integers(limits.min, limits.max + 1, kernel_shape(conv)).astype(kernel),
        "ws": random.uniform(0.005, 0.02, several).astype(np.float32),
        "wz": np.asarray(zeros if kernel == np.uint8 else zeros * 0, kernel),
        "ys": np.array(0.09, np.float32),
        "yz": np.array(100, x),
        "B": random.integers(-9999, 9999, conv.filters).astype(np.int32),
    }
    names = ["W", "xz", "wz"] if integer else ["xs", "xz", "W", "ws", "wz", "ys", "yz", "B"]
    op = "ConvInteger" if integer else "QLinearConv"
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"], name="quantize"),
        helper.make_node(op, ["q", *names], ["y"], name="conv", **attributes(conv)),
    ]
    port = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", conv.channels, *SIZES])
    result = TensorProto.INT32 if integer else helper.np_dtype_to_tensor_dtype(x)
    end = helper.make_tensor_value_info("y", result, [None] * 4)
    stored = [numpy_helper.from_array(numbers[n], n) for n in {"xs", "xz", *names}]
    graph = helper.make_graph(nodes, "net", [port], [end], stored)
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return numbers


@pytest.mark.parametrize(
    ("conv", "types", "each"),
    [
        (PADDED, "uint8 int8", False),
        (PADDED, "uint8 uint8", True),
        (replace(PADDED, groups=2), "uint8 uint8", True),
        (replace(PADDED, groups=2), "int8 int8", True),
        (replace(PADDED, groups=4, filters=8), "uint8 int8", False),
    ],
)
def test_a_quantized_layer_is_sums_of_integers_and_then_scaled(
    tmp_path: Path, conv: convfc.Convolution, types: str, each: bool
) -> None:
    numbers = quantized(tmp_path / "q.onnx", conv, types, each=each)
    explained = convfc.explain_model(tmp_path / "q.onnx", sample=3)
    width = conv.filters // conv.groups
    image = explained.image[None]
    assert image.min() < 0 < image.max() or numbers["xz"] == 7
    kernel = numbers["W"].astype(np.int64).transpose(2, 3, 1, 0) - numbers["wz"]
    sums = convolve(image, kernel, numbers["B"], conv)[0]
    first = sums[..., :width].reshape(-1, width)
    np.testing.assert_array_equal(explained.output, first)
    np.testing.assert_array_equal(
        explained.patches @ explained.filters + explained.bias, explained.output
    )
    limits = np.iinfo(types.split()[0])
    scales = np.broadcast_to(numbers["ws"], conv.filters)[:width].astype(np.float64)
    steps = first * np.float64(numbers["xs"]) * scales / np.float64(numbers["ys"])
    expected = np.clip(np.rint(steps) + 100, limits.min, limits.max)
    assert explained.own is not None
    far = abs(abs(steps - np.trunc(steps)) - 0.5) > 1e-3  # a tie may go either way
    np.testing.assert_array_equal(explained.own[far], expected[far])
    assert len(np.unique(explained.own)) > 10
    (scaled,) = wording.scaling_text(explained, 5, 1)
    assert scaled.startswith(f"scaled: {wording.factor(first[5, 1], 0)} · 0.004 · {scales[1]:.6g}")
    assert scaled.endswith(f"kept within {limits.min} to {limits.max}: {explained.own[5, 1]}")


def test_an_integer_convolution_ends_with_its_sums(tmp_path: Path) -> None:
    numbers = quantized(tmp_path / "q.onnx", PADDED, "uint8 uint8", integer=True)
    explained = convfc.explain_model(tmp_path / "q.onnx", sample=3)
    kernel = numbers["W"].astype(np.int64).transpose(2, 3, 1, 0) - numbers["wz"]
    sums = convolve(explained.image[None], kernel, None, PADDED)[0]
    np.testing.assert_array_equal(explained.output, sums.reshape(-1, 6))
    np.testing.assert_array_equal(explained.own, explained.output)
    assert wording.scaling_text(explained, 0, 0) == []
    assert (
        f"7 is taken off the input and its pads, which are 0 then, and {numbers['wz']} off"
        in (explained.remarks[0])
    )


def test_zero_points_that_are_computed_at_run_time_cannot_be_drawn(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="quantize"),
        helper.make_node("ConvInteger", ["q", "W", "z"], ["c"], name="conv"),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]
    kernel = np.ones((2, 1, 2, 2), np.uint8)
    path = save(tmp_path / "d.onnx", nodes, {"x": ["n", 1, 5, 6]}, ["y"], {"W": kernel})
    with pytest.raises(convfc.UnsupportedModelError, match="input zero point is computed at run"):
        convfc.explain_model(path)


def evaluated(text: str) -> float:
    """A sum of products as it is written, computed."""
    assert re.fullmatch(r"[-\d,.e+ ·()]+", text), text
    return float(eval(text.replace(",", "").replace("·", "*")))  # noqa: S307 - digits and signs


def printed(lines: Iterable[Text | Table], width: int = 1000) -> list[str]:
    """What a terminal without colours shows."""
    console = Console(file=io.StringIO(), width=width, highlight=False)
    for line in lines:
        console.print(line)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("integer", [True, False])
def test_every_sum_on_the_terminal_is_what_it_says(tmp_path: Path, integer: bool) -> None:
    """All digits of integers; half a unit of the last of three digits of each factor else."""
    if integer:
        quantized(tmp_path / "q.onnx", PADDED, "uint8 uint8", each=True)
        explained = convfc.explain_model(tmp_path / "q.onnx", sample=3)
        tolerance = 0.0
    else:
        sample = Path(__file__).parents[1] / "sample_models" / "mnist_cnn.onnx"
        explained = convfc.explain_model(sample, "conv_unequal", digit=3)
        tolerance = 0.01
    lines = [line.strip() for line in printed(explanation_lines(explained, colour=False))]
    start = next(i for i, line in enumerate(lines) if line.startswith("window at ")) + 1
    written, rest = lines[start].split(" = ")
    total = float(lines[start + 1].split("add up to ")[1].replace(",", ""))
    assert f"these are 3 of {len(explained.filters):,} products" in rest
    stated = float(rest.split(":")[0].replace(",", ""))
    assert evaluated(written) == pytest.approx(stated, rel=tolerance, abs=0)
    added, made = lines[start + 2].split(", the bias, = ")
    assert added.startswith(f"{lines[start + 1].split('add up to ')[1]} + ")
    assert evaluated(added) == pytest.approx(float(made.replace(",", "")), rel=tolerance, abs=0)
    assert re.search(r"[·+] -", "\n".join(lines)) is None, "a negative factor has parentheses"
    position = next(n for n in range(len(explained.patches)) if np.ptp(explained.patches[n]) > 0)
    assert total == pytest.approx(explained.products(position, 0).sum(), rel=1e-3 * (not integer))


def test_tables_and_images_fit_into_80_columns() -> None:
    """Sums of ten digits, and windows of which four are wider than that."""
    conv = convfc.convolution([3, 40], channels=2, filters=9)
    random = np.random.default_rng(2)
    x = random.normal(size=(1, 6, 44, 2)).astype(np.float32) * 1e-9
    kernel = random.normal(size=conv.kernel_shape).astype(np.float32)
    explained = explanation("", conv, x, kernel, np.ones(9), "random")
    told = explanation_lines(explained, colour=False)
    narrow, wide = (
        [line for line in printed(told, width) if re.match(r"[┏┃┡│└]|\W*$", line)]
        for width in (80, 1000)
    )
    assert narrow == wide
    assert max(map(len, narrow)) <= 80


def keras_file(path: Path) -> Path:
    """Layers of both data formats, whose sizes are as many as the channels."""
    with importing():
        import keras
        from keras import layers
    x = inputs = keras.Input((6, 6, 6))
    x = layers.Conv2D(6, 3, padding="same", name="last", activation="relu")(x)
    x = layers.Conv2D(6, 2, data_format="channels_first", use_bias=False, name="first")(x)
    x = layers.DepthwiseConv2D((2, 3), depth_multiplier=2, name="depthwise")(x)
    x = layers.Conv2D(4, 2, groups=2, strides=2, name="grouped", dtype="mixed_float16")(x)
    model = keras.Model(inputs, x)
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.normal(size=weight.shape))
    return save_keras(model, path)


def test_each_layer_has_a_layout_and_a_type_of_its_own(tmp_path: Path) -> None:
    """The layer's own output tells: it is compared, and would not agree otherwise."""
    path = keras_file(tmp_path / "m.keras")
    shapes = {"last": (6, 6, 6), "first": (6, 6, 6), "depthwise": (6, 5, 5), "grouped": (5, 3, 10)}
    for name, shape in shapes.items():
        explained = convfc.explain_model(path, name, sample=1)
        assert explained.image.shape == shape
        assert explained.agreement is not None
        assert explained.agreement.free == 0
        assert explained.dtype == ("float16" if name == "grouped" else "float32")
    assert explained.remarks == (
        "2 blocks of channels, each on its own; this is the first: channels 0 to 4 of 10, "
        "filters 0 to 1 of 4",
    )


@pytest.mark.parametrize("suffix", ["", ".png", ".svg", ".html"])
@pytest.mark.parametrize("what", ["kernel", "zero point"])
def test_what_the_layer_does_not_compute_is_not_drawn(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    what: str,
    suffix: str,
) -> None:
    conv = convfc.convolution([2, 3], channels=4, filters=3)
    path = tmp_path / "m.onnx"
    quantized(path, conv, "uint8 int8", integer=True)
    if what == "kernel":
        parameters = sources._parameters

        def wrong_kernel(*args: Any) -> tuple[Array, Array | None]:
            kernel, bias = parameters(*args)
            kernel = kernel.copy()
            kernel[-1, -1, -1, -1] ^= 1
            return kernel, bias

        monkeypatch.setattr(sources, "_parameters", wrong_kernel)
    else:
        found = sources._quantization

        def wrong_zero(*args: Any) -> Any:
            quantization = found(*args)
            assert quantization is not None
            return replace(quantization, x_zero=quantization.x_zero + 1)

        monkeypatch.setattr(sources, "_quantization", wrong_zero)
    out = tmp_path / f"drawn{suffix}"
    options = ["-o", str(out)] if suffix else []
    assert exit_code(monkeypatch, "explain", path, *options) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{path}: layer 'conv': its own output and P · F" in said.err
    assert "differ by" in said.err
    assert not out.exists()


def test_the_bound_is_that_of_the_type_and_what_has_none_is_left_out() -> None:
    exact, magnitude = np.array([[1.0, 2.0]]), np.array([[4.0, 4.0]])
    near = agreement(exact + 1e-6, exact, magnitude, 9, "float32", None)
    assert near.difference == pytest.approx(1e-6)
    assert near.share == pytest.approx(1e-6 / (2 * 10 * 2**-24 * 4), rel=1e-4)
    with pytest.raises(DisagreementError, match=r"differ by 1e-05 \(window 0, filter 1: 2.00001"):
        agreement(np.array([[1, 2.00001]]), exact, magnitude, 9, "float32", None)
    agreement(exact + 0.01, exact, magnitude, 9, "float16", None)
    assert agreement(exact + 1, exact, magnitude, 2048, "float16", None).free == 2
    endless = np.array([[np.nan, 2.0]])
    assert agreement(endless, endless, np.array([[np.nan, 4]]), 9, "float32", None).free == 1
    with pytest.raises(DisagreementError):
        agreement(endless, exact, magnitude, 9, "float32", None)
    assert agreement(exact, exact * 1e9, magnitude * 1e38, 9, "float32", None).free == 2


def test_scaled_sums_are_rounded_and_ties_go_either_way() -> None:
    scaling = Scaling(0.5, np.array([1], np.float32), 1.0, 3, (0, 255))
    sums = np.array([[5], [-40], [700], [7]])
    up, down = np.array([[6], [0], [255], [7]]), np.array([[5], [0], [255], [6]])
    for own in (up, down):
        assert agreement(own, sums, abs(sums), 9, "uint8", scaling).difference == 0.5
    for place, step in ((0, 1), (1, 1), (2, -1)):
        wrong = up.copy()
        wrong[place] += step
        with pytest.raises(DisagreementError):
            agreement(wrong, sums, abs(sums), 9, "uint8", scaling)


@pytest.mark.skipif(not BROWSER, reason="no Chromium or Chrome is installed")
def test_the_page_of_a_quantized_layer_in_a_real_browser(tmp_path: Path) -> None:
    quantized(tmp_path / "q.onnx", replace(PADDED, groups=2), "uint8 uint8", each=True)
    explained = convfc.explain_model(tmp_path / "q.onnx", sample=3)
    assert explained.bias is not None
    assert explained.own is not None
    path = draw(explained, tmp_path / "page.html")
    dom = in_the_browser(path, hash_="#position=7&filter=1&channel=1")
    products, output = explained.products(7, 1), explained.output[7, 1]
    said = shown(dom, "sum")
    written, rest = said.split(" of F: ")[1].split(" = ", 1)
    assert evaluated(written) == float(rest.split(":")[0].replace(",", ""))
    bias = wording.factor(explained.bias[1], 0)
    assert f"all add up to {products.sum():,}; {products.sum():,} + {bias}, the bias, = " in said
    scales = "0.004 · " + f"{explained.scaling.kernel_scales[1]:.6g}"  # type: ignore[union-attr]
    assert f"= {output:,}. Scaled: {wording.factor(output, 0)} · {scales} / 0.09 ≈ " in said
    assert said.endswith(f"plus the zero point 100, kept within 0 to 255: {explained.own[7, 1]}.")
    assert (
        f"6 of 12 products, those of channel 1: they add up to {products[1::2].sum():,}; "
        f"all 12 and the bias, {explained.bias[1]:,}, make {output:,}"
    ) in dom


def test_the_page_says_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "CELLS", 60)
    conv = convfc.convolution([3, 3], channels=1, filters=9)
    held = page.contents(convfc.explain_convolution(conv, (8, 8)))
    assert held["remarks"] == "Numbers are rounded to 4 digits."
    assert held["part"] == "A part of it: the first 6 of 36 windows, the first 6 of 9 filters."
