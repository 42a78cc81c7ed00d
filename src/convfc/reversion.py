"""The way back: a converted file in, a file with its convolutions again out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from convfc import arguments
from convfc._version import __version__
from convfc.errors import ConversionError, UsageError
from convfc.formats.provenance import LayerRecord, Provenance
from convfc.formats.registry import (
    data_names,
    default_reverted,
    open_model,
    open_reverting,
    provenance_of,
)
from convfc.formats.reverted import WayBack
from convfc.gates import gate, naming
from convfc.planning import Fate, asked_for
from convfc.refusals import Code
from convfc.system.atomic import Unchanged, sha256_of, staging, writing
from convfc.system.surroundings import undisturbed
from convfc.targets import check_target, target_of
from convfc.text.shown import Shown
from convfc.verification.inspection import Look, look
from convfc.verification.verify import Verification
from convfc.verification.verify import verify as verify_files


@dataclass(frozen=True)
class RevertedLayer:
    """One converted layer and what became of it.

    Attributes:
        way: the layer, and whether it has a way back.
        fate: reverted, left or skipped.
    """

    way: WayBack
    fate: Fate


@dataclass(frozen=True, repr=False)
class Reversion(Shown):
    """What `revert` did.

    Attributes:
        source: the converted file.
        out: where the reverted file is, or would have been.
        written: whether it is there.
        layers: every converted layer, in the order of the record.
        notes: remarks, a sentence each.
        verification: the comparison of both files, if one was asked for and got made.
        look: what was seen of the reverted file before it was published, if that was looked at.
    """

    source: Path
    out: Path
    written: bool
    layers: tuple[RevertedLayer, ...]
    notes: tuple[str, ...] = ()
    verification: Verification | None = None
    look: Look | None = None

    @property
    def complete(self) -> bool:
        """Whether everything that was asked for is a convolution again (and verified)."""
        left = any(layer.fate is Fate.LEFT for layer in self.layers)
        return self.written and not left


def revert(
    model: str | Path,
    out: str | Path | None = None,
    *,
    like: str | Path | None = None,
    only: str | Sequence[str] = (),
    skip: str | Sequence[str] = (),
    partial: bool = False,
    force: bool = False,
    verify: bool = False,
    imports: Sequence[str] = (),
) -> Reversion:
    """Turn the layers of a converted file back into convolutions and save the result.

    Their numbers are those that are in the file now, whoever has changed them since.

    Args:
        model: a file that convfc made.
        out: the file to write, of the same format, or a folder to write it in; beside `model` and
            with `_conv` instead of `_fc` in its name when left out. A file that convfc made is
            replaced.
        like: the original, where the record of `model` does not tell what that looked like, as
            that of an older convfc, or is lost, as when Keras has saved the file again; looked
            for beside `model` when left out, if there is a record.
        only: patterns of layer names to revert (`*`, `?` and `[..]` as in a shell), or one of
            them; all when empty.
        skip: patterns of layer names to leave as they are.
        partial: write the file even if some layers must be left.
        force: replace `out` even if convfc did not make it.
        verify: prove the result instead of a look, and run MNIST samples through both files;
            write nothing if they differ.
        imports: modules that register custom Keras classes; looked for in the current folder, too.

    Returns:
        What was done; nothing is printed.

    Raises:
        FileError: `model` cannot be read or was not made by convfc, or `out` cannot be written.
        UnsupportedModelError: `model` holds something that convfc cannot load.
        ConversionError: the result is another function than `model`; nothing was written.
        UsageError: arguments of another kind, or a pattern that matches nothing.
    """
    with reverting(
        model,
        out,
        like=like,
        only=only,
        skip=skip,
        partial=partial,
        force=force,
        verify=verify,
        imports=imports,
    ) as done:
        return done


@contextmanager
def reverting(
    model: str | Path,
    out: str | Path | None = None,
    *,
    like: str | Path | None = None,
    only: str | Sequence[str] = (),
    skip: str | Sequence[str] = (),
    partial: bool = False,
    force: bool = False,
    verify: bool = False,
    imports: Sequence[str] = (),
) -> Iterator[Reversion]:
    """`revert` in two steps: the file appears when the block ends, and not at all if it raises.

    Yields what will have been done by then. Arguments and what is raised are those of `revert`.
    """
    with undisturbed(), gate(model):
        source = arguments.path("model", model)
        target = target_of(source, out, default_reverted, force)
        unchanged = Unchanged(source)
        given = None if like is None else arguments.path("like", like)
        record = _record(source)
        opened = open_reverting(source, record, given or _beside(source, record), imports)
        unchanged.watch(*opened.files)
        wanted = asked_for([way.site.name for way in opened.layers], only, skip)
        layers = tuple(RevertedLayer(way, _fate(way, wanted)) for way in opened.layers)
        done = Reversion(source, target, False, layers)
        if not partial and any(layer.fate is Fate.LEFT for layer in layers):
            yield done
            return
        names = {one.way.site.name for one in layers if one.fate is Fate.REVERTED}
        verification = seen = None
        with staging(target, data_names) as stage:
            with writing(target), naming(target, stage.path):
                rest = [way for way in opened.layers if way.site.name not in names]
                notes = opened.save(stage.path, names, _recorded(source, record, given, rest))
                if verify:
                    checked = verify_files(source, stage.path, imports=imports)
                    if checked.original == stage.path:
                        verification = replace(checked, original=target)
                    else:  # the other one has no record that tells which is which
                        verification = replace(checked, converted=target)
                else:
                    # Layers of what is half converted have no pair in what is converted whole.
                    whole = len(names) == len(layers)
                    reverted = open_model(stage.path, imports, opened.reading)
                    seen = look(reverted, source, imports, by_layers=whole)
            unchanged.check("reverted")
            if seen is not None and seen.problem is not None:
                raise ConversionError(
                    f"{source}: nothing written, as the reverted model is not the same function: "
                    f"{seen.problem.replace(str(stage.path), str(target))}",
                    "Please report this as a fault of convfc",
                    code=Code.DIFFERS,
                )
            equivalent = verification is None or verification.equivalent
            yield replace(
                done,
                written=equivalent,
                notes=tuple(notes),
                verification=verification,
                look=seen,
            )
            if equivalent:
                stage.publish(lambda: check_target(source, target, force), keep=opened.files)


def _record(source: Path) -> Provenance | None:
    """The record of a converted file, if it has one.

    Raises:
        UsageError: nothing in the file is converted any more.
    """
    record = provenance_of(source)
    if record is not None and record.reverted:
        raise UsageError(f"{source}: was made by revert: there are convolutions in it again")
    return record


def _beside(source: Path, record: Provenance | None) -> Path | None:
    """The original, if it is beside the file and needed.

    What several layers are in one matrix, it alone tells.
    """
    if record is None or (record.outline and not record.affine):
        return None
    beside = source.with_name(record.source)
    if not beside.is_file() or sha256_of(beside) != record.sha256:
        return None
    return beside


def _fate(way: WayBack, wanted: frozenset[str]) -> Fate:
    if way.site.name not in wanted:
        return Fate.SKIPPED
    return Fate.REVERTED if way.refusal is None else Fate.LEFT


def _recorded(
    source: Path, record: Provenance | None, like: Path | None, rest: Sequence[WayBack]
) -> str:
    """What the reverted file says of itself: where it is from, and what is converted still."""
    if not rest:
        return Provenance(source.name, sha256_of(source), __version__, (), reverted=True).to_json()
    if record is None:
        assert like is not None  # noqa: S101 - `open_reverting` wants one of the two
        found = [(way.site.name, way.lowering) for way in rest if way.lowering is not None]
        layers = tuple(LayerRecord.of(name, lowering) for name, lowering in found)
        return Provenance(like.name, sha256_of(like), __version__, layers).to_json()
    names = {way.site.name for way in rest}
    layers = tuple(layer for layer in record.layers if layer.name in names)
    return replace(record, layers=layers).to_json()
