"""A Keras file as the rest of convfc sees it: `convfc.formats.protocols.Model`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from convfc.core.arrays import coarsest
from convfc.core.lowering import Lowering
from convfc.core.whole import Form
from convfc.errors import UnsupportedModelError
from convfc.formats.alignment import lowered_again, unlike_record
from convfc.formats.demand import Demand
from convfc.formats.draft import Draft
from convfc.formats.float64 import in_float64
from convfc.formats.inner import LayerOutput, Tensor
from convfc.formats.keras.affine import fed_to
from convfc.formats.keras.alignment import calls_in, cut
from convfc.formats.keras.any_processor import compute_anywhere
from convfc.formats.keras.archive import format_named
from convfc.formats.keras.beside import forgotten
from convfc.formats.keras.calls import Calls
from convfc.formats.keras.dense_form import (
    excess_of,
    flat_form,
    flat_model,
    in_rows,
    pairs_of,
    places_with,
    strands_in,
)
from convfc.formats.keras.discontinuities import has_steps
from convfc.formats.keras.drafting import operators_in, operators_of
from convfc.formats.keras.flat_outline import outline_of
from convfc.formats.keras.float64 import wide_copy
from convfc.formats.keras.inner import made_in, tensors_of
from convfc.formats.keras.internals import calls_forgotten, flat_layers
from convfc.formats.keras.layer_pair import KerasLayerPair
from convfc.formats.keras.layouts import Layouts
from convfc.formats.keras.loader import load
from convfc.formats.keras.memory import held_once
from convfc.formats.keras.quiet import overheard
from convfc.formats.keras.recurrence import sequential_work
from convfc.formats.keras.refusals import NO_CONFIG, refusing, running
from convfc.formats.keras.rewriting import replacement, rewrite
from convfc.formats.keras.runs import Run
from convfc.formats.keras.sites import find_places, graph_of, makes_masks
from convfc.formats.keras.workspace import workspace
from convfc.formats.keras.writer import write
from convfc.formats.protocols import (
    Alignment,
    Feed,
    LayerPair,
    Model,
    Port,
    Site,
)
from convfc.formats.provenance import Provenance
from convfc.formats.reading import AS_IT_IS, Reading
from convfc.refusals import Code
from convfc.system.atomic import temporary_folder


class KerasModel:
    """A loaded Keras model; see `convfc.formats.protocols.Model`.

    Args:
        path: the file.
        reading: what the file does not say itself.

    Raises:
        FileError: the file is missing, damaged, or holds no Keras model.
        UnsupportedModelError: Keras cannot load what it holds.
        UsageError: it has no such input, or one that takes another shape; or it is whole and
            needs no architecture; or its class says nothing of rows.
    """

    takes_forms = False

    def __init__(self, path: Path, reading: Reading = AS_IT_IS) -> None:
        self.path = path
        self.reading = reading
        beside = () if reading.architecture is None else (reading.architecture,)
        self.files: Sequence[Path] = (path, *beside)
        with refusing(path, NO_CONFIG):
            self._loaded = loaded = load(path, reading)
            self._model = loaded.model
            self._graph = graph_of(loaded.model)
            if self._graph is None:
                raise UnsupportedModelError(
                    f"{path}: its class {type(loaded.model).__name__} does not say what its "
                    "inputs are",
                    remedy="build it as a Functional model and save it again",
                    code=Code.NO_INPUT,
                )
            self._masks = makes_masks(loaded.model)
            places = find_places(loaded.model)
        self._flat, self._strands = strands_in(loaded.model, reading, path)
        self._places = places_with(self._flat, places, self._strands)
        self.notes: Sequence[str] = loaded.notes
        self.layer_outputs: Mapping[str, LayerOutput] = {}
        record = loaded.envelope.provenance
        self.provenance = None if record is None or record.reverted else record
        self._in_rows = reading.flat_io or getattr(self.provenance, "flat_io", False)
        self._converted_format = format_named(path) or loaded.envelope.file_format

    @cached_property
    def inputs(self) -> Sequence[Port]:
        """See `Model.inputs`."""
        return self._ports([tensor.name for tensor in self._graph.inputs], self._graph.inputs)

    @cached_property
    def outputs(self) -> Sequence[Port]:
        """See `Model.outputs`."""
        seen: Counter[str] = Counter()
        names = []
        for name in self._graph.output_names:
            # A layer with several outputs gives its name to each of them.
            names.append(f"{name}:{seen[name]}" if seen[name] else name)
            seen[name] += 1
        return self._ports(names, self._graph.outputs)

    @cached_property
    def sites(self) -> Sequence[Site]:
        """See `Model.sites`."""
        return [place.site(self._converted_format) for place in self._places.values()]

    @cached_property
    def has_steps(self) -> bool:
        """See `Model.has_steps`."""
        return has_steps(self._model)

    @property
    def rewritten(self) -> bool:
        """See `Model.rewritten`: of the dense form, what proves the graph is what wrote it."""
        return bool(self._strands)

    @cached_property
    def precision(self) -> str:
        """See `Model.precision`."""
        layers = flat_layers(self._model)
        return coarsest(str(getattr(layer, "compute_dtype", "float32")) for layer in layers)

    def freeze_weights(self) -> Sequence[str]:
        """See `Model.freeze_weights`."""
        return ("No weight of a Keras model is an input: --freeze-weights changes nothing.",)

    def run(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """See `Model.run`."""

        def call(flat: Sequence[Any]) -> Any:
            return self._calls.traced(keras.tree.pack_sequence_as(self._graph.input, flat))

        return self._named(self._evaluate(call, feed))

    def cautions(self, feed: Feed) -> Sequence[str]:  # noqa: ARG002 - see `Model.cautions`
        """See `Model.cautions`: there are none."""
        return ()

    def run_once(self, feed: Feed, path: Path | None = None) -> dict[str, NDArray[Any]]:
        """See `Model.run_once`; not traced, which takes longer than to run once."""
        model = self if path is None else KerasModel(path, Reading(compiled=False))

        def call(flat: Sequence[Any]) -> Any:
            return model._calls(keras.tree.pack_sequence_as(model._graph.input, flat))

        return self._named(model._evaluate(call, feed))

    def run_in_float64(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """See `Model.run_in_float64`."""
        try:
            wide = wide_copy(self._model)
        except UnsupportedModelError as error:
            raise UnsupportedModelError(f"{self.path}: {error}", code=Code.NOT_RUN) from error
        compute_anywhere(wide)
        wide_calls = Calls(wide)

        def call(flat: Sequence[Any]) -> Any:
            return wide_calls(keras.tree.pack_sequence_as(self._graph.input, flat))

        return self._named(self._evaluate(call, in_float64(self.inputs, feed), times=2))

    def _named(self, arrays: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """All outputs by name; images are rows where those of the converted file are."""
        found = dict(zip((port.name for port in self.outputs), arrays, strict=True))
        return in_rows(found, dict.fromkeys(found, 2)) if self._in_rows else found

    def activations(self, feed: Feed, sites: Sequence[str]) -> dict[str, NDArray[Any]]:
        """See `Model.activations`; those inside other layers, or called twice, cannot be seen."""
        called = {
            name: calls[0].input_tensors[0]
            for name in sites
            if (first := self._places[name].fed) is not None
            and len(calls := calls_in(graph_of(self._flat), first)) == 1
        }
        found = self._probed(called, feed)
        for name, x in found.items():
            if isinstance(run := self._places[name], Run):
                found[name] = x.reshape(len(x), *fed_to(run.steps))
        return found

    def tensors(self, feed: Feed) -> Sequence[Tensor]:
        """See `Inner.tensors`."""
        self._demand.check(feed, str(self.path))
        with overheard():
            return tensors_of(self._graph, [feed[port.name].shape for port in self.inputs])

    def values(self, feed: Feed, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """See `Inner.values`."""
        made = made_in(self._graph)
        return self._probed({name: made[name][0] for name in names}, feed)

    def _probed(self, tensors: Mapping[str, Any], feed: Feed) -> dict[str, NDArray[Any]]:
        """What some tensors of the graph are on a feed, by the same names."""
        if not tensors:
            return {}
        probe = keras.Model(self._graph.inputs, list(tensors.values()))

        def call(flat: Sequence[Any]) -> Any:
            return Calls(probe)(flat)  # anew for each attempt, see `_evaluate`

        return dict(zip(tensors, self._evaluate(call, feed), strict=True))

    @cached_property
    def _demand(self) -> Demand:
        outputs = (keras.tree.flatten(one.output) for one in self._graph.operations)
        steps = ([(tuple(x.shape), tf.as_dtype(x.dtype).size) for x in made] for made in outputs)
        found = Demand.of(chain(steps, map(workspace, self.sites)), self.sites)
        return replace(found, products=found.products + sequential_work(self._model))

    def _evaluate(
        self, call: Callable[[list[Any]], Any], feed: Feed, times: int = 1
    ) -> list[NDArray[Any]]:
        """All outputs of a call on the feed's tensors, which it gets in the order of the inputs.

        Its numbers take as many `times` the bytes of the file's.
        """
        self._demand.check(feed, str(self.path), times)
        feed = in_rows(feed, {port.name: len(port.shape or ()) for port in self.inputs})

        def outputs() -> list[NDArray[Any]]:
            flat = [
                keras.ops.convert_to_tensor(feed[port.name], dtype=feed[port.name].dtype.name)
                for port in self.inputs
            ]
            with overheard():
                found = keras.tree.flatten(call(flat))
                return [np.asarray(keras.ops.convert_to_numpy(output)) for output in found]

        with running(f"{self.path}: "):
            try:
                return outputs()
            except Exception:
                if not compute_anywhere(self._model):
                    raise
                vars(self).pop("_calls", None)  # traced with the layers as they were
                return outputs()

    def align(self, converted: Model) -> Alignment:
        """See `Model.align`."""
        if not isinstance(converted, KerasModel):
            return Alignment((), unknown=(f"'{converted.path.name}' is of another format",))
        record = converted.provenance
        told = set() if record is None else {one.name for one in record.layers}
        runs = {n: one for n, one in self._places.items() if isinstance(one, Run) and n in told}
        layers = {n: one.layer for n, one in self._places.items() if not isinstance(one, Run)}
        expected, apart = self._flat, frozenset[int]()
        with overheard(), held_once():
            if flattened := flat_form(self._flat, self.reading, self._strands, runs, like=True):
                expected, apart = flattened.model, frozenset(map(id, flattened.made.values()))
        cuts = cut(expected, converted._model, set(map(id, layers.values())), apart)
        if flattened:
            cuts.unknown += forgotten(self._model, converted._model, self.reading.max_pool)

        def paired(site: Site, made: Any, lowering: Lowering) -> LayerPair:
            layer = layers[site.name]
            with overheard(), held_once():
                masks, kind = {"ends_masks": self._masks}, converted._loaded.envelope.file_format
                expected, _ = replacement(layer, lowering, kind, **masks)
                pair = KerasLayerPair(site, layer, made, expected, lowering, **masks)
                cuts.training += [] if pair.training is None else [pair.training]
            return pair

        made = {name: cuts.made[id(x)] for name, x in layers.items() if id(x) in cuts.made}
        counts = {name: len(graph_of(model).operations) for name, model in made.items()}
        lowerings = lowered_again(self.sites, counts, record)
        of_runs = {} if flattened is None else pairs_of(runs, self.sites, flattened, cuts)
        lost = unlike_record((made.keys() | runs.keys()) - lowerings.keys() - of_runs.keys())
        why = excess_of(self.sites, lowerings, runs.values())
        if why is not None:
            cuts.unknown.append(f"the matrices of the dense form: {why}")
            return Alignment((), tuple(cuts.differences), (*lost, *cuts.unknown))
        pairs = [
            of_runs.get(site.name) or paired(site, made[site.name], lowerings[site.name])
            for site in self.sites
            if site.name in lowerings or site.name in of_runs
        ]
        return Alignment(
            tuple(pairs), tuple(cuts.differences), (*lost, *cuts.unknown), tuple(cuts.remarks)
        )

    def save_converted(
        self, path: Path, lowerings: Mapping[str, Lowering], provenance: Provenance
    ) -> Sequence[str]:
        """See `Model.save_converted`."""
        remarks: list[str] = []
        replaced, model, kind = {}, self._flat, self._converted_format
        places = {n: one for n, one in self._places.items() if n in lowerings}
        alone = [one for one in places.values() if not isinstance(one, Run)]
        outline = outline_of(self._model, self.reading, places)
        provenance = replace(provenance, outline=outline)
        with overheard(), held_once(), calls_forgotten(graph_of(model)):
            for place in alone:
                replaced[id(place.layer)], left = replacement(
                    place.layer, lowerings[place.name], kind, ends_masks=self._masks
                )
                remarks += left
            if replaced:
                dense = any(its.form is Form.DENSE for its in lowerings.values())
                model, left = rewrite(model, replaced, dense=dense)
                remarks += left
            model, left = flat_model(model, self.reading, self._strands, lowerings)
            remarks += left
            write(model, path, provenance.to_json(), source=self.path, loaded=self._loaded)
        return remarks

    def draft(self, lowerings: Mapping[str, Lowering], provenance: Provenance) -> Draft:
        """See `Model.draft`: only Keras knows what it would write, so it does, for a moment."""
        config = self._loaded.envelope.config
        before = sum(file.stat().st_size for file in self.files), operators_in(config)
        with temporary_folder() as folder:
            path = folder / f"draft{self._converted_format}"
            remarks = self.save_converted(path, lowerings, provenance)
            size, operators = path.stat().st_size, operators_of(path)
        return Draft(before[0], size, before[1], operators, tuple(remarks))

    @cached_property
    def _calls(self) -> Calls:
        return Calls(self._model)

    def _ports(self, names: Sequence[str], tensors: Sequence[Any]) -> list[Port]:
        return [
            Port(name, tuple(tensor.shape), tensor.dtype, self._layouts.channels_last(tensor))
            for name, tensor in zip(names, tensors, strict=True)
        ]

    @cached_property
    def _layouts(self) -> Layouts:
        return Layouts(self._graph, [place.layer for place in self._places.values()])
