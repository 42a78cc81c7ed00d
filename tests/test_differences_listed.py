"""All that differs is listed in the original's order; what no runtime reads is a remark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from onnx import helper

import convfc
from convfc import Verdict
from convfc.cli.documents import verification_json
from convfc.cli.terminal import verification_parts
from convfc.cli.verification_tables import notes
from convfc.formats.keras.alignment import cut
from convfc.formats.keras.quiet import importing
from convfc.formats.onnx.alignment import replacements
from tests.onnx_models import save
from tests.program import SAMPLES

with importing():
    import keras
    from keras import layers

NAMES = [f"layer_{letter}" for letter in "zmaqkbxcpd"]
SMALL = SAMPLES / "mnist_small.onnx"


def test_keras_layers_in_the_original_s_order() -> None:
    def net(names: list[str]) -> keras.Model:
        x = y = keras.Input((3,), name="x")
        for name in names:
            y = layers.Dense(3, name=name)(y)
        return keras.Model(x, layers.Activation("tanh", name="end")(y))

    found = cut(net(NAMES), net([]), set())
    listed = [one.split("'")[1] for one in found.unknown if "one of the files" in one]
    assert listed == NAMES


def test_onnx_functions_in_the_original_s_order(tmp_path: Path) -> None:
    def net(op: str) -> ir.Model:
        opset = [helper.make_opsetid("", 17)]
        functions = [
            helper.make_function("own", name, "x", "y", [helper.make_node(op, "x", "y")], opset)
            for name in NAMES
        ]
        nodes = [
            helper.make_node(name, ["x" if not i else f"v{i}"], [f"v{i + 1}"], domain="own")
            for i, name in enumerate(NAMES)
        ]
        path = tmp_path / f"{op}.onnx"
        save(path, nodes, {"x": [2]}, [f"v{len(NAMES)}"], {}, functions=functions)
        return ir.load(path)

    found = replacements(net("Relu"), net("Tanh"))
    assert [one.split("'")[1] for one in found.unknown] == NAMES


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convfc.convert(SMALL, tmp_path_factory.mktemp("made") / "fc.onnx", check=False).out


def test_metadata_of_a_tool_is_one_remark(made: Path, tmp_path: Path) -> None:
    model = onnx.load(made)
    for number in range(20):
        model.metadata_props.add(key=f"onnxsim.rule.{number:02}", value="folded")
    onnx.save(model, tmp_path / "fc.onnx")
    found = convfc.verify(SMALL, tmp_path / "fc.onnx", samples=1)
    assert found.verdict is Verdict.EQUIVALENT
    assert found.differences == ()
    (note,) = (note for note in found.notes if "metadata" in note)
    assert note in found.remarks
    assert note.startswith("the metadata 'onnxsim.rule.00', 'onnxsim.rule.01', ")
    assert note.endswith(", 'onnxsim.rule.19' changed")


def test_of_remarks_on_each_node_the_first_few_are_shown(made: Path) -> None:
    found = convfc.verify(SMALL, made, samples=1)
    told, last = [f"the name of '{name}' changed" for name in NAMES], "samples were fed alone"
    few = replace(found, notes=(*told[:5], last), remarks=tuple(told[:5]))
    assert notes(few) == [*told[:5], last]
    assert notes(replace(few, notes=(*told, last), remarks=tuple(told))) == [
        *told[:5],
        last,
        f"and {len(NAMES) - 5} more of what no runtime reads: --json lists them",
    ]


@pytest.mark.parametrize("key", ["ort_config", "ep_compatibility_info.SomeProvider"])
def test_metadata_that_onnxruntime_reads_is_more(key: str, made: Path, tmp_path: Path) -> None:
    model = onnx.load(made)
    model.metadata_props.add(key=key, value="{}")
    onnx.save(model, tmp_path / "fc.onnx")
    found = convfc.verify(SMALL, tmp_path / "fc.onnx", samples=1)
    assert found.verdict is Verdict.COULD_NOT_CHECK
    assert found.differences == (f"the metadata '{key}' changed",)


def test_every_difference_is_listed(made: Path, tmp_path: Path) -> None:
    model = onnx.load(made)
    model.metadata_props.add(key="ort_config", value="{}")
    model.opset_import[0].version -= 1
    onnx.save(model, tmp_path / "fc.onnx")
    found = convfc.verify(SMALL, tmp_path / "fc.onnx", samples=1, quick=True, layers=True)
    assert found.verdict is Verdict.COULD_NOT_CHECK
    assert len(found.differences) == 2
    assert "(and 1 more)" in (found.reason or "")
    assert verification_json(found)["differences"] == list(found.differences)
    lines = [one for one in verification_parts(found) if isinstance(one, str)]
    assert [line for line in lines if line.startswith("differs: ")] == [
        f"differs: {one}" for one in found.differences
    ]
