"""Reads samples from files: .npz, .npy, IDX, images, folders of images, and the packed MNIST."""

from __future__ import annotations

import gzip
import math
import os
import stat
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convfc.errors import DataError
from convfc.system.capacity import excess, in_bytes

if TYPE_CHECKING:
    from io import BufferedIOBase
    from typing import BinaryIO

    from numpy.typing import NDArray

IMAGE_KEYS = ("x_test", "x", "images", "data")
LABEL_KEYS = ("y_test", "y", "labels")
IMAGE_SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)

_ZIP = b"PK"
_NPY = b"\x93NUMPY"
_GZIP = b"\x1f\x8b"
_IDX = b"\0\0"
_IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

# What gzip, zipfile, numpy and Pillow raise on damaged, truncated, pickled or hostile files.
_DAMAGED = (
    ArithmeticError,
    EOFError,
    KeyError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


_COPIES = 2
"""Of an array, while it is read."""
_TIMES, _FREE = 4, 2**30
"""What is compressed may unfold to so many times the file, and so many bytes for small files."""


class Images:
    """Samples, each read or scaled when it is asked for: they may be more than memory holds.

    Args:
        items: what the samples are made from: files, or the entries of an array.
        read: makes a sample, a float array, from one of them.
    """

    def __init__(
        self, items: Sequence[Any] | NDArray[Any], read: Callable[[Any], NDArray[Any]]
    ) -> None:
        self._items = items
        self._read = read

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> NDArray[Any]:
        return self._read(self._items[index])

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return map(self._read, self._items)


@dataclass(frozen=True)
class Samples:
    """What a data file holds.

    Attributes:
        arrays: a file's arrays as they are, by name; the one array of an .npy or IDX file is
            called "". Empty for images and for the packed MNIST.
        images: the samples, one entry each, mostly (H, W) or (H, W, C), floats; 8 and 16 bit
            values are scaled to 0..1. Empty if no array can be told to be them.
        labels: (n,) integers, one per sample, if the file has that.
        source: one phrase that says what the images are.
    """

    arrays: dict[str, NDArray[Any]]
    images: Images
    labels: NDArray[Any] | None
    source: str


def load_samples(data: str | Path = "mnist", count: int | None = None) -> Samples:
    """Read samples.

    Args:
        data: "mnist" (the test images packed with convfc) or the path of an .npz, .npy, IDX
            (.gz too) or image file, or of a folder of images, which are taken in the order of
            their names. In an .npz the images are the array x_test, x, images or data, or the
            only one; the labels are y_test, y or labels.
        count: take no more than the first ``count`` images; ``None`` takes all.

    Raises:
        DataError: the file is missing, damaged or of no known kind, or a folder has no images.
    """
    if data == "mnist":
        arrays = packed_mnist()
        total = len(arrays["x_test"])
        samples = _samples(arrays, count, f"MNIST test images ({total} packed with convfc)")
        return replace(samples, arrays={})  # no model's inputs are meant by their names
    path = Path(data)
    if os.path.isdir(path):  # noqa: PTH112 - which no name is too long or too strange for
        files = _images_in(path)
        if not files:
            raise DataError(f"{path}: the folder holds no images (png, jpg, ...)")
        images = Images(files[:count], lambda file: _scaled(read_image(file)))
        return Samples({}, images, None, f"images of the folder {path}")
    if _magic(path).startswith((_ZIP, _NPY, _GZIP, _IDX)):
        return _samples(read_arrays(path), count, f"samples of {path}")
    return Samples({}, Images([_scaled(read_image(path))], np.asarray), None, f"image {path}")


def packed_mnist() -> dict[str, NDArray[Any]]:
    """The MNIST images and labels that come with convfc: x_train, y_train, x_test, y_test."""
    with resources.as_file(resources.files("convfc") / "samples" / "data" / "mnist.npz") as packed:
        return read_arrays(packed)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz by name; that of an .npy or IDX file (.gz too) under "".

    An .npy is not read, but mapped into memory: it may be larger than that.

    Raises:
        DataError: the file is missing, damaged, of another kind, or holds Python objects.
    """
    magic = _magic(path)
    try:
        # Opened here, because numpy leaves a file that it was given by name open on some errors.
        with path.open("rb") as stream:
            if magic.startswith(_NPY):
                return {"": np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))}
            if magic.startswith(_ZIP):
                _check_members(stream)
                loaded = np.load(stream, allow_pickle=False)
                return {name: np.asarray(loaded[name]) for name in loaded.files}
            if magic.startswith(_GZIP):
                with gzip.open(stream) as unzipped:
                    return {"": _read_idx(unzipped, stream)}
            return {"": _read_idx(stream, stream)}
    except _DAMAGED as error:
        raise _unreadable(path, error) from error


def _images_in(folder: Path) -> list[Path]:
    """The image files of a folder by name, without what is no file."""
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if Path(e.name).suffix.lower() in IMAGE_SUFFIXES]
    except OSError as error:
        raise _unreadable(folder, error) from error
    return [folder / name for name in sorted(names)]


def _check_members(stream: BinaryIO) -> None:
    """Compare what an .npz unfolds to with its size, before any of it is unfolded.

    Raises:
        ValueError: it is too much.
    """
    with zipfile.ZipFile(stream) as archive:
        _check_size(stream, sum(member.file_size for member in archive.infolist()))
    stream.seek(0)


def _check_size(stream: BinaryIO, size: int) -> None:
    """Compare what a compressed file says that it holds with its size, and with the memory.

    Raises:
        ValueError: it is too much.
    """
    most = _TIMES * os.fstat(stream.fileno()).st_size + _FREE
    why = excess(_COPIES * size) or (f"more than {in_bytes(most)}" if size > most else None)
    if why is not None:
        raise ValueError(f"it would unfold to {size:,} bytes: {why}; save it uncompressed")


def read_image(path: Path) -> NDArray[Any]:
    """One image file as (H, W) if it is grey, else as (H, W, 3); transparency is dropped.

    Raises:
        DataError: the file is missing, damaged, or no image.
    """
    from PIL import Image, UnidentifiedImageError

    _magic(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tags that nobody reads, for example
            # Of what unfolds to too much, Pillow warns first: a file of a few bytes may claim it.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.mode in ("1", "LA"):
                    return np.asarray(image.convert("L"))
                if image.mode in ("L", "F", "I") or image.mode.startswith("I;16"):
                    return np.asarray(image)
                return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError as error:
        raise DataError(
            f"{path}: neither .npz, .npy, IDX nor an image that Pillow reads"
        ) from error
    except (*_DAMAGED, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _unreadable(path, error) from error


def _magic(path: Path) -> bytes:
    """The first bytes, which tell what a file is, whatever its name."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path}: cannot be read: no regular file")
        with path.open("rb") as file:
            magic = file.read(6)
    except (OSError, ValueError) as error:  # a name with a NUL
        raise _unreadable(path, error) from error
    if not magic:
        raise DataError(f"{path}: the file is empty")
    return magic


def _unreadable(path: Path, error: BaseException) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: no such file or folder")
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return DataError(f"{path}: cannot be read, damaged or not supported ({reason})")


def _read_idx(stream: BufferedIOBase, file: BinaryIO) -> NDArray[Any]:
    """The format of the MNIST site: 0, 0, type, rank, a big-endian size per axis, the values.

    Args:
        stream: what is in the file, unzipped.
        file: itself.
    """
    zero, code, rank = struct.unpack(">HBB", stream.read(4))
    if zero or code not in _IDX_DTYPES or not rank:
        raise ValueError("not an IDX file")
    shape = struct.unpack(f">{rank}I", stream.read(4 * rank))
    dtype = np.dtype(_IDX_DTYPES[code])
    size = math.prod(shape) * dtype.itemsize
    _check_size(file, size)
    values = stream.read(size + 1)
    if len(values) != size:
        held = f"only {len(values)}" if len(values) < size else "more"
        raise ValueError(f"the IDX header says {size} bytes of values, the file holds {held}")
    return np.frombuffer(values, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _samples(arrays: dict[str, NDArray[Any]], count: int | None, source: str) -> Samples:
    label_key = next((key for key in LABEL_KEYS if key in arrays), None)
    others = [key for key in arrays if key != label_key]
    only = others[0] if len(others) == 1 else None
    key = next((key for key in IMAGE_KEYS if key in arrays), only)
    labels = None if label_key is None else _class_numbers(arrays[label_key])
    if labels is not None:
        counts = [arrays[name].shape[:1] for name in ([key] if key is not None else others)]
        labels = labels[:count] if labels.shape in counts else None
    array = np.empty(0) if key is None else arrays[key]
    if not array.ndim or not array.size or array.dtype.kind not in "biuf":
        return Samples(arrays, Images([], np.asarray), labels, source)
    return Samples(arrays, Images(array[:count], _scaled), labels, source)


def _class_numbers(array: NDArray[Any]) -> NDArray[Any] | None:
    """Labels as (n,) integers; ``None`` if they are something else, such as one-hot rows."""
    is_column = array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)
    return array.reshape(-1) if is_column and array.dtype.kind in "iu" else None


def _scaled(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind == "f":
        return array
    values = array.astype(np.float32)
    if array.dtype in (np.uint8, np.uint16):
        values /= np.iinfo(array.dtype).max
    return values
