"""What an ONNX model takes on what it is fed, seen before it is run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

import convfc
from convfc.errors import UnsupportedModelError
from convfc.formats.demand import Demand
from convfc.formats.onnx import rehearsal_child, shape_inference
from convfc.formats.onnx.demand import Demands
from convfc.formats.onnx.negative_sizes import at_risk
from convfc.formats.onnx.runtimes import Reference, Session
from convfc.formats.onnx.sites import open_layers, steps_of
from convfc.system import capacity, rehearsal
from convfc.verification import proof
from tests.onnx_models import integers, save
from tests.thinned import thinned

ENDS = helper.make_node("Slice", ["t", "zero", "most", "two"], ["y"])


def bomb(path: Path, *last: onnx.NodeProto, times: int = 10**5) -> Path:
    """A convolution of images of any size, tiled; the file says nothing of how large that is."""
    tile = helper.make_node("Tile", ["c", "times"], ["t" if last else "y"])
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], name="conv"), tile, *last]
    weights = {"w": integers([2, 2, 3, 2])}
    save(path, nodes, {"x": ["n", 2, "h", "w"]}, ["y"], weights)
    model = onnx.load(path)
    numbers = {"times": [1, 1, times, times], "zero": [0], "most": [2**62], "two": [2]}
    found = [numpy_helper.from_array(np.array(n), name) for name, n in numbers.items()]
    model.graph.initializer.extend(found)
    path.write_bytes(model.SerializeToString())
    return path


def plain(path: Path) -> Path:
    """One convolution."""
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    return save(path, [node], {"x": ["n", 2, 5, 7]}, ["y"], {"w": integers([3, 2, 3, 2])})


@pytest.mark.parametrize("last", thinned([(ENDS,), ()]), ids=["sliced", "plain"])
def test_sizes_that_the_file_leaves_open_are_those_of_the_feed(
    tmp_path: Path, last: Sequence[onnx.NodeProto]
) -> None:
    path = bomb(tmp_path / "m.onnx", *last)
    made = convfc.convert(path)
    assert made.look is not None
    assert "this machine can hold" in (made.look.reason or "")
    found = convfc.verify(path, made.out)
    assert not found.samples
    assert any("this machine can hold" in note for note in found.notes)
    few = bomb(tmp_path / "few.onnx", *last, times=3)
    assert convfc.verify(few, convfc.convert(few).out).equivalent


def test_where_onnx_may_abort_a_child_follows_the_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ir.load(bomb(tmp_path / "m.onnx", ENDS))
    shape_inference.infer(model)
    assert at_risk(model)
    feed = {"x": np.zeros((1, 2, 5, 7), np.float32)}
    with pytest.raises(UnsupportedModelError, match=r"m: it is not run: .* GiB at once"):
        Demands(model).check(feed, "m")
    monkeypatch.setattr(rehearsal, "rehearse", lambda *_, **__: (-6, ""))
    Demands(model).check(feed, "m")  # what the file says is all that is known


def test_large_weights_are_not_handed_to_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def rehearse(_: str, path: Path, __: str, **___: int) -> tuple[int, str]:
        sizes.append(path.stat().st_size)
        return 0, "[7, 5]"

    model = ir.load(bomb(tmp_path / "m.onnx", ENDS))
    kernel = model.graph.initializers["w"]
    kernel.const_value = ir.tensor(np.zeros((2, 2, 300, 300), np.float32))
    kernel.shape = ir.Shape((2, 2, 300, 300))
    monkeypatch.setattr(rehearsal, "rehearse", rehearse)
    Demands(model).check({"x": np.zeros((1, 2, 400, 400), np.float32)}, "m")
    assert sizes
    assert sizes[0] < 10_000


def test_nodes_of_others_in_the_place_of_a_layer_are_counted(tmp_path: Path) -> None:
    """What is put into a converted layer is as free as what is around it."""
    path = plain(tmp_path / "m.onnx")
    out = convfc.convert(path).out
    model = onnx.load(out)
    at, product = next((i, n) for i, n in enumerate(model.graph.node) if n.op_type == "MatMul")
    nodes = [
        helper.make_node("Tile", [product.input[0], "times"], ["tiled"]),
        helper.make_node("MatMul", ["tiled", product.input[1]], [product.output[0]]),
    ]
    model.graph.node.remove(product)
    for node in reversed(nodes):
        model.graph.node.insert(at, node)
    model.graph.initializer.append(numpy_helper.from_array(np.array([10**12, 1]), "times"))
    out.write_bytes(model.SerializeToString())
    found = convfc.verify(path, out)
    assert not found.equivalent
    assert not found.layers[0].draws
    assert "this machine can hold" in (found.layers[0].unchecked or "")


def test_the_products_of_a_transposed_convolution_are_counted() -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"])
    x = helper.make_tensor_value_info("x", 1, [5, 2, 100, 80])
    w = helper.make_tensor_value_info("w", 1, [2, 3, 7, 9])
    y = helper.make_tensor_value_info("y", 1, None)
    model = ir.from_proto(helper.make_model(helper.make_graph([node], "g", [x, w], [y])))
    shape_inference.infer(model)
    assert ((1, 3, 7, 9, 100, 80), 4) in [tensor for step in steps_of(model) for tensor in step]


def steps(sizes: Sequence[int | str], pads: Sequence[int]) -> Demand:
    """What a convolution of 2 channels, 3 x 2, takes on an input of 1 x 2 x 40 x 30."""
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=pads)
    x, w, y = (
        helper.make_tensor_value_info(name, 1, shape)
        for name, shape in (("x", [1, 2, *sizes]), ("w", [3, 2, 3, 2]), ("y", None))
    )
    model = ir.from_proto(helper.make_model(helper.make_graph([node], "g", [x, w], [y])))
    shape_inference.infer(model)
    whole = open_layers(model)
    model.graph.inputs[0].shape = ir.Shape((1, 2, 40, 30))
    shape_inference.infer(model)
    return Demand.of(steps_of(model, whole), ())


def test_the_patches_of_open_sizes_are_counted_whole_and_pads_as_what_they_become() -> None:
    known, few = steps((40, 30), (0, 0, 0, 0)), steps(("h", "w"), (0, 0, 0, 0))
    assert few.fixed - known.fixed == (38 * 29) * (3 * 2 * 2) * 4  # the slices beside the patches
    wide = steps((40, 30), (1000, 0, 0, 7))
    assert wide.fixed > 1040 * 37 * 2 * 4


def test_what_waits_for_a_later_node_is_counted() -> None:
    """Three tensors of 8 numbers while the second node works, four while the last one does."""
    names = [("a", "b"), ("b", "c"), ("c", "d")]
    nodes = [helper.make_node("Neg", [x], [y]) for x, y in names]
    nodes.append(helper.make_node("Sum", ["b", "c", "d"], ["y"]))
    ports = [helper.make_tensor_value_info(name, 1, [2, 4]) for name in ("a", "y")]
    model = ir.from_proto(helper.make_model(helper.make_graph(nodes, "g", ports[:1], ports[1:])))
    shape_inference.infer(model)
    ends = 3  # the input, the output and that of the other file
    found = [Demand.of([step], ()).fixed for step in steps_of(model)]
    assert [size // 32 - ends for size in found] == [1, 2, 3, 3]


def test_a_run_in_float64_takes_twice_as_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bomb(tmp_path / "m.onnx", times=30)
    found = convfc.verify(path, convfc.convert(path).out, samples=1, shapes={"x": (1, 2, 30, 30)})
    assert found.float64_samples
    monkeypatch.setattr(capacity, "memory", lambda: 18 * 10**6)
    found = convfc.verify(path, samples=1, shapes={"x": (1, 2, 30, 30)})
    assert found.samples
    assert "this machine can hold" in (found.float64_missing or "")


@pytest.mark.parametrize(("shape", "sizes"), [((3, 1), (2, 1, 4)), ((2, 5), (1, 1)), ((), (3,))])
def test_expand_is_as_onnxruntime_has_it(shape: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    model = expand(shape, sizes)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    ours, theirs = (
        made.run(["y"], {"x": x})[0]
        for made in (Reference(model, "m"), Session(model.SerializeToString(), "m"))
    )
    np.testing.assert_array_equal(ours, theirs)


def test_no_ones_are_made_of_sizes_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx.reference.ops.op_expand.np.ones", None)
    reference = Reference(expand((2, 3), (10**9,)), "m")
    with pytest.raises(UnsupportedModelError, match=r"m: onnx's reference .* shape mismatch"):
        reference.run(["y"], {"x": np.zeros((2, 3), np.float32)})


def expand(shape: Sequence[int], sizes: Sequence[int]) -> onnx.ModelProto:
    node = helper.make_node("Expand", ["x", "sizes"], ["y"])
    x = helper.make_tensor_value_info("x", 1, shape)
    y = helper.make_empty_tensor_value_info("y")
    numbers = numpy_helper.from_array(np.array(sizes), "sizes")
    graph = helper.make_graph([node], "g", [x], [y], [numbers])
    imports = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


@pytest.mark.parametrize(("times", "once"), [(3, False), (10**7, True)])
def test_of_what_is_too_much_nothing_is_computed_beforehand(
    tmp_path: Path,
    times: int,
    once: bool,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    tile = helper.make_node("Tile", ["x", "times"], ["y"])
    numbers = {"times": np.array([1, 1, times, times])}
    path = save(tmp_path / "m.onnx", [tile], {"x": ["n", 2, 5, 7]}, ["y"], {})
    model = onnx.load(path)
    model.graph.initializer.extend(numpy_helper.from_array(n, name) for name, n in numbers.items())
    path.write_bytes(model.SerializeToString())
    asked = []
    monkeypatch.setattr(rehearsal_child, "Session", lambda *_, once: asked.append(once))
    monkeypatch.setattr("os._exit", lambda _: None)
    rehearsal_child.main(str(path))
    assert asked == [once]
    assert capfd.readouterr().out == "loading"


def test_as_many_activations_as_can_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer may be fed far more samples than the model is."""
    nodes = [
        helper.make_node("Concat", ["x"] * 100, ["c"], axis=0),
        helper.make_node("Conv", ["c", "w"], ["y"], name="conv"),
    ]
    path = save(
        tmp_path / "m.onnx", nodes, {"x": ["n", 2, 8, 7]}, ["y"], {"w": integers([3, 2, 3, 2])}
    )
    out = convfc.convert(path).out
    rows = []
    measured = proof._measure

    def measure(twin: Any, activations: Any, *more: Any) -> Any:
        rows.append(len(activations))
        return measured(twin, activations, *more)

    monkeypatch.setattr(proof, "_measure", measure)
    fed = {"x": np.random.default_rng(0).normal(size=(1, 2, 8, 7)).astype(np.float32)}
    assert convfc.verify(path, out, inputs=fed).equivalent
    monkeypatch.setattr(capacity, "memory", lambda: 500_000)
    assert convfc.verify(path, out, inputs=fed).equivalent
    assert rows == [100, 50]


def test_what_has_no_sizes_is_not_given_to_the_reference_evaluator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = plain(tmp_path / "m.onnx")
    out = convfc.convert(path).out
    model = onnx.load(out)
    product = next(node for node in model.graph.node if node.op_type == "MatMul")
    model.graph.node.insert(0, helper.make_node("Resize", ["x", "", "", "sizes"], ["large"]))
    product.input[0] = "large"
    sizes = numpy_helper.from_array(np.array([1, 1, 10**9]), "sizes")
    model.graph.initializer.append(sizes)
    out.write_bytes(model.SerializeToString())
    monkeypatch.setattr("convfc.formats.onnx.runtimes.Reference.run", None)
    found = convfc.verify(path, out)
    assert not found.equivalent
    assert "onnxruntime cannot run it" in (found.layers[0].unchecked or "")


def test_numbers_of_16_bits_are_there_in_32_as_well() -> None:
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT16, [5, 7])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT16, [5, 7])
    node = helper.make_node("Relu", ["x"], ["y"])
    model = ir.from_proto(helper.make_model(helper.make_graph([node], "g", [x], [y])))
    assert [sorted(step) for step in steps_of(model)] == [[((5, 7), 6)] * 3]


def test_patches_are_counted_for_each_sample_and_so_are_both_outputs() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=2)
    x = helper.make_tensor_value_info("x", 1, [5, 4, 10, 8])
    w = helper.make_tensor_value_info("w", 1, [6, 2, 3, 2])
    y = helper.make_tensor_value_info("y", 1, None)
    model = ir.from_proto(helper.make_model(helper.make_graph([node], "g", [x, w], [y])))
    shape_inference.infer(model)
    there, on_the_way = steps_of(model)
    made = ((5, 6, 8, 7), 4)
    assert sorted(there) == sorted([((5, 4, 10, 8), 4), ((6, 2, 3, 2), 4), made, made])
    padded = 10 * 8 * 4
    assert on_the_way == [((5, (padded + 8 * 7 * 2 * 3 * 2 * 2) * 4), 1), made]
