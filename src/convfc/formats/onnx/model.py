"""An ONNX file as a `convfc.formats.protocols.Model`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from convfc.core.lowering import Lowering, PatchMethod, lower
from convfc.core.whole import Form
from convfc.errors import UnsupportedModelError
from convfc.formats.alignment import lowered_again, unlike_record
from convfc.formats.draft import Draft
from convfc.formats.float64 import in_float64
from convfc.formats.forms import Forms
from convfc.formats.inner import LayerOutput, Tensor
from convfc.formats.onnx.alignment import replacements
from convfc.formats.onnx.channels_last import keep_channels_last
from convfc.formats.onnx.demand import Demands
from convfc.formats.onnx.describing import describe, known_of
from convfc.formats.onnx.discontinuities import is_step
from convfc.formats.onnx.drafting import drafted, operators_of
from convfc.formats.onnx.emitter import Names
from convfc.formats.onnx.external import files_of
from convfc.formats.onnx.flat import keep_flat
from convfc.formats.onnx.flat_ports import in_rows
from convfc.formats.onnx.float64 import precision_of, widen
from convfc.formats.onnx.frozen import freeze, overridable, recorded, told
from convfc.formats.onnx.frozen import record as record_frozen
from convfc.formats.onnx.inner import holders, tensors_of, values_of
from convfc.formats.onnx.layer_pair import OnnxLayerPair
from convfc.formats.onnx.operators import is_quantized, known_shape, operands
from convfc.formats.onnx.outline import outline_of
from convfc.formats.onnx.own_form import forms_of, in_own_form
from convfc.formats.onnx.ports import port_of, returned
from convfc.formats.onnx.preparing import prepare
from convfc.formats.onnx.protos import read_proto
from convfc.formats.onnx.returned import arrays_of
from convfc.formats.onnx.rewriting import rewrite
from convfc.formats.onnx.runtimes import SATURATED, Session, default_differs
from convfc.formats.onnx.shape_inference import forget_sizes, new_claims, unfounded
from convfc.formats.onnx.sites import (
    Place,
    convolutions,
    places,
    site_names,
    site_of,
)
from convfc.formats.onnx.stepwise import run_stepwise
from convfc.formats.onnx.writer import is_heavy, write
from convfc.formats.protocols import Alignment, Feed, Model, Site
from convfc.formats.provenance import KEY, Provenance
from convfc.formats.reading import AS_IT_IS, Reading
from convfc.refusals import Code

_OF_SEVERAL_NODES = {PatchMethod.SLICE, PatchMethod.TAPS, PatchMethod.SHIFT}
_AMBIGUOUS = "The file is ambiguous, and runtimes may read it otherwise: {}."
_LOOP_SECONDS = 60.0
"""What a run of a model with loops may take; those of exporters take a tenth of a second."""


def open_onnx(path: Path, reading: Reading = AS_IT_IS) -> OnnxModel:
    """Open an ONNX file.

    Args:
        path: the file.
        reading: what the file does not say itself.

    Raises:
        FileError: the file or its external data cannot be read.
        UnsupportedModelError: it holds something that would be lost on the way back.
        UsageError: it has no such input, or one that takes another shape.
    """
    return OnnxModel(path, reading)


class OnnxModel:
    """An ONNX file that was opened; see `convfc.formats.protocols.Model` for the members."""

    notes: Sequence[str] = ()
    takes_forms = True
    layer_outputs: Mapping[str, LayerOutput] = MappingProxyType({})

    def __init__(self, path: Path, reading: Reading = AS_IT_IS) -> None:
        self.path = path
        self.reading = reading
        prepared = prepare(path, reading)
        self._model = prepared.model
        self._inferred = prepared.inferred
        self.files: Sequence[Path] = files_of(path, prepared.model)
        self._altered = prepared.altered
        self._form = prepared.form
        self._remarks = prepared.remarks
        self._ambiguous = prepared.ambiguous
        self._flat = prepared.flat
        self._unfounded = unfounded(prepared.model, prepared.inferred)
        self._frozen: list[str] = []
        self._places: dict[str, Place] = {}
        sites = []
        self._batches: dict[str, int | None] = {}
        found = convolutions(self._model, prepared.inferred)
        names = site_names([place for place, _ in found])
        for name, (place, shaped) in zip(names, found, strict=True):
            self._places[name] = place
            self._batches[name] = (known_shape(operands(shaped).get("x")) or (None,))[0]
            sites.append(site_of(place, shaped, name))
        self.sites: Sequence[Site] = sites
        self._demands = Demands(prepared.inferred, sites)
        text = self._model.metadata_props.get(KEY)
        record = None if text is None else Provenance.from_json(text, path)
        self.provenance = None if record is None or record.reverted else record
        graph = self._model.graph
        fed = [port_of(value) for value in graph.inputs if not value.is_initializer()]
        self.inputs = [replace(p, shape=self._flat.get(p.name, p.shape)) for p in fed]
        self.outputs = [port for value in graph.outputs for port in returned(value)]
        self._names = [value.name or "" for value in graph.outputs]

    def freeze_weights(self) -> Sequence[str]:
        """See `Model.freeze_weights`; how many it were is said when they are written."""
        self._frozen = overridable(self._model)
        freeze(self._model, self._frozen)
        return ()

    @cached_property
    def has_steps(self) -> bool:
        """See `Model.has_steps`."""
        return any(map(is_step, (place.node for place in places(self._inferred))))

    @property
    def rewritten(self) -> bool:
        """See `Model.rewritten`."""
        return self._altered is not None

    @cached_property
    def precision(self) -> str:
        """See `Model.precision`."""
        return precision_of(self._model)

    @cached_property
    def _seconds(self) -> float | None:
        """What one run may take: a model without loops comes to its end by itself."""
        loops = (place.node.op_type in ("Loop", "Scan") for place in places(self._model))
        return _LOOP_SECONDS if any(loops) else None

    @cached_property
    def _session(self) -> Session:
        return Session(self.path, str(self.path), seconds=self._seconds)

    def run(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """See `Model.run`."""
        return self._arrays(self._session.run(self._names, self._checked(feed)))

    def _checked(self, feed: Feed, times: int = 1) -> Feed:
        """A feed of what an original takes, as the file takes it: a converted one may have rows.

        Raises:
            UnsupportedModelError: on it, the model takes more memory than there is, or hours.
        """
        if self.provenance is not None and self.provenance.flat_io:
            flat = [v.name for v in self._model.graph.inputs if len(v.shape or ()) == 2]
            feed = in_rows(feed, flat)
        self._demands.check(in_rows(feed, self._flat), str(self.path), times)
        return feed

    def _arrays(self, found: Sequence[Any]) -> dict[str, NDArray[Any]]:
        return in_rows(arrays_of(self._model.graph.outputs, found, str(self.path)), self._flat)

    def cautions(self, feed: Feed) -> Sequence[str]:
        """See `Model.cautions`."""
        if not any(is_quantized(place.node) for place in places(self._model)):
            return ()
        differs = default_differs(self.path, self._names, self._checked(feed))
        return (SATURATED.format(self.path.name),) if differs else ()

    def run_once(self, feed: Feed, path: Path | None = None) -> dict[str, NDArray[Any]]:
        """See `Model.run_once`."""
        fed = self._checked(feed)
        if (path := path or self.path) != self.path:
            fed = in_rows(fed, self._flat)
        session = Session(path, str(path), once=True, seconds=self._seconds)
        return self._arrays(session.run(self._names, fed))

    def run_in_float64(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """See `Model.run_in_float64`; convolutions as matrix products.

        onnxruntime has no convolution in float64, and onnx's own evaluator takes too long.
        """
        fed = self._checked(feed, times=2)
        # As the file has it, or what is affine would be judged by what is made of it.
        fresh = OnnxModel(self.path, replace(self.reading, affine=False, flat_io=False))
        rewrite(fresh._model, fresh._lowerings())
        try:
            widen(fresh._model)
        except UnsupportedModelError as error:
            raise UnsupportedModelError(f"{self.path}: {error}", code=Code.NOT_RUN) from error
        found = run_stepwise(fresh._model, in_float64(self.inputs, fed), str(self.path))
        return self._arrays([found[name] for name in self._names])

    def _lowerings(self) -> dict[str, tuple[Place, Lowering]]:
        """Every convolution that can be lowered, by `gather` where that fits: a single node."""
        found = {}
        for site in self.sites:
            for methods in (site.methods - _OF_SEVERAL_NODES, site.methods):
                if site.convolution is not None and site.name not in found:
                    lowering = lower(site.convolution, site.sizes, PatchMethod.AUTO, methods, 8)
                    if isinstance(lowering, Lowering):
                        found[site.name] = (self._places[site.name], lowering)
        return found

    def activations(self, feed: Feed, sites: Sequence[str]) -> dict[str, NDArray[Any]]:
        """See `Model.activations`; those inside branches, loops and functions cannot be seen."""
        seen = [name for name in sites if self._places[name].body is self._model.graph]
        inputs = {name: self._places[name].node.inputs[0] for name in seen}
        wanted = {name: value.name or "" for name, value in inputs.items() if value is not None}
        if not wanted:
            return {}
        fed = in_rows(self._checked(feed), self._flat)
        found = {**fed, **self._values(fed, sorted(set(wanted.values()) - fed.keys()))}
        return {site: found[name] for site, name in wanted.items()}

    def tensors(self, feed: Feed) -> Sequence[Tensor]:
        """See `Inner.tensors`."""
        return tensors_of(self._inferred, in_rows(self._checked(feed), self._flat))

    def values(self, feed: Feed, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """See `Inner.values`."""
        return self._values(in_rows(self._checked(feed), self._flat), names)

    def _values(self, feed: Feed, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        if not names:  # onnxruntime takes no names for all names
            return {}
        proto = read_proto(self.path) if self._altered is None else deepcopy(self._altered)
        return values_of(proto, self.path, feed, names, self._seconds)

    def align(self, converted: Model) -> Alignment:
        """See `Model.align`."""
        if not isinstance(converted, OnnxModel):
            return Alignment((), unknown=(f"'{converted.path.name}' is of another format",))
        frozen = recorded(converted._model)
        if set(frozen).intersection(overridable(self._model)):
            fresh = OnnxModel(self.path, self.reading)
            freeze(fresh._model, frozen)
            aligned = fresh.align(converted)
            remark = f"weights that callers of '{self.path.name}' may override were compared as "
            return replace(aligned, remarks=(f"{remark}it has them itself", *aligned.remarks))
        ends = {name: place.node.outputs[0].name or "" for name, place in self._places.items()}
        made = {ends[site.name]: site.made for site in self.sites if site.made is not None}
        restored = in_own_form(converted._model, self._model, made, converted.provenance)
        found = replacements(self._model, restored)
        nodes = {name: place.node for name, place in self._places.items()}
        there = {name: found.layers[node] for name, node in nodes.items() if node in found.layers}
        counts = {name: len(layer.nodes) for name, layer in there.items()}
        lowerings = lowered_again(self.sites, counts, converted.provenance)

        def paired(site: Site, lowering: Lowering) -> OnnxLayerPair:
            end, batch = expected[site.name], self._batches[site.name]
            version = self._model.ir_version or 4
            return OnnxLayerPair(site, there[site.name], end, lowering, version, batch, forms)

        forms = forms_of(
            converted.provenance, ((layer.place, layer.nodes) for layer in there.values())
        )
        expected = self._emitted(lowerings, forms)
        pairs = [
            paired(site, lowerings[site.name]) for site in self.sites if site.name in lowerings
        ]
        lost = unlike_record(there.keys() - lowerings)
        unclear = [
            f"'{model.path.name}' is ambiguous: {what}"
            for model in (self, converted)
            for what in model._ambiguous
        ]
        unclear += [
            f"the sizes of '{value.name}' are stated and do not follow from those of the inputs"
            for value in new_claims(converted._unfounded, self._model)
        ]
        return Alignment(
            tuple(pairs),
            tuple(found.differences),
            (*unclear, *lost, *found.unknown),
            tuple(found.remarks),
            (*unclear, *found.stated),
        )

    def _emitted(self, lowerings: Mapping[str, Lowering], forms: Forms) -> dict[str, ir.Value]:
        """What the emitter makes of some sites in a copy of the whole model: their outputs."""
        copy = self._model.clone()
        own = {place.node: name for name, place in self._places.items()}
        copies = zip(places(self._model), places(copy), strict=True)
        found = {own[here.node]: there for here, there in copies if here.node in own}
        made = {name: (found[name], lowering) for name, lowering in lowerings.items()}
        rewrite(copy, made, forms=forms)
        return {name: found[name].node.outputs[0] for name in lowerings}

    def save_converted(
        self, path: Path, lowerings: Mapping[str, Lowering], provenance: Provenance
    ) -> Sequence[str]:
        """See `Model.save_converted`.

        Weights go into a file beside it if the original kept them so or if they would not fit into
        one file. Its name changes with what is in it, so that a file which is about to be replaced
        keeps its own weights until then.
        """
        apart = len(self.files) > 1 or is_heavy(self._model)
        text = self._convert(lowerings, provenance)
        write(self._model, path, self._form, text, apart=apart)
        return self._told

    def draft(self, lowerings: Mapping[str, Lowering], provenance: Provenance) -> Draft:
        """See `Model.draft`."""
        before = operators_of(self.path)
        self._convert(lowerings, provenance)
        return drafted(self._model, self._form, self.files, before, self._told)

    def _convert(self, lowerings: Mapping[str, Lowering], provenance: Provenance) -> str:
        """Rewrite the model, and give it the record, which is returned; `_told` is what to say."""
        model, graph = self._model, self._model.graph
        provenance = replace(provenance, outline=outline_of(model, self._form))
        known = known_of(model, self._inferred)
        ambiguous = map(_AMBIGUOUS.format, self._ambiguous)
        self._told = (*self._remarks, *told(model, self._frozen), *ambiguous)
        made = {name: (self._places[name], lowering) for name, lowering in lowerings.items()}
        names = Names(model)
        own = {n: p.node.outputs[0].name or "" for n, (p, _) in made.items() if p.body is graph}
        heads = rewrite(model, made, forms=provenance.forms, names=names)
        for value in self._unfounded:
            if not value.is_graph_output():
                forget_sizes(value)
        ends = {place.node: lowering.convolution.rank + 2 for place, lowering in made.values()}
        if any(lowering.form is Form.DENSE for lowering in lowerings.values()):
            keep_flat(model, [*ends], names)
        else:
            keep_channels_last(model, ends, heads, names)
        describe(model, known)
        self.layer_outputs = holders(graph, own, {value.name or "" for value in known})
        text = model.metadata_props[KEY] = provenance.to_json()
        if self._frozen:
            record_frozen(model, self._frozen)
        return text
