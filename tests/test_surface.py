"""What convfc shows of itself to those who import it."""

from __future__ import annotations

import pickle
import pydoc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convfc
from convfc import ConvfcError, DataError, FileError, UsageError
from convfc.formats.onnx.layer_pair import OnnxLayerPair
from tests.onnx_models import conv_file

CONV = convfc.convolution([3, 3], channels=2, filters=2)
UNTYPED: Any = convfc
"""For calls that mypy refuses, and people make."""


def test_what_is_public_is_seen_before_it_is_used() -> None:
    script = "import convfc; print(*dir(convfc))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == sorted(convfc.__all__)


def test_help_shows_what_is_public() -> None:
    text = pydoc.plain(pydoc.render_doc(convfc))
    for name in set(convfc.__all__) - {"__version__"}:
        assert f" {name}" in text, name
    assert "import_module" not in text


@pytest.mark.parametrize("name", ["Settings", "Comparison", "Trained", "draw", "apply"])
def test_names_that_say_nothing_at_the_top_are_not_there(name: str) -> None:
    assert not hasattr(convfc, name)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = conv_file(tmp_path_factory.mktemp("surface") / "m.onnx", CONV, (6, 6))
    convfc.convert(path, check=False)
    return path


@pytest.mark.parametrize(
    ("verb", "given", "words"),
    [
        ("convert", {"patches": "foo"}, "patches is 'foo': it takes auto, none, reshape, gather"),
        ("convert", {"patches": 3}, "patches is 3: it takes auto"),
        ("convert", {"patch_memory": "2MiB"}, "patch_memory is '2MiB': it takes a whole number"),
        (
            "convert",
            {"patch_memory": 0},
            "patch_memory is 0: it takes a whole number of at least 1",
        ),
        ("shapes", {"patch_memory": 2.5}, "patch_memory is 2.5: it takes a whole number"),
        ("convert", {"only": 3}, "only is 3: it takes a text or a list of texts"),
        ("convert", {"skip": [b"conv"]}, r"skip is \[b'conv'\]: it takes a text or"),
        ("convert", {"only": "cnv*"}, r"no convolution is called 'cnv\*'; there are: conv$"),
        ("convert", {"out": 3}, "out is 3: it takes a path"),
        ("shapes", {"imports": 3}, "imports is 3: it takes a text or a list of texts"),
        ("verify", {"converted": 3}, "converted is 3: it takes a path"),
        ("verify", {"data": None}, "data is None: it takes a path"),
        ("verify", {"samples": "5"}, "samples is '5': it takes a whole number"),
        ("verify", {"samples": 0}, "0 samples prove nothing"),
        ("verify", {"samples": -1}, "-1 samples prove nothing"),
        ("verify", {"rtol": "1e-3"}, "rtol is '1e-3': it takes a number"),
        ("verify", {"atol": 1j}, "atol is 1j: it takes a number"),
        ("verify", {"seed": -1}, "seed is -1: it takes a whole number of at least 0"),
        ("verify", {"shapes": [1, 2]}, "shapes is .*: it takes a dictionary"),
        ("verify", {"shapes": {"x": 3}}, "shapes.'x'. is 3: it takes a list of whole numbers"),
        ("verify", {"shapes": {"x": (1, -2)}}, "a size of shapes.'x'. is -2: it takes a whole"),
        ("verify", {"inputs": "x=1"}, "inputs is 'x=1': it takes a dictionary"),
        ("verify", {"inputs": {1: 2}}, "inputs is {1: 2}: it takes a dictionary"),
        ("verify", {"inputs": {"x": None}}, "inputs.'x'. is None: it takes a file, a number or"),
        ("explain_model", {"imports": [None]}, "imports is .None.: it takes a text or a list"),
    ],
)
def test_a_wrong_argument_is_named(
    model: Path, verb: str, given: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError, match=f"^{words}") as caught:
        getattr(UNTYPED, verb)(model, **given)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("verb", ["convert", "shapes", "verify", "explain_model", "verify_folder"])
def test_what_is_no_path_is_said_to_be_none(verb: str) -> None:
    with pytest.raises(UsageError, match=r"^(model|original|folder) is b'm': it takes a path"):
        getattr(UNTYPED, verb)(b"m")


def test_a_folder_is_not_searched_with_wrong_arguments(model: Path) -> None:
    with pytest.raises(UsageError, match="samples is '5'"):
        convfc.verify_folder(model.parent, samples="5")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: UNTYPED.convolution(3, channels=1, filters=1), "kernel is 3"),
        (lambda: UNTYPED.convolution("33", channels=1, filters=1), "kernel is '33'"),
        (lambda: UNTYPED.convolution([3], channels="1", filters=1), "channels is '1'"),
        (lambda: UNTYPED.convolution([3], channels=1, filters=1, strides=2), "strides is 2"),
        (lambda: UNTYPED.convolution([3], channels=1, filters=1, padding=[1]), "padding is .1."),
        (lambda: convfc.convolution([3], channels=1, filters=1, padding="x"), "unknown padding"),
        (lambda: convfc.convolution([0], channels=1, filters=1), "kernel is 0"),
    ],
)
def test_a_convolution_of_wrong_arguments(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ConvfcError, match=f"^{words}"):
        make()


def test_arguments_of_numpy_are_as_good(model: Path) -> None:
    conv = convfc.convolution(
        np.array([3, 3]),  # type: ignore[arg-type] # no Sequence, and yet a list of numbers
        channels=int(np.int64(2)),
        filters=2,
        strides=np.array([1, 1]),  # type: ignore[arg-type]
    )
    assert conv == CONV
    given = {"samples": np.int64(1), "rtol": np.float32(0.1), "seed": np.uint8(1)}
    assert UNTYPED.verify(model, inputs={"x": np.float32(0.5)}, **given).samples == 1


def test_a_single_pattern_is_one_pattern(model: Path, tmp_path: Path) -> None:
    done = convfc.convert(model, tmp_path / "a.onnx", only="conv*", check=False)
    assert [layer.fate for layer in done.layers] == [convfc.Fate.CONVERTED]
    done = convfc.convert(model, tmp_path / "b.onnx", skip="co?v", check=False)
    assert [layer.fate for layer in done.layers] == [convfc.Fate.SKIPPED]


def test_a_single_module_is_one_module(model: Path) -> None:
    assert convfc.shapes(model, imports="json")


@pytest.mark.parametrize("verb", ["convert", "shapes", "verify", "explain_model", "verify_folder"])
def test_an_unknown_keyword_is_a_type_error(model: Path, verb: str) -> None:
    given = model.parent if verb == "verify_folder" else model
    with pytest.raises(TypeError, match="nothing_such"):
        getattr(UNTYPED, verb)(given, nothing_such=1)


def failing(*_: object, **__: object) -> None:
    raise ZeroDivisionError("none")


def test_an_error_knows_its_file(tmp_path: Path, model: Path) -> None:
    with pytest.raises(FileError, match="no such file") as missing:
        convfc.convert(tmp_path / "none.onnx")
    assert missing.value.path == tmp_path / "none.onnx"
    assert (missing.value.layer, missing.value.remedy) == (None, "check the name")
    (damaged := tmp_path / "damaged.onnx").write_bytes(b"no protobuf")
    with pytest.raises(FileError) as caught:
        convfc.shapes(str(damaged))
    assert caught.value.path == damaged
    with pytest.raises(FileError, match=r"damaged\.onnx") as caught:
        convfc.verify(model, damaged)
    assert caught.value.path == damaged
    with pytest.raises(DataError) as unfit:
        convfc.verify(model, inputs={"nothing_such": 1})
    assert unfit.value.path == model
    with pytest.raises(UsageError) as unmatched:
        convfc.convert(model, only="nothing_such")
    assert unmatched.value.path is None


def test_an_error_knows_its_layer_and_what_to_do(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnnxLayerPair, "run", failing)
    with pytest.raises(FileError) as caught:
        convfc.verify(model, samples=1)
    error = caught.value
    assert (error.path, error.layer) == (model.with_name("m_fc.onnx"), "conv")
    assert str(error.remedy).startswith("Get a fresh copy of it")
    assert str(error).splitlines()[1:] == [error.remedy]


def test_a_remedy_that_ends_a_line_is_known_by_itself(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        convfc.convert(tmp_path)
    assert str(caught.value) == f"{tmp_path}: is a folder, and not a file; name a file on disk"
    back = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
    assert str(back) == str(caught.value)
    assert back.remedy == "name a file on disk"


def test_an_error_of_the_file_that_was_being_written_knows_its_name(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnnxLayerPair, "run", failing)
    out = tmp_path / "out.onnx"
    with pytest.raises(FileError) as caught:
        convfc.convert(model, out, verify=True)
    assert (caught.value.path, caught.value.layer) == (out, "conv")
    assert str(caught.value).startswith(f"{out}: layer 'conv': ")


def test_an_error_stays_what_it_is_on_its_way_through_a_process() -> None:
    error = FileError("m.onnx: words", "Save it anew", path="m.onnx", layer="a\nb")
    back = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(back), str(back)) == (FileError, "m.onnx: words\nSave it anew")
    assert (back.path, back.layer, back.remedy) == (Path("m.onnx"), "a\nb", "Save it anew")


def test_a_method_may_be_called_by_its_name() -> None:
    conv = convfc.convolution([2], channels=1, filters=1, strides=[2])
    found = convfc.lower(conv, (4,), "reshape")
    assert isinstance(found, convfc.Lowering)
    assert found.method is convfc.PatchMethod.RESHAPE
    with pytest.raises(convfc.UsageError, match=r"patches is 'foo': it takes auto"):
        convfc.lower(conv, (4,), "foo")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sample": "0"}, "sample is '0': it takes a whole number of at least 0"),
        ({"sample": -1}, "sample is -1: it takes a whole number of at least 0"),
        ({"digit": [3]}, "digit is .3.: it takes a whole number of at least 0"),
        ({"data": 3}, "data is 3: it takes a path"),
    ],
)
def test_what_explain_is_given(model: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        convfc.explain_model(model, **given)
    conv = convfc.convolution([2, 2], channels=1, filters=1)
    with pytest.raises(UsageError, match=words):
        convfc.explain_convolution(conv, (6, 6), **given)


def test_explain_takes_a_convolution() -> None:
    with pytest.raises(UsageError, match="convolution is 3: it takes a Convolution"):
        UNTYPED.explain_convolution(3, (3,))


def test_a_folder_whose_name_cannot_be() -> None:
    with pytest.raises(convfc.FileError, match="cannot be read: embedded null"):
        convfc.verify_folder("a\0")
