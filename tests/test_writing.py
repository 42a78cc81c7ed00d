"""`system.atomic` and `system.workfolders`: what is there after all that may come in between."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import pytest
from onnx import helper

import convfc
from convfc import FileError, conversion
from convfc.conversion import converting
from convfc.formats.registry import data_names
from convfc.system import workfolders
from convfc.system.atomic import Unchanged, data_name, staged, staging, temporary_folder
from convfc.system.workfolders import alone_in, work_folder
from convfc.verification import inspection
from tests.onnx_models import attributes, integers, kernel_shape, save

CONV = convfc.convolution([3, 3], channels=4, filters=5)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A convolution with its weights in a file of their own."""
    return apart(tmp_path / "net.onnx", seed=0)


def apart(path: Path, seed: int) -> Path:
    node = helper.make_node("Conv", ["x", "W"], ["y"], name="conv", **attributes(CONV))
    weights = {"W": integers(kernel_shape(CONV), seed)}
    path.with_name("net.data").unlink(missing_ok=True)  # onnx would write behind what it holds
    save(path, [node], {"x": ["n", 4, 9, 9]}, ["y"], weights)
    onnx.save(
        onnx.load(path), path, save_as_external_data=True, location="net.data", size_threshold=0
    )
    return path


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def in_a_process(function: Callable[[], None]) -> int:
    """Its exit code; 9 after an exception."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 9
    try:
        function()
        code = 0
    finally:
        os._exit(code)


def test_the_old_data_goes_with_the_old_file(model: Path) -> None:
    out = convfc.convert(model, patches="gather").out
    (first,) = data_names(out)
    convfc.convert(model, patches="slice")
    (second,) = data_names(out)
    assert first != second
    assert names(model.parent) == {"net.onnx", "net.data", out.name, second}


def test_data_of_the_same_name_is_not_the_old_files_alone(model: Path) -> None:
    out = convfc.convert(model).out
    strangers = [data_name(out.name, "0" * 8), f"{out.name}.data", "other.onnx.00000000.data"]
    for name in strangers:
        (model.parent / name).write_text("somebody's")
    convfc.convert(model, patches="slice")
    assert names(model.parent) >= set(strangers)


def test_data_is_named_after_what_it_holds(model: Path) -> None:
    """The record tells the model's own bytes only, not those of its data."""
    out = convfc.convert(model).out
    (before,) = data_names(out)
    text = model.read_bytes()
    apart(model, seed=1)
    assert model.read_bytes() == text
    convfc.convert(model)
    (after,) = data_names(out)
    assert before != after
    assert convfc.verify(model).equivalent


def test_data_that_the_model_itself_needs_is_kept(model: Path) -> None:
    out = convfc.convert(model, skip=["conv"]).out
    (data,) = data_names(out)
    source = Path(shutil.copy(out, model.with_name("again.onnx")))
    convfc.convert(source, out)
    assert (model.parent / data).exists()
    assert convfc.verify(source, out).equivalent


def test_a_link_is_replaced_and_what_it_leads_to_stays(model: Path, tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    kept = convfc.convert(model, real / "net_fc.onnx").out
    before = kept.read_bytes(), names(real)
    link = tmp_path / "net_fc.onnx"
    link.symlink_to(kept)
    convfc.convert(model, link, patches="slice")
    assert not link.is_symlink()
    assert (kept.read_bytes(), names(real)) == before


def test_permissions_are_those_of_the_replaced_file_or_of_a_new_one(model: Path) -> None:
    new = model.with_name("new")
    new.touch()
    out = convfc.convert(model).out
    assert out.stat().st_mode == new.stat().st_mode
    out.chmod(0o600)
    convfc.convert(model, patches="slice")
    (data,) = data_names(out)
    assert {out.stat().st_mode & 0o777, out.with_name(data).stat().st_mode & 0o777} == {0o600}


def test_a_model_that_changes_meanwhile_is_told(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right_look = inspection.look
    for path in (model, model.with_name("net.data")):

        def look(*given: object, path: Path = path) -> object:
            seen = right_look(*given)  # type: ignore[arg-type]
            path.write_bytes(path.read_bytes())
            return seen

        monkeypatch.setattr(conversion, "look", look)
        with pytest.raises(FileError, match=f"{path.name}: has changed while it was converted"):
            convfc.convert(model)
        assert names(model.parent) == {"net.onnx", "net.data"}


def test_unchanged_sees_what_changes(tmp_path: Path) -> None:
    file, other = tmp_path / "a", tmp_path / "b"
    file.write_text("one")
    other.write_text("two")
    Unchanged(file, other).check("read")
    before = Unchanged(file)
    other.replace(file)
    with pytest.raises(FileError, match="while it was read"):
        before.check("read")
    before = Unchanged(file)
    file.unlink()
    with pytest.raises(FileError):
        before.check("read")


def test_a_file_that_came_meanwhile_is_not_replaced(model: Path) -> None:
    out = model.with_name("net_fc.onnx")
    with pytest.raises(FileError, match="not made by convfc"), converting(model):
        out.write_text("of somebody else")
    assert out.read_text() == "of somebody else"
    assert names(model.parent) == {"net.onnx", "net.data", out.name}


def at_once(folder: Path, rounds: int) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.races", str(folder), str(rounds)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    return done.stdout + done.stderr


def test_four_at_once(tmp_path: Path) -> None:
    assert at_once(tmp_path, 2) == ""


@pytest.mark.slow
def test_four_at_once_a_hundred_times(tmp_path: Path) -> None:
    assert at_once(tmp_path, 100) == ""


def test_one_waits_for_the_other_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside: list[int] = []

    def enter(number: int) -> None:
        with alone_in(tmp_path):
            inside.append(number)
            assert len(inside) == 1
            inside.remove(number)

    with alone_in(tmp_path):
        threads = [threading.Thread(target=enter, args=[number]) for number in range(8)]
        for thread in threads:
            thread.start()
        monkeypatch.setattr(workfolders, "_PATIENCE", 0.1)
        with pytest.raises(TimeoutError, match="other runs"), alone_in(tmp_path):
            pass
        monkeypatch.undo()
    for thread in threads:
        thread.join()
    assert not names(tmp_path)


def test_a_lock_that_a_dead_run_left_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / ".convfc-lock").touch()
    with alone_in(tmp_path):
        assert names(tmp_path) == {".convfc-lock"}
    assert not names(tmp_path)


@pytest.mark.parametrize("locks", [True, False])
def test_without_locks_all_goes_on_and_nothing_of_others_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no locks on this file system")

    with temporary_folder_of_a_dead_run(tmp_path) as left:
        if not locks:
            monkeypatch.setattr(fcntl, "flock", refuse)
        with staged(tmp_path / "out") as stage:
            stage.write_text("new")
        assert (tmp_path / "out").read_text() == "new"
        assert names(tmp_path) == {"out"} | (set() if locks else {left.name})


@contextmanager
def temporary_folder_of_a_dead_run(parent: Path) -> Iterator[Path]:
    with work_folder(parent) as folder:
        (folder.files / "half").touch()
        kept = folder.files.parent
        copy = kept.with_name(kept.name[:-8] + "abcdefgh")
        shutil.copytree(kept, copy)
    yield copy
    shutil.rmtree(copy, ignore_errors=True)


def test_what_a_killed_run_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    def die() -> None:
        with work_folder(tmp_path) as folder:
            (folder.files / "half").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_a_process(die) == -signal.SIGKILL
    assert len(names(tmp_path)) == 1
    with work_folder(tmp_path):
        assert len(names(tmp_path)) == 1
    assert not names(tmp_path)


def test_what_is_in_use_or_not_ours_stays(tmp_path: Path) -> None:
    theirs = [".convfc-", ".convfc-01234567", "convfc-01234567-abcdefgh", ".convfc-x-abcdefgh"]
    for name in theirs:
        (tmp_path / name).mkdir()
    with work_folder(tmp_path) as mine:
        prefix = mine.files.parent.name[:-8]
        full = tmp_path / f"{prefix}holiday_"
        full.mkdir()
        (full / "photo").touch()
        (tmp_path / f"{prefix}aaaaaaaa").touch()
        (tmp_path / f"{prefix}llllllll").symlink_to(full)
        before = names(tmp_path)
        with work_folder(tmp_path) as other:
            assert names(tmp_path) == before | {other.files.parent.name}
            assert mine.files.is_dir()


def test_what_another_machine_left_is_removed_a_day_later(tmp_path: Path) -> None:
    left = tmp_path / ".convfc-00000000-abcdefgh"
    (left / "files").mkdir(parents=True)
    with work_folder(tmp_path):
        assert left.exists()
    yesterday = time.time() - 25 * 60 * 60
    for path in (left / "files", left):
        os.utime(path, (yesterday, yesterday))
    with work_folder(tmp_path):
        assert not left.exists()


@pytest.mark.parametrize("moved", [1, 2])
def test_a_publication_that_was_cut_short_is_ended(model: Path, moved: int) -> None:
    """Killed when the new weights are there, and when the new file is, too."""
    out = convfc.convert(model).out
    before, (old,) = out.read_bytes(), data_names(out)

    def die() -> None:
        right, calls = Path.replace, []

        def replace(path: Path, target: Path) -> Path:
            done = right(path, target)
            calls.append(target)
            if target.parent == out.parent and len(calls) == moved:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        Path.replace = replace  # type: ignore[method-assign, assignment]
        convfc.convert(model, patches="slice", check=False)

    assert in_a_process(die) == -signal.SIGKILL
    assert (out.read_bytes() == before) == (moved == 1)
    assert data_names(out) <= names(model.parent)
    assert len(names(model.parent)) == 7  # the lock, the folder, two models, three files of data
    with staged(model.with_name("note")) as stage:  # knows nothing of models
        stage.write_text("")
    assert len(names(model.parent)) == 7
    with staging(model.with_name("other.onnx"), data_names):
        pass
    assert names(model.parent) == {"net.onnx", "net.data", "note", out.name, *data_names(out)}
    assert (old in names(model.parent)) == (moved == 1)


@pytest.mark.parametrize(
    "note",
    [
        "no JSON",
        "[]",
        json.dumps({"out": "../net.onnx", "data": ["../net.onnx.00000000.data"]}),
        json.dumps({"out": "net.onnx", "data": ["net.onnx"]}),
        json.dumps({"out": "net.onnx", "data": ["../net.onnx.00000000.data"]}),
    ],
)
def test_a_note_that_is_not_ours_removes_nothing(tmp_path: Path, note: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    for folder in (tmp_path, inner):
        (folder / "net.onnx").touch()
        (folder / "net.onnx.00000000.data").touch()
    with work_folder(inner) as mine:
        copy = mine.files.parent.with_name(mine.files.parent.name[:-8] + "abcdefgh")
        copy.mkdir()
        (copy / "lock").write_text(note)
    with staging(inner / "out", lambda _: ()):
        pass
    for folder in (tmp_path, inner):
        assert names(folder) >= {"net.onnx", "net.onnx.00000000.data"}
    assert len(names(inner)) == 2


def test_no_place_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", nowhere)
    with (
        pytest.raises(FileError, match="set the environment variable TMPDIR"),
        temporary_folder(),
    ):
        pass


def test_a_name_that_is_too_long(model: Path) -> None:
    for length in (300, 250):
        with pytest.raises(FileError, match="cannot be written: File name too long"):
            convfc.convert(model, model.with_name("a" * (length - 5) + ".onnx"))
    assert names(model.parent) == {"net.onnx", "net.data"}


def test_a_folder_that_vanishes(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    with (
        pytest.raises(FileError, match="cannot be written"),
        converting(model, folder / "net.onnx"),
    ):
        shutil.rmtree(folder)
    assert names(tmp_path) == {"net.onnx", "net.data"}


def test_a_folder_that_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        right(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with staged(tmp_path / "out") as stage:
        stage.write_text("new")
    assert (tmp_path / "out").read_text() == "new"


def test_a_full_disk_is_told_wherever_h5py_does() -> None:
    """It says so in a RuntimeError about another one, where it fails to close a file."""
    from convfc.formats.keras.refusals import write_error

    first = RuntimeError("Unable to flush file (file write failed: errno = 28, error message = ..)")
    second = RuntimeError("Can't destroy cache (slist already enabled?)")
    second.__context__ = first
    assert write_error(second).strerror == os.strerror(28)
    assert write_error(OSError(27, "")).strerror == os.strerror(27)
    assert write_error(RuntimeError("why not")).strerror == os.strerror(5)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rounds", "2", "--kind", "onnx"],
        pytest.param(["--rounds", "40"], marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_moment(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.kills", *arguments],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
