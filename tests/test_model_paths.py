"""Paths that lead to no file of a disk: refused at once, and nothing is read from them."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest

import convfc
from convfc import FileError, Verdict
from tests.onnx_models import conv_file

CONV = convfc.convolution([3, 3], channels=2, filters=2)

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")


class HungError(BaseException):
    """What a test takes far too long for; nobody catches it."""


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """Reading a pipe waits for ever, and /dev/zero never ends."""

    def ring(*_: object) -> None:
        raise HungError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # the path of a socket has at most 107 letters
        server.bind(path.name)
        os.chdir(here)


MAKERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "is a pipe"),
    "socket": (listening, "is a socket"),
    "zeros": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
    "null": (lambda path: path.symlink_to(os.devnull), "is a device"),
    "folder": (Path.mkdir, "is a folder"),
    "dangling": (lambda path: path.symlink_to("nowhere"), "is a link to 'nowhere', which is not"),
    "circle": (lambda path: path.symlink_to(path.name), "cannot be read|symbolic links"),
}
NAMES = pytest.mark.parametrize("name", MAKERS)


def made(path: Path, name: str) -> str:
    """Put something there, and return what is to be said of it."""
    make, words = MAKERS[name]
    make(path)
    return words


@NAMES
@pytest.mark.parametrize("suffix", [".onnx", ".h5", ".keras"])
def test_as_a_model(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    words = made(path, name)
    for verb in (convfc.shapes, convfc.convert, convfc.verify):
        with pytest.raises(FileError, match=words) as caught:
            verb(path)
        assert str(path) in str(caught.value)
    assert sorted(tmp_path.iterdir()) == [path]


@NAMES
def test_as_the_converted_model(tmp_path: Path, name: str) -> None:
    model = conv_file(tmp_path / "m.onnx", CONV, (6, 6))
    words = made(tmp_path / "x.onnx", name)
    with pytest.raises(FileError, match=words):
        convfc.verify(model, tmp_path / "x.onnx")


@pytest.mark.parametrize("name", ["pipe", "zeros", "dangling"])
def test_in_a_folder_that_is_verified(tmp_path: Path, name: str) -> None:
    """It is told, and the files beside it are verified."""
    out = convfc.convert(conv_file(tmp_path / "m.onnx", CONV, (6, 6)), check=False).out
    words = made(tmp_path / "x.onnx", name)
    first, second = convfc.verify_folder(tmp_path, samples=1, quick=True)
    assert (first.converted, first.verdict) == (out, Verdict.EQUIVALENT)
    assert (second.converted.name, second.verdict) == ("x.onnx", Verdict.COULD_NOT_CHECK)
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(second.reason)


@pytest.mark.parametrize("name", ["pipe", "zeros", "folder", "dangling"])
def test_as_the_original_that_a_record_names(tmp_path: Path, name: str) -> None:
    model = conv_file(tmp_path / "m.onnx", CONV, (6, 6))
    out = convfc.convert(model, check=False).out
    model.unlink()
    made(model, name)
    with pytest.raises(FileError, match=r"m\.onnx"):
        convfc.verify(out)


@NAMES
def test_as_external_data(tmp_path: Path, name: str) -> None:
    model = conv_file(tmp_path / "m.onnx", CONV, (6, 6))
    onnx.save(onnx.load(model), model, save_as_external_data=True, location="w", size_threshold=0)
    assert convfc.shapes(model)
    (tmp_path / "w").unlink()
    made(tmp_path / "w", name)
    for verb in (convfc.shapes, convfc.convert):
        with pytest.raises(FileError, match=r"m\.onnx: .*(external data)") as caught:
            verb(model)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("path", ["a\0b.onnx", "x" * 5000, "x" * 300 + ".onnx"])
def test_names_that_no_file_can_have(path: str) -> None:
    for verb in (convfc.shapes, convfc.convert, convfc.verify):
        with pytest.raises(FileError, match="cannot be read"):
            verb(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="to root every file is readable")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    model = conv_file(tmp_path / "m.onnx", CONV, (6, 6))
    model.chmod(0)
    with pytest.raises(FileError, match="cannot be read: Permission denied"):
        convfc.shapes(model)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be read"):
        convfc.verify_folder(tmp_path / "nowhere")


def test_a_link_to_a_model_is_a_model(tmp_path: Path) -> None:
    """The twin: what is refused above is not refused for being reached by a link."""
    model = conv_file(tmp_path / "m.onnx", CONV, (6, 6))
    (tmp_path / "link.onnx").symlink_to(model)
    assert convfc.shapes(tmp_path / "link.onnx") == convfc.shapes(model)
