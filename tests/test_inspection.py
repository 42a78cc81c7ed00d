"""The look before publishing: what it sees, what it keeps from being published, what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from keras import layers
from onnx import TensorProto, helper

import convfc
from convfc import Conversion, ConversionError, Look, Site, convolution
from convfc.formats.keras import model
from convfc.formats.keras.rewriting import replacement
from convfc.formats.onnx import filter_matrix, graph_ops
from convfc.formats.registry import open_model
from convfc.verification import inspection
from tests.keras_models import FORMATS
from tests.keras_models import save as save_keras
from tests.onnx_models import attributes, conv_file, integers, kernel_shape, save

CONV = convolution([4, 2], channels=2, filters=3, strides=[1, 2], padding="same")


def onnx_file(path: Path, *more: onnx.NodeProto, last: str = "a", size: int | None = 9) -> Path:
    """A convolution `first` and what else is given."""
    node = helper.make_node("Conv", ["x", "V"], ["a"], name="first", **attributes(CONV))
    weights = {"V": integers(kernel_shape(CONV))}
    return save(path, [node, *more], {"x": ["n", 2, size, 8]}, [last], weights)


def with_a_custom_operator(path: Path) -> Path:
    return onnx_file(path, helper.make_node("Thing", ["a"], ["y"], domain="own"), last="y")


def keras_file(path: Path) -> Path:
    stack = [layers.Conv2D(3, (3, 2), strides=(1, 2), name="first"), layers.Flatten()]
    return save_keras(keras.Sequential([keras.Input((9, 8, 2)), *stack]), path)


def seen(done: Conversion) -> Look:
    assert done.look is not None
    assert done.written
    return done.look


def wrong_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """An emitter that forgets the order of the axes, in the file and when it is called again."""
    right = filter_matrix._laid_out
    monkeypatch.setattr(filter_matrix, "_laid_out", lambda *given: right(*given)[::-1].copy())

    def wrong(*given: Any, **options: Any) -> Any:
        made, remarks = replacement(*given, **options)
        made.weights[0].assign(np.asarray(made.weights[0])[::-1])
        return made, remarks

    monkeypatch.setattr(model, "replacement", wrong)


def wrong_pads(monkeypatch: pytest.MonkeyPatch) -> None:
    right = graph_ops.OnnxOps.pad

    def exchanged(self: graph_ops.OnnxOps, x: Any, pads: Any) -> Any:
        return right(self, x, [[side[::-1] for side in axis] for axis in pads])

    monkeypatch.setattr(graph_ops.OnnxOps, "pad", exchanged)


def refused(path: Path, words: str) -> None:
    """Nothing is written, what was there stays, and the layer is named."""
    out = path.with_name(f"{path.stem}_fc{path.suffix}")
    out.unlink(missing_ok=True)
    convfc.convert(path, check=False)
    before, names = out.read_bytes(), set(path.parent.iterdir())
    with pytest.raises(ConversionError, match=words) as caught:
        convfc.convert(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert str(path) in lines[0]
    assert "--no-check" in lines[1]
    assert out.read_bytes() == before
    assert set(path.parent.iterdir()) == names


@pytest.mark.parametrize("make", [onnx_file, with_a_custom_operator])
def test_a_wrong_kernel_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path / "m.onnx")
    assert convfc.convert(path).written
    wrong_kernels(monkeypatch)
    refused(path, r"layer 'first': .* became .* at \(")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_wrong_kernel_in_keras_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = keras_file(tmp_path / f"m{suffix}")
    assert seen(convfc.convert(path)).reason is None
    wrong_kernels(monkeypatch)
    refused(path, r"layer 'first': .* became .* at \(")
    monkeypatch.setattr(model.KerasModel, "run_once", cannot)
    refused(path, r"layer 'first': .* became .* at \(")


def cannot(*_: object) -> None:
    raise convfc.UnsupportedModelError("it cannot be run here")


def test_one_sample_goes_through_both(tmp_path: Path) -> None:
    look = seen(convfc.convert(onnx_file(tmp_path / "m.onnx")))
    assert (look.samples, look.reason, look.problem, look.layers) == (1, None, None, 0)
    assert look.difference is not None
    assert look.difference < 1e-3


def test_what_cannot_run_as_a_whole_is_looked_at_layer_by_layer(tmp_path: Path) -> None:
    look = seen(convfc.convert(with_a_custom_operator(tmp_path / "m.onnx")))
    assert (look.samples, look.layers, look.unseen, look.problem) == (0, 1, 0, None)
    assert "onnxruntime cannot load it" in str(look.reason)
    assert look.share is not None
    assert look.share <= 1


def test_an_input_that_cannot_be_made_up(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "m.onnx", helper.make_node("Identity", ["t"], ["u"]))
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("t", TensorProto.STRING, [1]))
    model.graph.output.append(helper.make_tensor_value_info("u", TensorProto.STRING, [1]))
    onnx.save(model, path)
    look = seen(convfc.convert(path))
    assert (look.reason, look.layers) == ("input 't' takes text", 1)


def test_what_would_take_long_is_looked_at_layer_by_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = onnx_file(tmp_path / "m.onnx", helper.make_node("Conv", ["a", "W"], ["y"]), last="y")
    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(integers([4, 3, 1, 1]), "W"))
    onnx.save(model, path)

    def seconds(site: Site) -> float:
        return 4 if site.name == "first" else 7  # and half as much again for a layer alone

    monkeypatch.setattr(inspection, "_seconds", seconds)
    look = seen(convfc.convert(path))
    assert look.reason == "as a whole it would take more than ten seconds"
    assert (look.layers, look.unseen) == (1, 1)


def test_wide_windows_and_unknown_sizes(tmp_path: Path) -> None:
    """How long a look would take is known before it is known what fits."""
    path = conv_file(tmp_path / "m.onnx", convolution([41], channels=1, filters=1), (None,))
    look = seen(convfc.convert(path))
    assert (look.layers, look.unseen) == (1, 0)
    short = conv_file(tmp_path / "short.onnx", convolution([5], channels=1, filters=1), (3,))
    left = convfc.convert(short, partial=True).look
    assert left is not None
    assert "cannot" in str(left.reason)
    assert left.layers == left.unseen == 0


def test_a_net_that_makes_much_of_rounding_is_published(tmp_path: Path) -> None:
    """Its layers are right, and what is behind them is the original's own."""
    much = [
        helper.make_node("Mul", ["a", "a"], ["b"]),
        helper.make_node("Mul", ["b", "big"], ["c"]),
        helper.make_node("Sin", ["c"], ["y"]),
    ]
    path = onnx_file(tmp_path / "m.onnx", *much, last="y")
    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1e6], np.float32), "big"))
    kernel = model.graph.initializer[0]
    noise = np.random.default_rng(0).normal(size=kernel_shape(CONV)).astype(np.float32)
    kernel.CopyFrom(onnx.numpy_helper.from_array(noise, "V"))
    onnx.save(model, path)
    look = seen(convfc.convert(path))
    if look.differs:  # whether rounding differs is the processor's affair
        assert "output 'y' on a sample: it differs by" in str(look.reason)
        assert (look.layers, look.unseen) == (1, 0)


def test_outputs_that_say_nothing_are_not_enough(tmp_path: Path) -> None:
    nothing = helper.make_node("Log", ["minus"], ["b"])
    path = onnx_file(
        tmp_path / "m.onnx", nothing, helper.make_node("Add", ["a", "b"], ["y"]), last="y"
    )
    model = onnx.load(path)
    model.graph.initializer.append(
        onnx.numpy_helper.from_array(np.array([-1], np.float32), "minus")
    )
    onnx.save(model, path)
    look = seen(convfc.convert(path))
    assert look.reason == "on a sample its outputs are empty or not a number"
    assert look.layers == 1


def test_what_only_the_original_can_run_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = onnx_file(tmp_path / "m.onnx")
    run = type(open_model(path)).run_once

    def once(self: Any, feed: Any, other: Path | None = None) -> Any:
        return run(self, feed) if other is None else cannot()

    monkeypatch.setattr("convfc.formats.onnx.model.OnnxModel.run_once", once)
    refused(path, "only the original can be run")


def test_nothing_can_be_run_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = onnx_file(tmp_path / "m.onnx")
    monkeypatch.setattr("convfc.formats.onnx.model.OnnxModel.run_once", cannot)
    monkeypatch.setattr("convfc.formats.onnx.layer_pair.OnnxLayerPair.run", cannot)
    look = seen(convfc.convert(path))
    assert (look.reason, look.layers, look.unseen) == ("it cannot be run here", 0, 1)


def test_what_a_look_is_left_out_of(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "m.onnx")
    assert convfc.convert(path, check=False).look is None
    assert convfc.convert(path, verify=True).look is None


def test_running_once_after_saving_is_running(tmp_path: Path) -> None:
    """Saving may change a model in memory, but not what it computes."""
    for path in (
        onnx_file(tmp_path / "m.onnx"),
        *(keras_file(tmp_path / f"m{s}") for s in FORMATS),
    ):
        model = open_model(path)
        (port,) = model.inputs
        shape = [size or 2 for size in port.shape or ()]
        feed = {port.name: np.random.default_rng(0).random(shape).astype(np.float32)}
        before = model.run(feed)
        out = convfc.convert(path, check=False).out
        for found in (model.run_once(feed), model.run_once(feed, out)):
            for name, array in before.items():
                np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [9, None])
def test_a_wrong_pad_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int | None
) -> None:
    path = onnx_file(tmp_path / "m.onnx", size=size)
    wrong_pads(monkeypatch)
    refused(path, "first")
