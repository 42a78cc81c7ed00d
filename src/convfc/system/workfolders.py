"""Folders for what a run makes on its way: gone when it ends, or when the next one comes by.

A run that is killed cannot tidy up. So each holds a lock in its folder, of which the system lets go
when the process ends, however that ends: who gets the lock of another's folder may remove it.
Numbers of processes would not do, they are used again, and each container counts its own.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from convfc.errors import ConvfcError

_PREFIX = ".convfc-"
_NAME = re.compile(re.escape(_PREFIX) + "([0-9a-f]{8})-[a-z0-9_]{8}")
"""A folder of ours: the machine that made it, and what `tempfile` makes up."""
_LOCK, _FILES = "lock", "files"
"""All that is in one."""

_OLD = 24 * 60 * 60.0
"""Seconds after which what another machine made is taken for dead, too, if it holds no lock.

On some network folders each machine sees its own locks only. After it starts anew, this one counts
as another.
"""

_PATIENCE, _PAUSE = 60.0, 0.02
"""Seconds to wait for others, all in all and at a time."""


@dataclass(frozen=True)
class WorkFolder:
    """A folder of this run.

    Attributes:
        files: where to put files.
        lock: descriptor of the file whose lock says that somebody works here.
    """

    files: Path
    lock: int

    @property
    def mode(self) -> int:
        """The permissions that a new file gets: to ask for the umask is to change it."""
        return os.fstat(self.lock).st_mode & 0o777

    def note(self, text: str) -> None:
        """Write down what is to be done about this folder before it is removed.

        It replaces what was noted before; an empty text says that there is nothing. A note is for
        the case that this run is killed; it may be lost where the whole machine goes down.

        Raises:
            OSError: it cannot be written.
        """
        os.ftruncate(self.lock, 0)
        os.pwrite(self.lock, text.encode(), 0)


Heed = Callable[[str], None]
"""Does what a note says."""


@contextmanager
def work_folder(parent: Path | None = None, heed: Heed | None = None) -> Iterator[WorkFolder]:
    """A new folder that is gone when the block ends, and those of dead runs beside it with it.

    Args:
        parent: where to make it; where temporary files go if left out.
        heed: does what was noted in such a folder; without it, those with a note are left alone.

    Raises:
        OSError: it cannot be made.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    _remove_dead(parent, heed)
    folder, lock = _made(parent)
    try:
        yield WorkFolder(folder / _FILES, lock)
    finally:
        _remove(folder, lock, heed)
        os.close(lock)


def _made(parent: Path) -> tuple[Path, int]:
    """A new folder, and the descriptor of its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{_machine()}-", dir=parent))
        try:
            with suppress(FileNotFoundError):  # another run may have taken it for dead until now
                lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
                if _try_lock(lock) is not False and _is_at(lock, folder / _LOCK):
                    (folder / _FILES).mkdir()
                    return folder, lock
                os.close(lock)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _remove_dead(parent: Path, heed: Heed | None) -> None:
    """Remove the folders in a folder whose runs have ended without doing so."""
    with suppress(OSError), os.scandir(parent) as entries:
        for named in [*filter(None, (_NAME.fullmatch(entry.name) for entry in entries))]:
            with suppress(OSError):
                _remove_if_dead(parent / named[0], named[1], heed)


def _remove_if_dead(folder: Path, machine: str, heed: Heed | None) -> None:
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        return
    if not {file.name for file in folder.iterdir()} <= {_LOCK, _FILES}:
        return
    if machine != _machine():
        latest = max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
        if time.time() - latest < _OLD:
            return
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        if _try_lock(lock) and _is_at(lock, folder / _LOCK):
            _remove(folder, lock, heed)
    finally:
        os.close(lock)


def _remove(folder: Path, lock: int, heed: Heed | None) -> None:
    """Remove a folder whose lock is ours, unless what is noted there cannot be done."""
    note = os.pread(lock, os.fstat(lock).st_size, 0)
    if note:
        if heed is None:
            return
        try:
            heed(note.decode(errors="replace"))
        except (OSError, ConvfcError):
            return  # the next run tries again
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Only one run at a time is in such a block, for each folder; the others wait.

    Where there are no locks it is as if there were no others.

    Raises:
        OSError: the folder is not writable, or somebody has been there for a minute.
    """
    path = folder / f"{_PREFIX}lock"
    lock = _locked(path)
    try:
        yield
    finally:
        # As long as it is ours nobody else removes it, and who waits for it sees that it is gone.
        with suppress(OSError):
            path.unlink()
        os.close(lock)


def _locked(path: Path) -> int:
    """The descriptor of a file that is there and locked, or cannot be locked at all."""
    end = time.monotonic() + _PATIENCE
    while True:
        lock = _opened(path)
        got = _try_lock(lock)
        if got is None or (got and _is_at(lock, path)):
            return lock
        os.close(lock)
        if time.monotonic() > end:
            raise TimeoutError(
                errno.ETIMEDOUT, f"other runs have been publishing there for {_PATIENCE:g} seconds"
            )
        if not got:
            time.sleep(_PAUSE)


def _opened(path: Path) -> int:
    # Not for writing: that of another user may be locked, too. And a pipe is not waited for.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(path, flags | os.O_CREAT, 0o666)
    except PermissionError:
        # In a folder for everybody, systems may refuse to "create" what another user has created.
        return os.open(path, flags)


def _try_lock(descriptor: int) -> bool | None:
    """Whether the lock is ours; ``None`` where there are no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


@cache
def _machine() -> str:
    """Eight digits for this machine since it was started, the same in all its containers."""
    try:
        name = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
    except OSError:
        name = platform.node()
    return sha256(name.encode()).hexdigest()[:8]
