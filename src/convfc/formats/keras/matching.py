"""What stands for a layer that was converted: a model in the file, found by how it is built.

The layer is built again from its outline and converted again; where the two are built alike, the
weights of the one stand for those of the other. Names say only where to look first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import layers

from convfc.core.lowering import Lowering, PatchMethod
from convfc.core.whole import Form
from convfc.errors import GeometryError
from convfc.formats.alignment import lowered_again
from convfc.formats.keras.alignment import calls_in
from convfc.formats.keras.archive import HDF5, ZIP
from convfc.formats.keras.convolutions import PLAIN, SEPARABLE, convolutions_of, lowered
from convfc.formats.keras.factored import Factors, merged
from convfc.formats.keras.layer_pair import paired
from convfc.formats.keras.likeness import weights_of
from convfc.formats.keras.memory import held_once
from convfc.formats.keras.outline import Outline, convolution_in
from convfc.formats.keras.refusals import brief
from convfc.formats.keras.rewriting import replacement
from convfc.formats.keras.sites import Place, graph_of, is_graph
from convfc.formats.protocols import Site
from convfc.formats.provenance import LayerRecord, Provenance
from convfc.system.capacity import excess

Layer = Any
"""A `keras.Layer` or a `keras.Model`; keras has no types."""

_HELD = 24
"""Bytes per number of a matrix: in the file, as convfc makes it, and the place of it."""
_OTHER_SIZES = "its weights are of other sizes than those of its convolution"


@dataclass(frozen=True)
class Part:
    """A convolution layer to be given its numbers.

    Attributes:
        layer: the convolution.
        lowering: how it was converted.
        weights: those of the file, in the order in which its products take them.
    """

    layer: Layer
    lowering: Lowering
    weights: Sequence[Any]


@dataclass(frozen=True)
class Match:
    """A converted layer in the file.

    Attributes:
        made: the model in the layer's place.
        layer: what takes its place: the convolution, its wrapper, or two of them in a row.
        site: the convolution.
        parts: the convolutions in `layer`.
        reshaped: whether it has another form than it had: another number of channels or filters,
            a bias more or less, or two products for one.
    """

    made: Layer
    layer: Layer
    site: Site
    parts: Sequence[Part]
    reshaped: bool


def graphs_in(model: Layer) -> dict[str, Layer]:
    """The models in a model, at any depth, by their paths; see `Outline.path`."""
    found: dict[str, Layer] = {}

    def look(layer: Layer, path: str) -> None:
        if type(layer) is layers.TimeDistributed:
            look(layer.layer, f"{path}/{layer.layer.name}")
        elif is_graph(layer):
            found[path] = layer
            look_into(layer, f"{path}/")

    def look_into(graph: Layer, prefix: str) -> None:
        for operation in graph_of(graph).operations:
            look(operation, prefix + operation.name)

    look_into(model, "")
    return found


class Matcher:
    """Takes models of a file for what layers were converted to.

    Args:
        file_format: of the file.
        record: of the file; one without layers says nothing.
        most: bytes that the weights of a layer may take.
        ends_masks: see `replacement`.
    """

    def __init__(
        self, file_format: str, record: Provenance, most: int, *, ends_masks: bool
    ) -> None:
        # A file of the one format may have been saved as one of the other.
        self._kinds = (file_format, HDF5 if file_format == ZIP else ZIP)
        self._record = record
        self._most = most
        self._ends_masks = ends_masks

    def match(self, outline: Outline, made: Layer) -> Match | str:
        """Take a model for what a layer was converted to.

        Returns:
            In words, what of the model is not as convfc makes it, if anything is.
        """
        found = self._match(outline, made)
        split = merged(made) if isinstance(found, str) else None
        if split is None:
            return found
        whole, factors = split
        as_one = self._match(outline, whole)
        in_two = None if isinstance(as_one, str) else _in_two(as_one, factors)
        return found if in_two is None else replace(in_two, made=made)

    def _match(self, outline: Outline, made: Layer) -> Match | str:
        why = None
        for use_bias in (outline.use_bias, not outline.use_bias):
            again = self._again(outline, made, use_bias)
            if isinstance(again, str):
                why = why or again
                continue
            config, layer = again
            inner = convolution_in(layer)
            place = Place(outline.name, inner, shapes=[tuple(made.inputs[0].shape)])
            for kind in self._kinds:
                site = place.site(kind)
                for lowering in _lowerings(site, made, self._record):
                    found = self._compared(inner, made, lowering, kind)
                    if not isinstance(found, str):
                        parts = [Part(inner, lowering, found)]
                        return Match(made, layer, site, parts, config != outline.layer)
                    why = why or found
        return why or _OTHER_SIZES

    def _again(
        self, outline: Outline, made: Layer, use_bias: bool
    ) -> tuple[dict[str, Any], Layer] | str:
        """What Keras writes of a layer, and it; or why there is none that fits the model."""
        try:
            config = outline.fitted(made, use_bias=use_bias)
            with held_once(self._most):
                return config, outline.built(config, made)
        except Exception as error:  # whatever Keras says of numbers that do not go, or classes
            return f"its convolution cannot be made again: {brief(error)}"

    def _compared(
        self, layer: Layer, made: Layer, lowering: Lowering, kind: str
    ) -> Sequence[Any] | str:
        """The weights of a model that stand for those of the products, or what is different."""
        sizes = [
            size
            for each, its in lowered(layer, lowering)
            for size in (its.inner.weights, *([] if each.bias is None else [its.inner.filters]))
        ]
        weights = [weight for inner in made.layers for weight in weights_of(inner)]
        if sorted(sizes) != sorted(math.prod(weight.shape) for weight in weights):
            return _OTHER_SIZES
        if lowering.form is Form.DENSE and (why := excess(_HELD * sum(sizes))) is not None:
            return f"its matrix: {why}"
        with held_once():
            expected, _ = replacement(layer, lowering, kind, ends_masks=self._ends_masks)
        found = paired(expected, made)
        if found.faults:
            return found.faults[0].said
        of = found.weights
        return [of[id(weight)] for weight in expected.weights if id(weight) in of]


def _in_two(match: Match, factors: Factors) -> Match | None:
    """The convolution whose last product was split, as two; ``None`` if that cannot be."""
    (part,) = match.parts
    layer, lowering = part.layer, part.lowering
    last = len(part.weights) - 1 - layer.use_bias
    plain = match.layer is layer and isinstance(layer, (*PLAIN, *SEPARABLE))
    # A Dense may also be the product of each group, one after the other.
    plain = plain and getattr(layer, "groups", 1) == 1 and lowering.form is not Form.DENSE
    if not plain or part.weights[last] is not factors.product.kernel:
        return None
    narrow, wide = _two_of(layer, factors)
    both = keras.Sequential([narrow, wide], name=layer.name)
    both.build(tuple(match.made.inputs[0].shape))
    first = replace(lowering, convolution=convolutions_of(narrow)[0].geometry)
    point = convolutions_of(wide)[0].geometry
    second = Lowering(point, first.output, PatchMethod.NONE)
    kept = part.weights[:last]
    parts = [
        Part(narrow, first, [*kept, *factors.first.weights]),
        Part(wide, second, factors.second.weights),
    ]
    site = replace(match.site, convolution=first.convolution, rest=(*match.site.rest[:-1], point))
    return Match(match.made, both, site, parts, reshaped=True)


def _two_of(layer: Layer, factors: Factors) -> tuple[Layer, Layer]:
    """A convolution with as many filters as there are between the factors, and a pointwise one."""
    config = {**layer.get_config(), "filters": factors.first.units, "activation": "linear"}
    config |= {"use_bias": factors.first.use_bias, "activity_regularizer": None}
    wide = PLAIN[layer.rank - 1](
        layer.filters,
        1,
        name=f"{layer.name}_pointwise",
        activation=layer.activation,
        activity_regularizer=layer.activity_regularizer,
        use_bias=layer.use_bias,
        data_format=layer.data_format,
        dtype=layer.dtype_policy,
    )
    return type(layer).from_config(config), wide


def _lowerings(site: Site, made: Layer, record: Provenance) -> Iterator[Lowering]:
    """All ways in which it may have been converted, that of the record first."""
    if site.convolution is None or site.refusal is not None:
        return
    operations = {site.name: len(graph_of(made).operations)}
    told, block = record.layer(site.name), _block(site, made)
    records = [] if told is None else [told]
    records.append(LayerRecord(site.name, PatchMethod.NONE.value, {}, form=Form.DENSE.value))
    records += [LayerRecord(site.name, method.value, {}, block) for method in PatchMethod]
    seen: list[Lowering] = []
    for each in records:
        try:
            one = replace(record, layers=(each,))
            found = lowered_again([site], operations, one).get(site.name)
        except GeometryError:  # its window does not fit any more
            return
        if found is not None and found not in seen:
            seen.append(found)
            yield found


def _block(site: Site, made: Layer) -> tuple[int, ...]:
    """The block of a converted layer, by how often its product is there."""
    assert site.convolution is not None  # noqa: S101 - it is asked for none
    weighted = [layer for layer in made.layers if weights_of(layer)]
    sums = [one for one in graph_of(made).operations if type(one).__name__ == "Sum"]
    pieces = max([len(sums), *(len(calls_in(graph_of(made), layer)) for layer in weighted)])
    block = []
    for size in site.convolution.inner(site.sizes).output(site.sizes):
        if size is None or pieces <= 1:
            break
        block.append(-(-size // min(pieces, size)))
        pieces = -(-pieces // size)
    return tuple(block)
