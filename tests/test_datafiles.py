from __future__ import annotations

import gzip
import struct
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from convfc.errors import DataError
from convfc.samples.files import load_samples, read_arrays, read_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

DIGITS = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
LABELS = np.array([3, 1, 4, 1, 5], np.uint8)


def idx(array: NDArray[Any], code: int = 8) -> bytes:
    header = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def save_images(folder: Path, **images: NDArray[Any]) -> Path:
    folder.mkdir()
    for name, image in images.items():
        Image.fromarray(image).save(folder / f"{name}.png")
    return folder


def test_the_packed_mnist_is_real_and_scaled() -> None:
    samples = load_samples()
    assert len(samples.images) == 1000
    assert samples.source == "MNIST test images (1000 packed with convfc)"
    assert samples.labels is not None
    assert samples.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert samples.arrays == {}
    first = samples.images[0]
    assert first.shape == (28, 28)
    assert first.dtype == np.float32
    assert (first.min(), first.max()) == (0, 1)


def test_count_takes_the_first_images_and_labels() -> None:
    samples = load_samples(count=3)
    assert len(samples.images) == 3
    assert samples.labels is not None
    assert samples.labels.tolist() == [7, 2, 1]


@pytest.mark.parametrize("key", ["x_test", "x", "images", "data", "whatever_is_alone"])
def test_npz_images_and_labels(tmp_path: Path, key: str) -> None:
    arrays: dict[str, Any] = {key: DIGITS, "y": LABELS}
    np.savez(tmp_path / "a.npz", **arrays)
    samples = load_samples(tmp_path / "a.npz")
    np.testing.assert_allclose(np.stack([*samples.images]), DIGITS / np.float32(255))
    assert samples.labels is not None
    assert samples.labels.tolist() == LABELS.tolist()
    assert set(samples.arrays) == {key, "y"}


def test_test_images_come_before_all_other_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=DIGITS[:1], images=DIGITS[:2], x_test=DIGITS)
    assert len(load_samples(tmp_path / "a.npz").images) == 5


@pytest.mark.parametrize(
    ("labels", "kept"),
    [(LABELS[:, None], True), (LABELS[:2], False), (np.eye(5), False), (np.eye(5)[0], False)],
)
def test_labels_are_kept_if_they_are_one_integer_per_image(
    tmp_path: Path, labels: NDArray[Any], kept: bool
) -> None:
    np.savez(tmp_path / "a.npz", x=DIGITS, y=labels)
    found = load_samples(tmp_path / "a.npz").labels
    assert (found is not None) == kept
    assert found is None or found.tolist() == LABELS.tolist()


def test_npz_without_a_telling_name_has_arrays_but_no_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", first=DIGITS, second=DIGITS)
    samples = load_samples(tmp_path / "a.npz")
    assert len(samples.images) == 0
    assert set(samples.arrays) == {"first", "second"}


@pytest.mark.parametrize(
    ("dtype", "scale"), [("uint8", 255), ("uint16", 65535), ("int32", 1), ("float64", 1)]
)
def test_bytes_are_scaled_and_other_values_taken_as_they_are(
    tmp_path: Path, dtype: str, scale: int
) -> None:
    np.save(tmp_path / "a.npy", DIGITS.astype(dtype))
    samples = load_samples(tmp_path / "a.npy")
    np.testing.assert_allclose(np.stack([*samples.images]), DIGITS / scale, rtol=1e-6)
    assert samples.images[0].dtype == ("float64" if dtype == "float64" else "float32")


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte", "x.gz", "x.idx", "x.png"])
def test_idx_is_known_by_its_content_whatever_its_name(tmp_path: Path, name: str) -> None:
    data = idx(DIGITS)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    np.testing.assert_array_equal(read_arrays(tmp_path / name)[""], DIGITS)
    assert len(load_samples(tmp_path / name).images) == 5


@pytest.mark.parametrize(
    ("code", "dtype"), [(9, "i1"), (0x0B, "i2"), (0x0C, "i4"), (0x0D, "f4"), (0x0E, "f8")]
)
def test_idx_types_are_big_endian(tmp_path: Path, code: int, dtype: str) -> None:
    array = np.array([[1, -2], [3, 100]], dtype)
    (tmp_path / "x").write_bytes(idx(array, code))
    found = read_arrays(tmp_path / "x")[""]
    np.testing.assert_array_equal(found, array)
    assert found.dtype == np.dtype(dtype)


def test_a_folder_is_read_in_order_grey_stays_grey_and_colour_rgb(tmp_path: Path) -> None:
    colour = np.zeros((6, 7, 4), np.uint8)
    colour[..., 1] = 51
    folder = save_images(tmp_path / "f", b=DIGITS[0], a=colour, c=DIGITS[1])
    (folder / "notes.txt").write_text("no image")
    samples = load_samples(folder)
    assert [image.shape for image in samples.images] == [(6, 7, 3), (4, 3), (4, 3)]
    np.testing.assert_allclose(samples.images[0][0, 0], [0, 0.2, 0])
    np.testing.assert_allclose(samples.images[1], DIGITS[0] / np.float32(255))
    assert str(folder) in samples.source
    assert len(load_samples(folder, 1).images) == 1


@pytest.mark.parametrize(
    ("mode", "shape"), [("1", (4, 3)), ("LA", (4, 3)), ("P", (4, 3, 3)), ("CMYK", (4, 3, 3))]
)
def test_image_modes(tmp_path: Path, mode: str, shape: tuple[int, ...]) -> None:
    suffix = "tif" if mode == "CMYK" else "png"
    Image.fromarray(DIGITS[0]).convert(mode).save(tmp_path / f"a.{suffix}")
    assert read_image(tmp_path / f"a.{suffix}").shape == shape
    assert len(load_samples(tmp_path / f"a.{suffix}").images) == 1


def test_sixteen_bit_images_keep_their_depth(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 3), 65535, np.uint16)).save(tmp_path / "a.png")
    (image,) = load_samples(tmp_path / "a.png").images
    np.testing.assert_array_equal(image, 1)


def make_npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, x=DIGITS)


def make_npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, DIGITS)


def make_png(path: Path) -> None:
    Image.fromarray(DIGITS[0]).save(path, "png")


def make_idx(path: Path) -> None:
    path.write_bytes(idx(DIGITS))


def make_gz(path: Path) -> None:
    path.write_bytes(gzip.compress(idx(DIGITS)))


@pytest.mark.parametrize("make", [make_npz, make_npy, make_png, make_idx, make_gz])
def test_a_truncated_file_is_a_data_error_wherever_it_ends(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "file"
    make(path)
    load_samples(path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        # Pillow does without the last bytes of a PNG, which are checksums and an end mark.
        lenient = make is make_png and length >= len(whole) - 24
        with suppress(DataError) if lenient else pytest.raises(DataError, match=r"file: "):
            load_samples(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"just some text", "neither .npz, .npy, IDX nor an image"),
        (idx(DIGITS) + b"\0", r"header says 60 bytes of values, the file holds more"),
        (idx(DIGITS)[:-1], r"header says 60 bytes of values, the file holds only 59"),
        (struct.pack(">HBB", 0, 8, 0), "not an IDX file"),
        (struct.pack(">HBB", 0, 7, 1), "not an IDX file"),
        (struct.pack(">HBB3I", 0, 14, 3, *[2**32 - 1] * 3), "cannot be read"),
        (b"\x93NUMPY\1\0\x0a\0{'a':", "cannot be read"),
        (b"\x93NUMPY\1\0\x06\0{'a': (", "cannot be read"),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_samples(path)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).count("\n") <= 1


@pytest.mark.parametrize("save", [np.save, np.savez])
def test_pickles_are_refused(tmp_path: Path, save: Callable[..., None]) -> None:
    with (tmp_path / "a").open("wb") as file:
        save(file, np.array([{"a": 1}], object))
    with pytest.raises(DataError, match=r"Object arrays cannot be loaded|Python objects"):
        load_samples(tmp_path / "a")


def test_a_missing_file_an_empty_folder_and_a_bad_image_in_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        load_samples(tmp_path / "none.npz")
    with pytest.raises(DataError, match="no such file or folder"):
        read_image(tmp_path / "none.png")
    with pytest.raises(DataError, match="holds no images"):
        load_samples(tmp_path)
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"bad\.png: the file is empty"):
        load_samples(tmp_path).images[0]


def test_a_folder_where_an_array_file_is_meant(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_arrays(tmp_path)


def test_reading_arrays_needs_no_pillow() -> None:
    code = (
        "import sys, convfc.samples.feeds as s; s.load_samples();"
        "sys.exit('PIL' in sys.modules or 'ml_dtypes' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
