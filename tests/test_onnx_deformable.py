"""Deformable convolutions, and those that carry a state along: told in standard operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import convfc
from convfc import Verdict
from tests.onnx_models import integers, operators, run_anywhere
from tests.test_onnx_reading import edited

Array = NDArray[Any]

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "strided": {"strides": [2, 1], "pads": [1, 0, 2, 1]},
    "dilated": {"dilations": [1, 2], "pads": [0, 2, 1, 1], "kernel_shape": [2, 3]},
    "grouped": {"group": 2, "pads": [1, 1, 1, 1]},
    "offsets of groups": {"offset_group": 2, "group": 2, "strides": [1, 2]},
}


def deformable(
    path: Path,
    settings: dict[str, Any],
    *,
    more: str = "Bm",
    dtype: type = np.float32,
    opset: int = 19,
    whole: bool = False,
) -> tuple[Path, dict[str, Array]]:
    """A file whose offsets are fed, and numbers for it; `more`: bias and mask, or spaces."""
    strides, dilations = (settings.get(name, [1, 1]) for name in ("strides", "dilations"))
    pads, groups = settings.get("pads", [0] * 4), settings.get("offset_group", 1)
    sizes = [
        (n + pads[i] + pads[i + 2] - (k - 1) * dilations[i] - 1) // strides[i] + 1
        for i, (n, k) in enumerate(((6, 2), (7, 3)))
    ]
    random = np.random.default_rng(1)
    offsets = random.normal(scale=2, size=[2, groups * 12, *sizes])
    feed: dict[str, Array] = {
        "x": integers([2, 4, 6, 7]).astype(dtype),
        "offset": (np.round(offsets) if whole else offsets).astype(dtype),
        "m": np.round(3 * random.random([2, groups * 6, *sizes])).astype(dtype),
    }
    feed = {name: array for name, array in feed.items() if name != "m" or "m" in more}
    kernel = integers([4, 4 // settings.get("group", 1), 2, 3], 1)
    weights: dict[str, Array] = {"W": kernel.astype(dtype), "B": integers([4], 2).astype(dtype)}
    inputs = ["x", "W", "offset", *(name.strip() for name in more)]
    node = helper.make_node("DeformConv", inputs, ["y"], name="moving", **settings)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [node, helper.make_node("Relu", ["y"], ["z"])],
        "net",
        [helper.make_tensor_value_info(n, kind, ["n", *a.shape[1:]]) for n, a in feed.items()],
        [helper.make_tensor_value_info("z", kind, ["n", 4, *sizes])],
        [numpy_helper.from_array(w, n) for n, w in weights.items() if n in inputs],
    )
    imports = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), path)
    return path, feed


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("kind", SETTINGS)
def test_deformable_convolutions(tmp_path: Path, kind: str, whole: bool) -> None:
    """Where offsets are whole numbers, and numbers are, all is exact."""
    path, feed = deformable(tmp_path / "m.onnx", SETTINGS[kind], whole=whole)
    done = convfc.convert(path)
    assert [(layer.site.name, layer.reason) for layer in done.layers] == [("moving", None)]
    assert not {name for name in operators(done.out) if "Conv" in name}
    assert "Deformable convolutions, now a sampling" in " ".join(done.notes)
    (expected,), (got,) = run_anywhere([path, done.out], feed)
    np.testing.assert_allclose(got, expected, rtol=0, atol=0 if whole else 0.01)
    assert abs(expected).max() > 1000
    assert convfc.verify(path, done.out).verdict is Verdict.EQUIVALENT


@pytest.mark.parametrize("more", ["", "B", " m"])
@pytest.mark.parametrize(("dtype", "opset"), [(np.float32, 22), (np.float64, 19)])
def test_without_bias_or_mask(tmp_path: Path, more: str, dtype: type, opset: int) -> None:
    path, feed = deformable(
        tmp_path / "m.onnx", SETTINGS["strided"], more=more, dtype=dtype, opset=opset, whole=True
    )
    done = convfc.convert(path)
    assert done.complete, done.layers
    (expected,), (got,) = run_anywhere([path, done.out], feed)
    np.testing.assert_array_equal(got, expected)
    assert convfc.verify(path, done.out).verdict is Verdict.EQUIVALENT


@pytest.mark.parametrize("far", [np.inf, -np.inf, 1e30, -3.0, -1.0, -0.5, 5.5, 6.0])
def test_offsets_that_lead_out_of_the_image(tmp_path: Path, far: float) -> None:
    path, feed = deformable(tmp_path / "m.onnx", SETTINGS["plain"])
    feed["offset"][:, ::3] = far
    done = convfc.convert(path)
    (expected,), (got,) = run_anywhere([path, done.out], feed)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(got, expected, rtol=0, atol=0.01)


def nudged(model: onnx.ModelProto) -> None:
    """One tap of all reads a pixel beside its own."""
    node = next(n for n in model.graph.node if n.output[0] == "y/undeformed")
    array = numpy_helper.to_array(node.attribute[0].t).copy()
    array.flat[0] += 1
    node.attribute[0].t.CopyFrom(numpy_helper.from_array(array))


def swapped(model: onnx.ModelProto) -> None:
    """Rows and columns are taken for each other."""
    for node in model.graph.node:
        if node.op_type == "Gather" and node.output[0].endswith("_offset"):
            other = next(n for n in model.graph.node if n.output[0] == node.input[1])
            number = 1 - numpy_helper.to_array(other.attribute[0].t)
            other.attribute[0].t.CopyFrom(numpy_helper.from_array(np.asarray(number)))


@pytest.mark.parametrize("edit", [nudged, swapped])
def test_another_sampling_is_not_equivalent(tmp_path: Path, edit: Any) -> None:
    path, _ = deformable(tmp_path / "m.onnx", SETTINGS["plain"])
    done = convfc.convert(path)
    report = convfc.verify(path, edited(done.out, edit))
    assert report.verdict is Verdict.NOT_EQUIVALENT


@pytest.mark.parametrize("case", ["open height", "three axes", "float16"])
def test_what_is_not_known_is_left(tmp_path: Path, case: str) -> None:
    path, _ = deformable(tmp_path / "m.onnx", SETTINGS["plain"], more="")

    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        if case == "open height":
            graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
        elif case == "float16":
            for port in (*graph.input, *graph.output):
                port.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
            half = numpy_helper.to_array(graph.initializer[0]).astype(np.float16)
            graph.initializer[0].CopyFrom(numpy_helper.from_array(half, "W"))
        else:
            for port in (*graph.input, *graph.output):
                port.type.tensor_type.shape.dim.add(dim_value=1)
            cube = numpy_helper.to_array(graph.initializer[0])[..., None]
            graph.initializer[0].CopyFrom(numpy_helper.from_array(cube.copy(), "W"))
            graph.input[1].type.tensor_type.shape.dim[1].dim_value = 18

    (layer,) = convfc.convert(edited(path, change), partial=True).layers
    assert "its taps move with the data" in str(layer.reason)


STATEFUL: dict[str, tuple[list[str], list[str], dict[str, Any]]] = {
    "all": (["x", "W", "B", "s"], ["y", "t"], {"activation": "silu"}),
    "no state": (["x", "W", "B"], ["y", "t"], {}),
    "no bias": (["x", "W", "", "s"], ["y", "t"], {}),
    "neither": (["x", "W"], ["y", "t"], {}),
}


@pytest.mark.parametrize("case", STATEFUL)
def test_convolutions_with_a_state(tmp_path: Path, case: str) -> None:
    inputs, outputs, settings = STATEFUL[case]
    path = tmp_path / "m.onnx"
    node = helper.make_node("CausalConvWithState", inputs, outputs, name="causal", **settings)
    feed = {"x": integers([2, 3, 7]), "s": integers([2, 3, 3], 3)}
    feed = {name: array for name, array in feed.items() if name in inputs}
    weights = {"W": integers([3, 1, 4], 1), "B": integers([3], 2)}
    graph = helper.make_graph(
        [node],
        "net",
        [helper.make_tensor_value_info(n, 1, ["n", *a.shape[1:]]) for n, a in feed.items()],
        [helper.make_tensor_value_info(name, 1, ["n", 3, None]) for name in outputs],
        [numpy_helper.from_array(w, n) for n, w in weights.items() if n in inputs],
    )
    imports = [helper.make_opsetid("", 27)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=10), path)
    done = convfc.convert(path)
    assert [(layer.site.name, layer.reason) for layer in done.layers] == [("causal", None)]
    assert not {name for name in operators(done.out) if "Conv" in name}
    before, after = run_anywhere([path, done.out], feed)
    for expected, got in zip(before, after, strict=True):
        np.testing.assert_array_equal(got, expected)
    assert convfc.verify(path, done.out).verdict is Verdict.EQUIVALENT
