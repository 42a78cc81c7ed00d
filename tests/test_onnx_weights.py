"""Weights whose numbers are not as many as their dims say, in every way that ONNX can hold them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc import FileError, convolution
from convfc.formats.onnx.tensor_sizes import unfit
from tests.onnx_models import conv_file, integers

TYPES = sorted(set(TensorProto.DataType.values()) - {TensorProto.UNDEFINED})
_ONE_BY_ONE = {*TYPES} - {TensorProto.FLOAT6E2M3, TensorProto.FLOAT6E3M2}


def tensor(kind: int, count: int, *, raw: bool = False) -> TensorProto:
    """`count` ones along one axis."""
    if kind == TensorProto.STRING:
        return TensorProto(name="w", data_type=kind, dims=[count], string_data=[b"1"] * count)
    if raw:
        ones = np.ones(count, helper.tensor_dtype_to_np_dtype(kind))
        return numpy_helper.from_array(ones, "w")
    return helper.make_tensor("w", kind, [count], [1] * count)


def the_field(held: TensorProto) -> str:
    (field,) = (f.name for f, _ in held.ListFields() if f.name.endswith("_data"))
    return str(field)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("kind", [k for k in TYPES if k in _ONE_BY_ONE])
def test_every_element_type(kind: int, raw: bool) -> None:
    for count in (1, 5, 8):
        held = tensor(kind, count, raw=raw)
        assert unfit(held) is None
        field = the_field(held)
        if field == "raw_data":
            for wrong in (held.raw_data[:-1], held.raw_data + b"\0"):
                other = TensorProto(raw_data=wrong, data_type=kind, dims=[count])
                assert "bytes, its shape needs" in str(unfit(other))
        else:
            entries = list(getattr(held, field))
            for numbers in (entries[:-1], entries + entries[:1]):
                other = TensorProto(data_type=kind, dims=[count])
                getattr(other, field).extend(numbers)
                assert f"entries in {field}, its shape needs" in str(unfit(other))


def test_scalars_and_nothing() -> None:
    assert unfit(TensorProto(data_type=TensorProto.FLOAT, raw_data=b"\0" * 4)) is None
    assert unfit(TensorProto(data_type=TensorProto.FLOAT, float_data=[1])) is None
    assert unfit(TensorProto(data_type=TensorProto.FLOAT, dims=[3, 0])) is None
    assert unfit(TensorProto(data_type=TensorProto.FLOAT)) is not None
    assert unfit(TensorProto(data_type=TensorProto.FLOAT, dims=[3, 0], float_data=[1])) is not None


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (TensorProto(data_type=1, dims=[-1], raw_data=b"\0" * 4), "impossible shape"),
        (TensorProto(data_type=1, dims=[-2, -2], float_data=[1] * 4), "impossible shape"),
        (TensorProto(data_type=1, dims=[2**40, 2**40], raw_data=b"\0" * 4), "has 4 bytes"),
        (TensorProto(data_type=0, dims=[1], raw_data=b"\0" * 4), "no known element type"),
        (TensorProto(data_type=999, dims=[1], raw_data=b"\0" * 4), "no known element type"),
        (TensorProto(data_type=1, dims=[1], int32_data=[1]), "do not belong"),
        (TensorProto(data_type=1, dims=[1], float_data=[1], raw_data=b"\0" * 4), "do not belong"),
        (TensorProto(data_type=8, dims=[1], raw_data=b"\0"), "do not belong"),
    ],
)
def test_what_no_type_allows(held: TensorProto, words: str) -> None:
    assert words in str(unfit(held))


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"location": "a", "length": "12"}, None),
        ({"location": "a"}, None),
        ({"location": "a", "length": "11"}, "has 11 bytes, its shape needs 12"),
        ({"location": "a", "length": "16"}, "has 16 bytes, its shape needs 12"),
        ({"location": "a", "offset": "-4"}, "not well described"),
        ({"location": "a", "length": "many"}, "not well described"),
        ({"length": "12"}, "not well described"),
    ],
)
def test_numbers_in_another_file(told: dict[str, str], words: str | None) -> None:
    held = TensorProto(data_type=1, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in told.items():
        held.external_data.add(key=key, value=value)
    assert unfit(held) is None if words is None else words in str(unfit(held))


BROKEN = TensorProto(name="bad", data_type=1, dims=[2], float_data=[1])


def constant(**given: object) -> onnx.NodeProto:
    node = helper.make_node("Constant", [], ["c"], name="it")
    node.attribute.append(onnx.AttributeProto(name="value", **given))  # type: ignore[arg-type]
    return node


def as_initializer(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(BROKEN)


def as_a_constant(model: onnx.ModelProto) -> None:
    model.graph.node.append(constant(type=onnx.AttributeProto.TENSOR, t=BROKEN))


def as_one_of_several(model: onnx.ModelProto) -> None:
    model.graph.node.append(constant(type=onnx.AttributeProto.TENSORS, tensors=[BROKEN]))


def in_a_branch(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [], [BROKEN])
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=body))


def in_a_function(model: onnx.ModelProto) -> None:
    node = constant(type=onnx.AttributeProto.TENSOR, t=BROKEN)
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "f", [], ["c"], [node], opsets))


def as_a_default(model: onnx.ModelProto) -> None:
    default = onnx.AttributeProto(name="a", type=onnx.AttributeProto.TENSOR, t=BROKEN)
    opsets = [helper.make_opsetid("", 17)]
    made = helper.make_function("own", "f", [], [], [], opsets, attribute_protos=[default])
    model.functions.append(made)


@pytest.mark.parametrize(
    "edit",
    [
        as_initializer,
        as_a_constant,
        as_one_of_several,
        in_a_branch,
        in_a_function,
        as_a_default,
    ],
)
def test_wherever_it_is(tmp_path: Path, edit: Callable[[onnx.ModelProto], None]) -> None:
    path = conv_file(tmp_path / "m.onnx", convolution([2], channels=1, filters=1), (5,))
    model = onnx.load(path)
    edit(model)
    onnx.save(model, path)
    with pytest.raises(FileError, match=r"m\.onnx: .*weight 'bad' has 1 entries in float_data"):
        convfc.convert(path)
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


def test_a_constant_without_a_name_is_called_by_its_node(tmp_path: Path) -> None:
    path = conv_file(tmp_path / "m.onnx", convolution([2], channels=1, filters=1), (5,))
    model = onnx.load(path)
    nameless = TensorProto(data_type=1, dims=[2], float_data=[1])
    model.graph.node.append(constant(type=onnx.AttributeProto.TENSOR, t=nameless))
    onnx.save(model, path)
    with pytest.raises(FileError, match="the tensor of Constant 'it' has 1 entries"):
        convfc.convert(path)


def test_too_many_bytes_of_a_large_weight(tmp_path: Path) -> None:
    """Those that are kept from the checker, which would copy them."""
    path = conv_file(tmp_path / "m.onnx", convolution([9], channels=64, filters=64), (9,))
    model = onnx.load(path)
    model.graph.initializer[0].raw_data += integers([1]).tobytes()
    onnx.save(model, path)
    with pytest.raises(FileError, match="weight 'W' has 147,460 bytes, its shape needs 147,456"):
        convfc.convert(path)
