"""DeformConv: a sampling of the image, and a convolution of what was sampled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc import Verdict
from tests.onnx_models import Array, operators, run
from tests.thinned import thinned

SMALL: dict[str, Any] = {
    "x": (2, 4, 7, 6),
    "W": (6, 2, 3, 2),
    "strides": [2, 1],
    "pads": [1, 0, 1, 2],
    "dilations": [1, 2],
    "group": 2,
    "offset_group": 2,
}


def deformable(
    path: Path,
    *,
    x: tuple[int, ...],
    W: tuple[int, ...],  # noqa: N803 - as the standard calls it
    inputs: str = "xWOBM",
    opset: int = 19,
    dtype: int = TensorProto.FLOAT,
    open_sizes: bool = False,
    **settings: Any,
) -> Path:
    """A file with one DeformConv; no letter but a space leaves an input out."""
    taps = W[2:]
    strides, dilations = (settings.get(n, [1, 1]) for n in ("strides", "dilations"))
    pads, blocks = settings.get("pads", [0] * 4), settings.get("offset_group", 1)
    out = [
        (x[2 + a] + pads[a] + pads[2 + a] - dilations[a] * (taps[a] - 1) - 1) // strides[a] + 1
        for a in (0, 1)
    ]
    many = blocks * taps[0] * taps[1]
    shapes = {"x": x, "O": (x[0], 2 * many, *out), "M": (x[0], many, *out)}
    rng = np.random.default_rng(0)
    element = helper.tensor_dtype_to_np_dtype(dtype)
    weights = {"W": rng.normal(size=W), "B": rng.normal(size=W[0])}

    def dims(name: str) -> list[int | str]:
        shape = shapes[name]
        return [f"n{name}", shape[1], f"h{name}", f"w{name}"] if open_sizes else [*shape]

    graph = helper.make_graph(
        [helper.make_node("DeformConv", [*map(str.strip, inputs)], ["y"], name="it", **settings)],
        "net",
        [helper.make_tensor_value_info(n, dtype, dims(n)) for n in "xOM" if n in (*inputs, "x")],
        [helper.make_tensor_value_info("y", dtype, [None, W[0], None, None])],
        [numpy_helper.from_array(weights[n].astype(element), n) for n in weights if n in inputs],
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def fed(path: Path, scale: float = 2.0) -> dict[str, Array]:
    """Normal numbers for its inputs; taps move by some pixels, out of the image as well."""
    rng = np.random.default_rng(1)
    ports = onnx.load(path).graph.input
    shapes = {p.name: [d.dim_value for d in p.type.tensor_type.shape.dim] for p in ports}
    feed = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return {**feed, "O": feed["O"] * np.float32(scale)}


@pytest.mark.parametrize("opset", thinned([19, 22]))
@pytest.mark.parametrize("inputs", thinned(["xWOBM", "xWO", "xWO M", "xWOB"], 4))
def test_it_is_converted_and_proved(tmp_path: Path, inputs: str, opset: int) -> None:
    path = deformable(tmp_path / "m.onnx", inputs=inputs, opset=opset, **SMALL)
    done = convfc.convert(path)
    assert done.complete
    assert "a sampling of their input and a convolution of that: 1." in done.notes[0]
    assert not {"DeformConv", "Conv"} & operators(done.out)
    feed = fed(path)
    np.testing.assert_allclose(run(done.out, **feed)[0], run(path, **feed)[0], atol=1e-5)
    found = convfc.verify(path, done.out, samples=3)
    assert found.verdict is Verdict.EQUIVALENT
    assert found.proved


@pytest.mark.parametrize("seed", thinned(range(20)))
def test_any_geometry(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    group, *steps = (int(n) for n in rng.integers(1, 3, 5))
    pads = [int(n) for n in rng.integers(0, 3, 4)]
    batch, filters, *taps = (int(n) for n in rng.integers(1, 4, 4))
    path = deformable(
        tmp_path / "m.onnx",
        x=(batch, 4 * group, *(int(n) for n in rng.integers(6, 10, 2))),
        W=(group * filters, 4, *taps),
        inputs=["xWO", "xWOBM"][seed % 2],
        strides=steps[:2],
        pads=pads,
        dilations=steps[2:],
        group=group,
        offset_group=int(rng.choice([1, 2, 4])),
    )
    feed = fed(path, float(rng.choice([0.0, 0.3, 3.0, 1e30])))
    if seed % 3 == 0:
        feed["O"] = np.round(feed["O"])  # on the pixels, and on the first ones outside
    done = convfc.convert(path)
    np.testing.assert_allclose(run(done.out, **feed)[0], run(path, **feed)[0], atol=2e-5)


@pytest.mark.parametrize("moved", [np.nan, np.inf, -np.inf, -1.0, -1.0000001, 3.0])
def test_a_tap_at_the_edge_and_beyond(tmp_path: Path, moved: float) -> None:
    path = deformable(tmp_path / "m.onnx", x=(1, 1, 3, 3), W=(1, 1, 1, 1), inputs="xWO")
    feed = fed(path, 0.0)
    feed["O"][0, 0] = moved
    done = convfc.convert(path)
    np.testing.assert_array_equal(run(done.out, **feed)[0], run(path, **feed)[0])


def test_open_sizes(tmp_path: Path) -> None:
    known = deformable(tmp_path / "known.onnx", **SMALL)
    path = deformable(tmp_path / "m.onnx", open_sizes=True, **SMALL)
    done, feed = convfc.convert(path), fed(known)
    assert done.complete
    np.testing.assert_allclose(run(done.out, **feed)[0], run(path, **feed)[0], atol=1e-5)
    shapes = {name: array.shape for name, array in feed.items()}
    assert convfc.verify(path, done.out, shapes=shapes, samples=3).verdict is Verdict.EQUIVALENT


@pytest.mark.parametrize("dtype", thinned([TensorProto.FLOAT16, TensorProto.DOUBLE]))
def test_other_types(tmp_path: Path, dtype: int) -> None:
    path = deformable(tmp_path / "m.onnx", dtype=dtype, opset=22, **SMALL)
    assert convfc.verify(path, convfc.convert(path).out, samples=3).verdict is Verdict.EQUIVALENT


def edited(path: Path, edit: Callable[[onnx.ModelProto], object]) -> Path:
    model = onnx.load(path)
    edit(model)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("kind", thinned(["Floor", "GatherND", "Where"]))
def test_a_sampling_that_was_changed_is_not_equivalent(tmp_path: Path, kind: str) -> None:
    path = deformable(tmp_path / "m.onnx", **SMALL)
    done = convfc.convert(path)

    def change(model: onnx.ModelProto) -> None:
        node = next(node for node in model.graph.node if node.op_type == kind)
        if kind == "Floor":
            node.op_type = "Round"
        elif kind == "GatherND":
            other = [n for n in model.graph.node if n.op_type == kind][1]
            node.input[1] = other.input[1]
        else:
            node.input[1], node.input[2] = node.input[2], node.input[1]

    found = convfc.verify(path, edited(done.out, change), samples=3)
    assert found.verdict is Verdict.NOT_EQUIVALENT


def fed_kernel(sides: list[int | str]) -> Callable[[onnx.ModelProto], object]:
    def change(model: onnx.ModelProto) -> None:
        del model.graph.initializer[0]
        model.graph.input.append(helper.make_tensor_value_info("W", TensorProto.FLOAT, sides))

    return change


def constant_node(model: onnx.ModelProto) -> None:
    kernel = model.graph.initializer[0]
    model.graph.node.insert(0, helper.make_node("Constant", [], ["W"], value=kernel))
    del model.graph.initializer[0]


@pytest.mark.parametrize("form", thinned(["fed", "constant"]))
def test_kernels_that_are_no_initializers(tmp_path: Path, form: str) -> None:
    path = deformable(tmp_path / "m.onnx", **SMALL)
    edited(path, constant_node if form == "constant" else fed_kernel([6, 2, 3, 2]))
    done = convfc.convert(path)
    assert done.complete
    assert convfc.verify(path, done.out, samples=3).verdict is Verdict.EQUIVALENT


def three_axes(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims.append(1)


def other_kernel_shape(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [6, 2, 2, 3]  # and its kernel_shape [3, 2]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (fed_kernel([6, 2, "h", 2]), convfc.Code.UNKNOWN_KERNEL),
        (three_axes, convfc.Code.FOREIGN),
        (other_kernel_shape, convfc.Code.CONTRADICTION),
    ],
)
def test_what_is_left(
    tmp_path: Path, change: Callable[[onnx.ModelProto], object], code: convfc.Code
) -> None:
    path = edited(deformable(tmp_path / "m.onnx", kernel_shape=[3, 2], **SMALL), change)
    (layer,) = convfc.convert(path, check=False).layers
    assert "its taps move with the data" in str(layer.reason)
    assert layer.refusal is not None
    assert layer.refusal.code is code
