"""The encoding of protobuf messages, as far as it takes to find weights without reading them.

A message is a row of fields: a tag (a number and a kind), for most a length, and the content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

Read = Callable[[int, int], bytes]
"""The bytes from one place to another of what is read; fewer where it ends before."""

VARINT, BYTES = 0, 2
"""Kinds of fields: a number, and anything that has a length."""

_FIXED = {1: 8, 5: 4}
"""How many bytes numbers of the other kinds take; two more, for groups, are out of use."""

_HEAD = 20
"""More bytes than a tag and a length, or a number, can have."""


class UnusualError(Exception):
    """No careful program writes such bytes; what they mean is for protobuf itself to say."""


class Field(NamedTuple):
    """Where a field is.

    Attributes:
        number: which field of its message it is.
        kind: how it is encoded.
        start: where its tag begins.
        content: where what it holds begins, behind its tag and its length.
        end: where the next field begins.
    """

    number: int
    kind: int
    start: int
    content: int
    end: int

    def holds(self, number: int) -> bool:
        """Whether it is the field of this number, and holds bytes as that should."""
        return (self.number, self.kind) == (number, BYTES)


def fields(read: Read, start: int, end: int) -> Iterator[Field]:
    """The fields of the message that lies between two places; what they hold is not read.

    Raises:
        UnusualError: one that does not end there, a group, or a number with more bytes than needed.
    """
    while start < end:
        head = read(start, min(start + _HEAD, end))
        tag, at = _varint(head, 0)
        number, kind = tag >> 3, tag & 7
        if not number:
            raise UnusualError
        if kind == BYTES:
            length, at = _varint(head, at)
            content = start + at
            after = content + length
        else:
            content = start + at
            after = content + _FIXED[kind] if kind in _FIXED else start + _varint(head, at)[1]
            if kind not in (VARINT, *_FIXED):
                raise UnusualError
        if after > end:
            raise UnusualError
        yield Field(number, kind, start, content, after)
        start = after


def field(number: int, content: bytes) -> bytes:
    """A field that holds bytes."""
    return head(number, len(content)) + content


def head(number: int, length: int) -> bytes:
    """What is in front of the content of a field that holds so many bytes."""
    return varint(number << 3 | BYTES) + varint(length)


def varint(number: int) -> bytes:
    """A number that is not negative: seven bits a byte, the lowest first."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*found, number))


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at some place, and where it ends."""
    number = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if not byte and shift > 7:
                break
            return number, at
    raise UnusualError
