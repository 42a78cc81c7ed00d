"""The conversion: a model file in, a file without convolutions out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar, overload

from convfc import arguments
from convfc._version import __version__
from convfc.clients import Client, client_named
from convfc.core.lowering import PatchMethod
from convfc.core.whole import Form, MaxPool
from convfc.errors import ConversionError, ConvfcError, UnsupportedModelError, UsageError
from convfc.formats.draft import Draft
from convfc.formats.forms import DEFAULT, Forms
from convfc.formats.inner import LayerOutput
from convfc.formats.provenance import LayerRecord, Provenance
from convfc.formats.reading import Reading
from convfc.formats.registry import data_names, default_out, open_model, put, taken
from convfc.formats.shapes import Shapes
from convfc.gates import gate, naming
from convfc.planning import Fate, Layer, plan
from convfc.refusals import Code
from convfc.system.atomic import Unchanged, sha256_of, staging, temporary_folder, writing
from convfc.system.surroundings import undisturbed
from convfc.targets import check_target, target_of
from convfc.text.shown import Shown
from convfc.text.sizes import shapes_text
from convfc.text.visible import visible
from convfc.verification.inspection import Look, look
from convfc.verification.verify import Verification
from convfc.verification.verify import verify as verify_files

ModelT = TypeVar("ModelT")


@dataclass(frozen=True, repr=False)
class Conversion(Shown):
    """What `convert` did.

    Attributes:
        source: the original file.
        out: where the converted file is, or would have been.
        written: whether it is there.
        layers: every convolution, in the order of execution.
        notes: remarks, a sentence each.
        client: whom it was made for, if for anybody.
        shapes: what inputs were fixed to, by name.
        form: what convolutions became.
        draft: of a dry run, what would have been written: the layers are those of a plan.
        verification: the comparison of both files, if one was asked for and got made.
        look: what was seen of the converted file before it was published, if that was looked at.
    """

    source: Path
    out: Path
    written: bool
    layers: tuple[Layer, ...]
    notes: tuple[str, ...] = ()
    verification: Verification | None = None
    look: Look | None = None
    client: str | None = None
    shapes: Shapes = field(default_factory=dict)
    form: Form = Form.PATCHES
    draft: Draft | None = None

    @property
    def complete(self) -> bool:
        """Whether everything that was asked for was converted (and verified), or can be."""
        left = any(layer.fate is Fate.LEFT for layer in self.layers)
        return (self.written or self.draft is not None) and not left


@overload
def convert(
    model: str | Path,
    out: str | Path | None = None,
    *,
    form: Form | str | None = None,
    dense_limit: int | None = None,
    max_pool: MaxPool | str | None = None,
    flat_io: bool = False,
    patches: PatchMethod | str = PatchMethod.AUTO,
    patch_memory: int | None = None,
    only: str | Sequence[str] = (),
    skip: str | Sequence[str] = (),
    shapes: Shapes | None = None,
    client: str | None = None,
    partial: bool = False,
    force: bool = False,
    check: bool = True,
    verify: bool = False,
    freeze_weights: bool = False,
    keep_keras2_numbers: bool = False,
    architecture: str | Path | None = None,
    imports: Sequence[str] = (),
    dry_run: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Conversion: ...


@overload
def convert(model: ModelT, **options: Any) -> ModelT: ...  # noqa: ANN401 - those above


def convert(model: Any, out: str | Path | None = None, **options: Any) -> Any:  # noqa: D417 - those above
    """Rewrite the convolutions of a model as fully connected layers and save the result.

    Args:
        model: a .onnx, .h5, .hdf5 or .keras file; or an onnx.ModelProto or a keras.Model that the
            program holds, which stays as it is.
        out: the file to write, of the same format, or a folder to write it in; beside `model` and
            with `_fc` in its name when left out. A file that convfc made is replaced.
        form: "patches", patches + Dense; or "dense", one Dense for all positions together.
        dense_limit: bytes that the matrices of the dense form may take together; 1 GiB when left
            out. A layer that would take more is left.
        max_pool: in the dense form, "keep" or "relu", which writes MaxPool in Dense and
            ReLU, in ONNX where what it pools is not negative; its numbers are rounded then. Kept
            when left out, or what `client` takes.
        flat_io: in the dense form, take and make rows: (N, n) instead of (N, C, H, W). Of a chain
            of Keras layers it is a Sequential of Dense.
        patches: how patches are built; "auto" decides per layer.
        patch_memory: bytes that the patches of one sample may take in a layer, whose output is
            computed in blocks where they would take more; a few MiB when left out.
        only: patterns of layer names to convert (`*`, `?` and `[..]` as in a shell), or one of
            them; all when empty.
        skip: patterns of layer names to leave alone.
        shapes: the whole shape of an input, by its name: open sizes are fixed to it, and the file
            accepts nothing else.
        client: the name of what the file is for, one of `CLIENTS`, which say what that sets.
        partial: write the file even if some convolutions must be left.
        force: replace `out` even if convfc did not make it.
        check: run one sample through both files before the new one appears, layer by layer where
            that cannot be; see `convfc.verification.inspection`.
        verify: prove the result instead and run MNIST samples through both files; write nothing if
            they differ.
        freeze_weights: make constants of weights that are inputs as well, as ONNX files of IR
            version 4 and later may have them: callers can no longer override these.
        keep_keras2_numbers: let hard_sigmoid be what it was in the Keras before 3 that wrote
            `model`, where Keras 3 computes another one.
        architecture: what `to_json` of a Keras model wrote, if `model` holds only its weights.
        imports: modules that register custom Keras classes; looked for in the current folder, too.
        dry_run: write nothing, and say what would be written.
        progress: called with a few words whenever something new begins.

    Returns:
        What was done; nothing is printed. Of a model that the program holds, the converted one.

    Raises:
        FileError: `model` cannot be read or `out` cannot be written.
        UnsupportedModelError: `model` holds something that convfc cannot load, or it is held by the
            program and some convolution must be left.
        ConversionError: the result is another function than `model`; nothing was written.
        UsageError: arguments that contradict each other or are of another kind, a pattern that
            matches nothing, or a module that cannot be imported.
    """
    if not isinstance(model, str | os.PathLike) and out is None:
        return _in_memory(model, **options)
    with converting(model, out, **options) as done:
        return done


def _in_memory(model: object, **options: Any) -> Any:  # noqa: ANN401 - of either library
    """Convert a model by way of files, which nobody gets to see."""
    if options.get("dry_run"):
        raise UsageError("dry_run is for files: a model in memory is converted or not")
    with temporary_folder() as folder:
        with undisturbed(), writing(folder):
            source = put(model, folder)
        with naming(Path("the model"), source):
            with converting(source, **options) as done:
                pass
            if not done.written:
                raise _not_made(done)
        with undisturbed():
            return taken(done.out)


def _not_made(done: Conversion) -> ConvfcError:
    """Why there is no converted model."""
    for layer in done.layers:
        if layer.fate is Fate.LEFT and layer.refusal is not None:
            return UnsupportedModelError(
                f"the model: '{visible(layer.site.name)}' cannot be converted: {layer.reason}",
                remedy="convert the others with partial=True",
                layer=layer.site.name,
                code=layer.refusal.code,
            )
    return ConversionError(f"the model: {done.verification and done.verification.reason}")


@contextmanager
def converting(
    model: str | Path,
    out: str | Path | None = None,
    *,
    form: Form | str | None = None,
    dense_limit: int | None = None,
    max_pool: MaxPool | str | None = None,
    flat_io: bool = False,
    patches: PatchMethod | str = PatchMethod.AUTO,
    patch_memory: int | None = None,
    only: str | Sequence[str] = (),
    skip: str | Sequence[str] = (),
    shapes: Shapes | None = None,
    client: str | None = None,
    partial: bool = False,
    force: bool = False,
    check: bool = True,
    verify: bool = False,
    freeze_weights: bool = False,
    keep_keras2_numbers: bool = False,
    architecture: str | Path | None = None,
    imports: Sequence[str] = (),
    dry_run: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Iterator[Conversion]:
    """`convert` in two steps: the file appears when the block ends, and not at all if it raises.

    Yields what will have been done by then. Arguments and what is raised are those of `convert`.
    """
    with undisturbed(), gate(model):
        if dry_run and verify:
            raise UsageError("--dry-run does not go with --verify: nothing is written")
        source = arguments.path("model", model)
        tell = progress or (lambda _: None)
        wanted = client_named(client)
        pools = wanted.max_pool_of(
            None if max_pool is None else arguments.choice("max_pool", max_pool, MaxPool)
        )
        flat_io = flat_io or wanted.flat_io
        of_dense = {"dense-limit": dense_limit is not None, "flat-io": flat_io}
        of_dense["max-pool"] = pools is not MaxPool.KEEP
        of_patches = {
            "patches": patches != PatchMethod.AUTO,
            "patch-memory": patch_memory is not None,
        }
        form = wanted.form_of(None if form is None else arguments.choice("form", form, Form))
        _check_form(form, of_dense, of_patches)
        target = target_of(source, out, default_out, force)
        unchanged = Unchanged(source)
        fixed: Shapes = arguments.shapes("shapes", shapes)
        beside = None if architecture is None else arguments.path("architecture", architecture)
        reading = Reading(
            fixed,
            keep_keras2_numbers,
            form is Form.DENSE,
            pools,
            flat_io,
            wanted.forms.biased,
            beside,
        )
        tell("reading")
        opened = open_model(source, imports, reading)
        needed = wanted.shapes(opened.inputs, fixed)
        if needed != fixed:
            fixed = needed
            opened = open_model(source, imports, replace(reading, shapes=needed))
        frozen = opened.freeze_weights() if freeze_weights else ()
        unchanged.watch(*opened.files)
        forms = wanted.forms if opened.takes_forms else DEFAULT
        layers = plan(
            opened.sites, patches, only, skip, patch_memory, forms.methods, form, dense_limit
        )
        notes = (*opened.notes, *_what_is_set(wanted, forms, fixed), *frozen)
        done = Conversion(
            source, target, False, layers, notes, client=client, shapes=fixed, form=form
        )
        if not dry_run and not partial and any(layer.fate is Fate.LEFT for layer in layers):
            yield done
            return
        lowerings = {
            layer.site.name: layer.lowering
            for layer in layers
            if layer.fate is Fate.CONVERTED and layer.lowering is not None
        }
        records = tuple(LayerRecord.of(name, lowering) for name, lowering in lowerings.items())
        provenance = Provenance(
            source.name,
            sha256_of(source),
            __version__,
            records,
            client,
            forms,
            fixed,
            keep_keras2_numbers,
            opened.reading.affine,
            pools,
            flat_io,
            None if beside is None else beside.name,
            "" if beside is None else sha256_of(beside),
        )
        tell(f"rewriting {len(lowerings)} of {len(layers)} convolutions")
        if dry_run:
            with writing(target):
                draft = opened.draft(lowerings, provenance)
            layers = _with_outputs(layers, opened.layer_outputs)
            yield replace(done, layers=layers, notes=(*notes, *draft.remarks), draft=draft)
            return
        verification = seen = None
        with staging(target, data_names) as stage:
            with writing(target), naming(target, stage.path):
                remarks = opened.save_converted(stage.path, lowerings, provenance)
                if verify:
                    tell("verifying")
                    given: Any = {"architecture": beside, "imports": imports, "progress": tell}
                    checked = verify_files(source, stage.path, **given)
                    verification = replace(checked, converted=target)
                elif check:
                    tell("checking on one sample")
                    seen = look(opened, stage.path, imports)
            unchanged.check("converted")
            if seen is not None and seen.problem is not None:
                raise _refusal(source, seen.problem.replace(str(stage.path), str(target)))
            equivalent = verification is None or verification.equivalent
            done = replace(done, layers=_with_outputs(layers, opened.layer_outputs))
            notes = (*notes, *remarks)
            yield replace(
                done, written=equivalent, notes=notes, verification=verification, look=seen
            )
            if equivalent:
                stage.publish(lambda: check_target(source, target, force), keep=opened.files)


# `help` shows every argument; type checkers see them in the overload.
vars(convert)["__signature__"] = signature(converting).replace(return_annotation="Conversion")


def _check_form(form: Form, of_dense: Mapping[str, bool], of_patches: Mapping[str, bool]) -> None:
    """Refuse what only the other form has."""
    others = of_dense if form is Form.PATCHES else of_patches
    for name in (name for name, given in others.items() if given):
        raise UsageError(f"--form {form.value} does not go with --{name}")


def _with_outputs(layers: Iterable[Layer], outputs: Mapping[str, LayerOutput]) -> tuple[Layer, ...]:
    return tuple(replace(layer, output=outputs.get(layer.site.name)) for layer in layers)


def _what_is_set(wanted: Client, forms: Forms, fixed: Shapes) -> Iterator[str]:
    """What a client and shapes change about the file, a sentence each."""
    if wanted.forms != forms:
        yield f"What '{wanted.name}' sets is for ONNX: it makes no difference to a Keras file."
    elif wanted.sets:
        yield f"For '{wanted.name}': {'; '.join(wanted.sets)}."
    if fixed:
        yield f"Sizes were fixed: it takes {shapes_text(fixed)} and nothing else."


def _refusal(source: Path, problem: str) -> ConversionError:
    return ConversionError(
        f"{source}: nothing written, as the converted model is not the same function: {problem}",
        "Please report this as a fault of convfc; --no-check writes the file all the same",
        code=Code.DIFFERS,
    )
