"""`convfc.verify`: what the samples must show, and what they say against a proof."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc import (
    Convolution,
    Fate,
    Layer,
    Lowering,
    UnsupportedModelError,
    UsageError,
    Verdict,
    convolution,
    lower,
)
from convfc.cli.verification_tables import verification_summary
from convfc.formats.keras.quiet import importing, overheard
from convfc.formats.onnx.model import OnnxModel
from convfc.formats.protocols import Alignment, Model, Site
from convfc.formats.registry import open_model
from convfc.samples.feeds import make_feeds
from convfc.verification.end_to_end import affordable
from tests.onnx_models import conv_file, integers, save

with importing():
    import keras
    from keras import layers

Array = NDArray[Any]
RANDOM = np.random.default_rng(12)
CONV = convolution([3, 2], channels=1, filters=3, strides=[1, 2])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """One convolution, converted, too."""
    path = conv_file(tmp_path / "net.onnx", CONV, (9, 8))
    convfc.convert(path)
    return path


# What is fed


def siamese(folder: Path, name: str) -> Path:
    """The distance of two pictures, behind filters of its own."""
    nodes = [
        helper.make_node("Conv", ["a", "W"], ["p"]),
        helper.make_node("Conv", ["b", "W"], ["q"]),
        helper.make_node("Sub", ["p", "q"], ["s"]),
        helper.make_node("Abs", ["s"], ["y"]),
    ]
    weights = {"W": RANDOM.normal(size=(2, 1, 3, 2)).astype(np.float32)}
    inputs: dict[str, Sequence[int | str]] = {"a": ["n", 1, 9, 8], "b": ["n", 1, 9, 8]}
    return save(folder / name, nodes, inputs, ["y"], weights)


def test_what_is_computed_from_two_inputs_shows(tmp_path: Path) -> None:
    result = convfc.verify(siamese(tmp_path, "a.onnx"), siamese(tmp_path, "b.onnx"), samples=3)
    assert result.verdict is Verdict.NOT_EQUIVALENT
    assert result.outputs[0].evidence.largest > 0


def test_sizes_that_share_a_name_are_fed_alike(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["maps", "W"], ["c"], pads=[0, 1, 0, 0]),
        helper.make_node("Add", ["c", "row"], ["y"]),
    ]
    inputs: dict[str, Sequence[int | str]] = {"row": [1, "S", 8], "maps": [1, 3, "S", 8]}
    path = save(tmp_path / "m.onnx", nodes, inputs, ["y"], {"W": integers([2, 3, 1, 2])})
    convfc.convert(path)
    result = convfc.verify(path, samples=2)
    assert (result.verdict, result.samples) == (Verdict.EQUIVALENT, 2)
    assert ["x64x8," in line for line in result.fed] == [True, True]


def one_at_a_time(folder: Path) -> Path:
    """A model that says that it takes any batch, with a Reshape for a batch of one."""
    nodes = [
        helper.make_node("Conv", ["x", "W"], ["c"]),
        helper.make_node("Reshape", ["c", "sizes"], ["y"]),
    ]
    weights = {"W": integers([2, 3, 3, 2]), "sizes": np.array([1, 24])}
    return save(folder / "m.onnx", nodes, {"x": ["n", 3, 5, 5]}, ["y"], weights)


def test_a_model_that_takes_one_sample_only_gets_one_by_one(tmp_path: Path) -> None:
    path = one_at_a_time(tmp_path)
    out = convfc.convert(path).out
    result = convfc.verify(path, samples=7)
    assert (result.verdict, result.samples) == (Verdict.EQUIVALENT, 7)
    assert result.float64_samples == 1
    assert not result.layers[0].on_random
    assert "it runs with one at a time only" in result.notes[0]
    assert convfc.verify(path, out, rtol=1e-4, samples=7).samples == 7


def unsorted(folder: Path) -> Path:
    nodes = [
        helper.make_node("Relu", ["s"], ["y"]),
        helper.make_node("Add", ["c", "A"], ["s"]),
        helper.make_node("Conv", ["x", "W"], ["c"], name="conv"),
    ]
    weights = {"W": integers([2, 3, 3, 2]), "A": integers([2, 1, 1])}
    return save(folder / "m.onnx", nodes, {"x": ["n", 3, 6, 6]}, ["y"], weights)


def test_nodes_in_any_order(tmp_path: Path) -> None:
    path = unsorted(tmp_path)
    convfc.convert(path)
    result = convfc.verify(path, samples=5)
    assert result.verdict is Verdict.EQUIVALENT
    assert (result.float64_samples, result.float64_missing) == (4, None)


def needs_a_rate(folder: Path) -> Path:
    """A model that runs if its switch is 2, and if its two inputs happen to be equally long."""
    nodes = [
        helper.make_node("Conv", ["x", "W"], ["c"], name="conv"),
        helper.make_node("Reshape", ["h", "rate"], ["r"]),
        helper.make_node("Add", ["c", "r"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, None]),
            helper.make_tensor_value_info("h", TensorProto.FLOAT, [1, 2]),
            helper.make_tensor_value_info("rate", TensorProto.INT64, [2]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(integers([2, 3, 3]), "W")],
    )
    path = folder / "m.onnx"
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


def test_what_helps_where_no_sample_runs(tmp_path: Path) -> None:
    path = needs_a_rate(tmp_path)
    out = convfc.convert(path).out
    result = convfc.verify(path)
    assert result.verdict is Verdict.EQUIVALENT
    assert verification_summary(result).endswith(
        "but no sample could be run through both (other inputs may do: "
        "--shape x=DIMS --input rate=VALUE)"
    )
    (note,) = (note for note in result.notes if "could not be run" in note)
    assert note.endswith("other inputs may do: --shape x=DIMS --input rate=VALUE")
    with pytest.raises(UnsupportedModelError, match=r"--shape x=DIMS --input rate=VALUE$"):
        convfc.verify(path, out, rtol=1e-4)
    assert convfc.verify(path, inputs={"rate": np.array([2, 1])}, samples=3).samples == 3


@pytest.mark.parametrize("option", ["rtol", "atol"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_a_tolerance_is_a_number(model: Path, option: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{option} is .*: a tolerance is a finite number"):
        convfc.verify(model, **{option: value})  # type: ignore[arg-type]


def test_a_tolerance_of_nothing(model: Path) -> None:
    assert convfc.verify(model, model, rtol=0, samples=3).equivalent
    other = conv_file(model.parent / "b.onnx", CONV, (9, 8), bias=False)
    assert not convfc.verify(model, other, rtol=0, samples=3).equivalent


def test_fewer_samples_of_what_takes_long(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convfc.verification.end_to_end._AFFORDABLE", 9 * 8 * 2000 * 5)
    result = convfc.verify(model)
    assert result.samples == 5
    assert "Fewer than 100 samples" in result.notes[0]
    assert convfc.verify(model, samples=8).samples == 8


def test_what_takes_long_is_a_matter_of_arithmetic() -> None:
    def enough(conv: Convolution, *sizes: int, count: int = 1) -> int:
        site = Site("a", "Conv", conv, sizes)
        return affordable([Layer(site, Fate.CONVERTED, lowered(conv, sizes))] * count, 1)

    flat = convolution([5, 5], channels=64, filters=64)
    deep = convolution([3, 3, 3], channels=8, filters=8)
    products, patches = 196 * 196 * 25 * 64 * 64, 196 * 196 * 25 * 64 * 4
    assert enough(flat, 200, 200) == 2 * 10**11 // (products + 6 * patches)
    assert enough(deep, 100, 100, 100) == 2 * 10**11 // (98**3 * 27 * 8 * (8 + 24))
    assert enough(deep, 100, 100, 100, count=99) == 1
    assert affordable([], 1) > 1000
    assert affordable([], 10**7) == 10


def lowered(conv: Convolution, sizes: Sequence[int]) -> Lowering:
    found = lower(conv, tuple(sizes), "slice")
    assert isinstance(found, Lowering)
    return found


# What is judged

Run = Callable[[OnnxModel, Mapping[str, Array]], dict[str, Array]]


def runtime(monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[Array], Array]) -> None:
    """Let one file's runtime change what it computes."""
    run: Run = OnnxModel.run

    def changed(model: OnnxModel, feed: Mapping[str, Array]) -> dict[str, Array]:
        found = run(model, feed)
        return {key: change(y) for key, y in found.items()} if model.path.name == name else found

    monkeypatch.setattr(OnnxModel, "run", changed)


def off_in_one_place(y: Array) -> Array:
    y = y.copy()
    y.flat[-1] += np.float32(0.01) * abs(y).max()
    return y


def nan_in_one_place(y: Array) -> Array:
    y = y.copy()
    y.flat[-1] = np.nan
    return y


@pytest.mark.parametrize(
    ("file", "change", "verdict"),
    [
        ("net_fc.onnx", off_in_one_place, Verdict.NOT_EQUIVALENT),
        ("net.onnx", off_in_one_place, Verdict.COULD_NOT_CHECK),
        ("net_fc.onnx", nan_in_one_place, Verdict.NOT_EQUIVALENT),
        ("net_fc.onnx", lambda y: y[..., 1:], Verdict.NOT_EQUIVALENT),
        ("net_fc.onnx", lambda y: y.astype(np.float64), Verdict.NOT_EQUIVALENT),
        ("net_fc.onnx", lambda y: y * np.float32(1 + 1e-6), Verdict.EQUIVALENT),
    ],
)
def test_no_proof_stands_against_what_is_seen(
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    change: Callable[[Array], Array],
    verdict: Verdict,
) -> None:
    runtime(monkeypatch, file, change)
    result = convfc.verify(model, samples=40)
    assert result.verdict is verdict, result.reason
    assert result.proved == (verdict is not Verdict.COULD_NOT_CHECK)
    if verdict is Verdict.EQUIVALENT:
        return
    assert "output 'y'" in str(result.reason)
    assert not result.outputs[0].equivalent
    if change in (off_in_one_place, nan_in_one_place):
        assert result.outputs[0].witness is not None
        # The batch with the difference is looked at, not just the first samples.
        assert result.outputs[0].witness.sample in (31, 39)


def test_where_float64_is_costly_it_is_had_for_the_worst_sample(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be had for the first few samples or for one, not for a batch."""

    opened = open_model(model)
    ninth = opened.run(make_feeds(opened.inputs).take(range(9, 10)))["y"]

    def off_in_sample_nine(y: Array) -> Array:
        found = np.isclose(y, ninth, rtol=1e-3).all(axis=(1, 2, 3))
        return np.where(found[:, None, None, None], y * np.float32(1.001), y)

    monkeypatch.setattr("convfc.verification.end_to_end._COSTLY", 4 * 7 * 4 * 18)
    runtime(monkeypatch, "net_fc.onnx", off_in_sample_nine)
    result = convfc.verify(model, samples=20)
    assert result.float64_samples == 4
    assert result.verdict is Verdict.NOT_EQUIVALENT
    assert result.outputs[0].witness is not None
    assert result.outputs[0].witness.sample == 9


def aligned_with(monkeypatch: pytest.MonkeyPatch, **found: Sequence[str]) -> None:
    align = OnnxModel.align

    def changed(model: OnnxModel, converted: Model) -> Alignment:
        return replace(align(model, converted), **found)  # type: ignore[arg-type]

    monkeypatch.setattr(OnnxModel, "align", changed)


def test_an_unknown_structure_leaves_it_to_the_samples(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aligned_with(monkeypatch, unknown=("node 'z' is new",), remarks=("its producer changed",))
    result = convfc.verify(model, samples=3)
    assert result.verdict is Verdict.COULD_NOT_CHECK
    assert "structure is not known: node 'z' is new; 3 samples agree" in str(result.reason)
    assert not result.proved
    assert "its producer changed" in result.notes
    runtime(monkeypatch, "net.onnx", off_in_one_place)
    assert convfc.verify(model, samples=3).verdict is Verdict.NOT_EQUIVALENT


def test_a_remark_is_no_difference(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aligned_with(monkeypatch, remarks=("its producer changed",))
    result = convfc.verify(model, samples=3)
    assert result.equivalent
    assert result.notes == ("its producer changed",)


def test_a_converted_model_that_its_runtime_refuses(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Array) -> Array:
        raise UnsupportedModelError("no such kernel")

    runtime(monkeypatch, "net_fc.onnx", refuse)
    result = convfc.verify(model, samples=3)
    assert result.verdict is Verdict.COULD_NOT_CHECK
    assert result.reason == "only the original runs: no such kernel"


def noisy(folder: Path) -> Path:
    nodes = [
        helper.make_node("Conv", ["x", "W"], ["c"], name="conv"),
        helper.make_node("RandomNormalLike", ["c"], ["r"], name="noise"),
        helper.make_node("Add", ["c", "r"], ["y"]),
    ]
    weights = {"W": integers([2, 3, 3, 2])}
    return save(folder / "m.onnx", nodes, {"x": ["n", 3, 6, 6]}, ["y"], weights)


def test_random_outputs_are_not_judged(tmp_path: Path) -> None:
    path = noisy(tmp_path)
    convfc.convert(path)
    result = convfc.verify(path, samples=3)
    assert result.verdict is Verdict.EQUIVALENT, result.reason
    assert any("draws other numbers for it each time" in note for note in result.notes)


@pytest.mark.parametrize(("op", "verdict"), [("Log", "could not check"), ("Relu", "equivalent")])
def test_samples_that_tell_nothing_are_told(tmp_path: Path, op: str, verdict: str) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["n"]), helper.make_node(op, ["n"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, {"x": ["n", 3]}, ["y"], {})
    result = convfc.verify(path, path, inputs={"x": np.ones((4, 3), np.float32)})
    assert result.verdict.value == verdict
    assert any("output 'y' is the same everywhere" in note for note in result.notes)


def test_a_quick_look_claims_no_proof(model: Path) -> None:
    result = convfc.verify(model, samples=3, quick=True)
    assert result.equivalent
    assert not result.proved
    assert "as far as a quick look tells" in verification_summary(result)


# Which models have steps


@pytest.mark.parametrize(
    ("op", "steps"), [("Relu", False), ("Floor", True), ("Softmax", False), ("Sign", True)]
)
def test_operators_with_steps(tmp_path: Path, op: str, steps: bool) -> None:
    path = save(
        tmp_path / "m.onnx", [helper.make_node(op, ["x"], ["y"])], {"x": ["n", 3]}, ["y"], {}
    )
    assert open_model(path).has_steps == steps


def test_what_rounding_makes_infinite_is_no_other_function(tmp_path: Path) -> None:
    """The variance of a window of one colour is almost zero, and on which side is chance."""
    random = np.random.default_rng(0)
    weights = {
        "b": random.normal(size=(3, 1, 1)).astype(np.float32),
        "w": random.normal(size=(4, 3, 3, 3)).astype(np.float32),
    }
    means = [
        helper.make_node("AveragePool", [x], [y], y, kernel_shape=[3, 3])
        for x, y in (("q", "e"), ("c", "m"))
    ]
    nodes = [
        helper.make_node("Add", ["x", "b"], ["d"]),
        helper.make_node("Conv", ["d", "w"], ["c"], "c"),
        helper.make_node("Mul", ["c", "c"], ["q"]),
        *means,
        helper.make_node("Mul", ["m", "m"], ["s"]),
        helper.make_node("Sub", ["e", "s"], ["v"]),
        helper.make_node("Log", ["v"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"x": ["n", 3, 28, 28]}, ["y"], weights)
    convfc.convert(path)
    result = convfc.verify(path)
    assert result.verdict is Verdict.COULD_NOT_CHECK
    assert "on one side only" in str(result.reason)


def test_a_cast_of_what_no_type_is_told_is_a_step(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Neg", ["x"], ["n"]),
        helper.make_node("Cast", ["n"], ["i"], to=TensorProto.INT32),
        helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"x": ["n", 3]}, ["y"], {})
    assert open_model(path).has_steps


def test_numbers_written_as_texts_are_no_other_function(tmp_path: Path) -> None:
    """Their last digits are of the order of a sum; the look takes no difference of texts."""
    weights = {"w": np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "c"),
        helper.make_node("AveragePool", ["c"], ["a"], "a", kernel_shape=[2, 2]),
        helper.make_node("Cast", ["a"], ["y"], to=TensorProto.STRING),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"x": ["n", 3, 8, 8]}, ["y"], weights)
    proto = onnx.load(path)
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING
    onnx.save(proto, path)
    convfc.convert(path, tmp_path / "dense.onnx", form="dense")
    result = convfc.verify(path, tmp_path / "dense.onnx", samples=3)
    assert result.verdict is Verdict.COULD_NOT_CHECK
    assert "not the samples" in str(result.reason)


def test_keras_operations_with_steps(tmp_path: Path) -> None:
    image = keras.Input((5, 4, 2))
    inner = keras.Input((3, 3, 2))
    rounded = keras.Model(inner, keras.ops.round(inner))
    for name, outputs in (
        ("no", layers.Conv2D(2, 2)(image)),
        ("yes", keras.ops.argmax(image, axis=-1)),
        ("deep", rounded(layers.Conv2D(2, (3, 2))(image))),
    ):
        with overheard():
            keras.Model(image, outputs).save(tmp_path / f"{name}.keras")
        assert open_model(tmp_path / f"{name}.keras").has_steps == (name != "no")
