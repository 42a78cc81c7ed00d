"""The verification of a folder: of every file in it that convfc made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convfc import arguments
from convfc.errors import ConvfcError, FileError
from convfc.formats.registry import provenance_of
from convfc.formats.suffixes import SUFFIXES
from convfc.refusals import Code
from convfc.system.surroundings import undisturbed
from convfc.text.visible import visible
from convfc.verification.verdict import Verdict
from convfc.verification.verify import Verification, verify


@undisturbed()
def verify_folder(
    folder: str | Path = ".",
    **options: Any,  # noqa: ANN401 - handed on to `verify` as they are
) -> list[Verification]:
    """Verify every file that convfc made in a folder.

    Args:
        folder: where to look; folders in it are not searched.
        options: those of `verify`.

    Returns:
        One result per file, by name; what could not be read or checked is a result too.

    Raises:
        FileError: there is no such file in the folder, or no such folder.
        UsageError: an argument of another kind.
    """
    arguments.verifying(**options)
    try:
        files = sorted(arguments.path("folder", folder).iterdir())
    except (OSError, ValueError) as error:  # the latter of names with NUL
        why = error.strerror if isinstance(error, OSError) else error
        named = visible(str(folder))
        raise FileError(f"{named}: cannot be read: {why}", code=Code.NO_FILE) from error
    results = []
    for path in files:
        if path.suffix.lower() not in SUFFIXES:
            continue
        original = path
        try:
            record = provenance_of(path)
            if record is None:
                continue
            original = path.with_name(record.source)
            results.append(verify(original, path, **options))
        except ConvfcError as error:
            # A file that cannot be read may be one that convfc made: it is not passed over.
            results.append(Verification(original, path, Verdict.COULD_NOT_CHECK, str(error)))
    if not results:
        why = f"{folder}: no model that convfc made"
        raise FileError(why, remedy="name the files to compare", code=Code.NO_PARTNER)
    return results
