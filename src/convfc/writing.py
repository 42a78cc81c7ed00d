"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convfc.errors import FileError


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Write `out`, and files beside it, so that an interruption leaves the old or the new.

    Yields a path of the same name in a new folder next to `out`. When the block ends well, what
    lies in that folder is synced and moved beside `out`, `out` itself last; otherwise nothing
    remains. Files beside `out` should have names that change with their content: the old `out`
    may still need the old ones.

    Raises:
        FileError: the folder is missing or not writable, or the disk is full.
    """
    folder = out.parent
    stage: Path | None = None
    try:
        stage = Path(tempfile.mkdtemp(prefix=".convfc-", dir=folder))
        yield stage / out.name
        for file in sorted(stage.iterdir(), key=lambda file: file.name == out.name):
            _sync(file)
            _publish(file, folder / file.name)
        _sync(folder)
    except OSError as error:
        raise FileError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)


def _publish(file: Path, target: Path) -> None:
    # The mode of a new file, not the private one that temporary files get.
    mask = os.umask(0)
    os.umask(mask)
    file.chmod(0o666 & ~mask)
    file.replace(target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
