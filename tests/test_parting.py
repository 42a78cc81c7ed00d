"""Where two models part: of a net in which one weight was changed, the layer of that weight."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import convfc
from convfc import Verdict
from convfc.cli.documents import verification_json
from convfc.cli.verification_tables import parting_line, verification_summary
from convfc.formats.keras.quiet import importing, overheard
from convfc.text.jsontext import json_text
from convfc.verification import parting
from tests.onnx_models import Array, conv_file
from tests.program import SAMPLES, Here, without_figures

with importing():
    import keras

CNN = SAMPLES / "mnist_cnn.onnx"
KERAS = SAMPLES / "mnist_cnn.keras"
CONVOLUTIONS = [
    "conv_same",
    "conv_unequal",
    "depthwise",
    "pointwise",
    "conv_dilated",
    "conv_strided",
]


def changed(array: Array) -> Array:
    """Numbers of which one, the largest, is another."""
    array = array.copy()
    array.reshape(-1)[abs(array).argmax()] *= -3
    return array


def mutant(path: Path, out: Path, layer: str) -> Path:
    """A model of which one weight of a layer is another."""
    model = onnx.load(path)
    node = next(node for node in model.graph.node if node.name == layer)
    (kernel,) = (one for one in model.graph.initializer if one.name == node.input[1])
    kernel.CopyFrom(numpy_helper.from_array(changed(numpy_helper.to_array(kernel)), kernel.name))
    onnx.save(model, out)
    return out


def renamed(path: Path, out: Path) -> Path:
    """A model of which every value but inputs and outputs is called otherwise."""
    model = onnx.load(path)
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    for names in (names for node in model.graph.node for names in (node.input, node.output)):
        names[:] = [name if name in kept or not name else f"v{name}" for name in names]
    for one in (*model.graph.initializer, *model.graph.value_info):
        one.name = f"v{one.name}"
    onnx.save(model, out)
    return out


@pytest.mark.parametrize("layer", CONVOLUTIONS[::2])
def test_a_changed_weight_names_its_layer(layer: str, tmp_path: Path) -> None:
    other = mutant(CNN, tmp_path / "other.onnx", layer)
    found = convfc.verify(CNN, other, samples=8, layers=True)
    assert found.parting is not None
    assert found.parting.first is not None
    assert found.parting.first.tensor.maker == layer
    witness = found.parting.first.difference.witness
    assert witness is not None
    assert witness.original != witness.converted


def test_what_is_not_changed_does_not_part(tmp_path: Path) -> None:
    for other in (CNN, renamed(CNN, tmp_path / "other.onnx")):
        found = convfc.verify(CNN, other, samples=3, layers=True).parting
        assert found is not None
        assert found.first is None
        assert found.alone == ()
        made = [node.output[0] for node in onnx.load(CNN).graph.node if node.op_type != "Constant"]
        assert [one.tensor.name for one in found.compared] == made
        assert all(one.difference.max_abs == 0 for one in found.compared)


def test_values_of_other_names_are_those_of_the_same_place(tmp_path: Path) -> None:
    other = renamed(mutant(CNN, tmp_path / "a.onnx", "pointwise"), tmp_path / "b.onnx")
    found = convfc.verify(CNN, other, samples=8, layers=True).parting
    assert found is not None
    assert found.first is not None
    assert found.first.tensor.maker == "pointwise"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convfc.convert(CNN, tmp_path_factory.mktemp("made") / "fc.onnx", check=False).out


def test_a_converted_file_is_alike_in_whatever_layout(converted: Path) -> None:
    found = convfc.verify(CNN, converted, samples=3, quick=True, layers=True)
    assert found.verdict is Verdict.EQUIVALENT
    assert found.parting is not None
    assert found.parting.first is None
    pairs = [(one.tensor.name, one.other.name) for one in found.parting.compared]
    assert {x for x, y in pairs if y.endswith("/channels_last")}
    assert len(pairs) > 10


def test_a_dense_file_is_alike_too(tmp_path: Path) -> None:
    small = SAMPLES / "mnist_small.onnx"
    out = convfc.convert(small, tmp_path / "fc.onnx", form="dense", check=False).out
    found = convfc.verify(small, out, samples=3, quick=True, layers=True).parting
    assert found is not None
    assert found.first is None
    assert found.compared


@pytest.mark.parametrize("layer", CONVOLUTIONS[2:5:2])
def test_a_changed_weight_of_a_converted_file_names_its_layer(
    layer: str, converted: Path, tmp_path: Path
) -> None:
    model = onnx.load(converted)
    (matrix,) = (one for one in model.graph.initializer if one.name == f"{layer}/filter_matrix")
    matrix.CopyFrom(numpy_helper.from_array(changed(numpy_helper.to_array(matrix)), matrix.name))
    onnx.save(model, tmp_path / "fc.onnx")
    found = convfc.verify(CNN, tmp_path / "fc.onnx", samples=8, layers=True)
    assert found.verdict is Verdict.NOT_EQUIVALENT
    assert found.parting is not None
    assert found.parting.first is not None
    first = found.parting.first.tensor.maker
    # An activation may have moved in front of what has the layer's name.
    behind = {node.output[0]: node.input[0] for node in onnx.load(CNN).graph.node}
    assert layer in (first, behind.get(found.parting.first.tensor.name))


def test_sizes_that_are_alike_say_nothing_of_the_layout(tmp_path: Path) -> None:
    conv = convfc.convolution([3, 3], channels=6, filters=6, padding="same")
    path = conv_file(tmp_path / "m.onnx", conv, (6, 6))
    model = onnx.load(path)
    second = onnx.NodeProto()
    second.CopyFrom(model.graph.node[0])
    second.name, second.input[0], second.output[0] = "second", "c", "y"
    model.graph.node[0].output[0] = "c"
    model.graph.node.append(second)
    onnx.save(model, path)
    out = convfc.convert(path, check=False).out
    found = convfc.verify(path, out, samples=2, quick=True, layers=True).parting
    assert found is not None
    assert found.first is None
    assert {one.other.name for one in found.compared} == {"c/channels_last", "y"}


def mutant_keras(out: Path, layer: str) -> Path:
    with overheard():
        model = keras.saving.load_model(KERAS)
        kernel, *rest = model.get_layer(layer).get_weights()
        model.get_layer(layer).set_weights([changed(kernel), *rest])
        model.save(out)
    return out


@pytest.mark.parametrize("layer", CONVOLUTIONS[3:4])
def test_keras_beside_keras(layer: str, tmp_path: Path) -> None:
    found = convfc.verify(KERAS, mutant_keras(tmp_path / "m.keras", layer), samples=8, layers=True)
    assert found.parting is not None
    assert found.parting.first is not None
    assert found.parting.first.tensor.name == layer


@pytest.mark.parametrize("files", [(KERAS, CNN), (CNN, KERAS)], ids=["keras", "onnx"])
def test_keras_beside_onnx(files: tuple[Path, Path]) -> None:
    found = convfc.verify(*files, samples=3, layers=True)
    assert found.verdict is Verdict.EQUIVALENT
    assert found.parting is not None
    assert found.parting.first is None
    compared = {one.tensor.name for one in found.parting.compared}
    if files[0] is KERAS:
        assert set(CONVOLUTIONS) <= compared
    assert len(compared) > 8


@pytest.mark.parametrize("layer", CONVOLUTIONS[:5:4])
def test_a_changed_weight_of_the_other_format_names_its_layer(layer: str, tmp_path: Path) -> None:
    found = convfc.verify(KERAS, mutant(CNN, tmp_path / "m.onnx", layer), samples=8, layers=True)
    assert found.parting is not None
    assert found.parting.first is not None
    assert found.parting.first.tensor.name == layer


def test_no_more_tensors_are_in_memory_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = convfc.verify(CNN, CNN, samples=2, layers=True).parting
    monkeypatch.setattr(parting, "BATCH_BYTES", 2**17)
    held: list[int] = []
    looked = parting._Look._values

    def values(*given: object) -> dict[str, Array]:
        found = looked(*given)  # type: ignore[arg-type]
        held.append(sum(array.nbytes for array in found.values()))
        return found

    monkeypatch.setattr(parting._Look, "_values", values)
    parts = convfc.verify(CNN, CNN, samples=2, layers=True).parting
    assert len(held) > 6
    assert max(held) <= 2**17
    assert whole is not None
    assert parts is not None
    assert [one.tensor.name for one in whole.compared] == [
        one.tensor.name for one in parts.compared
    ]


def test_the_program_says_it(
    golden: Callable[[str, str], None], tmp_path: Path, here: Here
) -> None:
    mutant(CNN, tmp_path / "other.onnx", "depthwise")
    (tmp_path / "net.onnx").write_bytes(CNN.read_bytes())
    given = ("verify", "net.onnx", "other.onnx", "--samples", "8", "--layers")
    done = here(*given, cwd=tmp_path)
    assert done.returncode == 1
    *_, line, last = done.stdout.splitlines()
    assert line.startswith("they part at '")
    assert "(Conv 'depthwise')" in line
    assert "became" in line
    assert last.startswith("NOT EQUIVALENT: other.onnx and net.onnx: output")
    text = "\n".join(done.stdout.splitlines()[:-2])
    golden("verify_layers", without_figures(text))


def saturated(path: Path) -> Path:
    """A model whose output hides all that is inside: zero, or so nearly that nobody sees it."""
    model = onnx.load(path)
    (out,) = model.graph.output
    last = next(node for node in model.graph.node if out.name in node.output)
    last.output[0] = "hidden"
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "nothing"))
    model.graph.node.append(onnx.helper.make_node("Mul", ["hidden", "nothing"], [out.name]))
    onnx.save(model, path)
    return path


def test_outputs_that_hide_what_parts_make_nothing_equivalent(tmp_path: Path) -> None:
    """A softmax that saturates, say."""
    net = tmp_path / "net.onnx"
    net.write_bytes(CNN.read_bytes())
    other = saturated(mutant(CNN, tmp_path / "other.onnx", "depthwise"))
    saturated(net)
    assert convfc.verify(net, other, samples=2).verdict is Verdict.EQUIVALENT
    found = convfc.verify(net, other, samples=2, layers=True)
    assert found.parting is not None
    assert found.hidden is not None
    assert found.hidden is found.parting.first
    assert found.verdict is Verdict.COULD_NOT_CHECK
    assert found.reason is not None
    assert found.reason.startswith("the outputs agree, but not '")
    # What is proved stays so, but the last line says it.
    proved = verification_summary(replace(found, verdict=Verdict.EQUIVALENT, proved=True))
    assert proved.endswith(
        f"; rounding moves '{found.hidden.tensor.name}' inside by more than the tolerance"
    )


def test_a_program_reads_it(tmp_path: Path) -> None:
    other = mutant(CNN, tmp_path / "other.onnx", "depthwise")
    told = verification_json(convfc.verify(CNN, other, samples=8, layers=True))["parting"]
    first = next(one for one in told["tensors"] if not one["difference"]["equivalent"])
    assert (first["name"], first["layer"]) == (told["first"], "depthwise")
    assert json.loads(json_text(told))["alone"] == []


def test_that_nothing_parts_is_said() -> None:
    found = convfc.verify(CNN, CNN, samples=2, layers=True).parting
    assert found is not None
    assert parting_line(found) == "no tensor differs beyond the tolerance: 16 tensors on 2 samples"
    assert parting_line(replace(found, alone=("x",))).endswith(
        "; 1 more is made by the original only"
    )


def test_what_cannot_be_looked_into_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise convfc.UnsupportedModelError("not here")

    monkeypatch.setattr(parting._Look, "_values", refused)
    found = convfc.verify(CNN, CNN, samples=2, layers=True)
    assert found.verdict is Verdict.EQUIVALENT
    assert found.parting is None
    assert found.notes[-1] == "The layers could not be compared: not here"


def test_numbers_in_another_order_are_sketched_alike() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    sketch = parting._Sketch.of(x)
    limit = sketch.limit(None, None, "float32")
    assert sketch.is_like(parting._Sketch.of(x.T.copy()), limit)
    assert not sketch.is_like(parting._Sketch.of(x * np.float32(1.001)), limit)
    assert not sketch.is_like(parting._Sketch.of(np.where(x > 2, np.nan, x)[:, :, :3]), limit)
    assert parting._Sketch.of(np.full(3, np.nan)).is_like(parting._Sketch.of(np.full(3, np.inf)), 0)
