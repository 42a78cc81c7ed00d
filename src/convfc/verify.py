"""The verification: the same samples through two model files, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from convfc.differences import Comparison, OutputDifference
from convfc.errors import ConvfcError, FileError, UsageError
from convfc.formats import Format, default_out, open_model, provenance_of
from convfc.model import Port, Site
from convfc.planning import plan
from convfc.provenance import Provenance
from convfc.samples import make_feeds
from convfc.writing import sha256_of


class Verdict(str, Enum):
    """What a verification found."""

    EQUIVALENT = "equivalent"
    NOT_EQUIVALENT = "not equivalent"
    COULD_NOT_CHECK = "could not check"


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        original: the file that was converted.
        converted: the file made from it.
        verdict: the answer.
        reason: why it is not "equivalent", or ``None``.
        outputs: the differences, output by output.
        samples: how many samples went through both.
        fed: what they were, a line per input.
        notes: remarks, a sentence each.
    """

    original: Path
    converted: Path
    verdict: Verdict
    reason: str | None = None
    outputs: tuple[OutputDifference, ...] = ()
    samples: int = 0
    fed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def equivalent(self) -> bool:
        """Whether the verdict is EQUIVALENT."""
        return self.verdict is Verdict.EQUIVALENT


def verify(
    original: str | Path,
    converted: str | Path | None = None,
    *,
    data: str | Path = "mnist",
    samples: int = 100,
    shapes: Mapping[str, Sequence[int]] | None = None,
    inputs: Mapping[str, str | Path | float | NDArray[Any]] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    imports: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Run the same samples through two model files and compare every output.

    Args:
        original: the file that was converted; or, alone, either of the two.
        converted: the file made from it; found from its record or its default name if left out.
        data: "mnist" for the test images that come with convfc, or a file or folder of samples.
        samples: how many of them, at most.
        shapes: the whole shape of an input, by its name, where the model leaves sizes open.
        inputs: what to feed an input, by its name: a file, a number or an array.
        rtol: tolerated difference relative to the original's value; by element type if left out.
        atol: tolerated absolute difference; from rtol and the output's magnitude if left out.
        imports: modules that register custom Keras classes; looked for in the current folder, too.
        progress: called with the number of samples done and of all.

    Returns:
        The differences and the verdict; nothing is printed.

    Raises:
        FileError: one of the files cannot be read, or there is no second one.
        UnsupportedModelError: one of the models cannot be loaded or run.
        DataError: the samples cannot be read or do not fit.
    """
    first, second = pair(Path(original), None if converted is None else Path(converted))
    if samples < 1:
        raise UsageError(f"{samples} samples prove nothing; give at least 1")
    a, b = open_model(first, imports), open_model(second, imports)
    notes = (*a.notes, *_staleness(first, b.provenance))
    changed = _changed_port("input", a.inputs, b.inputs)
    changed = changed or _changed_port("output", a.outputs, b.outputs)
    if changed is not None:
        return Verification(first, second, Verdict.NOT_EQUIVALENT, changed, notes=notes)
    feeds = make_feeds(
        a.inputs,
        data=data,
        samples=samples,
        shapes=shapes,
        inputs=inputs,
        row_bytes=_row_bytes(a.sites),
    )
    comparisons = {port.name: Comparison(port.name, rtol, atol) for port in a.outputs}
    done = 0
    for feed in feeds.batches():
        expected, got = a.run(feed), b.run(feed)
        for name, comparison in comparisons.items():
            comparison.add(expected[name], got[name])
        done = min(done + feeds.rows_per_batch, feeds.rows)
        if progress is not None:
            progress(done, feeds.rows)
    outputs = tuple(comparison.result() for comparison in comparisons.values())
    reason = next((f"output '{out.name}': {out.reason}" for out in outputs if out.reason), None)
    verdict = Verdict.EQUIVALENT if reason is None else Verdict.NOT_EQUIVALENT
    return Verification(first, second, verdict, reason, outputs, done, feeds.said, notes)


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
        FileError: there is no such file in the folder.
    """
    suffixes = {suffix for kind in Format for suffix in kind.value}
    files = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in suffixes)
    results = []
    for path in files:
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
        raise FileError(f"{folder}: no model that convfc made; name the files to compare")
    return results


def pair(first: Path, second: Path | None) -> tuple[Path, Path]:
    """The original and the converted file, whichever was given.

    Raises:
        FileError: the other one is nowhere to be found.
    """
    if second is not None:
        return first, second
    record = provenance_of(first)
    if record is not None:
        original = first.with_name(record.source)
        if not original.exists():
            raise FileError(f"{first}: was made from '{record.source}', which is not beside it")
        return original, first
    converted = default_out(first)
    if not converted.exists():
        raise FileError(
            f"{first}: there is no '{converted.name}' beside it; "
            "convert it first or name the converted file"
        )
    return first, converted


def _row_bytes(sites: Sequence[Site]) -> int:
    """The most bytes that one sample's patches can take in the converted model."""
    sizes = [
        layer.lowering.block_bytes(layer.site.itemsize)
        for layer in plan(sites)
        if layer.lowering is not None
    ]
    return max((size for size in sizes if size is not None), default=0)


def _staleness(original: Path, record: Provenance | None) -> tuple[str, ...]:
    """A remark if the converted file was made from other bytes than the original has now."""
    if record is None:
        return ()
    if record.source != original.name:
        return (f"the converted file says it was made from '{record.source}'",)
    if record.sha256 != sha256_of(original):
        return (f"'{original.name}' has changed since it was converted",)
    return ()


def _changed_port(role: str, before: Sequence[Port], after: Sequence[Port]) -> str | None:
    """What is different about the inputs or outputs of two models, or ``None``."""
    names, others = [port.name for port in before], [port.name for port in after]
    if names != others:
        return f"the {role}s are {others}, not {names}"
    for old, new in zip(before, after, strict=True):
        if old.dtype != new.dtype:
            return f"the type of {role} '{old.name}' changed from {old.dtype} to {new.dtype}"
    return None
