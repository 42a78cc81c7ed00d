"""Whatever goes wrong on the way names the file, and nothing that is no error is taken for one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import convfc
from convfc import FileError
from convfc.formats.onnx import model, reader
from convfc.formats.onnx.layer_pair import OnnxLayerPair
from convfc.gates import gate, gated
from tests.onnx_models import conv_file
from tests.program import exit_code

CONV = convfc.convolution([3, 3], channels=2, filters=2)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    path = conv_file(tmp_path / "m.onnx", CONV, (6, 6))
    return path, convfc.convert(path, check=False).out


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def shapes(path: Path) -> object:
    return convfc.shapes(path)


def convert(path: Path) -> object:
    return convfc.convert(path)


def verify(path: Path) -> object:
    return convfc.verify(path, samples=1, quick=True)


@pytest.mark.parametrize(
    ("verb", "owner", "name"),
    [
        (shapes, model, "prepare"),
        (convert, model.OnnxModel, "save_converted"),
        (convert, model.OnnxModel, "run_once"),
        (verify, reader, "read_proto"),
        (verify, model.OnnxModel, "align"),
        (verify, model.OnnxModel, "activations"),
        (verify, model.OnnxModel, "run"),
        (verify, model.OnnxModel, "run_in_float64"),
        (verify, model.OnnxModel, "cautions"),
    ],
)
def test_an_error_that_nobody_foresaw_names_the_file_and_keeps_its_cause(
    pair: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    verb: Callable[[Path], object],
    owner: object,
    name: str,
) -> None:
    verb(pair[0])
    error = KeyError("q\x1b[31m\nx" * 100)
    monkeypatch.setattr(owner, name, failing(error))
    with pytest.raises(FileError, match="damaged, or not a model") as caught:
        verb(pair[0])
    text = str(caught.value)
    assert str(pair[0]) in text or str(pair[1]) in text
    assert "KeyError" in text
    assert "\x1b" not in text
    assert len(text.splitlines()) == 2
    assert caught.value.__cause__ is error


def test_a_layer_is_named(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxLayerPair, "run", failing(ZeroDivisionError("none")))
    with pytest.raises(FileError, match=r"m_fc\.onnx: layer 'conv': damaged.*ZeroDivisionError"):
        verify(pair[0])


@pytest.mark.parametrize(
    ("error", "words"),
    [(MemoryError(), "more memory than there is"), (RecursionError(), "nested too deeply")],
)
def test_the_two_limits_of_python(error: Exception, words: str) -> None:
    with pytest.raises(FileError, match=f"m.onnx: it.*{words}") as caught, gate("m.onnx"):
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "end",
    [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), BrokenPipeError()],
    ids=lambda end: type(end).__name__,
)
def test_what_ends_the_program_is_no_fault_of_the_file(end: BaseException) -> None:
    with pytest.raises(type(end)) as caught, gate("m.onnx"):
        raise end
    assert caught.value is end


def test_what_is_known_remains_as_it_was_said() -> None:
    known = convfc.UsageError("in words")
    with pytest.raises(convfc.UsageError) as caught, gate("outer"), gate("inner"):
        raise known
    assert caught.value is known


def test_a_geometry_that_is_none_gets_the_name_of_the_file() -> None:
    with pytest.raises(FileError, match=r"^inner: in words$"), gate("outer"), gate("inner"):
        raise convfc.GeometryError("in words")


def test_the_innermost_gate_speaks() -> None:
    with pytest.raises(FileError, match=r"^inner: damaged"), gate("outer"), gate("inner"):
        raise ValueError


@pytest.mark.parametrize("as_keyword", [False, True])
def test_a_function_behind_a_gate(as_keyword: bool) -> None:
    @gated
    def length(model: str, least: int = 0) -> int:
        """How long it is."""
        return max(least, len(model) // least)

    assert length("abc", least=1) == 3
    assert length.__doc__ == "How long it is."
    with pytest.raises(FileError, match=r"^abc: .*ZeroDivisionError"):
        length(model="abc") if as_keyword else length("abc")


def test_a_fault_of_convfc_is_seen_with_debug(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(model, "prepare", failing(ZeroDivisionError("here")))
    assert exit_code(monkeypatch, "shapes", pair[0]) == 2
    assert "ZeroDivisionError: here" in capsys.readouterr().err
    assert exit_code(monkeypatch, "shapes", pair[0], "--debug") == 2
    assert "in failing\n" in (shown := capsys.readouterr().err) or "in fail\n" in shown, shown


def test_one_bad_file_does_not_keep_a_folder_from_being_verified(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = convfc.convert(pair[0], pair[0].with_name("other.onnx")).out
    real = model.OnnxModel.align

    def align(self: model.OnnxModel, converted: model.OnnxModel) -> object:
        if converted.path == other:
            raise IndexError("list index")
        return real(self, converted)

    monkeypatch.setattr(model.OnnxModel, "align", align)
    results = convfc.verify_folder(pair[0].parent, samples=1, quick=True)
    assert [result.verdict.name for result in results] == ["EQUIVALENT", "COULD_NOT_CHECK"]
    assert "IndexError" in str(results[1].reason)


@pytest.mark.parametrize("number", [0, 1])
def test_a_file_that_changes_while_it_is_verified(pair: tuple[Path, Path], number: int) -> None:
    path = pair[number]

    def touch(_: str) -> None:
        path.with_name("new").write_bytes(path.read_bytes())
        path.with_name("new").replace(path)

    with pytest.raises(FileError, match=f"{path.name}: has changed while it was verified"):
        convfc.verify(*pair, samples=1, quick=True, progress=touch)
    convfc.verify(*pair, samples=1, quick=True)


def test_a_call_that_no_function_takes_is_no_fault_of_the_file() -> None:
    verify: Any = convfc.verify
    with pytest.raises(TypeError, match="'shape'"):
        verify("m.onnx", shape={"x": (1, 2)})
    shapes: Any = convfc.shapes
    with pytest.raises(TypeError, match="'model'"):
        shapes()
