"""Converted layers become convolutions again, with the numbers that are in the file.

The outline of the original (`outline`) says what there was. The file is put into its own layout, as
the proof does it, and of each layer the emitter writes again what it would write, with holes for
the weights. Where the file has the same chain, what is in the holes are the numbers, laid out;
they are put back (`core.arrangement`), and the end of the chain becomes the node that it was.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from convfc.core.geometry import Convolution
from convfc.core.lowering import Lowering
from convfc.core.whole import Form
from convfc.errors import GeometryError
from convfc.formats.alignment import lowered_again
from convfc.formats.onnx.ancestry import leading_to, names_in
from convfc.formats.onnx.computed_weights import Steps, is_computed, shape_of, steps_back
from convfc.formats.onnx.emitter import Arrangement, Names, constant_of
from convfc.formats.onnx.external import files_of
from convfc.formats.onnx.few_bits import raised_for_few_bits
from convfc.formats.onnx.frozen import FROZEN, freeze, recorded
from convfc.formats.onnx.laid_out import (
    Weight,
    laid_out,
    made_of,
    tensor_of_operand,
    weights_of,
    why_lost,
)
from convfc.formats.onnx.matching import Match, match
from convfc.formats.onnx.on_maps import OnMaps, is_rebuilt, misfit, own_kernel
from convfc.formats.onnx.operators import geometry, is_integer, known_shape, operands
from convfc.formats.onnx.outline import Outline, digest, outline_of, read_outline
from convfc.formats.onnx.own_form import forms_of, in_own_form
from convfc.formats.onnx.preparing import prepare
from convfc.formats.onnx.reader import read
from convfc.formats.onnx.rebuilt import Chain, OnnxRebuilt, Operand
from convfc.formats.onnx.recovering import Recovery, bodies_of
from convfc.formats.onnx.resized import resize, resized
from convfc.formats.onnx.rewriting import rewrite
from convfc.formats.onnx.row_steps import Program, is_fixed
from convfc.formats.onnx.sites import Place, numpy_name, opset_of, places
from convfc.formats.onnx.structure import operator
from convfc.formats.onnx.writer import write
from convfc.formats.outline import missing
from convfc.formats.protocols import Site
from convfc.formats.provenance import KEY, Provenance
from convfc.formats.reverted import Change, WayBack
from convfc.refusals import Code, Refusal

_STAYS_FOLDED = (
    "What was affine in the original was read as convolutions, or as part of them, and stays so."
)


@dataclass
class _Layer:
    """A converted layer in the file.

    Attributes:
        place: of the convolution in the outline.
        nodes: what is in its place; the last one makes `end`.
        end: its output.
        weights: what fills its constant operands, by their roles.
        given: what it reads beside, by name.
        program: what becomes of its rows, where that is not as it was converted.
        tensors: its constant operands with the file's numbers, by their roles; ``None`` where these
            are no such numbers laid out.
    """

    place: Place
    nodes: list[ir.Node]
    end: ir.Value
    weights: dict[str, Weight] = field(default_factory=dict)
    given: Mapping[str, ir.Value] = field(default_factory=dict)
    program: Program | None = None
    tensors: Mapping[str, ir.TensorProtocol | None] = field(default_factory=dict)


def open_reverting(path: Path, record: Provenance, like: Path | None = None) -> OnnxReverting:
    """Open a converted file for the way back.

    Args:
        path: the file.
        record: its record.
        like: the original, for a record without an outline.

    Raises:
        FileError: a file or the record cannot be read.
        UnsupportedModelError: one holds something that would be lost.
    """
    model, text = read(path)[0], record.outline
    if like is not None:
        prepared = prepare(like, record.reading())
        freeze(prepared.model, recorded(model))
        text = outline_of(prepared.model, prepared.form)
    if not text:
        raise missing(path)
    return OnnxReverting(path, model, record, read_outline(text, like or path))


class OnnxReverting:
    """See `convfc.formats.reverted.Reverting` for the members."""

    def __init__(self, path: Path, model: ir.Model, record: Provenance, outline: Outline) -> None:
        self.files: Sequence[Path] = files_of(path, model)
        self.reading = record.reading().way_back
        self._outline = outline
        self._record = record
        self._resized: set[ir.Value] = set()
        sites = self._begin(model)
        if self._problems:  # for that one, what optimizers did is left: they go by the sizes
            self._begin(model, resized=True)
            sizes = {
                name: size
                for name, layer in self._layers.items()
                if "kernel" in layer.weights
                and (size := resized(layer.place.node, layer.weights["kernel"])) is not None
            }
            resize(outline, sizes, model)
            self._resized = {operands(outline.places[name].node)["kernel"] for name in sizes}
            sites = self._begin(model)
        self.layers: Sequence[WayBack] = [self._way_back(site) for site in sites.values()]

    def _begin(self, model: ir.Model, *, resized: bool = False) -> Mapping[str, Site]:
        """Find all layers in the file; with other numbers of filters and channels, perhaps."""
        record = self._record
        sites = {layer.name: self._site(layer.name) for layer in record.layers}
        self._model = self._restored(model, list(sites.values()), optimized=not resized)
        self._layers = self._found(sites)
        counts = {name: len(layer.nodes) for name, layer in self._layers.items()}
        self._lowerings = lowered_again(list(sites.values()), counts, record)
        self._fill(resized=resized)
        return sites

    def _site(self, name: str) -> Site:
        """A layer of the record as the convolution that it was."""
        layer = self._record.layer(name)
        assert layer is not None  # noqa: S101 - it is asked for by the names in the record
        sizes = tuple(layer.geometry["sizes"])
        place = self._outline.places.get(name)
        if place is None:
            why = "there is no convolution of that name in the original"
            return Site(name, "", None, sizes, refusal=Refusal(why, Code.NO_CONVOLUTION))
        given = operands(place.node)
        kernel = given.get("kernel")
        tensor = None if kernel is None else constant_of(kernel)
        dtype = given["x"].dtype if "x" in given else None
        dtype = dtype or (
            tensor.dtype if tensor is not None and not is_integer(place.node) else None
        )
        try:
            convolution = geometry(place.node)[0]
        except GeometryError as error:
            if tensor is not None:
                refusal = Refusal(str(error), error.code)
                return Site(name, place.node.op_type, None, sizes, refusal=refusal)
            convolution = layer.convolution()  # its kernel is computed: the record tells its shape
        kind = place.node.op_type
        return Site(name, kind, convolution, sizes, numpy_name(dtype), "bias" in given)

    def _restored(self, model: ir.Model, sites: Sequence[Site], *, optimized: bool) -> ir.Model:
        """The file with everything in its own layout, on its own axes."""
        made = {
            self._end(site.name): site.made
            for site in sites
            if site.name in self._outline.places and site.made is not None
        }
        return in_own_form(
            model, self._outline.model, made, self._record, optimized=optimized, fused=True
        )

    def _end(self, name: str) -> str:
        return self._outline.places[name].node.outputs[0].name or ""

    def _found(self, sites: Mapping[str, Site]) -> dict[str, _Layer]:
        """What is in the place of each layer: what leads to its output, by its name."""
        known = {
            own: (names_in(own), set(body), {v.name: v for node in body for v in node.outputs})
            for own, body in bodies_of(self._outline.model, self._model).items()
        }
        found = {}
        for name in (name for name, site in sites.items() if site.refusal is None):
            place = self._outline.places[name]
            names, inside, makers = known.get(place.body, (set(), set(), {}))
            end = makers.get(self._end(name))
            node = None if end is None else end.producer()
            if end is None or node is None:
                continue
            nodes = [other for other in leading_to(node, names) if other in inside]
            found[name] = _Layer(place, nodes, end)
        return found

    def _fill(self, *, resized: bool) -> None:
        """Let the emitter write all layers again, and fill the holes."""
        copy = self._outline.model.clone()
        pairs = zip(places(self._outline.model), places(copy), strict=True)
        copies = {mine.node: other for mine, other in pairs}
        own = {name: copies[self._layers[name].place.node] for name in self._lowerings}
        given = {name: operands(place.node) for name, place in own.items()}
        ends = {name: place.node.outputs[0] for name, place in own.items()}
        arranged: dict[ir.Value, Arrangement] = {}
        made = {name: (own[name], lowering) for name, lowering in self._lowerings.items()}
        there = ((layer.place, layer.nodes) for layer in self._layers.values())
        forms = forms_of(self._record, there)
        rewrite(copy, made, forms=forms, names=Names(copy), arranged=arranged)
        laid = made_of(arranged)
        self._problems: dict[str, str] = {}
        for name, layer in ((name, self._layers[name]) for name in self._lowerings):
            constant = {r: v for r, v in given[name].items() if constant_of(v) is not None}
            holes = {v: r for r, one in constant.items() for v in (one, *laid.get(one, ()))}
            names = {value.name for value in given[name].values()}
            nodes, opset = set(layer.nodes), opset_of(self._model.graph)
            found = match(ends[name], layer.end, holes, names, nodes, opset, resized=resized)
            if isinstance(found, Match):
                layer.given = found.given
                fixed = {role: v for role, v in given[name].items() if is_fixed(v)}
                layer.weights = weights_of(found, fixed, arranged)
                layer.program = found.program
            else:
                self._problems[name] = found

    def _way_back(self, site: Site) -> WayBack:
        if site.refusal is not None:
            return WayBack(site, None, refusal=site.refusal)
        lowering = self._lowerings.get(site.name)
        why = self._problems.get(site.name)
        change = Change.NOTHING
        if lowering is None:
            why = "nothing in the file can be told to be its own"
        elif why is None:
            layer = self._layers[site.name]
            given = operands(layer.place.node)
            layer.tensors = {r: tensor_of_operand(given[r], w) for r, w in layer.weights.items()}
            lost = [role for role, tensor in layer.tensors.items() if tensor is None]
            stuck = [role for role in lost if not self._is_found(site, role)]
            why = self._no_program(site, lowering)
            if why is None and stuck:
                why = why_lost(stuck[0], layer.place.node, layer.weights, site.convolution)
            elif lost or layer.program is not None or self._is_resized(layer):
                change = Change.FORM
            elif self._has_changed(layer):
                change = Change.NUMBERS
        refusal = None if why is None else Refusal(why, Code.NO_CONVOLUTION)
        return WayBack(site, lowering, change, refusal)

    def _is_resized(self, layer: _Layer) -> bool:
        return operands(layer.place.node).get("kernel") in self._resized

    def _no_program(self, site: Site, lowering: Lowering) -> str | None:
        """Why what becomes of the rows of a layer is nothing that becomes of maps, or ``None``."""
        layer, conv = self._layers[site.name], site.convolution
        if layer.program is None:
            return None
        node = layer.place.node
        plain = operator(node) == ("", "Conv", "") and lowering.form is Form.PATCHES
        if not plain or not isinstance(conv, Convolution) or "kernel" not in layer.weights:
            return "its product and its bias are not as they were, and it is no plain convolution"
        return misfit(node, conv, site.sizes, layer.program, layer.weights["kernel"].value)

    def _is_found(self, site: Site, role: str) -> bool:
        """Whether an operand that is no constant laid out is in the file all the same."""
        layer = self._layers[site.name]
        if role == "bias":
            weight = layer.weights[role]
            fits = shape_of(weight.value) in (None, known_shape(operands(layer.place.node)[role]))
            return fits and not weight.arranged and is_computed(weight.value)
        return role == "kernel" and self._steps(site) is not None

    def _steps(self, site: Site) -> Steps | None:
        """How the kernel of a layer comes from a filter matrix in another form."""
        layer, conv = self._layers[site.name], site.convolution
        weight, program = layer.weights["kernel"], layer.program
        if not isinstance(conv, Convolution) or not is_fixed(weight.value):
            return None
        blocks = steps_back(conv, laid_out(weight))
        if program is None or not is_rebuilt(program) or blocks is None:
            return blocks if is_computed(weight.value) else None
        return own_kernel(conv, program, weight.value)

    def _has_changed(self, layer: _Layer) -> bool:
        given = operands(layer.place.node)
        digests = self._outline.digests
        return any(
            tensor is not None and digests.get(given[role]) not in (None, digest(tensor))
            for role, tensor in layer.tensors.items()
        )

    @property
    def rebuilt(self) -> Sequence[OnnxRebuilt]:
        """See `Reverting.rebuilt`."""
        sites = [way.site for way in self.layers if way.refusal is None]
        return [one for site in sites if (one := self._rebuilt(site)) is not None]

    def _rebuilt(self, site: Site) -> OnnxRebuilt | None:
        layer, conv = self._layers[site.name], site.convolution
        if layer.program is None:
            return None
        assert isinstance(conv, Convolution)  # noqa: S101 - it has a program
        weight, steps, own = layer.weights["kernel"], self._steps(site), layer.place.node
        operand = Operand(weight, steps, operands(own)["kernel"])
        chain = Chain(layer.nodes, layer.end, layer.program)
        return OnnxRebuilt(site, own, operand, chain, self._model)

    def save(self, path: Path, names: Collection[str], record: str) -> Sequence[str]:
        """See `Reverting.save`."""
        apart = len(self.files) > 1
        recovery = Recovery(self._outline, self._model)
        for site in (way.site for way in self.layers if way.site.name in names):
            self._revert(site, recovery)
        recovery.tidy()
        said = raised_for_few_bits(self._model)
        props = self._model.metadata_props
        props.pop(FROZEN, None)
        props[KEY] = record
        write(self._model, path, self._outline.form, record, apart=apart)
        affine = _STAYS_FOLDED if self._record.affine else None
        return [remark for remark in (said, affine) if remark is not None]

    def _revert(self, site: Site, recovery: Recovery) -> None:
        """The end of a chain becomes the convolution."""
        layer = self._layers[site.name]
        own = layer.place.node
        filled = {
            given: self._operand(site, role, given, recovery)
            for role, given in operands(own).items()
        }
        inputs = [None if value is None else filled[value] for value in own.inputs]
        conv = site.convolution
        if layer.program is None or not isinstance(conv, Convolution):
            recovery.become(layer.end, own, inputs)
            return
        x, kernel = (filled[operands(own)[role]] for role in ("x", "kernel"))
        maps = OnMaps(recovery.emitter(layer.end), conv, site.sizes, own, layer.program)
        last = maps.write(x, kernel, layer.weights["kernel"].value)
        like = own if last.is_convolution else last.node(f"{own.name}/{last.op}")
        recovery.become(layer.end, like, last.inputs)

    def _operand(self, site: Site, role: str, own: ir.Value, recovery: Recovery) -> ir.Value:
        """What an operand of a convolution becomes."""
        layer = self._layers[site.name]
        if own.name in layer.given:
            return layer.given[own.name or ""]
        weight = layer.weights.get(role)
        tensor = layer.tensors.get(role)
        if weight is not None and tensor is None:
            steps = self._steps(site) if role == "kernel" else None
            return steps.emit(recovery.emitter(layer.end), weight.value) if steps else weight.value
        return recovery.constant(own, tensor)
