"""Files of samples, whole and spoiled: .npy, .npz, IDX, packed ones, folders of images, text."""

from __future__ import annotations

import gzip
import io
import os
import struct
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from tests.fuzz import hostile, zips
from tests.fuzz.damage import damage

DTYPES = ("f4", "f8", "f2", "u1", "i8", "?", "c8", "S4", "U4", "M8[s]", "V3", ">f4")


def sample_file(folder: Path, random: Random) -> tuple[str, str]:
    """Write a file, or a folder of files; its name, and what it is."""
    how = random.choice(["npy", "npy", "npz", "npz", "idx", "gz", "images", "image", "special"])
    if how == "images":
        return _images(folder, random)
    if how == "special":
        return _special(folder, random)
    content = _CONTENTS[how](random)
    what = "whole"
    if random.random() < 0.6:
        if how == "npz" and random.random() < 0.5:
            content, what = zips.MUTATORS[random.choice(sorted(zips.MUTATORS))](content, random)
        else:
            content, what = damage(content, random)
    suffix = {"idx": "-idx3-ubyte", "gz": "-idx3-ubyte.gz", "image": ".png"}.get(how, f".{how}")
    name = f"samples{suffix}"
    (folder / name).write_bytes(content)
    return name, f"{how}: {what}"


def _array(random: Random) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    shape = random.choice(
        [(3, 2, 8, 8), (3, 8, 8, 2), (3, 28, 28), (0, 2, 8, 8), (5,), (), (2,) * 33]
    )
    if len(shape) == 33:
        shape = (1,) * 32
    kind = random.choice(DTYPES[:5] * 3 + DTYPES)
    made = np.zeros(shape, kind)
    if made.dtype.kind == "f":
        with np.errstate(over="ignore"):
            made += np.asarray(random.choice([0.5, *hostile.REALS])).astype(made.dtype)
    return made


def _npy(random: Random) -> bytes:
    made = io.BytesIO()
    if random.random() < 0.1:
        np.save(made, np.array([{"a": 1}, None], object), allow_pickle=True)
        return made.getvalue()
    np.save(made, _array(random))
    content = made.getvalue()
    if random.random() < 0.4:  # a header that lies
        end = content.index(b"\n") + 1
        descr = random.choice([*DTYPES, "O", "f99", "<U2000000000", "[('a', 'f4')]", "\x1b[31m"])
        sizes = ", ".join(str(hostile.integer(random)) for _ in range(random.choice([1, 4, 40])))
        order = random.choice(["False", "True", "1", "None"])
        header = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({sizes},), }}"
        header = random.choice([header, header, "{}", "[" * 3000, header * 3000])
        text = header.encode("latin1", errors="replace") + b"\n"
        size = struct.pack("<H", len(text) % 65536)
        content = content[:6] + b"\x01\x00" + size + text + content[end:]
    return content


def _npz(random: Random) -> bytes:
    names = random.sample(["x", "image", "y", "labels", "x_train", "arr_0", "", "../x", "a/b"], 2)
    return zips.packed({f"{name}.npy": _npy(random) for name in names}, random.choice([0, 8]))


def _idx(random: Random) -> bytes:
    kind = random.choice([8, 8, 8, 9, 13, 14, 0, 99])
    sizes = random.choice([(3, 28, 28), (3, 8, 8, 2), (0,), (2**31, 2, 2), (2**32 - 1,) * 5, ()])
    head = bytes([0, 0, kind, len(sizes)]) + b"".join(struct.pack(">I", size) for size in sizes)
    return head + random.randbytes(3 * 28 * 28)


def _gz(random: Random) -> bytes:
    content = gzip.compress(_idx(random), mtime=0)
    if random.random() < 0.1:
        content += gzip.compress(bytes(64 << 20), 1, mtime=0) * 40
    return content


def _image(random: Random) -> bytes:
    made = io.BytesIO()
    mode = random.choice(["L", "RGB", "RGBA", "1", "I;16", "P", "CMYK", "F"])
    kind = "TIFF" if mode in ("CMYK", "F") else "PNG"
    size = random.choice([(8, 8), (28, 28), (1, 1), (1, 3000), (9000, 9000)])
    Image.new(mode, size).save(made, kind)
    content = made.getvalue()
    if random.random() < 0.2 and kind == "PNG":
        width, height = random.choice([(0, 0), (2**31 - 1, 2**31 - 1), (60_000, 60_000)])
        content = content[:16] + struct.pack(">II", width, height) + content[24:]
    return content


def _images(folder: Path, random: Random) -> tuple[str, str]:
    (folder / "images").mkdir()
    for number in range(random.choice([0, 1, 3])):
        content = _image(random)
        if random.random() < 0.4:
            content, _ = damage(content, random)
        (folder / "images" / f"{number}.png").write_bytes(content)
    if random.random() < 0.3:
        (folder / "images" / "labels.csv").write_text(hostile.text(random).replace("\ud7ff", ""))
    return "images", "a folder of images"


def _special(folder: Path, random: Random) -> tuple[str, str]:
    how = random.choice(["fifo.npy", "zero.npz", "folder.npy", "text.npy", "empty.npz", "loop.npy"])
    path = folder / how
    if how == "fifo.npy":
        os.mkfifo(path)
    elif how == "zero.npz":
        path.symlink_to("/dev/zero")
    elif how == "folder.npy":
        path.mkdir()
    elif how == "loop.npy":
        path.symlink_to(how)
    else:
        path.write_text("" if how == "empty.npz" else "1 2 3\n")
    return how, how


_CONTENTS = {"npy": _npy, "npz": _npz, "idx": _idx, "gz": _gz, "image": _image}
