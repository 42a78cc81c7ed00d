"""What a Keras file may unfold to: the sizes it declares, before anything of them is read.

Keras writes weights as they lie in memory, so a file is about as large as its model. A few bytes
can declare any size, though: as a member of a zip, as data that HDF5 fills in, as a compressed
block, as units of a layer. All of them are held to `limit`, of which nothing is taken before.
"""

from __future__ import annotations

import io
import json
import math
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py
from h5py import h5a, h5d, h5g, h5l, h5o, h5z

from convfc.errors import FileError
from convfc.refusals import Code

_FREE = 2**28
_TIMES = 4
"""Weights with many zeros shrink to a quarter at times, if somebody packs them."""

MOST_TEXT = 2**30
"""Bytes of memory that a configuration may take."""

_MOST_MEMBERS = 10_000
_MOST_OBJECTS = 2**18
_DEEPEST = 200
"""Groups and data of an HDF5 file, and groups one in the other; a layer has about five."""


def limit(size: int) -> int:
    """Bytes that what is in a file of `size` bytes may take."""
    return _FREE + _TIMES * size


def check_size(path: Path, wanted: int, what: str) -> None:
    """Refuse a file that declares far more than it has.

    Args:
        path: the file.
        wanted: bytes.
        what: takes them, for the message.

    Raises:
        FileError: it is more than `limit`.
    """
    size = path.stat().st_size
    if wanted > limit(size):
        raise FileError(
            f"{path}: has {_text(size)}, and {what} would take {_text(wanted)}",
            f"convfc reads up to {_TIMES} times a file's size and {_text(_FREE)}; get a fresh copy "
            "of it, or save the model again with model.save(...), which does not compress",
            code=Code.TOO_LARGE,
        )


def check_archive(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse a zip that Keras did not write, or that unfolds to far more than it is.

    What it declares is also what `zipfile` reads at most.

    Raises:
        FileError: with the reason.
    """
    members = archive.infolist()
    names = {member.filename for member in members}
    if len(members) > _MOST_MEMBERS:
        raise FileError(
            f"{path}: a zip of {len(members)} files is no model",
            remedy="get a fresh copy of it",
            code=Code.TOO_LARGE,
        )
    if len(names) < len(members):
        raise FileError(
            f"{path}: holds two files of one name",
            remedy="get a fresh copy of it",
            code=Code.DAMAGED,
        )
    for member in members:
        if member.flag_bits & 1:
            raise FileError(
                f"{path}: is encrypted", remedy="decrypt it first", code=Code.NOT_LOADED
            )
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FileError(
                f"{path}: is packed by method {member.compress_type}, which Keras does not use",
                remedy="unpack it and pack it again without compression",
                code=Code.NOT_LOADED,
            )
    check_size(path, sum(member.file_size for member in members), "its members unpacked")


def read_json(text: str | bytes, what: str) -> Any:
    """A JSON text, if it does not take a multiple of its size in memory.

    Raises:
        ValueError: it would, or it is no JSON, or not in Unicode.
        RecursionError: it is nested too deeply.
    """
    # As Keras reads it: an editor of Windows puts a mark in front, or writes UTF-16.
    text = text.decode(json.detect_encoding(text)) if isinstance(text, bytes) else text
    # What Python takes for a list or a dictionary, and for what stands in it.
    memory = len(text) + 256 * (text.count("[") + text.count("{")) + 64 * text.count(",")
    if memory > MOST_TEXT:
        raise ValueError(f"its {what} would take {_text(memory)} of memory")
    return json.loads(text)


@contextmanager
def member(archive: zipfile.ZipFile, name: str, path: Path) -> Iterator[BinaryIO | io.RawIOBase]:
    """A member of a zip as a file in which one can go to and fro, whatever its size."""
    info = archive.getinfo(name)
    if info.compress_type == zipfile.ZIP_STORED:
        with path.open("rb") as file:
            file.seek(info.header_offset)
            lengths = struct.unpack("<26xHH", file.read(30))
            yield _Section(file, info.header_offset + 30 + sum(lengths), info.file_size)
    else:
        with archive.open(info) as packed, tempfile.TemporaryFile() as file:
            shutil.copyfileobj(packed, file, 2**20)
            yield file


class _Section(io.RawIOBase):
    """A section of a file as a file."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._position = file, start, size, 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        self._file.seek(self._start + self._position)
        data = self._file.read(max(min(len(view), self._size - self._position), 0))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def check_hdf5(file: h5py.File, path: Path) -> None:
    """Refuse weights that are elsewhere, or that unfold to far more than the file is.

    Args:
        file: as it is opened.
        path: of the file that it is, or is in.

    Raises:
        FileError: with the reason.
    """
    wanted = 0
    for name, item in _objects(file, path):
        if isinstance(item, h5d.DatasetID):
            _check_location(name, item, path)
            wanted += math.prod(item.shape or ()) * item.dtype.itemsize
            check_size(path, wanted, "its weights")
            _check_blocks(name, item, path)
        for index in range(h5a.get_num_attrs(item)):
            attribute = h5a.open(item, index=index)
            # Lists of names, of which only those of any length stand elsewhere.
            count = math.prod(attribute.shape or ())
            check_size(path, count * attribute.dtype.itemsize, f"the names in {name or 'it'!r}")


def read_values(file: h5py.File, path: Path) -> None:
    """Read all attributes, and the data that is not simply one stretch of bytes.

    Args:
        file: what `check_hdf5` has let pass.
        path: of the file that it is, or is in.
    """
    for _, item in _objects(file, path):
        for _ in h5py.HLObject(item).attrs.values():
            pass
        is_data = isinstance(item, h5d.DatasetID)
        if is_data and item.get_create_plist().get_layout() == h5d.CHUNKED:
            h5py.Dataset(item)[...]


def count_data(group: h5py.Group, path: Path) -> int:
    """How many arrays are in a group of an HDF5 file, at any depth."""
    return sum(isinstance(item, h5d.DatasetID) for _, item in _objects(group, path))


def _objects(root: h5py.Group, path: Path) -> Iterator[tuple[str, Any]]:
    """All that is in a group, each once, however often it is in it: names and identifiers.

    h5py's own walk takes the square of the depth, and nothing stops it.
    """
    seen = set()
    groups: list[tuple[str, Any, int]] = [("", root.id, 0)]
    yield "", root.id
    while groups:
        prefix, group, depth = groups.pop()
        for name in _listed(group.links.iterate):
            inner = f"{prefix}/{name.decode(errors='replace')}".removeprefix("/")
            link = group.links.get_info(name)
            if link.type not in (h5l.TYPE_HARD, h5l.TYPE_SOFT):
                raise _elsewhere(inner, path)
            # What a soft link leads to is met where it is; Keras follows none.
            if link.type == h5l.TYPE_SOFT or link.u in seen:
                continue
            seen.add(link.u)
            if len(seen) > _MOST_OBJECTS or depth > _DEEPEST:
                raise FileError(
                    f"{path}: has more groups, or deeper ones, than a model has",
                    remedy="get a fresh copy of it",
                    code=Code.TOO_LARGE,
                )
            item = h5o.open(group, name)
            yield inner, item
            if isinstance(item, h5g.GroupID):
                groups.append((inner, item, depth + 1))


def _listed(iterate: Callable[[Callable[[bytes], bool | None]], Any]) -> list[bytes]:
    """Names, given what calls a function on each until it returns true."""
    names: list[bytes] = []

    def note(name: bytes, *_: Any) -> bool | None:
        names.append(name)
        return True if len(names) > _MOST_OBJECTS else None

    iterate(note)
    return names


def _check_location(name: str, data: Any, path: Path) -> None:
    plist = data.get_create_plist()
    if plist.get_external_count() or plist.get_layout() == h5d.VIRTUAL:
        raise _elsewhere(name, path)
    if data.dtype.hasobject:
        raise FileError(
            f"{path}: {name!r} is not made of numbers",
            remedy="get a fresh copy of it",
            code=Code.DAMAGED,
        )


def _elsewhere(name: str, path: Path) -> FileError:
    return FileError(
        f"{path}: takes {name!r} from another file, which convfc does not open",
        remedy="load the model where it was made and save it again, with model.save(...)",
        code=Code.OTHER_FILE,
    )


def _check_blocks(name: str, data: Any, path: Path) -> None:
    """Refuse a compressed block that holds more than it may: HDF5 would unpack all of it."""
    plist = data.get_create_plist()
    filters = [plist.get_filter(index)[0] for index in range(plist.get_nfilters())]
    if not filters:
        return
    known = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32}
    if not known.issuperset(filters) or filters.count(h5z.FILTER_DEFLATE) > 1:
        raise FileError(
            f"{path}: {name!r} is packed in a way that Keras does not use",
            remedy="save the model again with model.save(...)",
            code=Code.DAMAGED,
        )
    most = math.prod(plist.get_chunk()) * data.dtype.itemsize
    check_size(path, most, f"a block of {name!r}")

    def check(block: Any) -> None:
        mask, packed = data.read_direct_chunk(block.chunk_offset)
        skipped = [code for index, code in enumerate(filters) if mask >> index & 1]
        if h5z.FILTER_DEFLATE not in filters or h5z.FILTER_DEFLATE in skipped:
            return
        # A checksum of four bytes may be in it.
        if len(zlib.decompressobj().decompress(packed, most + 5)) > most + 4:
            raise FileError(
                f"{path}: {name!r} unpacks to more than it is",
                remedy="get a fresh copy of it",
                code=Code.TOO_LARGE,
            )

    data.chunk_iter(check)


def _text(size: int) -> str:
    """A number of bytes as a person says it."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:,.1f} {name}" if size < 2**60 else f"over {2**30:,} GiB"
    return f"{size} bytes"
