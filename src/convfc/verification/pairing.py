"""Which file was made from which, and whether two models can be compared at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from convfc import arguments
from convfc.errors import FileError, UsageError
from convfc.formats.protocols import Model, Port
from convfc.formats.provenance import Provenance
from convfc.formats.reading import Reading
from convfc.formats.registry import default_out, open_model
from convfc.refusals import Code
from convfc.system.atomic import Unchanged, sha256_of


def opened_pair(
    first: Path,
    converted: str | Path | None,
    imports: Sequence[str],
    architecture: Path | None,
    unchanged: Unchanged,
) -> tuple[Model, Model]:
    """The original and what was made from it, whichever way round they are named, and watched.

    Args:
        first: one of the two files.
        converted: the other one; looked for if left out.
        imports: modules that register custom Keras classes.
        architecture: the network of an original that is weights alone, if its record is not to
            say which that is.
        unchanged: what watches the files.

    Raises:
        FileError: one cannot be read, or there is no second one.
        UnsupportedModelError: one cannot be loaded.
        UsageError: both are whole and need no architecture.
    """
    a = _opened_if_whole(first, imports)
    second = (
        partner(first, a.provenance if a else None)
        if converted is None
        else arguments.path("converted", converted)
    )
    unchanged.watch(second)
    b = _opened_if_whole(second, imports)
    if a and b:
        if architecture is not None:
            raise UsageError(f"{first}: is a whole model and needs no architecture")
    elif b:
        a = _opened_weights(first, b.provenance, imports, architecture)
    else:
        b = _opened_weights(second, a.provenance if a else None, imports, architecture)
        a = a or open_model(first, imports)
    unchanged.watch(*a.files, *b.files)
    return (b, a) if is_made_from(a.provenance, second, b.provenance) else (a, b)


def _opened_if_whole(path: Path, imports: Sequence[str]) -> Model | None:
    """A model; ``None`` if the file holds only weights of one."""
    try:
        return open_model(path, imports)
    except FileError as error:
        if error.code is not Code.WEIGHTS_ONLY:
            raise
        return None


def _opened_weights(
    path: Path, record: Provenance | None, imports: Sequence[str], architecture: Path | None
) -> Model:
    """Weights with the network that they belong to, which is given, or beside them by a record."""
    if architecture is None and record is not None and record.architecture is not None:
        architecture = path.with_name(record.architecture)
    return open_model(path, imports, Reading(architecture=architecture))


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


def are_siblings(original: Model, record: Provenance | None) -> bool:
    """Whether both files of a pair are converted, and neither was made from the other.

    Args:
        original: the first of the two.
        record: of the second.
    """
    if original.provenance is None or record is None:
        return False
    return record.source != original.path.name


def staleness(original: Model, record: Provenance | None) -> tuple[str, ...]:
    """Remarks if the converted file was made from other bytes than the original has now."""
    if record is None:
        return ()
    if are_siblings(original, record):
        return (
            "neither was made from the other: they are compared by what they were converted from",
        )
    path, architecture = original.path, original.reading.architecture
    if record.source != path.name:
        return (f"the converted file says it was made from '{record.source}'",)
    made_of = [(path, record.sha256)]
    if architecture is not None:
        made_of.append((architecture, record.architecture_sha256))
    return tuple(
        f"'{one.name}' has changed since it was converted"
        for one, known in made_of
        if known != sha256_of(one)
    )


def as_recorded(
    original: Model, record: Provenance | None, imports: Sequence[str]
) -> tuple[Model, str | None]:
    """The original read as a record says, and why that cannot be, if it cannot."""
    if record is None or are_siblings(original, record):
        return original, None
    reading = replace(record.reading(), architecture=original.reading.architecture)
    if reading == original.reading:
        return original, None
    try:
        read = open_model(original.path, imports, reading)
        changed = changed_port("input", original.inputs, read.inputs)
        changed = changed or changed_port("output", original.outputs, read.outputs)
        return read, None if changed is None else f"read as its record says, {changed}"
    except UsageError as error:
        what = "fixes sizes that the original does not have"
        return original, f"its record {what if record.shapes else 'is of another format'}: {error}"


def changed_port(role: str, before: Sequence[Port], after: Sequence[Port]) -> str | None:
    """What is different about the inputs or outputs of two models, or ``None``."""
    names, others = [port.name for port in before], [port.name for port in after]
    if names != others:
        return f"the {role}s are {others}, not {names}"
    for old, new in zip(before, after, strict=True):
        if old.dtype != new.dtype:
            return f"the type of {role} '{old.name}' changed from {old.dtype} to {new.dtype}"
    return None
