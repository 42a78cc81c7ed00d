"""The verification: is the converted model the same function, and what does a user see of it?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convfc import arguments
from convfc.errors import UnsupportedModelError
from convfc.formats.protocols import Model
from convfc.formats.shapes import Shapes
from convfc.gates import gated
from convfc.samples.batches import Feeds
from convfc.samples.pixels import Pixels
from convfc.system.atomic import Unchanged
from convfc.system.surroundings import undisturbed
from convfc.text.shown import Shown
from convfc.verification.counterpart import Counterpart, Runs, counterpart
from convfc.verification.differences import OutputDifference
from convfc.verification.end_to_end import (
    RefusedError,
    Seen,
    against_float64,
    compare,
    contradictions,
    looked_closer,
    random_feeds,
)
from convfc.verification.feeding import feeds_of
from convfc.verification.layer_proofs import Means
from convfc.verification.pairing import as_recorded, changed_port, opened_pair, staleness
from convfc.verification.parting import Compared, Parting, part
from convfc.verification.proof import LayerProof
from convfc.verification.siblings import prove_pair
from convfc.verification.verdict import (
    Contradiction,
    Verdict,
    conclude,
    telling_nothing,
    within_tolerance,
)


@dataclass(frozen=True, repr=False)
class Verification(Shown):
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
        notes: what else is to be said, a sentence each.
        remarks: those of the notes that are on what no runtime reads, or on training only.
        quick: whether the proof was left out.
        shapes: by the name of an input, the sizes that it was fixed to by the conversion: the
            verdict is about these.
        differences: everything that differs outside of the converted layers, a sentence each: the
            reason names one.
        remedies: options that may help where no sample could be run; else empty.
        parting: what the layers of both make, if that was asked for and can be seen.
        seconds: what it took.
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
    remarks: tuple[str, ...] = ()
    quick: bool = False
    shapes: Shapes = field(default_factory=dict)
    differences: tuple[str, ...] = ()
    remedies: str = ""
    parting: Parting | None = None
    seconds: float = field(default=0.0, compare=False)

    @property
    def equivalent(self) -> bool:
        """Whether the verdict is EQUIVALENT."""
        return self.verdict is Verdict.EQUIVALENT

    @property
    def hidden(self) -> Compared | None:
        """The first tensor that differs by more than the tolerance, where no output does."""
        first = None if self.parting is None else self.parting.first
        if first is None or any(out.reason is not None for out in self.outputs):
            return None
        return None if first.tensor.name in {out.name for out in self.outputs} else first


@undisturbed()
@gated
def verify(
    original: str | Path,
    converted: str | Path | None = None,
    *,
    data: str | Path = "mnist",
    samples: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    inputs: Mapping[str, str | Path | float | NDArray[Any]] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    quick: bool = False,
    layers: bool = False,
    scale: float = 1.0,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    seed: int = 0,
    architecture: str | Path | None = None,
    imports: Sequence[str] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> Verification:
    """Show that two model files are the same function, and run the same samples through both.

    A file that convfc made is proved layer by layer (see `verification.proof`), and everything
    else in it is compared with the original. With a tolerance, or for two files of which convfc
    made neither, the outputs are compared on the samples instead.

    Args:
        original: the file that was converted; or, alone, either of the two.
        converted: the file made from it; found from its record or its default name if left out.
        data: "mnist" for the test images that come with convfc, or a file or folder of samples.
        samples: how many of them, at most; 100 if left out, and fewer where that would take long.
        shapes: the whole shape of an input, by its name, where the model leaves sizes open.
        inputs: what to feed an input, by its name: a file, a number or an array.
        rtol: tolerated difference relative to the original's value; by element type if left out.
        atol: tolerated absolute difference; from rtol and the output's magnitude if left out.
        quick: leave out the draws of random integers, and with them the proof.
        layers: compare what the layers of both make as well, to find where they part. Where they
            do, and no output does, only a proof makes them equivalent.
        scale: what the pixels of images, 0..1, are multiplied with, for inputs of real numbers.
        mean: is then taken away: one number, or one for each channel, red first.
        std: what the rest is divided by, likewise.
        seed: of the draws.
        architecture: the network of an original that is weights alone; found from the record of
            the file made from it if left out.
        imports: modules that register custom Keras classes; looked for in the current folder, too.
        progress: called with a few words whenever something new begins.

    Returns:
        The verdict and all figures; nothing is printed.

    Raises:
        FileError: one of the files cannot be read or changes meanwhile, or there is no second one.
        UnsupportedModelError: one of the models cannot be loaded or run.
        DataError: the samples cannot be read or do not fit.
        UsageError: no sample is wanted, a tolerance is no finite number of at least 0, or an
            argument of another kind.
    """
    arguments.verifying(
        data=data, samples=samples, shapes=shapes, inputs=inputs, rtol=rtol, atol=atol, seed=seed
    )
    pixels = Pixels(*arguments.pixels(scale, mean, std))
    began = perf_counter()
    unchanged = Unchanged(Path(original))
    beside = None if architecture is None else arguments.path("architecture", architecture)
    a, b = opened_pair(Path(original), converted, imports, beside, unchanged)
    fixed: Shapes = {} if b.provenance is None else b.provenance.shapes
    across = None if type(a) is type(b) else counterpart(a, b)
    changed, misfit = across if isinstance(across, str) else None, None
    if across is None:
        # Those of the file, however it is read then.
        changed = changed_port("input", a.inputs, b.inputs)
        changed = changed or changed_port("output", a.outputs, b.outputs)
        a, misfit = as_recorded(a, b.provenance, imports)
    of_files = _of_files(a, b)
    remarks: Sequence[str] = ()
    feeds = None
    if (changed is None and misfit is None) or layers:
        given = {"data": data, "shapes": shapes, "inputs": inputs, "pixels": pixels}
        feeds, remarks = feeds_of(a, samples, **given)
    if changed is not None:
        found = Verification(a.path, b.path, Verdict.NOT_EQUIVALENT, changed)
    elif misfit is not None or feeds is None:
        found = Verification(a.path, b.path, Verdict.COULD_NOT_CHECK, misfit)
    elif isinstance(across, Counterpart):
        remarks = [*remarks, *across.said]
        found = _compared(a, across, feeds, rtol, atol, progress)
    elif b.provenance is None or rtol is not None or atol is not None:
        found = _compared(a, b, feeds, rtol, atol, progress)
    else:
        found = _proved(a, b, Means(feeds, np.random.default_rng(seed), quick, progress, imports))
    if layers and feeds is not None:
        found = _parted(a, b, feeds, found, rtol, atol, progress)
    unchanged.check("verified")  # or its parts may be of one file and of another
    notes = (*of_files, *remarks, *found.notes)
    return replace(found, notes=notes, shapes=fixed, seconds=perf_counter() - began)


def _of_files(a: Model, b: Model) -> list[str]:
    """Remarks on the two files, before anything is run."""
    same = [f"'{a.path.name}' was compared with itself"] if a.path.samefile(b.path) else []
    name = a.path.name
    read = [f"What is affine in '{name}' was read as convolutions"] if a.reading.affine else []
    return [*a.notes, *staleness(a, b.provenance), *same, *read]


def _compared(
    a: Model,
    b: Runs,
    feeds: Feeds,
    rtol: float | None,
    atol: float | None,
    progress: Callable[[str], None],
) -> Verification:
    """The verdict within a tolerance: of the samples alone."""
    try:
        seen = compare(a, b, feeds, progress, rtol, atol)
    except RefusedError as error:
        raise UnsupportedModelError(_with_remedy(str(error), feeds), code=error.code) from error
    verdict, reason = within_tolerance(seen.outputs)
    notes = tuple(telling_nothing(seen.outputs))
    seen = against_float64(a, b, feeds, seen, progress)
    return Verification(a.path, b.path, verdict, reason, notes=notes, **vars(seen))


def _parted(
    a: Model,
    b: Model,
    feeds: Feeds,
    found: Verification,
    rtol: float | None,
    atol: float | None,
    progress: Callable[[str], None],
) -> Verification:
    """What is found, and what the layers make; ports of other names are those of the same place."""
    alike = changed_port("input", a.inputs, b.inputs) is None and type(a) is type(b)
    other = b if alike else counterpart(a, b)
    if isinstance(other, str):
        return found
    try:
        across = type(a) is not type(b)
        parting = part(a, other, feeds, found.outputs, rtol, atol, progress, across=across)
    except UnsupportedModelError as error:
        return replace(found, notes=(*found.notes, f"The layers could not be compared: {error}"))
    found = replace(found, parting=parting)
    if found.hidden is None or found.proved or not found.equivalent:
        return found
    # Outputs may hide it: a softmax that saturates, a ReLU, a largest number.
    reason = (
        f"the outputs agree, but not '{found.hidden.tensor.name}' inside: "
        f"{found.hidden.difference.reason}; other samples may tell more: --data, --input"
    )
    return replace(found, verdict=Verdict.COULD_NOT_CHECK, reason=reason)


def _proved(a: Model, b: Model, by: Means) -> Verification:
    """The verdict of the proof, unless the samples contradict it."""
    feeds, quick, progress = by.feeds, by.quick, by.progress
    alignment, layers, of_layers = prove_pair(a, b, by)
    seen, refused, of_samples = _on_samples(a, b, feeds, progress)
    closer = looked_closer(a, b, feeds, seen, progress)
    against = contradictions(a, closer)
    seen_too: list[Contradiction] = []
    for others in random_feeds(a, feeds, by.random) if a.rewritten and refused is None else ():
        with suppress(RefusedError):
            on_random = _seen(a, b, others, progress)
            found = contradictions(a, looked_closer(a, b, others, on_random, progress)).values()
            seen_too += [replace(one, what=f"on random numbers, {one.what}") for one in found]
    contradicting = [*against.values(), *seen_too]
    verdict, reason = conclude(alignment, layers, contradicting, _agreement(seen), refused)
    if quick and verdict is Verdict.EQUIVALENT and not seen.samples:
        verdict, reason = Verdict.COULD_NOT_CHECK, "a quick look proves nothing without a sample"
    names = {out.name for out in closer.outputs}
    not_judged = [
        f"output '{out.name}' was not judged: the original draws other numbers for it each time"
        for out in seen.outputs
        if out.name not in names
    ]
    told = (*of_layers, *of_samples, *not_judged, *telling_nothing(seen.outputs))
    seen = replace(seen, outputs=tuple(_marked(out, against) for out in seen.outputs))
    return Verification(
        a.path,
        b.path,
        verdict,
        reason,
        proved=not quick and verdict is not Verdict.COULD_NOT_CHECK,
        quick=quick,
        layers=layers,
        notes=(*alignment.remarks, *told),
        remarks=alignment.remarks,
        differences=(*alignment.differences, *alignment.unknown),
        remedies="" if seen.samples else feeds.remedies,
        **vars(seen),
    )


def _on_samples(
    a: Model, b: Model, feeds: Feeds, progress: Callable[[str], None]
) -> tuple[Seen, str | None, list[str]]:
    """What both make of the samples, why only the original runs, and remarks."""
    try:
        seen = _seen(a, b, feeds, progress)
        return seen, None, [note for model in (a, b) for note in model.cautions(feeds.few(1)[0])]
    except RefusedError as error:
        # The layers of a converted model may be right, and yet nobody can use it.
        refused = None if error.original else str(error)
        why = _with_remedy(str(error), feeds) if error.original else str(error)
        return Seen(feeds.said), refused, [f"The samples could not be run through both: {why}"]


def _seen(a: Model, b: Model, feeds: Feeds, progress: Callable[[str], None]) -> Seen:
    """How far both are from each other, and from float64.

    Raises:
        RefusedError: one of them cannot be run.
    """
    seen = compare(a, b, feeds, progress, judged=False)
    return against_float64(a, b, feeds, seen, progress)


def _marked(out: OutputDifference, against: Mapping[str, Contradiction]) -> OutputDifference:
    """An output with what it contradicts, if it does."""
    found = against.get(out.name)
    return out if found is None else replace(out, reason=found.what, witness=found.witness)


def _with_remedy(error: str, feeds: Feeds) -> str:
    """What a runtime says, and the options that may help."""
    return f"{error}; other inputs may do: {feeds.remedies}" if feeds.remedies else error


def _agreement(seen: Seen) -> str:
    if not seen.samples:
        return "no sample could be run through both"
    largest = max((out.max_abs for out in seen.outputs), default=0.0)
    return f"{seen.samples} samples agree within {largest:.3g}"
