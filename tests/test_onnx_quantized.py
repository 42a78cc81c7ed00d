"""Convolutions of 8-bit integers, against exact integer arithmetic, on whatever processor this is.

Numbers are drawn from all of their type, its limits half of the time, so that a product that
saturates shows. On x86 without VNNI, onnxruntime's of uint8 and int8 do: an emulator shows such a
processor on any other. These tests import no TensorFlow and can be run in it as a whole:

    qemu-x86_64 -cpu Haswell python -m pytest tests/test_onnx_quantized.py
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc import convolution
from convfc.core.geometry import Convolution
from convfc.formats.onnx import model
from convfc.formats.onnx.integer_reference import exact_output
from convfc.formats.onnx.runtimes import Reference, Session, default_differs, saturates
from convfc.formats.onnx.unsaturated import steadied
from tests.onnx_models import Array, attributes, conv_file, kernel_shape, operators, run
from tests.reference import convolve
from tests.thinned import thinned

CONVOLUTIONS = {
    "plain": convolution(
        [3, 2], channels=5, filters=4, strides=[1, 2], dilations=[2, 1], padding=[(1, 0), (0, 2)]
    ),
    "grouped": convolution([2, 3], channels=6, filters=4, padding=[(1, 2), (2, 0)], groups=2),
    "depthwise": convolution(
        [3, 3], channels=4, filters=8, strides=[2, 1], padding=[(1, 1), (0, 1)], groups=4
    ),
    "pointwise": convolution([1, 1], channels=7, filters=5),
    "tiles": convolution([2, 3], channels=3, filters=4, strides=[2, 3]),
    "line": convolution([4], channels=6, filters=3, strides=[3], padding="same"),
    "volume": convolution([2, 1, 3], channels=2, filters=4, padding=[(0, 1), (1, 0), (2, 0)]),
}
SIZES = (7, 9, 6)
TYPES = ["uint8", "int8"]
FIXED = [
    # kernel, zero points: constant or not; zero points: none, one, one per filter
    (True, True, "one"),
    (True, True, "each"),
    (True, False, "each"),
    (False, True, "one"),
    (False, False, "one"),
    (True, True, "none"),
    (False, True, "none"),
]
METHODS = ["auto", "gather", "slice", "rows"]


def numbers(dtype: str, shape: tuple[int, ...], draw: np.random.Generator) -> Array:
    """Half of them are the limits of the type."""
    limits = np.iinfo(dtype)
    anything = draw.integers(limits.min, limits.max + 1, shape)
    extreme = draw.choice([limits.min, limits.max], shape)
    return np.where(draw.random(shape) < 0.5, anything, extreme).astype(dtype)


def operands_of(
    op: str, types: tuple[str, str], conv: Convolution, zeros: str, seed: int
) -> dict[str, Array]:
    """What a layer is given, by role and in the order of its inputs."""
    draw = np.random.default_rng(seed)
    x_type, kernel_type = types
    count = (conv.filters,) if zeros == "each" else ()
    given = {"x": numbers(x_type, (2, conv.channels, *SIZES[: conv.rank]), draw)}
    x_zero, kernel_zero = numbers(x_type, (), draw), numbers(kernel_type, count, draw)
    kernel = numbers(kernel_type, kernel_shape(conv), draw)
    if op == "ConvInteger":
        given["kernel"] = kernel
        return given if zeros == "none" else given | {"x_zero": x_zero, "kernel_zero": kernel_zero}
    given |= {"x_scale": np.array(0.031, np.float32), "x_zero": x_zero, "kernel": kernel}
    given["kernel_scale"] = draw.uniform(0.01, 0.02, count).astype(np.float32)
    given["kernel_zero"] = kernel_zero
    sums = exact_output(
        {role: given[role] for role in ("x", "kernel", "x_zero", "kernel_zero")}, conv
    )
    given["y_scale"] = np.array(0.031 * 0.015 * max(abs(sums).max(), 1) / 100, np.float32)
    given["y_zero"] = numbers(x_type, (), draw)
    given["bias"] = draw.integers(-20000, 20000, conv.filters).astype(np.int32)
    return given


def save(
    path: Path, op: str, conv: Convolution, given: dict[str, Array], fixed: set[str], opset: int
) -> Path:
    """One node, whose inputs other than `fixed` are the model's; with those, sizes are open."""
    kind = helper.np_dtype_to_tensor_dtype
    ports = [
        helper.make_tensor_value_info(role, kind(array.dtype), array.shape)
        for role, array in given.items()
        if role not in fixed
    ]
    if "x_zero" not in fixed:
        for dim in ports[0].type.tensor_type.shape.dim:
            dim.dim_param = f"size{len(ports)}"
        ports[0].type.tensor_type.shape.dim[1].dim_value = conv.channels
    y = kind(given["y_zero"].dtype) if "y_zero" in given else TensorProto.INT32
    graph = helper.make_graph(
        [helper.make_node(op, list(given), ["y"], **attributes(conv))],
        "net",
        ports,
        [helper.make_tensor_value_info("y", y, [None] * (conv.rank + 2))],
        [numpy_helper.from_array(given[role], role) for role in sorted(fixed)],
    )
    imports = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    return path


def converted(
    folder: Path, op: str, name: str, types: tuple[str, str], methods: Sequence[str] = METHODS
) -> Iterator[tuple[Path, dict[str, Array], Array]]:
    """Converted files of one layer, each with a feed and what it must make of that."""
    conv = CONVOLUTIONS[name]
    for seed, (constant, zeros_constant, zeros) in enumerate(FIXED):
        if op == "QLinearConv" and zeros == "none":
            continue
        given = operands_of(op, types, conv, zeros, seed)
        open_ones = {"x"} | (set() if constant else {"kernel"})
        open_ones |= set() if zeros_constant else {"x_zero", "kernel_zero"}
        fixed = given.keys() - open_ones
        label = "-".join((op, name, *types, str(seed)))
        path = save(folder / f"{label}.onnx", op, conv, given, fixed, [10, 11, 13, 21][seed % 4])
        expected = exact_output(given, conv)
        feed = {role: array for role, array in given.items() if role not in fixed}
        for method in methods:
            out = folder / f"{label}_{method}.onnx"
            done = convfc.convert(path, out, patches=method, check=False)  # the test looks itself
            if not done.complete:
                assert method != "auto"
                continue
            assert "MatMulInteger" in operators(out)
            yield out, feed, expected


LAYERS = list(product(["ConvInteger", "QLinearConv"], CONVOLUTIONS, product(TYPES, TYPES)))


@pytest.mark.parametrize(
    ("op", "name", "types"), thinned((pytest.param(*layer) for layer in LAYERS), 5)
)
def test_a_converted_layer_is_exact(
    tmp_path: Path, op: str, name: str, types: tuple[str, str]
) -> None:
    """Onnxruntime itself refuses or saturates some of the originals."""
    for path, feed, expected in converted(tmp_path, op, name, types):
        (y,) = run(path, **feed)
        assert y.dtype == expected.dtype
        assert np.array_equal(y, expected), path.stem


@pytest.mark.parametrize("opset", [10, 13])
def test_integers_whose_type_only_inference_tells(tmp_path: Path, opset: int) -> None:
    """Without a zero point; before opset 11, none of the operators could fill the pads then."""
    conv = CONVOLUTIONS["plain"]
    given = operands_of("ConvInteger", ("int8", "int8"), conv, "none", 1)
    path = save(tmp_path / "m.onnx", "ConvInteger", conv, given, {"kernel"}, opset)
    proto = onnx.load(path)
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    proto.graph.node[0].input[0] = "q"
    proto.graph.node.insert(0, helper.make_node("QuantizeLinear", ["x", "one", "none"], ["q"]))
    for name, array in (("one", np.array(1, np.float32)), ("none", np.array(0, np.int8))):
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(proto, path)
    done = convfc.convert(path)
    assert onnx.load(done.out).opset_import[0].version == max(opset, 11)
    (y,) = run(done.out, x=given["x"].astype(np.float32))
    assert np.array_equal(y, exact_output(given, conv))


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_exact_output_is_what_loops_find(name: str) -> None:
    conv = CONVOLUTIONS[name]
    given = operands_of("ConvInteger", ("uint8", "int8"), conv, "each", 3)
    x = np.moveaxis(given["x"].astype(np.int64) - int(given["x_zero"]), 1, -1)
    kernel = given["kernel"].astype(np.int64)
    kernel -= given["kernel_zero"].reshape(-1, *[1] * (conv.rank + 1))
    last = np.moveaxis(kernel, (0, 1), (-1, -2))
    expected = np.moveaxis(convolve(x, last, None, conv), -1, 1)
    assert np.array_equal(exact_output(given, conv), expected)


def dequantized(path: Path, given: dict[str, Array], conv: Convolution, fixed: set[str]) -> Path:
    """The layer of a QLinearConv between DequantizeLinear and QuantizeLinear instead."""
    save(path, "QLinearConv", conv, given, fixed, 13)
    proto = onnx.load(path)
    del proto.graph.node[:]
    for role, axis in (("x", 1), ("kernel", 0)):
        names = [role, f"{role}_scale", f"{role}_zero"]
        proto.graph.node.append(
            helper.make_node("DequantizeLinear", names, [f"real_{role}"], axis=axis)
        )
    scale = np.broadcast_to(given["x_scale"] * given["kernel_scale"], [conv.filters])
    proto.graph.initializer.append(numpy_helper.from_array(scale.copy(), "bias_scale"))
    proto.graph.node.extend(
        [
            helper.make_node("DequantizeLinear", ["bias", "bias_scale"], ["real_bias"], axis=0),
            helper.make_node(
                "Conv", ["real_x", "real_kernel", "real_bias"], ["real_y"], **attributes(conv)
            ),
            helper.make_node("QuantizeLinear", ["real_y", "y_scale", "y_zero"], ["y"]),
        ]
    )
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize("op", ["ConvInteger", "QLinearConv"])
@pytest.mark.parametrize("name", ["line", "grouped", "volume"])
def test_the_evaluator_has_the_same_definition(tmp_path: Path, op: str, name: str) -> None:
    """Onnx's own takes the scales of filters for those of another axis in lines and volumes."""
    conv = CONVOLUTIONS[name]
    given = operands_of(op, ("int8", "uint8"), conv, "each", 4)
    path = save(tmp_path / "m.onnx", op, conv, given, given.keys() - {"x"}, 13)
    (y,) = Reference(onnx.load(path), name).run(["y"], {"x": given["x"]})
    expected = exact_output(given, conv)
    assert y.dtype == expected.dtype
    assert np.array_equal(y, expected)


def test_sums_are_scaled_rounded_and_saturated() -> None:
    """Halves to even, before the zero point is added, by each filter's own scale."""
    conv = convolution([1], channels=1, filters=2)
    given: dict[str, Array] = {
        "x": np.array([[[4, 5, 6, 7, 8, 255]]], np.uint8),
        "x_zero": np.array(5, np.uint8),
        "kernel": np.array([1, -3], np.int8).reshape(2, 1, 1),
        "bias": np.array([0, 2], np.int32),
        "x_scale": np.array(2, np.float32),
        "kernel_scale": np.array([0.25, 1], np.float32),
        "y_scale": np.array([1], np.float32),
        "y_zero": np.array(-1, np.int8),
    }
    expected = [[[-1, -1, -1, 0, 1, 124], [9, 3, -3, -9, -15, -128]]]
    y = exact_output(given, conv)
    assert y.dtype == np.int8
    assert y.tolist() == expected
    given["bias"] = np.array([2**31 - 1, -(2**31)], np.int32)
    del given["y_scale"]
    assert exact_output(given, conv)[0, :, 2].tolist() == [-(2**31), 2**31 - 3], "as int32"


ORIGINALS = {
    "QLinearConv": ("uint8", "int8", True, True),
    "QLinearConv of int8": ("int8", "int8", True, False),
    "QLinearConv at run time": ("uint8", "int8", False, True),
    "ConvInteger": ("int8", "uint8", True, True),
    "ConvInteger at run time": ("int8", "uint8", False, True),
    "Conv": ("uint8", "int8", True, True),
    "Conv of int8": ("int8", "int8", True, False),
    "Conv at run time": ("uint8", "int8", False, False),
}
"""Types of input and kernel, whether the kernel is constant, and whether onnxruntime as it comes
gives other numbers where sums saturate and it is asked for exact ones. A Conv stands between
DequantizeLinear and QuantizeLinear."""


def original(folder: Path, name: str) -> tuple[Path, dict[str, Array], Array]:
    """A quantized model, what to feed it, and what it must make of that, up to a step."""
    x_type, kernel_type, constant, _ = ORIGINALS[name]
    conv, op = CONVOLUTIONS["grouped"], name.split()[0]
    types, zeros = (x_type, kernel_type), "one" if op == "ConvInteger" else "each"
    given = operands_of("QLinearConv" if op == "Conv" else op, types, conv, zeros, 8)
    if kernel_type == "int8":
        given["kernel_zero"] = np.zeros_like(given["kernel_zero"])  # or onnxruntime refuses it
    fixed = given.keys() - {"x"} - (set() if constant else {"kernel"})
    path = folder / f"{name}.onnx"
    if op == "Conv":
        dequantized(path, given, conv, fixed)
    else:
        save(path, op, conv, given, fixed, 13)
    feed = {role: array for role, array in given.items() if role not in fixed}
    return path, feed, exact_output(given, conv)


@pytest.mark.parametrize("name", ORIGINALS)
def test_originals_are_run_with_exact_sums(tmp_path: Path, name: str) -> None:
    path, feed, expected = original(tmp_path, name)
    (y,) = Session(path, name).run(["y"], feed)
    off = abs(y.astype(int) - expected)
    assert off.max() <= 1
    assert off.mean() < 0.02
    assert default_differs(path, ["y"], feed) == (saturates() and ORIGINALS[name][3])


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("QLinearConv", {"x"}),
        ("QLinearConv of int8", {"x", "kernel"}),
        ("QLinearConv at run time", {"x"}),
        ("ConvInteger", {"kernel"}),
        ("ConvInteger at run time", {"kernel"}),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_a_steadied_model_is_the_same(
    tmp_path: Path, name: str, left: set[str], apart: bool
) -> None:
    """What is int8 becomes uint8 where the other is; weights in another file stay there."""
    path, feed, expected = original(tmp_path, name)
    if apart:
        onnx.save(onnx.load(path), path, save_as_external_data=True, size_threshold=0)
    steady = steadied(str(path))
    assert isinstance(steady, bytes)
    assert steadied(path.read_bytes(), tmp_path) == steady
    (node,) = [n for n in onnx.ModelProto.FromString(steady).graph.node if "Conv" in n.op_type]
    assert {"x", "kernel"} & set(node.input) == left
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    key = "session.model_external_initializers_file_folder_path"
    options.add_session_config_entry(key, str(tmp_path))
    made = onnxruntime.InferenceSession(steady, options, providers=["CPUExecutionProvider"])
    off = abs(made.run(None, feed)[0].astype(int) - expected)
    assert off.max() <= 1
    assert off.mean() < 0.02


def test_nothing_to_be_steadied(tmp_path: Path) -> None:
    path, _, _ = original(tmp_path, "Conv")
    assert steadied(str(path)) == str(path)


def test_a_caution_where_the_default_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, feed, _ = original(tmp_path, "QLinearConv")
    real = conv_file(tmp_path / "real.onnx", CONVOLUTIONS["grouped"], SIZES[:2])
    for differs in (False, True):
        monkeypatch.setattr(model, "default_differs", lambda *_, found=differs: found)
        cautions = model.open_onnx(path).cautions(feed)
        assert ["x64quantprecision" in caution for caution in cautions] == [True] * differs
        assert not model.open_onnx(real).cautions({})


@pytest.mark.parametrize("every", thinned([3, 1]))
def test_the_same_on_a_processor_that_saturates(tmp_path: Path, every: int) -> None:
    """AVX2 without VNNI, emulated. Only onnxruntime runs there; all else would take minutes."""
    emulator = shutil.which("qemu-x86_64")
    if emulator is None:
        pytest.skip("there is no qemu-x86_64 (Debian: qemu-user)")
    layers = [layer for layer in LAYERS if layer[2] == ("uint8", "int8")][::every]
    made = [file for layer in layers for file in converted(tmp_path, *layer, methods=["auto"])]
    made += [original(tmp_path, name) for name in ORIGINALS]
    for path, feed, expected in made:
        arrays: dict[str, Any] = {**feed, "y": expected}
        np.savez(path.with_suffix(".npz"), **arrays)
    command = [emulator, "-cpu", "Haswell", sys.executable, "-c", EMULATED, str(tmp_path)]
    done = subprocess.run([*command, *ORIGINALS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("saturates")
    for name, (_, _, _, differs) in ORIGINALS.items():
        steps, otherwise = found.pop(name)
        assert steps <= 1
        assert otherwise == differs, name
    assert len(found) > 4 * len(layers)
    assert not [name for name, steps in found.items() if steps]


EMULATED = """
import json, pathlib, sys
from unittest.mock import MagicMock
sys.modules["sympy"] = MagicMock()  # of onnx_ir, which does without it here: a third of the time
import numpy as np
import onnxruntime
from convfc.formats.onnx.runtimes import Session, default_differs, saturates
found = {"saturates": saturates()}
for path in pathlib.Path(sys.argv[1]).glob("*.npz"):
    feed, model = dict(np.load(path)), path.with_suffix(".onnx")
    expected = feed.pop("y").astype(int)
    if path.stem in sys.argv:
        y = Session(model, path.stem).run(["y"], feed)[0].astype(int)
        found[path.stem] = int(abs(y - expected).max()), default_differs(model, ["y"], feed)
    else:
        y = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feed)
        found[path.stem] = int(abs(y[0] - expected).max())
print(json.dumps(found))
"""
"""Prints, for each file of a folder, how far it is off, and whether onnxruntime as it comes is."""
