"""The outline in a record as a text, and what is said where there is none, whatever the format."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from hashlib import blake2b
from pathlib import Path

import numpy as np

from convfc.core.arrays import Array
from convfc.errors import FileError
from convfc.formats.provenance import LONGEST_OUTLINE
from convfc.refusals import Code

_UNPACKED = 2**27
"""Bytes of an outline that is read."""


def digest_of(array: Array) -> str:
    """Tells numbers from others."""
    return blake2b(np.ascontiguousarray(array).tobytes(), digest_size=8).hexdigest()


def text_of(content: bytes) -> str:
    """An outline for a record; empty where that would be too long."""
    text = b64encode(zlib.compress(content, 9)).decode()
    return text if len(text) <= LONGEST_OUTLINE else ""


def content_of(text: str) -> bytes:
    """What `text_of` made such a text of.

    Raises:
        ValueError: it made none such.
        zlib.error: likewise.
    """
    unpacking = zlib.decompressobj()
    content = unpacking.decompress(b64decode(text, validate=True), _UNPACKED)
    if not unpacking.eof:
        raise ValueError("it is cut short or too long")
    return content


def damaged(path: Path, why: str) -> FileError:
    """What is raised of a file whose outline is none."""
    return FileError(
        f"{path}: its convfc record is damaged: the outline in it: {why}",
        remedy="convert the original again, or name it with --like",
        code=Code.RECORD,
    )


def missing(path: Path, remedy: str = "name the original with --like") -> FileError:
    """What is raised of a file without an outline."""
    return FileError(
        f"{path}: its record does not tell what the original looked like",
        remedy=remedy,
        code=Code.NO_OUTLINE,
    )
