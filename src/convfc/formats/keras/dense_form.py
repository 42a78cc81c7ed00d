"""What the dense form of a Keras model is made of, and what there is to say of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
from keras import layers
from numpy.typing import NDArray

from convfc.core.dense import lower_chain
from convfc.core.lowering import Lowering
from convfc.core.whole import Form
from convfc.errors import UsageError
from convfc.formats.keras.alignment import Cuts
from convfc.formats.keras.convolutions import CONVOLUTIONS
from convfc.formats.keras.flat import Flattened
from convfc.formats.keras.internals import flat_layers
from convfc.formats.keras.opening import opened
from convfc.formats.keras.rewriting import FRESH, TRAINS_AS_A_WHOLE
from convfc.formats.keras.run_pair import RunPair
from convfc.formats.keras.runs import Run, Strand, runs_of, strands_of
from convfc.formats.keras.sites import Place, graph_of, is_graph
from convfc.formats.protocols import Feed, Site
from convfc.formats.reading import Reading
from convfc.refusals import Refusal
from convfc.system.capacity import excess
from convfc.text.sizes import sizes_text

Layer = Any
"""A `keras.Layer` or a `keras.Model`; keras has no types."""


def strands_in(model: Layer, reading: Reading, path: Path) -> tuple[Layer, list[Strand]]:
    """The strands of a model that is read for the dense form; none of any other.

    Args:
        model: of any class.
        reading: how it is read.
        path: its file, for the message.

    Returns:
        The model that has them: with rows, the models in it are opened.

    Raises:
        UsageError: it is to take rows, and its class does not say what it takes.
    """
    stock = is_graph(model)
    if reading.flat_io and not stock:
        kind = type(model).__name__
        raise UsageError(f"{path}: --flat-io is for Sequential and Functional, not for {kind}")
    if not (stock and (reading.affine or reading.flat_io)):
        return model, []
    made, stems = opened(model) if reading.flat_io else (model, {})
    if made is not model:
        _finish(made, model)
    return made, strands_of(made, reading, stems)


def places_with(
    model: Layer, places: Sequence[Place], strands: Sequence[Strand]
) -> dict[str, Place | Run]:
    """Convolutions by the name of their site, and runs in the place of those that are in one.

    Args:
        model: stock, if there are strands.
        places: all convolutions of a model.
        strands: of it.
    """
    runs = list(runs_of(strands))
    if not runs:
        return {place.name: place for place in places}
    taken = {id(layer) for run in runs for layer in run.layers}
    order = {one.name: number for number, one in enumerate(graph_of(model).operations)}
    found: list[tuple[int, str, Place | Run]] = [
        (order.get(place.name.split("/")[0], order.get(place.layer.name, 0)), place.name, place)
        for place in places
        if id(place.layer) not in taken
    ]
    found += [(order[run.layers[0].name], run.name, run) for run in runs]
    return {name: one for _, name, one in sorted(found, key=lambda each: each[0])}


def in_rows(arrays: Feed, ranks: Mapping[str, int]) -> dict[str, NDArray[Any]]:
    """Arrays, of which those that a model takes or makes as rows are rows.

    Args:
        arrays: images.
        ranks: how many axes each of them has there.
    """
    return {
        name: x.reshape(len(x), -1) if ranks.get(name) == 2 and x.ndim > 2 else x
        for name, x in arrays.items()
    }


def flat_form(
    model: Layer,
    reading: Reading,
    strands: Sequence[Strand],
    names: Collection[str],
    *,
    like: bool = False,
) -> Flattened | None:
    """A model with runs as matrices, compiled as it was; ``None`` where that is the same.

    Args:
        model: the original, or that with other layers in the places of some.
        reading: of the original.
        strands: of it.
        names: of the runs.
        like: only what it looks like, with zeros for the numbers of the matrices.
    """
    if not (strands or reading.flat_io):
        return None
    stems = {id(run.head): run.stem for run in runs_of(strands)}
    own, rows = strands_of(model, reading, stems), reading.flat_io
    made = Flattened(model, own, names, rows=rows, numbers=not like)
    _finish(made.model, model)
    return made


def flat_model(
    model: Layer, reading: Reading, strands: Sequence[Strand], lowerings: Mapping[str, Lowering]
) -> tuple[Layer, list[str]]:
    """A model in the dense form, or as it is where that is the same, and what is to be said of it.

    Args:
        model: as for `flat_form`.
        reading: likewise.
        strands: likewise.
        lowerings: of what is converted.
    """
    made = flat_form(model, reading, strands, lowerings)
    if made is None:
        return model, []
    return made.model, list(_remarks_on(strands, lowerings, made, model))


def _finish(made: Layer, model: Layer) -> None:
    """Let a model train as the one does of which it has most layers, from the start."""
    flags = [(layer, layer.trainable) for layer in flat_layers(made)[1:]]
    made.trainable = model.trainable
    for layer, flag in flags:
        layer.trainable = flag
    compile_like(made, model)


def compile_like(made: Layer, model: Layer) -> None:
    """Compile a model as another one, if that is compiled, to train from the start."""
    if model.compiled:
        made.compile(**keras.saving.deserialize_keras_object(model.get_compile_config()))


def pairs_of(
    runs: Mapping[str, Run], sites: Sequence[Site], expected: Flattened, cuts: Cuts
) -> dict[str, RunPair]:
    """The runs of a model next to what stands in their place, by name.

    Args:
        runs: by name.
        sites: of the model.
        expected: what convfc would write.
        cuts: what stands for what of that.
    """
    found = {}
    for site in sites:
        dense = expected.made.get(site.name) if site.name in runs else None
        made = None if dense is None else cuts.made.get(id(dense))
        if made is not None:
            found[site.name] = RunPair(site, runs[site.name], made, dense)
    return found


def _remarks_on(
    strands: Sequence[Strand], lowerings: Mapping[str, Lowering], made: Flattened, model: Layer
) -> Iterator[str]:
    """What the dense form could not keep, and what it did, a sentence each."""
    runs = [run for run in runs_of(strands) if run.name in lowerings]
    taken: dict[int, Layer] = {}
    for run in runs:
        told = {step.name for step in run.steps if not step.stays}
        others = (one for one in run.layers if one.name in told and type(one) not in CONVOLUTIONS)
        taken.update((id(one), one) for one in others)
    if taken:
        counts = Counter(type(one).__name__ for one in taken.values())
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()))
        yield f"Now a matrix, or part of a neighbour's: {kinds}."
    for run in runs:
        yield from (words for layer in run.layers for words in _left_out(layer))
        if model.compiled:
            yield f"{run.name}: {TRAINS_AS_A_WHOLE}"
    if model.compiled and runs:
        yield FRESH
    kept = {(one.name, type(one)) for one in graph_of(made.model).operations}
    all_dropped = [layer for strand in strands for layer in strand.dropped]
    dropped = [
        one.name
        for one in all_dropped
        if (one.name, type(one)) not in kept and type(one) is not layers.Identity
    ]
    if dropped:
        yield f"Left out, as at inference they do nothing: {', '.join(dropped)}."
    for old, new in zip(graph_of(model).inputs, graph_of(made.model).inputs, strict=True):
        if len(old.shape) > len(new.shape):
            sizes = sizes_text(old.shape[1:])
            yield f"'{new.name}' is flat now: a row has its {sizes} in that order."
    if made.obstacle is not None:
        yield f"It is no Sequential of Dense: {made.obstacle}."


def _left_out(layer: Layer) -> Iterator[str]:
    """What a layer holds its weights to, which means nothing to a matrix."""
    for name, value in vars(layer).items():
        if value is None or not name.endswith(("_regularizer", "_constraint")):
            continue
        if name.startswith("activity") or (name.startswith("bias") and not layer.use_bias):
            continue
        yield (
            f"{layer.name}: its {name.replace('_', ' ')} {type(value).__name__} means something "
            "else on one matrix and was left out."
        )


_HELD, _MADE = 24, 48
"""Bytes per number of a matrix: from the file, as convfc makes it, and in what runs of both.

Those of runs are made one at a time, in float64 first.
"""


def excess_of(
    sites: Sequence[Site], lowerings: Mapping[str, Lowering], runs: Iterable[Run]
) -> str | None:
    """Why the matrices of the dense form are too much for this machine, or ``None``.

    Args:
        sites: of a model.
        lowerings: of those that are no runs.
        runs: the others.
    """
    numbers = sum(_numbers(site, lowerings.get(site.name)) for site in sites)
    most = max((math.prod((*run.before, *run.after)) for run in runs), default=0)
    return excess(_HELD * numbers + _MADE * most)


def _numbers(site: Site, lowering: Lowering | None) -> int:
    """How many numbers the matrices of a layer in the dense form have."""
    if site.convolution is None or lowering is None or lowering.form is not Form.DENSE:
        return 0
    chain = lower_chain((site.convolution, *site.rest), site.sizes)
    found = () if isinstance(chain, Refusal) else chain
    return sum(math.prod(one.filter_matrix) for one in found)
