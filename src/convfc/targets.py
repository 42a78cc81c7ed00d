"""Where a model file may be written: never over the model itself, nor over what is not ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from convfc import arguments
from convfc.errors import FileError, UsageError
from convfc.formats.registry import converted_format, provenance_of
from convfc.refusals import Code
from convfc.system.atomic import writing


def target_of(
    source: Path, out: str | Path | None, default_out: Callable[[Path], Path], force: bool
) -> Path:
    """Where to write what is made of a file, or why that cannot be.

    Args:
        source: the file.
        out: what was asked for: a file, or a folder to write it in.
        default_out: what a file is called if nothing was.
        force: whether to replace what convfc did not make.

    Raises:
        FileError: it cannot be written there.
        UsageError: it is the file itself, or a name of another format.
    """
    kind = converted_format(source)
    target = default_out(source) if out is None else arguments.path("out", out)
    with writing(target):  # a name may be too long, or a folder closed
        if target.is_dir():
            target /= default_out(source).name
        if not target.parent.is_dir():
            raise FileError(
                f"{target}: there is no folder '{target.parent}'",
                remedy="create it first",
                code=Code.NOT_WRITTEN,
            )
        if target.suffix.lower() not in kind.value and target.suffix != source.suffix:
            raise UsageError(
                f"{target}: the converted model has the format of '{source}'",
                remedy=f"give it a name that ends in {kind.value[0]}",
            )
        check_target(source, target, force)
    return target


def check_target(source: Path, target: Path, force: bool) -> None:
    """Refuse to replace what is no file of ours.

    Raises:
        FileError: it is not, and nothing is forced.
        UsageError: it is the file that is read.
    """
    if not target.exists():
        return
    if target.samefile(source):
        raise UsageError(f"{target}: is the model itself, which convfc never overwrites")
    if not target.is_file():
        raise FileError(
            f"{target}: exists and is no regular file",
            remedy="choose another name with -o",
            code=Code.NOT_WRITTEN,
        )
    if not force and not _is_ours(target):
        raise FileError(
            f"{target}: exists and was not made by convfc",
            remedy="replace it with --force or choose another name with -o",
            code=Code.NOT_WRITTEN,
        )


def _is_ours(path: Path) -> bool:
    try:
        return provenance_of(path) is not None
    except FileError:
        return False
