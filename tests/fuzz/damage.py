"""Damage to bytes, whatever they mean."""

from __future__ import annotations

from random import Random

WORDS = (b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f",
         b"\0\0\0\x80", b"\xff" * 8, b"\0" * 8, b"\xff" * 7 + b"\x7f", b"\n", b"{", b'"',
         b"\x00\x01", b"\x01\x00", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"SNOD", b"TREE", b"HEAP",
         b"OHDR", b"FRHP", b"GCOL")  # fmt: skip


def damage(content: bytes, random: Random, other: bytes = b"") -> tuple[bytes, str]:
    """Other bytes, and what was done to them.

    Args:
        content: what there is.
        random: where the choices come from.
        other: bytes of the same kind, a part of which may be taken.
    """
    made, done = bytearray(content), []
    for _ in range(random.choice([1, 1, 1, 2, 4, 16])):
        how, at = random.choice(_HOW), _offset(len(made), random)
        if how == "flip" and made:
            made[at] ^= 1 << random.randrange(8)
        elif how == "word":
            word = random.choice(WORDS)
            made[at : at + len(word)] = word
        elif how == "number" and made:
            width = random.choice([1, 2, 4, 8])
            old = int.from_bytes(made[at : at + width], "little")
            new = (old + random.choice([-1, 1, 2, -2, 256, 65536])) % (1 << (8 * width))
            made[at : at + width] = new.to_bytes(width, "little")
        elif how == "cut":
            del made[at : at + random.choice([1, 4, 100, len(made)])]
        elif how == "insert":
            made[at:at] = random.choice(WORDS) * random.choice([1, 3, 1000])
        elif how == "zeros":
            size = random.choice([8, 64, 512])
            made[at : at + size] = bytes(size)
        elif how == "copy":
            source = other or bytes(made)
            start, size = _offset(len(source), random), random.choice([8, 64, 1000])
            made[at : at + size] = source[start : start + size]
        done.append(f"{how} at {at}")
    return bytes(made), ", ".join(done[:4])


_HOW = ("flip", "flip", "word", "word", "number", "number", "cut", "insert", "zeros", "copy")


def _offset(size: int, random: Random) -> int:
    """Anywhere, but more often near the beginning and the end, where headers are."""
    if size < 2:
        return 0
    near = min(size, random.choice([16, 128, 1024, size]))
    at = random.randrange(near)
    return at if random.random() < 0.75 else size - 1 - at
