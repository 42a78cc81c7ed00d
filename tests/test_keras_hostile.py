"""Keras files made to harm: bombs, loops, lies and nonsense end in a sentence, before they cost."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import io
import json
import math
import os
import re
import signal
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers

import convfc
from convfc.core.builders import convolution
from convfc.core.geometry import Convolution, Same, Window
from convfc.errors import ConvfcError, FileError, UnsupportedModelError
from convfc.formats.keras import bounds, internals, open_keras, read_provenance, rehearsal
from convfc.formats.keras.archive import read_through
from convfc.formats.keras.refusals import brief, refusing
from convfc.formats.keras.rehearsal import rehearse
from convfc.formats.keras.workspace import workspace
from convfc.formats.protocols import Site
from tests.keras_models import FORMATS, save
from tests.thinned import thinned

Members = dict[str, bytes]
Config = dict[str, Any]
WEIGHTS, CONFIG = "model.weights.h5", "config.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small model in both formats."""
    stack = [keras.Input((6, 5, 2)), layers.Conv2D(3, 2, name="conv"), layers.Flatten()]
    model = keras.Sequential([*stack, layers.Dense(4, name="dense")])
    model.compile("adam", "mse")
    folder = tmp_path_factory.mktemp("whole")
    return {suffix: save(model, folder / f"m{suffix}") for suffix in FORMATS}


def _members(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("moved", [0, 1])
def test_weights_that_begin_where_hdf5_looks(
    whole: dict[str, Path], tmp_path: Path, moved: int
) -> None:
    """A zip stays one; only by chance does it hold what HDF5 takes for a file."""
    parts, path = _members(whole[".keras"]), tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name in (CONFIG, "metadata.json"):
            archive.writestr(name, parts[name])
        blank = 8192 - archive.start_dir - 2 * 30 - len("blank") - len(WEIGHTS) + moved
        archive.writestr("blank", b" " * blank)
        archive.writestr(WEIGHTS, parts[WEIGHTS])
    assert h5py.is_hdf5(path) != bool(moved)
    assert convfc.convert(path).complete
    other = path.rename(tmp_path / "m.h5")
    if not moved:
        with pytest.raises(FileError, match=r"HDF5 and a \.keras zip at once"):
            open_keras(other)


def _zipped(path: Path, members: Members, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def _edited(whole: Path, path: Path, edit: Callable[[h5py.File], None]) -> Path:
    """A copy whose weights are edited, wherever they are."""
    if path.suffix == ".h5":
        path.write_bytes(whole.read_bytes())
        with h5py.File(path, "r+") as file:
            edit(file)
        return path
    members = _members(whole)
    buffer = io.BytesIO(members[WEIGHTS])
    with h5py.File(buffer, "r+") as file:
        edit(file)
    return _zipped(path, {**members, WEIGHTS: buffer.getvalue()})


def _configured(whole: Path, path: Path, text: str) -> Path:
    """A copy with another configuration."""
    if path.suffix == ".keras":
        return _zipped(path, {**_members(whole), CONFIG: text.encode()})
    return _edited(whole, path, lambda file: file.attrs.__setitem__("model_config", text))


def _config(whole: Path) -> Config:
    config: Config
    if whole.suffix == ".keras":
        config = json.loads(_members(whole)[CONFIG])
    else:
        with h5py.File(whole) as file:
            config = json.loads(file.attrs["model_config"])
    return config


def _refusal(path: Path, *words: str) -> str:
    with pytest.raises(ConvfcError) as caught:
        open_keras(path)
    text = str(caught.value)
    assert str(path) in text
    assert len(text.splitlines()) <= 2
    assert all(line.isprintable() for line in text.splitlines())
    for word in words:
        assert word in text, text
    return text


def _weight(file: h5py.File) -> tuple[h5py.Group, str]:
    """The group and the name of the kernel of the Dense."""
    found: list[h5py.Dataset] = []
    file.visititems(
        lambda _, item: found.append(item) if getattr(item, "shape", ()) == (60, 4) else None
    )
    return found[0].parent, found[0].name.rsplit("/", 1)[1]


def _instead(**how: Any) -> Callable[[h5py.File], None]:
    """Puts other data in the place of a weight."""

    def edit(file: h5py.File) -> None:
        group, name = _weight(file)
        del group[name]
        group.create_dataset(name, **how)

    return edit


def _soft(file: h5py.File) -> None:
    group, name = _weight(file)
    file["moved"] = group.pop(name)
    group[name] = h5py.SoftLink("/moved")


def _block(file: h5py.File) -> None:
    """A block of 960 bytes that unpacks to 8 MiB."""
    _instead(shape=(60, 4), dtype="f4", chunks=(60, 4), compression="gzip")(file)
    group, name = _weight(file)
    group[name].id.write_direct_chunk((0, 0), zlib.compress(bytes(2**23)))


def _many(file: h5py.File) -> None:
    for number in range(200):
        h5py.h5g.create(file.id, b"g%d" % number)


def _deep(file: h5py.File) -> None:
    group = file.id
    for _ in range(bounds._DEEPEST + 2):
        group = h5py.h5g.create(group, b"a")


WEIGHT_BOMBS = {
    "never written": (_instead(shape=(2**20, 2**12), dtype="f4"), "4.0 MiB"),
    "filled in": (_instead(shape=(2**30,), dtype="f4", fillvalue=1, chunks=(2**20,)), "4.0 MiB"),
    "2**60 bytes": (_instead(shape=(2**29, 2**29), dtype="f4", chunks=(1, 1)), "over 1,073"),
    "a block": (_block, "unpacks to more"),
    "text": (_instead(data=["a", "b"]), "not made of numbers"),
    "references": (_instead(shape=(3,), dtype=h5py.ref_dtype), "not made of numbers"),
    "another filter": (_instead(shape=(60, 4), dtype="f4", compression="lzf"), "packed in a way"),
    "a soft link": (_soft, "SoftLink"),
    "many groups": (_many, "more groups"),
    "deep groups": (_deep, "more groups"),
}


@pytest.mark.parametrize("suffix", thinned(FORMATS))
@pytest.mark.parametrize("name", thinned(WEIGHT_BOMBS))
def test_weights_that_are_not_what_they_say(
    whole: dict[str, Path], tmp_path: Path, name: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "_FREE", 2**22)
    monkeypatch.setattr(bounds, "_MOST_OBJECTS", 150)
    edit, word = WEIGHT_BOMBS[name]
    _refusal(_edited(whole[suffix], tmp_path / f"m{suffix}", edit), word)


@pytest.mark.parametrize("suffix", thinned(FORMATS))
@pytest.mark.parametrize("way", thinned(["gzip", "shuffle and checksum", "a loop", "two names"]))
def test_odd_weights_that_are_what_they_say(
    whole: dict[str, Path], tmp_path: Path, way: str, suffix: str
) -> None:
    def edit(file: h5py.File) -> None:
        group, name = _weight(file)
        if way == "a loop":
            file.create_group("loop")["again"] = file["/"]
        elif way == "two names":
            file["other"] = group[name]
        else:
            more = {} if way == "gzip" else {"shuffle": True, "fletcher32": True}
            _instead(data=group[name][...], compression="gzip", chunks=(7, 3), **more)(file)

    model = open_keras(_edited(whole[suffix], tmp_path / f"m{suffix}", edit))
    same = open_keras(whole[suffix])
    feed = {port.name: np.ones((1, 6, 5, 2), np.float32) for port in model.inputs}
    for ours, theirs in zip(model.run(feed).values(), same.run(feed).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_whole_file_is_far_from_the_limit(
    whole: dict[str, Path], monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(bounds, "_FREE", 0)
    monkeypatch.setattr(bounds, "_TIMES", 1)
    assert open_keras(whole[suffix]).sites


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_of_many_names_for_one_array(
    whole: dict[str, Path], tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layers are as large as they say, and the file is not."""
    monkeypatch.setattr(bounds, "_FREE", 2**14)
    config = _config(whole[suffix])
    stack = config["config"]["layers"]
    dense = next(item for item in stack if item["class_name"] == "Dense")
    for number in range(200):
        stack.append(json.loads(json.dumps(dense)))
        stack[-1]["config"].update(name=f"more{number}", units=400)
        stack[-1].pop("build_config", None)
    path = _configured(whole[suffix], tmp_path / f"m{suffix}", json.dumps(config))
    _refusal(path, "the weights of its layers would take")


@pytest.mark.parametrize("suffix", thinned(FORMATS))
@pytest.mark.parametrize("units", thinned([10**9, 2**62, 10**30]))
def test_a_layer_of_absurd_size(
    whole: dict[str, Path], tmp_path: Path, units: int, suffix: str
) -> None:
    config = _config(whole[suffix])
    config["config"]["layers"][-1]["config"]["units"] = units
    path = _configured(whole[suffix], tmp_path / f"m{suffix}", json.dumps(config))
    _refusal(path, "the weights of its layers would take", "4 times")


def test_a_layer_reads_no_more_than_the_file_may_unfold_to(
    whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of names may name one array any number of times."""
    monkeypatch.setattr(bounds, "_FREE", 2**14)

    def edit(file: h5py.File) -> None:
        names = file["model_weights/dense"].attrs
        names["weight_names"] = np.array([names["weight_names"][0]] * 500, "S")

    _refusal(_edited(whole[".h5"], tmp_path / "m.h5", edit), "would take 468.8 KiB")


def test_a_member_that_unpacks_to_far_more(
    whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "_FREE", 2**22)
    members = {**_members(whole[".keras"]), "assets/zeros": bytes(2**23)}
    path = _zipped(tmp_path / "m.keras", members, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**17
    _refusal(path, "its members unpacked would take 8.0 MiB", "does not compress")


def test_a_zip_that_was_packed_again_is_read(whole: dict[str, Path], tmp_path: Path) -> None:
    path = _zipped(tmp_path / "m.keras", _members(whole[".keras"]), zipfile.ZIP_DEFLATED)
    assert open_keras(path).sites


def _patched(where: bytes, offset: int, value: bytes) -> Callable[[bytes], bytes]:
    """Replaces bytes in every header of a zip that starts with a signature."""

    def edit(data: bytes) -> bytes:
        found = data.find(where)
        while found >= 0:
            data = data[: found + offset] + value + data[found + offset + len(value) :]
            found = data.find(where, found + 1)
        return data

    return edit


ENTRY = b"PK\x01\x02"
ZIP_LIES = {
    "method 99": (_patched(ENTRY, 10, b"\x63\0"), "method 99"),
    "encrypted": (_patched(ENTRY, 8, b"\1\0"), "encrypted"),
    "sizes of 4 GB": (_patched(ENTRY, 24, b"\xf0\xff\xff\xff"), "would take"),
    "sizes of 0": (_patched(ENTRY, 24, b"\0\0\0\0"), "fresh copy"),
    "all in one place": (_patched(ENTRY, 42, b"\0\0\0\0"), "fresh copy"),
    "placed beyond the end": (_patched(ENTRY, 42, b"\xf0\xff\xff\x7f"), "fresh copy"),
    "names that are no UTF-8": (_patched(ENTRY, 46, b"\xff\xfe"), "no Keras model"),
}


@pytest.mark.parametrize("name", ZIP_LIES)
def test_a_zip_that_lies(whole: dict[str, Path], tmp_path: Path, name: str) -> None:
    edit, word = ZIP_LIES[name]
    path = tmp_path / "m.keras"
    path.write_bytes(edit(whole[".keras"].read_bytes()))
    _refusal(path, word)


def test_members_of_a_zip(whole: dict[str, Path], tmp_path: Path) -> None:
    members = _members(whole[".keras"])
    path = tmp_path / "m.keras"
    for lacking in members:
        _zipped(path, {name: data for name, data in members.items() if name != lacking})
        _refusal(path, lacking)
    _zipped(path, {**members, f"{CONFIG}/": b""} | {CONFIG: b"{}"})
    _refusal(path, "none that Keras writes")
    _zipped(path, {f"f{number}": b"" for number in range(10_001)})
    _refusal(path, "10001")
    _zipped(path, members)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(CONFIG, members[CONFIG])
    _refusal(path, "two files of one name")


def test_a_member_beside_the_folder_stays_in_the_zip(
    whole: dict[str, Path], tmp_path: Path
) -> None:
    inside, root = tmp_path / "a" / "b", tmp_path / "root"
    inside.mkdir(parents=True)
    beside = {"../../away": b"a", "../away": b"a", "assets/../../away": b"a", f"{root}/away": b"a"}
    path = _zipped(inside / "m.keras", {**_members(whole[".keras"]), **beside})
    with contextlib.suppress(ConvfcError):
        open_keras(path)
    assert [item for item in tmp_path.rglob("*") if item.is_file()] == [path]


CONFIGS = {
    "nested lists": "[" * 100_000,
    "nested closed": "[" * 100_000 + "]" * 100_000,
    "nested dictionaries": '{"config":' * 100_000,
    "no JSON": "{",
    "null": "null",
    "list": "[]",
    "text": '"Sequential"',
    "number of 100,000 digits": '{"class_name": "Sequential", "config": {"a": '
    + "9" * 100_000
    + "}}",
    "class is a number": '{"class_name": 3, "config": {"layers": []}}',
    "config is text": '{"class_name": "Sequential", "config": "layers"}',
    "many lists": "[" + "[]," * 4_300_000 + "[]]",
    "layers are a number": '{"class_name": "Sequential", "config": {"layers": 3}}',
    "layer is null": '{"class_name": "Sequential", "config": {"layers": [null]}}',
    "layers nested": '{"class_name": "Sequential", "config": {"layers": '
    + "[" * 900
    + "]" * 900
    + "}}",
}


@pytest.mark.parametrize("suffix", thinned(FORMATS))
@pytest.mark.parametrize("name", thinned(CONFIGS))
def test_a_configuration_that_is_none(
    whole: dict[str, Path], tmp_path: Path, name: str, suffix: str
) -> None:
    _refusal(_configured(whole[suffix], tmp_path / f"m{suffix}", CONFIGS[name]))


@pytest.mark.parametrize("suffix", thinned(FORMATS))
def test_a_configuration_that_is_no_text(
    whole: dict[str, Path], tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"m{suffix}"
    if suffix == ".keras":
        _zipped(path, {**_members(whole[suffix]), CONFIG: b'{"class_name": "\xff"}'})
        _refusal(path)
        return
    for value in (
        3,
        [1, 2],
        ["a", "b"],
        h5py.Empty("S3"),
        b"\xff",
        np.void(b"ab"),
        h5py.Empty("f"),
    ):
        _edited(
            whole[suffix],
            path,
            lambda file, value=value: file.attrs.create("model_config", value),  # type: ignore[misc]
        )
        _refusal(path)
    _edited(
        whole[suffix], path, lambda f: f.attrs.create("model_config", f.ref, dtype=h5py.ref_dtype)
    )
    _refusal(path, "no text")


@pytest.mark.parametrize("metadata", ['{"keras_version": 3}', '{"keras_version": null}', "[]", "3"])
def test_a_version_that_is_no_text(whole: dict[str, Path], tmp_path: Path, metadata: str) -> None:
    members = {**_members(whole[".keras"]), "metadata.json": metadata.encode()}
    _refusal(_zipped(tmp_path / "m.keras", members), "keras_version is no text")
    path = _edited(
        whole[".h5"], tmp_path / "m.h5", lambda file: file.attrs.create("keras_version", 3)
    )
    _refusal(path, "keras_version is no text")


@pytest.mark.parametrize("suffix", thinned(FORMATS))
@pytest.mark.parametrize("training", thinned(["[]", "null", '"adam"', "3", '{"optimizer": 3}']))
def test_a_training_setup_that_is_none_is_given_up(
    whole: dict[str, Path], tmp_path: Path, training: str, suffix: str
) -> None:
    path = tmp_path / f"m{suffix}"
    if suffix == ".h5":
        _edited(
            whole[suffix], path, lambda file: file.attrs.__setitem__("training_config", training)
        )
    else:
        config = {**_config(whole[suffix]), "compile_config": json.loads(training)}
        _configured(whole[suffix], path, json.dumps(config))
    assert open_keras(path).sites


def test_names_cannot_steer_a_terminal(whole: dict[str, Path], tmp_path: Path) -> None:
    evil = "\x1b[2J\n\u202eevil\ud800"
    for edit in ("class_name", "module", "registered_name"):
        config = _config(whole[".keras"])
        config["config"]["layers"][1][edit] = evil
        _refusal(_configured(whole[".keras"], tmp_path / "m.keras", json.dumps(config)))


@pytest.mark.parametrize("suffix", thinned(FORMATS))
def test_cut_anywhere(whole: dict[str, Path], tmp_path: Path, suffix: str) -> None:
    data = whole[suffix].read_bytes()
    path = tmp_path / f"m{suffix}"
    for length in range(0, len(data), len(data) // 8):
        path.write_bytes(data[:length])
        _refusal(path)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    ("metric", "word"),
    [
        ({"class_name": "AUC", "config": {"num_thresholds": 10**9}}, "thresholds"),
        ({"class_name": "MeanIoU", "config": {"num_classes": 10**5}}, "would take 37.3 GiB"),
    ],
)
def test_a_metric_of_absurd_size(
    whole: dict[str, Path], tmp_path: Path, metric: Config, word: str, suffix: str
) -> None:
    path = tmp_path / f"m{suffix}"
    metric = {**metric, "module": "keras.metrics", "registered_name": None}
    setup: Config = {"optimizer": "adam", "optimizer_config": {"class_name": "SGD", "config": {}}}
    setup |= {"loss": "mse", "metrics": [metric]}
    if suffix == ".h5":
        text = json.dumps(setup)
        _edited(whole[suffix], path, lambda file: file.attrs.__setitem__("training_config", text))
    else:
        del setup["optimizer_config"]
        config = {**_config(whole[suffix]), "compile_config": setup}
        _configured(whole[suffix], path, json.dumps(config))
    _refusal(path, word)


def _loop(path: Path) -> None:
    """A piece of a heap of texts leads back to itself: HDF5 1.14 goes round for ever."""
    data = bytearray(path.read_bytes())
    heap = data.index(b"GCOL\1") + 16
    data[heap : heap + 16] = bytes(16)
    path.write_bytes(data)


def _long_text(path: Path) -> None:
    """A text of 2 GiB, for which HDF5 1.14 takes memory before it looks for the text."""
    data = bytearray(path.read_bytes())
    # A text is where it is named by its length, its heap, and its number there.
    named = data.index(struct.pack("<IQ", len("tensorflow"), data.index(b"GCOL\1")))
    data[named + 3] = 0x80
    path.write_bytes(data)


def _same_text(path: Path) -> None:
    """Four thousand names are one text of 70 KB."""
    texts = ["a" * 70_001, *["b"] * 3999]
    with h5py.File(path, "r+") as file:
        file["model_weights/dense"].attrs["weight_names"] = np.array(texts, object)
    data = bytearray(path.read_bytes())
    first, then = (re.escape(struct.pack("<I", size)) for size in (70_001, 1))
    found = re.search(b"(%b.{12})%b" % (first, then), data, re.DOTALL)
    assert found
    data[found.start() : found.start() + 64_000] = found[1] * 4000
    path.write_bytes(data)


BREAKING = {
    "a loop": (_loop, "does not come back"),
    "a long text": (_long_text, "memory"),
    "one text many times": (_same_text, "memory"),
}


@pytest.mark.parametrize("name", BREAKING)
def test_what_breaks_the_library_does_not_break_us(
    whole: dict[str, Path], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "_FREE", 2**25)
    monkeypatch.setattr(rehearsal, "_SECONDS", 1)
    edit, word = BREAKING[name]
    path = tmp_path / "m.h5"
    path.write_bytes(whole[".h5"].read_bytes())
    edit(path)
    with pytest.raises(FileError, match=rf"m\.h5: damaged.*{word}.*fresh copy"):
        read_provenance(path)


def test_weights_in_a_zip_that_break_the_library(
    whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "_SECONDS", 1)
    weights = tmp_path / WEIGHTS
    weights.write_bytes(_members(whole[".keras"])[WEIGHTS])
    with h5py.File(weights, "r+") as file:
        file.attrs["texts"] = np.array(["a", "b"], object)
    _loop(weights)
    members = {**_members(whole[".keras"]), WEIGHTS: weights.read_bytes()}
    _refusal(_zipped(tmp_path / "m.keras", members), "does not come back")


def _copied(whole: Path, path: Path, libver: str, **how: Any) -> Path:
    """The same model, as another version or setting of HDF5 writes it."""
    with h5py.File(whole) as old, h5py.File(path, "w", libver=libver) as new:

        def copy(name: str, item: Any) -> None:
            if isinstance(item, h5py.Group):
                to: Any = new.require_group(name)
            else:
                to = new.create_dataset(name, data=item[...], **(how if item.ndim else {}))
            to.attrs.update(item.attrs)

        copy("/", old)
        old.visititems(copy)
    return path


PACKED = {"compression": "gzip", "shuffle": True, "fletcher32": True}


@pytest.mark.parametrize(
    ("libver", "how"),
    [("earliest", {"chunks": True}), ("v108", {}), ("latest", {}), ("latest", PACKED)],
)
def test_a_whole_file_of_any_layout_is_read(
    whole: dict[str, Path], tmp_path: Path, libver: str, how: Config
) -> None:
    path = _copied(whole[".h5"], tmp_path / "m.h5", libver, **how)
    with h5py.File(path, "r+") as file:
        file["type"] = np.dtype("f4")
        file.attrs.update(empty=h5py.Empty("f4"), pair=np.zeros(2, "f4,S3"), raw=np.void(b"ab"))
        file.attrs.create("there", file.ref, dtype=h5py.ref_dtype)
    read_through(path, ".h5")
    rehearse(path, ".h5")


CHILDREN = {
    "import os; os.abort()": "does not come back",
    "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)": "does not come back",
    "print('so'); raise SystemExit(3)": r"damaged or cut short \(so\)",
    "import no_such_module": "",
}


@pytest.mark.parametrize("child", CHILDREN)
def test_how_a_child_may_end(
    whole: dict[str, Path], child: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convfc.system.rehearsal, "_CHILD", child)
    word = CHILDREN[child]
    with pytest.raises(FileError, match=word) if word else contextlib.nullcontext():
        rehearse(whole[".h5"], ".h5")


def test_a_child_ends_with_its_parent_s_patience(
    whole: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convfc.system.rehearsal, "_CHILD", "import time; time.sleep(1000)")
    monkeypatch.setattr(convfc.system.rehearsal, "_BUSY", 0.01)
    with pytest.raises(FileError, match="does not come back"):
        rehearse(whole[".h5"], ".h5")


def test_what_ends_us_ends_the_child(
    whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tmp_path / "pid"
    child = (
        "import os, pathlib, signal, time\n"
        f"pathlib.Path({str(found)!r}).write_text(str(os.getpid()))\n"
        "os.kill(os.getppid(), signal.SIGUSR1)\n"
        "time.sleep(1000)"
    )
    monkeypatch.setattr(convfc.system.rehearsal, "_CHILD", child)
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            rehearse(whole[".h5"], ".h5")
    finally:
        signal.signal(signal.SIGUSR1, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int(found.read_text()), 0)


@pytest.mark.parametrize("python", [None, b"/no/such/python"])
def test_without_a_python_a_file_is_read_all_the_same(
    whole: dict[str, Path], python: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convfc.system.rehearsal, "get_executable", lambda: python)
    rehearse(whole[".h5"], ".h5")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_record_is_read_without_the_weights(
    whole: dict[str, Path], tmp_path: Path, suffix: str
) -> None:
    path = _edited(whole[suffix], tmp_path / f"m{suffix}", WEIGHT_BOMBS["never written"][0])
    assert read_provenance(path) is None


def test_whatever_fails_is_a_refusal(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    path.touch()
    for error in (KeyError("a"), RuntimeError(), SystemError(), RecursionError(), MemoryError()):
        with pytest.raises(FileError, match=r"m\.h5"), refusing(path):
            raise error
    with pytest.raises(KeyboardInterrupt), refusing(path):
        raise KeyboardInterrupt


PROBE = """
import resource, sys
from pathlib import Path
from convfc.errors import ConvfcError
from convfc.formats.keras import import_keras, open_keras
import_keras()
import convfc.formats.keras.model
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[1:]:
    try:
        open_keras(Path(name))
    except ConvfcError as error:
        print("refused", error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_no_bomb_takes_memory(whole: dict[str, Path], tmp_path: Path) -> None:
    """As large as they are made, in a process of their own: 300 MB at most, beside Keras."""
    paths = []
    for suffix in FORMATS:
        for name in ("never written", "filled in", "2**60 bytes", "a block"):
            path = tmp_path / f"{name}{suffix}"
            paths.append(_edited(whole[suffix], path, WEIGHT_BOMBS[name][0]))
        config = _config(whole[suffix])
        config["config"]["layers"][-1]["config"]["units"] = 10**9
        paths.append(_configured(whole[suffix], tmp_path / f"units{suffix}", json.dumps(config)))
    members = {**_members(whole[".keras"]), WEIGHTS: bytes(2**31)}
    paths.append(_zipped(tmp_path / "zeros.keras", members, zipfile.ZIP_DEFLATED))
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *map(str, paths)], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("refused") == len(paths), done.stdout
    assert int(done.stdout.splitlines()[-1]) < 300


READ = {
    "keras:Layer.add_weight": 0xA6448918,
    "keras:Metric.add_variable": 0x4406F608,
    "keras.src.legacy.saving.legacy_h5_format:load_attributes_from_hdf5_group": 0x3B402E53,
    "keras.src.legacy.saving.legacy_h5_format:load_model_from_hdf5": 0x60C69C58,
    "keras.src.legacy.saving.legacy_h5_format:load_subset_weights_from_hdf5_group": 0x7CD44D7B,
    "keras.src.legacy.saving.legacy_h5_format:load_optimizer_weights_from_hdf5_group": 0xEE5DB076,
    "keras.src.saving.saving_lib:get_temp_dir": 0x5E2BC59D,
    "keras.src.saving.saving_lib:_load_model_from_fileobj": 0x246BB0F7,
    "keras.src.saving.saving_lib:H5IOStore.__getitem__": 0x50363A7D,
    "keras.src.saving.saving_lib:safe_get_h5_dataset": 0x51642035,
    "keras.src.saving.saving_lib:safe_get_h5_group": 0xB296B691,
    "keras.src.backend:convert_to_numpy": 0x2A0356FF,
}
"""Sums of the source of what convfc puts its own in the place of, or relies on."""


@pytest.mark.parametrize("name", internals.REPLACED + internals.RELIED_ON)
def test_keras_reads_files_as_it_did_when_its_source_was_read(name: str) -> None:
    there = internals.find_function(name)
    assert there is not None
    found = zlib.crc32(inspect.getsource(getattr(*there)).encode())
    assert found == READ.get(name), (
        f"Keras {keras.__version__} has another {name}: read it again, see that `held_once` still "
        f"does all that it does, and that its guards are used; then put {found:#X} into READ"
    )


WHYS = {
    "Unable to revive model from config. When overriding it, make sure\n\nError encountered "
    "during deserialization: units is missing": "units is missing",
    "A total of 1 objects could not be loaded. Example error message for object <Conv2D name=c, "
    "built=True>:\n\nLayer 'c' expected 2 variables, but received 0": "Layer 'c' expected 2 "
    "variables, but received 0",
    'in user code:\n\n    File "a.py", line 3, in call  *\n        return f(x)\n\n    ValueError: '
    "Shapes do not fit": "ValueError: Shapes do not fit",
    "a \x1b[1mbold\x1b[0m\tword": "a bold\\tword",
}


@pytest.mark.parametrize("text", WHYS)
def test_one_line_says_why(text: str) -> None:
    assert brief(ValueError(text)) == WHYS[text]


def test_one_line_of_what_has_no_words() -> None:
    assert brief(KeyError("name")) == "it lacks 'name'"
    assert brief(KeyError("Unable to open it (bad header)")) == "Unable to open it (bad header)"
    assert brief(AssertionError()) == "AssertionError"


# What TensorFlow takes beside the tensors of a model.


@pytest.mark.parametrize("size", [420, 1200])
def test_a_window_for_which_tensorflow_would_abort_is_not_run(tmp_path: Path, size: int) -> None:
    kernel = size // 2
    model = keras.Sequential([keras.Input((size, size, 1)), layers.Conv2D(1, kernel, name="conv")])
    path = save(model, tmp_path / "m.keras")
    opened = open_keras(path)
    feed = {opened.inputs[0].name: np.zeros((4, size, size, 1), np.float32)}
    with pytest.raises(UnsupportedModelError, match="at once are more than this machine can hold"):
        opened.run(feed)


@pytest.mark.parametrize(
    ("conv", "taken"),
    [
        (convolution([3, 3], channels=3, filters=8), 4 * 40 * 50 * 3),
        (Convolution((Window(3, 1, 10**9, (2 * 10**9, 0)),), 3, 2), 4 * (2 * 10**9 + 40) * 3),
        (Convolution((Window(3, 1, 10, Same.UPPER),) * 2, 3, 2), 4 * 60 * 70 * 3),
        # Each row of four windows once more for each tap.
        (convolution([7, 7], channels=1, filters=2), 4 * 50 * (40 + 28 * 49)),
    ],
)
def test_what_tensorflow_takes_for_a_layer_is_counted(
    conv: Convolution, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convfc.formats.keras.workspace._threads", lambda: 1)
    site = Site("conv", "Conv", conv, (40, 50)[: conv.rank])
    found = sum(math.prod(size or 1 for size in shape) * one for shape, one in workspace(site))
    assert found == taken


def test_pads_that_tensorflow_makes_are_counted_before(tmp_path: Path) -> None:
    stack = [keras.Input((12, 3)), layers.Conv1D(2, 3, padding="causal", name="conv")]
    path = save(keras.Sequential(stack), tmp_path / "m.keras")
    config = _config(path)
    config["config"]["layers"][1]["config"]["dilation_rate"] = [10**9]
    path = _configured(path, tmp_path / "far.keras", json.dumps(config))
    made = convfc.convert(path)
    assert made.look is not None
    assert "at once are more than this machine can hold" in (made.look.reason or "")
    found = convfc.verify(path, made.out)
    assert found.verdict is convfc.Verdict.COULD_NOT_CHECK
    assert "at once are more than this machine can hold" in (found.reason or "")


def test_a_backend_that_is_not_installed_is_no_damaged_file(whole: dict[str, Path]) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "convfc", "shapes", str(whole[".h5"])],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        check=False,
    )
    if importlib.util.find_spec("torch") is not None:
        pytest.skip("torch is installed")
    assert found.returncode == 2
    assert "backend 'torch' (No module named 'torch')" in found.stderr
    assert "damaged" not in found.stderr


def halves(layer: Any) -> Any:
    """A model that does the same to both halves of a sequence."""
    return keras.Sequential([layers.Reshape((2, -1, 1)), layers.TimeDistributed(layer)])


@pytest.mark.parametrize("wrap", thinned([lambda layer: layer, layers.Bidirectional, halves]))
@pytest.mark.parametrize(("steps", "unroll"), [(10**6, False), (10**4, True)])
def test_a_sequence_that_takes_hours_is_not_begun(
    tmp_path: Path, wrap: Callable[[Any], Any], steps: int, unroll: bool
) -> None:
    stack = [keras.Input((steps, 1)), layers.Conv1D(1, 1), wrap(layers.LSTM(1, unroll=unroll))]
    model = open_keras(save(keras.Sequential(stack), tmp_path / "m.keras"))
    feed = {model.inputs[0].name: np.zeros((1, steps, 1), np.float32)}
    with pytest.raises(UnsupportedModelError, match="it would take hours"):
        model.run(feed)
    length = None if wrap is not halves else 10
    free = keras.Sequential([keras.Input((length, 1)), layers.Conv1D(1, 1), wrap(layers.LSTM(1))])
    model = open_keras(save(free, tmp_path / "free.keras"))
    assert model.run({model.inputs[0].name: np.zeros((1, 10, 1), np.float32)})
