"""What stands between a file and convfc: only files come in, and only ConvfcErrors go out."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import ParamSpec, TypeVar

from convfc import arguments
from convfc.errors import ConvfcError, DataError, FileError, GeometryError
from convfc.refusals import Code
from convfc.text.visible import visible

P = ParamSpec("P")
R = TypeVar("R")

_KINDS = (
    (stat.S_ISDIR, "folder"),
    (stat.S_ISFIFO, "pipe"),
    (stat.S_ISSOCK, "socket"),
    (lambda _: True, "device"),
)


def require_file(path: Path) -> None:
    """Refuse what is no file of a disk, before anybody opens it: reading a pipe may never end.

    Raises:
        FileError: it is missing, or something else.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        if path.is_symlink():
            there = visible(str(path.readlink()))
            raise FileError(
                f"{path}: is a link to '{there}', which is not there", path=path, code=Code.MISSING
            ) from error
        raise FileError(f"{path}: no such file", path=path, code=Code.MISSING) from error
    except (OSError, ValueError) as error:  # a name with NUL in it is a ValueError
        words = getattr(error, "strerror", None) or error
        raise FileError(f"{path}: cannot be read: {words}", path=path, code=Code.NO_FILE) from error
    if not stat.S_ISREG(mode):
        kind = next(kind for is_kind, kind in _KINDS if is_kind(mode))
        raise FileError(
            f"{path}: is a {kind}, and not a file",
            remedy="name a file on disk",
            path=path,
            code=Code.NO_FILE,
        )


@contextmanager
def naming(shown: Path, worked_on: Path) -> Iterator[None]:
    """Errors inside name a file that people know in the place of the one that is worked on."""
    try:
        yield
    except ConvfcError as error:
        error.args = tuple(str(part).replace(str(worked_on), str(shown)) for part in error.args)
        error.path = shown if error.path == worked_on else error.path
        raise


@contextmanager
def gate(path: str | Path, layer: str | None = None) -> Iterator[None]:
    """Turn whatever goes wrong inside into an error that names the file.

    Where it is known what is wrong with a file, it is said there: this is for the rest, of which
    there is no end. The exception itself remains as the cause, and with it where it came from.

    Args:
        path: the file.
        layer: the layer in it, if it is about one.

    Raises:
        FileError: in the place of any exception that is no ConvfcError, and of a GeometryError.
        DataError: with the name of the file.
    """
    subject = str(path) if layer is None else f"{path}: layer '{visible(layer)}'"
    try:
        yield
    except GeometryError as error:  # it knows sizes, and not whose
        raise FileError(f"{subject}: {error}", path=path, layer=layer, code=error.code) from error
    except DataError as error:  # it knows inputs, and not whose
        if subject in str(error):
            _fill(error, path, layer)
            raise
        first, *more = error.args
        raise DataError(
            f"{subject}: {first}", *more, path=path, layer=layer, code=error.code
        ) from error
    except ConvfcError as error:
        _fill(error, path, layer)
        raise
    except BrokenPipeError:  # who reads our output is no fault of the file
        raise
    except MemoryError as error:
        raise FileError(
            f"{subject}: it takes more memory than there is",
            path=path,
            layer=layer,
            code=Code.TOO_LARGE,
        ) from error
    except RecursionError as error:
        raise FileError(
            f"{subject}: it is nested too deeply for convfc",
            path=path,
            layer=layer,
            code=Code.TOO_LARGE,
        ) from error
    except Exception as error:
        words = visible(" ".join(str(error).split()))[:200]
        raise FileError(
            f"{subject}: damaged, or not a model that convfc can work on: "
            f"{type(error).__name__}: {words}",
            "Get a fresh copy of it; if that is no better, report it with what --debug shows",
            path=path,
            layer=layer,
            code=Code.DAMAGED,
        ) from error


def _fill(error: ConvfcError, path: str | Path, layer: str | None) -> None:
    """Say whose an error is, if it begins with the file: it may be about another one."""
    if error.path is None and str(error).startswith(f"{visible(str(path))}:"):
        error.path, error.layer = Path(path), error.layer or layer


def gated(verb: Callable[P, R]) -> Callable[P, R]:
    """Put a function whose first argument is a file behind a gate, see `gate`."""
    parameters = signature(verb)
    first = next(iter(parameters.parameters))

    @wraps(verb)
    def behind(*args: P.args, **kwargs: P.kwargs) -> R:
        given = parameters.bind(*args, **kwargs)  # a TypeError of the call is the caller's
        with gate(arguments.path(first, given.arguments[first])):
            return verb(*args, **kwargs)

    return behind
