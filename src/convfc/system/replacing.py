"""Replaces reports and pictures, and nothing else: which is known before the work is begun."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from convfc.errors import FileError
from convfc.refusals import Code
from convfc.system.atomic import staged, writing


@dataclass(frozen=True)
class Kind:
    """A kind of file that convfc writes, and how to tell one that is there already.

    Attributes:
        name: what people call it.
        begins: matches the first bytes of every such file.
    """

    name: str
    begins: re.Pattern[bytes]


def xml(name: str, root: str) -> Kind:
    """A kind of XML file.

    Args:
        name: what people call it.
        root: a regular expression for its outermost element.
    """
    # Nothing is tried twice (`>`, `+`): a hostile file would keep that up for years.
    before = r"(?>\s+|<\?.*?\?>|<!--.*?-->|<![A-Z][^>]*>)*+"
    pattern = rf"(?:\xef\xbb\xbf)?{before}<{root}[\s/>]"
    return Kind(name, re.compile(pattern.encode("latin-1"), re.DOTALL | re.IGNORECASE))


def check(out: Path, kind: Kind) -> None:
    """See that a file can be written, and that nothing but an older one of its kind is lost.

    Raises:
        FileError: its folder is missing or not writable, or it is something else already.
    """
    path = _real(out)
    with writing(out):
        if path.is_dir():
            raise FileError(f"{out}: is a folder", remedy="name a file", code=Code.NOT_WRITTEN)
        if not path.parent.is_dir():
            raise FileError(
                f"{out}: there is no folder '{out.parent}'",
                remedy="create it first",
                code=Code.NOT_WRITTEN,
            )
        if path.exists() and not path.is_file():
            raise FileError(
                f"{out}: exists and is no regular file",
                remedy="choose another name",
                code=Code.NOT_WRITTEN,
            )
        if path.exists():
            with path.open("rb") as file:
                head = file.read(4096)
            if head and not kind.begins.match(head):
                raise FileError(
                    f"{out}: exists and is no {kind.name}",
                    remedy="choose another name",
                    code=Code.NOT_WRITTEN,
                )
        with tempfile.TemporaryFile(dir=path.parent):
            pass


@contextmanager
def replacing(out: Path, kind: Kind) -> Iterator[Path]:
    """`check` a file once more and write it; see `staged`. Where a link points to, it is written.

    Raises:
        FileError: see `check`; or the disk is full.
    """
    check(out, kind)
    with staged(_real(out)) as stage:
        yield stage


def _real(out: Path) -> Path:
    return Path(os.path.realpath(out))
