"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from convfc.errors import ConvfcError, FileError
from convfc.refusals import Code
from convfc.system.workfolders import WorkFolder, alone_in, work_folder

OTHER_PLACE = "set the environment variable TMPDIR to a folder with room for temporary files"
"""What helps where there is none."""

DataNames = Callable[[Path], Collection[str]]
"""Names of the files beside a file that it needs."""


def data_name(name: str, digest: str) -> str:
    """The name of a file that a file of the other name needs beside it.

    Args:
        name: of the file.
        digest: of what the other one holds, in hexadecimal: while the file is replaced, the old
            one still needs its own.
    """
    return f"{name}.{digest[:8]}.data"


def _is_data_of(name: str, data: str) -> bool:
    return re.fullmatch(re.escape(name) + r"\.[0-9a-f]{8}\.data", data) is not None


@dataclass(frozen=True)
class Stage:
    """A folder beside a file that is being made, and what is to be moved out of it.

    Attributes:
        out: the file.
        path: where to write it until then, and beside that what has a `data_name`.
    """

    out: Path
    path: Path
    _folder: WorkFolder
    _needs: DataNames

    def publish(
        self, allowed: Callable[[], None] = lambda: None, keep: Collection[Path] = ()
    ) -> None:
        """Put the file into its place, and what it needs beside it.

        Whoever reads meanwhile finds the old file or the new one, and what that needs. Then what
        only the old one needed is removed, if it has a `data_name`. A file that is replaced hands
        on its permissions; a link is replaced, not what it leads to.

        Args:
            allowed: raises if the file that is there now must not be replaced.
            keep: files that are not removed.

        Raises:
            FileError: the folder is not writable, the disk is full, or others publish in this
                folder all the time.
        """
        with writing(self.out):
            parent, name = self.out.parent, self.out.name
            made = {file.name for file in self.path.parent.iterdir()}
            data = sorted(file for file in made if _is_data_of(name, file))
            for file in (*data, name):
                _sync(self.path.with_name(file))
            with alone_in(parent):
                allowed()
                mode = self._folder.mode
                with suppress(FileNotFoundError):
                    status = self.out.lstat()
                    mode = status.st_mode & 0o777 if stat.S_ISREG(status.st_mode) else mode
                kept = {*data, *(file.name for file in keep if _is_in(file, parent))}
                old = sorted(self._old_data() - kept)
                if data or old:
                    self._folder.note(json.dumps({"out": name, "data": [*data, *old]}))
                for file in (*data, name):
                    _move(self.path.with_name(file), parent / file, mode)
                with suppress(OSError):  # not every system can, and the file is there
                    _sync(parent)
                for file in old:
                    with suppress(OSError):
                        (parent / file).unlink()
                self._folder.note("")

    def _old_data(self) -> set[str]:
        """What the file needs that is in the place of the new one, by names like ours."""
        names = {file.name for file in self.out.parent.iterdir()}
        there = {name for name in names if _is_data_of(self.out.name, name)}
        if not there or self.out.is_symlink() or not self.out.is_file():
            return set()
        try:
            return there & set(self._needs(self.out))
        except ConvfcError:  # a damaged file, which was to be replaced all the same
            return set()


def _move(file: Path, target: Path, mode: int) -> None:
    if file.stat().st_mode & 0o777 != mode:
        file.chmod(mode)
    file.replace(target)


def _is_in(file: Path, folder: Path) -> bool:
    return file.parent.resolve() == folder.resolve()


@contextmanager
def staging(out: Path, needs: DataNames | None = None) -> Iterator[Stage]:
    """A folder in which `out` is made; it is gone when the block ends, however it ends.

    If a run is killed, the next one in that folder removes what it left.

    Args:
        out: the file.
        needs: which files beside it such a file needs; none if left out.

    Raises:
        FileError: the folder of `out` is missing or not writable.
    """

    def heed(note: str) -> None:
        assert needs is not None  # noqa: S101 - see below
        _end_publishing(out.parent, note, needs)

    with ExitStack() as stack:
        with writing(out):
            entered = work_folder(out.parent, None if needs is None else heed)
            folder = stack.enter_context(entered)
        yield Stage(out, folder.files / out.name, folder, needs or (lambda _: ()))


def _end_publishing(folder: Path, note: str, needs: DataNames) -> None:
    """Remove what a publication that was cut short has left and no file needs."""
    try:
        noted = json.loads(note)
        name, names = str(noted["out"]), [str(name) for name in noted["data"]]
    except (ValueError, TypeError, KeyError):
        return
    if name != Path(name).name or not all(_is_data_of(name, data) for data in names):
        return
    with alone_in(folder):
        out = folder / name
        needed = set(needs(out)) if out.exists() else set()
        for data in set(names) - needed:
            (folder / data).unlink(missing_ok=True)


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Write `out` so that an interruption leaves the old or the new.

    Yields a path of the same name in a new folder next to `out`. When the block ends well, the
    file is put into its place; otherwise nothing remains. See `Stage.publish`.

    Raises:
        FileError: the folder is missing or not writable, or the disk is full.
    """
    with staging(out) as stage:
        with writing(out):
            yield stage.path
        stage.publish()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for what only this run needs; it is gone when the block ends, or the next one does.

    Raises:
        FileError: it cannot be made.
    """
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(work_folder())
        except OSError as error:
            raise FileError(
                f"a temporary folder cannot be made: {error.strerror or error}",
                remedy=OTHER_PLACE,
                code=Code.NOT_WRITTEN,
            ) from error
        yield folder.files


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """What the system says while `out` is written, as a `FileError` that names it."""
    try:
        yield
    except OSError as error:
        raise FileError(
            f"{out}: cannot be written: {error.strerror or error}", code=Code.NOT_WRITTEN
        ) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Unchanged:
    """Sees whether files stay what they are while they are read, more than once."""

    def __init__(self, *paths: Path) -> None:
        self._seen: dict[Path, os.stat_result | None] = {}
        self.watch(*paths)

    def watch(self, *paths: Path) -> None:
        """Have a look at more files, before they are read."""
        for path in paths:
            self._seen.setdefault(path, _status(path))

    def check(self, doing: str) -> None:
        """Have another look at all of them.

        Raises:
            FileError: one was replaced or written to; `doing` says during what.
        """
        for path, before in self._seen.items():
            now = _status(path)
            if now is None or before is None or stamp(now) != stamp(before):
                raise FileError(
                    f"{path}: has changed while it was {doing}",
                    remedy="do that again when it is complete",
                    code=Code.CHANGED,
                )


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):  # what is wrong with it, opening it tells
        return None


def stamp(status: os.stat_result) -> tuple[int, ...]:
    """What tells whether a file is still the same: another in its place, or written to, differs."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
