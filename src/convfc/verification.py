"""The verification: is the converted model the same function, and what does a user see of it?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convfc.differences import OutputDifference
from convfc.endtoend import FEW, Seen, against_float64, compare
from convfc.errors import ConvfcError, FileError, UnsupportedModelError, UsageError
from convfc.formats import Format, default_out, open_model, provenance_of
from convfc.model import Alignment, Model, Port, Site, Twin
from convfc.planning import plan
from convfc.proof import LayerProof, prove
from convfc.provenance import Provenance
from convfc.samples import BATCH_BYTES, Feeds, make_feeds
from convfc.writing import sha256_of


class Verdict(StrEnum):
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
        proved: whether the verdict is about all inputs; otherwise samples were compared within a
            tolerance, which proves nothing.
        layers: what is known about each converted layer; empty if nothing was to be proved.
        outputs: the differences, output by output.
        samples: how many samples went through both.
        float64_samples: how many of them went through the original in float64 as well.
        float64_missing: why none did, or ``None``.
        fed: what the samples were, a line per input.
        notes: remarks, a sentence each.
    """

    original: Path
    converted: Path
    verdict: Verdict
    reason: str | None = None
    proved: bool = False
    layers: tuple[LayerProof, ...] = ()
    outputs: tuple[OutputDifference, ...] = ()
    samples: int = 0
    float64_samples: int = 0
    float64_missing: str | None = None
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
    quick: bool = False,
    seed: int = 0,
    imports: Sequence[str] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> Verification:
    """Show that two model files are the same function, and run the same samples through both.

    A file that convfc made is proved layer by layer (see `convfc.proof`), and everything else in
    it is compared with the original. With a tolerance, or for two files of which convfc made
    neither, the outputs are compared on the samples instead.

    Args:
        original: the file that was converted; or, alone, either of the two.
        converted: the file made from it; found from its record or its default name if left out.
        data: "mnist" for the test images that come with convfc, or a file or folder of samples.
        samples: how many of them, at most.
        shapes: the whole shape of an input, by its name, where the model leaves sizes open.
        inputs: what to feed an input, by its name: a file, a number or an array.
        rtol: tolerated difference relative to the original's value; by element type if left out.
        atol: tolerated absolute difference; from rtol and the output's magnitude if left out.
        quick: leave out the draws of random integers, and with them the proof.
        seed: of the draws.
        imports: modules that register custom Keras classes; looked for in the current folder, too.
        progress: called with a few words whenever something new begins.

    Returns:
        The verdict and all figures; nothing is printed.

    Raises:
        FileError: one of the files cannot be read, or there is no second one.
        UnsupportedModelError: one of the models cannot be loaded or run.
        DataError: the samples cannot be read or do not fit.
        UsageError: no sample is wanted.
    """
    if samples < 1:
        raise UsageError(f"{samples} samples prove nothing; give at least 1")
    first = Path(original)
    a = open_model(first, imports)
    second = _partner(first, a.provenance) if converted is None else Path(converted)
    b = open_model(second, imports)
    if _is_made_from(a.provenance, second, b.provenance):
        (first, a), (second, b) = (second, b), (first, a)  # named the other way round
    notes = [*a.notes, *_staleness(first, b.provenance)]

    def result(verdict: Verdict, reason: str | None = None, **found: Any) -> Verification:  # noqa: ANN401 - fields of any type
        return Verification(first, second, verdict, reason, notes=tuple(notes), **found)

    changed = _changed_port("input", a.inputs, b.inputs)
    changed = changed or _changed_port("output", a.outputs, b.outputs)
    if changed is not None:
        return result(Verdict.NOT_EQUIVALENT, changed)
    feeds = make_feeds(
        a.inputs,
        data=data,
        samples=samples,
        shapes=shapes,
        inputs=inputs,
        row_bytes=_row_bytes(a.sites),
    )
    if b.provenance is None or rtol is not None or atol is not None:
        seen = compare(a, b, feeds, progress, rtol, atol)
        wrong = next((out for out in seen.outputs if out.reason is not None), None)
        reason = None if wrong is None else f"output '{wrong.name}': {wrong.reason}"
        verdict = Verdict.EQUIVALENT if reason is None else Verdict.NOT_EQUIVALENT
        seen = against_float64(a, b, feeds, seen, progress)
        return result(verdict, reason, **vars(seen))

    alignment, layers = _prove(a, b, feeds, np.random.default_rng(seed), quick, notes, progress)
    verdict, reason = _judge(alignment, layers)
    seen = Seen(feeds.said)
    try:
        seen = compare(a, b, feeds, progress, judged=False)
        seen = against_float64(a, b, feeds, seen, progress)
    except UnsupportedModelError as error:
        notes.append(f"The samples could not be run through both: {error}")
        if verdict is Verdict.EQUIVALENT and _runs(a, feeds):
            # Its layers are right, but nobody can use it.
            verdict, reason = Verdict.COULD_NOT_CHECK, f"only the original runs: {error}"
    return result(verdict, reason, proved=not quick, layers=layers, **vars(seen))


def _runs(model: Model, feeds: Feeds) -> bool:
    """Whether a model runs on the samples at all."""
    try:
        model.run(feeds.few(1)[0])
    except UnsupportedModelError:
        return False
    return True


def _prove(
    a: Model,
    b: Model,
    feeds: Feeds,
    random: np.random.Generator,
    quick: bool,
    notes: list[str],
    progress: Callable[[str], None],
) -> tuple[Alignment, tuple[LayerProof, ...]]:
    """What differs outside the converted layers, and what is known about each of them."""
    progress("comparing what was not converted")
    alignment = a.align(b)
    twins = list(alignment.twins)
    notes.extend(alignment.remarks)
    alignment = replace(
        alignment, twins=()
    )  # a layer that is proved may go, with all copies of its weights
    few, rows = feeds.few(FEW)
    count = len(twins)
    layers: list[LayerProof] = []
    runs = True
    while twins:
        group = [twins.pop(0) for _ in range(_fitting(twins, rows))]
        activations: Mapping[str, NDArray[Any]] = {}
        try:
            if runs:
                activations = a.activations(few, [twin.site.name for twin in group])
        except UnsupportedModelError as error:
            runs = False
            notes.append(f"The original cannot run as a whole, so it fed no layers: {error}")
        while group:
            twin = group.pop(0)
            name = twin.site.name
            progress(f"layer {len(layers) + 1} of {count}: {name}")
            layers.append(prove(twin, activations.get(name), random, quick=quick))
    return alignment, tuple(layers)


def _fitting(twins: Sequence[Twin], rows: int) -> int:
    """How many of the layers, one at least, may have their activations in memory at once."""
    total = 0
    for number, twin in enumerate(twins):
        # Sizes that are not known are not counted.
        total += math.prod(size or 1 for size in twin.input_shape) * rows * twin.site.itemsize
        if total > BATCH_BYTES:
            return max(number, 1)
    return len(twins)


def _judge(alignment: Alignment, layers: Sequence[LayerProof]) -> tuple[Verdict, str | None]:
    """The verdict of a proof and its reason."""
    wrong = next((layer for layer in layers if layer.reason is not None), None)
    if wrong is not None:
        return Verdict.NOT_EQUIVALENT, f"layer '{wrong.name}': {wrong.reason}"
    outside = "outside the converted layers"
    if alignment.differences:
        return Verdict.NOT_EQUIVALENT, f"{outside}: {_first_of(alignment.differences)}"
    unknown = next((layer for layer in layers if layer.unchecked is not None), None)
    if unknown is not None:
        return Verdict.COULD_NOT_CHECK, f"layer '{unknown.name}': {unknown.unchecked}"
    if alignment.unknown:
        reason = f"{outside}, its structure is not known: {_first_of(alignment.unknown)}"
        return Verdict.COULD_NOT_CHECK, reason
    return Verdict.EQUIVALENT, None


def _first_of(phrases: Sequence[str]) -> str:
    more = f" (and {len(phrases) - 1} more)" if len(phrases) > 1 else ""
    return f"{phrases[0]}{more}"


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


def _partner(path: Path, record: Provenance | None) -> Path:
    """The file to compare with, whichever of the two was given.

    Raises:
        FileError: it is nowhere to be found.
    """
    if record is not None:
        original = path.with_name(record.source)
        if not original.exists():
            raise FileError(f"{path}: was made from '{record.source}', which is not beside it")
        return original
    converted = default_out(path)
    if not converted.exists():
        raise FileError(
            f"{path}: there is no '{converted.name}' beside it; "
            "convert it first or name the converted file"
        )
    return converted


def _is_made_from(record: Provenance | None, other: Path, others: Provenance | None) -> bool:
    """Whether a file's record says that it was made from the other one."""
    return record is not None and (others is None or record.source == other.name)


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
