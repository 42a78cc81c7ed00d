"""`convfc.convert`: which file is written where, and when none is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from inspect import signature
from pathlib import Path
from typing import get_overloads

import onnx
import pytest
from onnx import helper

import convfc
from convfc import Fate, FileError, UsageError, Verdict, convolution
from convfc.conversion import converting
from convfc.formats.onnx import filter_matrix
from convfc.formats.registry import open_model, provenance_of
from convfc.system.atomic import sha256_of, staged
from tests.onnx_models import attributes, conv_file, integers, kernel_shape, save

CONV = convolution([3, 2], channels=2, filters=3, strides=[1, 2])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Two convolutions, `first` and `second`."""
    nodes = [
        helper.make_node("Conv", ["x", "V"], ["a"], name="first", **attributes(CONV)),
        helper.make_node("Conv", ["a", "W"], ["y"], name="second"),
    ]
    weights = {"V": integers(kernel_shape(CONV)), "W": integers([4, 3, 1, 1])}
    return save(tmp_path / "net.onnx", nodes, {"x": ["n", 2, 9, 8]}, ["y"], weights)


def names(folder: Path) -> set[str]:
    """What is in a folder, hidden files too."""
    return {file.name for file in folder.iterdir()}


def test_the_default_name_and_the_record(model: Path) -> None:
    done = convfc.convert(model)
    assert done.complete
    assert done.out == model.with_name("net_fc.onnx")
    record = provenance_of(done.out)
    assert record is not None
    assert record.source == "net.onnx"
    assert record.sha256 == sha256_of(model)
    assert record.version == convfc.__version__
    assert [(layer.name, layer.patches) for layer in record.layers] == [
        ("first", "gather"),
        ("second", "none"),
    ]
    assert record.layers[0].geometry == {
        "kernel": [3, 2],
        "strides": [1, 2],
        "dilations": [1, 1],
        "padding": [[0, 0], [0, 0]],
        "channels": 2,
        "filters": 3,
        "groups": 1,
        "sizes": [9, 8],
    }
    assert open_model(done.out).provenance == record
    assert names(model.parent) == {"net.onnx", "net_fc.onnx"}


def test_a_file_that_convfc_made_is_replaced_and_no_other(model: Path) -> None:
    out = convfc.convert(model).out
    first = out.read_bytes()
    assert convfc.convert(model, patches="slice").written
    assert out.read_bytes() != first
    out.write_bytes(b"something else")
    with pytest.raises(FileError, match="--force"):
        convfc.convert(model)
    assert out.read_bytes() == b"something else"
    assert convfc.convert(model, force=True).written


def test_never_the_model_itself(model: Path) -> None:
    before = model.read_bytes()
    link = model.with_name("link.onnx")
    link.symlink_to(model)
    for out in (model, link):
        with pytest.raises(UsageError, match="never overwrites"):
            convfc.convert(model, out, force=True)
    assert model.read_bytes() == before


def test_a_folder_as_out(model: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert convfc.convert(model, tmp_path / "there").out == tmp_path / "there" / "net_fc.onnx"


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        ("no/such/folder.onnx", FileError, "create it first"),
        ("net.keras", UsageError, "ends in .onnx"),
        ("/dev/full", UsageError, "ends in .onnx"),
    ],
)
def test_out_that_cannot_be(
    model: Path, tmp_path: Path, out: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        convfc.convert(model, tmp_path / out)
    assert names(tmp_path) == {"net.onnx"}


def test_a_device_as_out(model: Path) -> None:
    device = model.with_name("device.onnx")
    device.symlink_to("/dev/full")
    with pytest.raises(FileError, match="no regular file"):
        convfc.convert(model, device, force=True)


def test_only_and_skip(model: Path) -> None:
    done = convfc.convert(model, only=["f*"])
    assert [layer.fate for layer in done.layers] == [Fate.CONVERTED, Fate.SKIPPED]
    assert done.complete
    done = convfc.convert(model, only=["*"], skip=["f*"])
    assert [layer.fate for layer in done.layers] == [Fate.SKIPPED, Fate.CONVERTED]
    with pytest.raises(UsageError, match="'third'; there are: first, second"):
        convfc.convert(model, only=["third"])


def test_what_cannot_be_converted_stops_the_rest_unless_partial(model: Path) -> None:
    done = convfc.convert(model, patches="reshape")
    assert [layer.fate for layer in done.layers] == [Fate.LEFT, Fate.CONVERTED]
    assert not done.written
    assert names(model.parent) == {"net.onnx"}
    done = convfc.convert(model, patches="reshape", partial=True)
    assert done.written
    assert not done.complete
    assert [site.name for site in open_model(done.out).sites] == ["first"]


def test_a_window_that_does_not_fit_is_a_reason(tmp_path: Path) -> None:
    path = conv_file(tmp_path / "m.onnx", convolution([5], channels=1, filters=1), (3,))
    done = convfc.convert(path)
    assert done.layers[0].reason == "the window spans 5 but the padded axis has only 3"


def test_a_model_without_convolution_is_copied(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    path = save(tmp_path / "m.onnx", [node], {"x": [1, 2]}, ["y"], {})
    done = convfc.convert(path)
    assert done.complete
    assert done.layers == ()
    assert convfc.verify(path).equivalent


def test_verify_keeps_a_wrong_file_from_appearing(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert convfc.convert(model, verify=True).complete
    right = model.with_name("net_fc.onnx").read_bytes()
    # A lowering that forgets the kernel's order of axes: a wrong program for a right plan.
    right_way = filter_matrix._laid_out
    monkeypatch.setattr(filter_matrix, "_laid_out", lambda *given: right_way(*given)[::-1].copy())
    done = convfc.convert(model, verify=True)
    assert done.verification is not None
    assert done.verification.verdict is Verdict.NOT_EQUIVALENT
    assert not done.written
    assert model.with_name("net_fc.onnx").read_bytes() == right
    assert names(model.parent) == {"net.onnx", "net_fc.onnx"}


def test_converting_publishes_when_its_block_ends(model: Path) -> None:
    with converting(model) as done:
        assert done.complete
        assert not done.out.exists()
    assert done.out.exists()
    assert convfc.verify(model).equivalent


def test_converting_publishes_nothing_if_its_block_raises(model: Path) -> None:
    out = convfc.convert(model).out
    before = out.read_bytes()
    with pytest.raises(BrokenPipeError), converting(model, patches="slice"):
        raise BrokenPipeError
    assert out.read_bytes() == before
    assert names(model.parent) == {"net.onnx", "net_fc.onnx"}


def test_converting_has_the_arguments_of_convert() -> None:
    """What type checkers see, what `help` shows, and what is taken."""
    of_files, _ = get_overloads(convfc.convert)
    expected = signature(converting).parameters
    assert signature(of_files).parameters == expected
    assert signature(convfc.convert).parameters == expected


def test_a_full_disk_leaves_nothing(model: Path) -> None:
    """A limit on the size of files fails a write in the middle, as a full disk does."""
    script = (
        "import resource, sys, convfc\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n"
        "try:\n    convfc.convert(sys.argv[1])\n"
        "except convfc.FileError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(model)], capture_output=True, text=True, check=True
    )
    assert "net_fc.onnx: cannot be written: File too large" in done.stdout
    assert names(model.parent) == {"net.onnx"}


def test_a_folder_that_nobody_may_write_in(model: Path) -> None:
    with pytest.raises(FileError, match="cannot be written"):
        convfc.convert(model, "/proc/net_fc.onnx")


def test_staging_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("old")

    def interrupted() -> None:
        with staged(out) as stage:
            stage.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert out.read_text() == "old"
    with staged(out) as stage:
        stage.write_text("new")
    assert out.read_text() == "new"
    assert names(tmp_path) == {"out"}


def test_a_killed_run_leaves_the_old_file(model: Path) -> None:
    out = convfc.convert(model).out
    before = out.read_bytes()
    script = (
        "import os, sys, convfc\n"
        "from convfc.formats.onnx.one_piece import OnePiece\n"
        "write = OnePiece.write\n"
        "def die(*args, **kwargs):\n    write(*args, **kwargs)\n    os._exit(9)\n"
        "OnePiece.write = die\n"
        "convfc.convert(sys.argv[1], patches='slice')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(model)], check=False)
    assert done.returncode == 9
    assert out.read_bytes() == before


def test_a_damaged_record_is_told(model: Path) -> None:
    out = convfc.convert(model).out
    damaged = onnx.load(out)
    damaged.metadata_props[0].value = '{"source": "../../etc/passwd", "layers": []}'
    onnx.save(damaged, out)
    with pytest.raises(FileError, match="record is damaged"):
        convfc.verify(out)
    with pytest.raises(FileError, match="--force"):
        convfc.convert(model)
    shutil.copy(model, out)
    assert provenance_of(out) is None
