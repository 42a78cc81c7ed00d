"""What a converted file says of its new values, and in which forms: other tools insist on that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import checker, helper, numpy_helper, shape_inference

import convfc
from convfc.core.builders import convolution
from convfc.formats.onnx import emitter
from tests.onnx_models import conv_file, integers, run, save
from tests.test_onnx_names import model_of_many_kinds

PLAIN = convolution([3, 3], channels=4, filters=8, padding="half")
LAYERS = {
    "plain": PLAIN,
    "strided": convolution([3, 3], channels=4, filters=8, strides=[2, 2]),
    "grouped": replace(PLAIN, groups=2),
    "depthwise": replace(PLAIN, groups=4),
    "one filter each": convolution([3, 3], channels=4, filters=4, groups=4),
    "pointwise": convolution([1, 1], channels=4, filters=8),
    "tiles": convolution([2, 2], channels=4, filters=8, strides=[2, 2]),
}


def sizes_of(values: Any) -> dict[str, list[int | str]]:
    """Shapes by name; a size without number and name is 0."""
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in values
        if value.type.tensor_type.elem_type and value.type.tensor_type.HasField("shape")
    }


def told_and_inferred(path: Path) -> tuple[dict[str, list[int | str]], dict[str, list[int | str]]]:
    """What a file tells of its values, and what onnx finds out without that."""
    model = onnx.load(path)
    told = sizes_of(model.graph.value_info)
    del model.graph.value_info[:]
    return told, sizes_of(shape_inference.infer_shapes(model, data_prop=True).graph.value_info)


def numbers(shape: list[int | str]) -> list[int]:
    return [size if isinstance(size, int) else 0 for size in shape]


def made_in(path: Path) -> set[str]:
    """What the nodes of a file make, its outputs apart."""
    graph = onnx.load(path).graph
    made = {name for node in graph.node for name in node.output}
    return made - {value.name for value in graph.output}


@pytest.mark.parametrize("sizes", [(12, 14), (None, 14), (None, None)], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_every_new_value_is_described(
    tmp_path: Path, name: str, sizes: tuple[int | None, ...]
) -> None:
    path = conv_file(tmp_path / "m.onnx", LAYERS[name], sizes)
    out = convfc.convert(path).out
    checker.check_model(str(out), full_check=True)
    told, inferred = told_and_inferred(out)
    assert told.keys() == made_in(out)
    for value, shape in told.items():
        assert numbers(shape) == numbers(inferred[value])
    assert any(shape[0] == "batch" for shape in told.values())


def test_kinds_of_layers_are_described(tmp_path: Path) -> None:
    path = model_of_many_kinds(tmp_path / "net.onnx")
    out = convfc.convert(path).out
    checker.check_model(str(out), full_check=True)
    told = told_and_inferred(out)[0]
    assert told.keys() == made_in(out) - {"kernel", "q"}
    assert convfc.verify(path, out).equivalent


@pytest.mark.parametrize("name", LAYERS)
def test_no_reshape_keeps_a_size_where_all_are_known(tmp_path: Path, name: str) -> None:
    path = conv_file(tmp_path / "m.onnx", LAYERS[name], (12, 14))
    out = convfc.convert(path).out
    shapes = [
        numpy_helper.to_array(t) for t in onnx.load(out).graph.initializer if "shape" in t.name
    ]
    assert shapes
    assert all(0 not in shape and shape[0] == -1 for shape in shapes)
    for batch in (0, 1, 3):
        x = integers([batch, 4, 12, 14])
        assert np.array_equal(run(path, x=x)[0], run(out, x=x)[0])


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_along_one_open_axis_a_reshape_finds_or_keeps(
    tmp_path: Path, kernel: int, groups: int
) -> None:
    conv = convolution([kernel], channels=4, filters=8, strides=[1 + kernel % 2], groups=groups)
    out = convfc.convert(conv_file(tmp_path / "m.onnx", conv, (None,))).out
    for tensor in onnx.load(out).graph.initializer:
        shape = numpy_helper.to_array(tensor)
        assert "shape" not in tensor.name or not (0 in shape and -1 in shape)


OPEN = {
    "gather": PLAIN,
    "taps": LAYERS["one filter each"],
    "slice": LAYERS["grouped"],
    "auto": LAYERS["pointwise"],
}


def mixed(path: Path) -> bool:
    """Whether a Reshape both keeps sizes and finds one."""
    graph = onnx.load(path).graph
    stored = {t.name: numpy_helper.to_array(t).tolist() for t in graph.initializer}
    shapes = (stored.get(node.input[1], ()) for node in graph.node if node.op_type == "Reshape")
    return any(0 in shape and -1 in shape for shape in shapes)


@pytest.mark.parametrize("patches", OPEN)
def test_of_open_sizes_no_reshape_finds_one_and_keeps_others(
    tmp_path: Path, patches: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, it did; such files are proved and go back as well."""
    sizes = (None, 7) if patches in ("slice", "auto") else (None, None)
    path = conv_file(tmp_path / "m.onnx", OPEN[patches], sizes)
    out = convfc.convert(path, patches=patches).out
    with monkeypatch.context() as before:
        before.setattr(emitter, "LOOKED_UP", 99)
        older = convfc.convert(path, tmp_path / "older.onnx", patches=patches).out
    assert not mixed(out)
    assert mixed(older)
    for x in (integers([2, 4, 5, 7]), integers([1, 4, 8, 7])):
        expected = run(path, x=x)[0]
        assert all(np.array_equal(expected, run(each, x=x)[0]) for each in (out, older))
    assert convfc.verify(path, older, samples=1).proved
    assert convfc.revert(older, tmp_path / "back.onnx").complete


def test_a_large_index_map_is_a_sum(tmp_path: Path) -> None:
    path = conv_file(tmp_path / "m.onnx", PLAIN, (40, 50))
    out = convfc.convert(path, patches="gather").out
    maps = [t for t in onnx.load(out).graph.initializer if "index_map" in t.name]
    assert sorted(np.prod(t.dims) for t in maps) == [9, 40, 50]
    x = integers([2, 4, 40, 50])
    assert np.array_equal(run(path, x=x)[0], run(out, x=x)[0])
    assert convfc.verify(path, out).equivalent


def test_layers_and_blocks_share_an_index_map(tmp_path: Path) -> None:
    path = conv_file(tmp_path / "m.onnx", PLAIN, (40, 50))
    out = convfc.convert(path, patches="gather", patch_memory=20 * 50 * 9 * 4 * 4).out
    graph = onnx.load(out).graph
    assert sum(node.op_type == "Gather" for node in graph.node) == 2
    assert {node.input[1] for node in graph.node if node.op_type == "Gather"} == {
        "convfc/index_map"
    }


def test_of_two_open_sizes_either_may_be_one(tmp_path: Path) -> None:
    """What is broadcast has a name of neither."""
    layers = [helper.make_node("Conv", [x, "W"], [y]) for x, y in ("xa", "yb", "dz")]
    between = [helper.make_node("Add", ["a", "b"], ["c"]), helper.make_node("Relu", ["c"], ["d"])]
    inputs: dict[str, list[int | str | None]] = {"x": ["n", 4, 8, 8], "y": ["m", 4, 8, 8]}
    weights = {"W": integers([4, 4, 3, 3], 1)}
    path = save(tmp_path / "m.onnx", [*layers[:2], *between, layers[2]], inputs, ["z"], weights)
    told, _ = told_and_inferred(convfc.convert(path).out)
    assert told["d/channels_last"] == [0, 6, 6, 4]
    assert told["a/channels_last"] == ["n", 6, 6, 4]
