"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from convfc.errors import FileError


@dataclass(frozen=True)
class Stage:
    """A folder beside a file that is being made, and what is to be moved out of it.

    Attributes:
        out: the file.
        path: where to write it until then; files beside that will be beside `out`.
    """

    out: Path
    path: Path

    def publish(self) -> None:
        """Sync what lies in the folder and move it beside `out`, `out` itself last.

        Files beside `out` should have names that change with their content: the old `out` may
        still need the old ones.

        Raises:
            FileError: the folder is not writable, or the disk is full.
        """
        with writing(self.out):
            files = self.path.parent.iterdir()
            for file in sorted(files, key=lambda file: file.name == self.out.name):
                _sync(file)
                _publish(file, self.out.with_name(file.name))
            _sync(self.out.parent)


@contextmanager
def staging(out: Path) -> Iterator[Stage]:
    """A folder in which `out` is made; it is gone when the block ends, however it ends.

    Raises:
        FileError: the folder of `out` is missing or not writable.
    """
    with writing(out):
        folder = Path(tempfile.mkdtemp(prefix=".convfc-", dir=out.parent))
    try:
        yield Stage(out, folder / out.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Write `out`, and files beside it, so that an interruption leaves the old or the new.

    Yields a path of the same name in a new folder next to `out`. When the block ends well, what
    lies in that folder is published; otherwise nothing remains. See `Stage.publish`.

    Raises:
        FileError: the folder is missing or not writable, or the disk is full.
    """
    with staging(out) as stage:
        with writing(out):
            yield stage.path
        stage.publish()


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """What the system says while `out` is written, as a `FileError` that names it."""
    try:
        yield
    except OSError as error:
        raise FileError(f"{out}: cannot be written: {error.strerror or error}") from error


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
