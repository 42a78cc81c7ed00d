"""Which file was made from which, and whether two models can be compared at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convfc.errors import FileError, UsageError
from convfc.formats.protocols import Model, Port
from convfc.formats.provenance import Provenance
from convfc.formats.registry import default_out, open_model
from convfc.formats.shapes import Shapes
from convfc.refusals import Code
from convfc.system.atomic import sha256_of


def partner(path: Path, record: Provenance | None) -> Path:
    """The file to compare with, whichever of the two was given.

    Raises:
        FileError: it is nowhere to be found.
    """
    if record is not None:
        original = path.with_name(record.source)
        if not original.exists():
            raise FileError(
                f"{path}: was made from '{record.source}', which is not beside it",
                code=Code.NO_PARTNER,
            )
        return original
    converted = default_out(path)
    if not converted.exists():
        raise FileError(
            f"{path}: there is no '{converted.name}' beside it",
            remedy="convert it first or name the converted file",
            code=Code.NO_PARTNER,
        )
    return converted


def is_made_from(record: Provenance | None, other: Path, others: Provenance | None) -> bool:
    """Whether a file's record says that it was made from the other one."""
    return record is not None and (others is None or record.source == other.name)


def staleness(original: Path, record: Provenance | None) -> tuple[str, ...]:
    """A remark if the converted file was made from other bytes than the original has now."""
    if record is None:
        return ()
    if record.source != original.name:
        return (f"the converted file says it was made from '{record.source}'",)
    if record.sha256 != sha256_of(original):
        return (f"'{original.name}' has changed since it was converted",)
    return ()


def with_fixed_sizes(
    original: Model, shapes: Shapes, imports: Sequence[str]
) -> tuple[Model, str | None]:
    """The original at the sizes that a record says, and why that cannot be, if it cannot."""
    if not shapes:
        return original, None
    try:
        return open_model(original.path, imports, shapes), None
    except UsageError as error:
        return original, f"its record fixes sizes that the original does not have: {error}"


def changed_port(role: str, before: Sequence[Port], after: Sequence[Port]) -> str | None:
    """What is different about the inputs or outputs of two models, or ``None``."""
    names, others = [port.name for port in before], [port.name for port in after]
    if names != others:
        return f"the {role}s are {others}, not {names}"
    for old, new in zip(before, after, strict=True):
        if old.dtype != new.dtype:
            return f"the type of {role} '{old.name}' changed from {old.dtype} to {new.dtype}"
    return None
