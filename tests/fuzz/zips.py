"""Changes of a zip: its members, and the fields that say how to find and unfold them."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from random import Random

from tests.fuzz import hostile

METHODS = (0, 8, 12, 14, 9, 93, 99, 65535)
"""Stored, deflated, bzip2, LZMA; and others that few can read."""

Members = dict[str, bytes]


def packed(members: Members, method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of some members."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return made.getvalue()


def unpacked(content: bytes) -> Members:
    """The members of a zip that is whole."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def members(content: bytes, random: Random) -> tuple[bytes, str]:
    """Members that are gone, renamed, exchanged, or too many."""
    held = unpacked(content)
    name = random.choice(sorted(held))
    how = random.choice(
        ["gone", "renamed", "exchanged", "empty", "more", "compressed", "in folder"]
    )
    if how == "gone":
        del held[name]
    elif how == "renamed":
        held[hostile.text(random, (name,)) or "x"] = held.pop(name)
    elif how == "exchanged":
        other = random.choice(sorted(held))
        held[name], held[other] = held[other], held[name]
    elif how == "empty":
        held[name] = b""
    elif how == "more":
        for number in range(random.choice([1, 20, 3000])):
            held[f"{hostile.text(random)}{number}"] = b"x"
    elif how == "in folder":
        held = {f"folder/{key}": value for key, value in held.items()}
    method = random.choice([0, 8, 12, 14]) if how == "compressed" else zipfile.ZIP_STORED
    return packed(held, method), f"{name} {how}"


def twice(content: bytes, random: Random) -> tuple[bytes, str]:
    """Two members of one name, of which readers take the one or the other."""
    held = unpacked(content)
    name = random.choice(sorted(held))
    raw = packed({**held, "?" * len(name): random.choice([b"{}", b"", held[name][:-1]])})
    return raw.replace(b"?" * len(name), name.encode()), f"{name} twice"


_LOCAL = (("version", 4, 2), ("flags", 6, 2), ("method", 8, 2), ("crc", 14, 4),
          ("packed size", 18, 4), ("size", 22, 4), ("name length", 26, 2),
          ("extra", 28, 2))  # fmt: skip
_CENTRAL = (("version", 6, 2), ("flags", 8, 2), ("method", 10, 2), ("crc", 16, 4),
            ("packed size", 20, 4), ("size", 24, 4), ("name length", 28, 2), ("extra", 30, 2),
            ("comment", 32, 2), ("disk", 34, 2), ("attributes", 38, 4),
            ("offset", 42, 4))  # fmt: skip
_END = (("disk", 4, 2), ("start disk", 6, 2), ("entries here", 8, 2), ("entries", 10, 2),
        ("directory size", 12, 4), ("directory offset", 16, 4), ("comment", 20, 2))  # fmt: skip
_RECORDS = ((b"PK\x03\x04", _LOCAL), (b"PK\x01\x02", _CENTRAL), (b"PK\x05\x06", _END))


def directory(content: bytes, random: Random) -> tuple[bytes, str]:
    """One field of a header or of the directory."""
    made = bytearray(content)
    mark, fields = random.choice(_RECORDS)
    starts = [at for at in range(len(made)) if made.startswith(mark, at)] or [0]
    start = random.choice(starts[:40])
    name, at, width = random.choice(fields)
    if name == "method":
        new = random.choice(METHODS)
    elif name == "flags":
        new = random.choice([1, 8, 0x41, 0x800, 0x2000, 0xFFFF])
    else:
        new = hostile.integer(random) % (1 << 8 * width)
    made[start + at : start + at + width] = new.to_bytes(width, "little")
    return bytes(made), f"{mark[2:].hex()} {name}: {new}"


def bomb(content: bytes, random: Random) -> tuple[bytes, str]:
    """A member that unfolds to much more than the file."""
    held = unpacked(content)
    name = random.choice(sorted(held))
    size = random.choice([200 << 20, 3 << 30])
    honest = random.random() < 0.7
    return lying(held, name, size if honest else len(held[name]), size >> 20), f"{name}: {size:,}"


def lying(held: Members, name: str, said: int, mebibytes: int) -> bytes:
    """A zip in which one member unfolds to zeros, whatever size it is said to have."""
    parts, central = bytearray(), bytearray()
    for key, value in held.items():
        raw, method, size = value, 0, len(value)
        if key == name:
            raw, method, size = _zeros(mebibytes), 8, said
        title = key.encode()
        common = struct.pack(
            "<HHHHHIIIHH", 20, 0, method, 0, 33, zlib.crc32(value), len(raw), size, len(title), 0
        )
        central += b"PK\x01\x02" + struct.pack("<H", 20) + common
        central += struct.pack("<HHHII", 0, 0, 0, 0, len(parts)) + title
        parts += b"PK\x03\x04" + common + title + raw
    count = len(held)
    end = struct.pack("<HHHHIIH", 0, 0, count, count, len(central), len(parts), 0)
    return bytes(parts + central + b"PK\x05\x06" + end)


@cache
def _zeros(mebibytes: int) -> bytes:
    """So much of nothing, deflated: one block again and again."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    block = deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    return first + block * (mebibytes - 1) + deflate.flush()


MUTATORS: Mapping[str, Callable[[bytes, Random], tuple[bytes, str]]] = {
    "zip members": members,
    "zip member twice": twice,
    "zip directory": directory,
    "zip bomb": bomb,
}
"""By name; each gives another file and says how it differs."""
