"""What a model takes on what it is fed: sizes that its file leaves open follow from that."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType

import onnx
import onnx_ir as ir

from convfc.core.geometry import Sizes
from convfc.formats.demand import Demand
from convfc.formats.onnx.negative_sizes import at_risk
from convfc.formats.onnx.operators import known_shape
from convfc.formats.onnx.shape_inference import MOST_FOLLOWED, infer
from convfc.formats.onnx.sites import open_layers, places, steps_of
from convfc.formats.protocols import Feed, Site
from convfc.system import capacity, rehearsal
from convfc.system.atomic import temporary_folder

_MOST_NODES = 20_000
"""Of a model of which the sizes are followed anew: it takes a tenth of a millisecond for each."""

Shapes = tuple[tuple[str, tuple[int, ...]], ...]


class Demands:
    """What one model takes on one feed or another.

    Sizes that depend on the numbers fed, as behind a NonZero, are not known before they are run.

    Args:
        inferred: the model with all shapes that follow from its file.
        sites: its convolutions.
    """

    def __init__(self, inferred: ir.Model, sites: Sequence[Site] = ()) -> None:
        self._inferred = inferred
        self._whole = open_layers(inferred)
        self._stated = Demand.of(steps_of(inferred, self._whole), sites)
        made = _made(inferred)
        nodes = sum(1 for _ in places(inferred))
        self._open = nodes <= _MOST_NODES and not _all_known(made)
        self._only_batch = all(s is not None and None not in s[1:] for s in made)
        self._found: dict[Shapes, Demand] = {}

    def check(self, feed: Feed, name: str, times: int = 1) -> None:
        """See that a run can end; see `Demand.check`.

        Raises:
            UnsupportedModelError: it takes more memory than there is, or hours.
        """
        self._stated.check(feed, name, times)
        if self._open:
            shapes = tuple((key, array.shape) for key, array in feed.items())
            if shapes not in self._found:
                self._found[shapes] = self._fed(feed)
            self._found[shapes].check(feed, name, times)

    def _fed(self, feed: Feed) -> Demand:
        # Where onnx may abort, a child would tell little more of a batch.
        copy, in_child = self._inferred.clone(), not self._only_batch
        found, _ = demand_of(copy, feed, self._whole, in_child=in_child)
        return self._stated if found is None else replace(found, products=self._stated.products)


def demand_of(
    model: ir.Model,
    feed: Feed,
    whole: Mapping[str, int] = MappingProxyType({}),
    *,
    in_child: bool = True,
) -> tuple[Demand | None, bool]:
    """What a model takes on a feed, convolutions apart.

    Args:
        model: its shapes are overwritten, and its weights may go.
        feed: by the names of its inputs.
        whole: see `open_layers`.
        in_child: whether to follow its sizes in a child where onnx may abort the process.

    Returns:
        ``None`` if that could not be found out; and whether all sizes could.
    """
    for value in model.graph.inputs:
        if value.name is not None and value.name in feed:
            value.shape = ir.Shape(feed[value.name].shape)
    if not at_risk(model):
        return _followed(model, whole)
    if not in_child:
        return None, False
    _let_go_of_weights(model)
    with temporary_folder() as folder:
        path = folder / "model.onnx"
        path.write_bytes(ir.to_proto(model).SerializeToString())
        names = json.dumps(dict(whole))
        _, said = rehearsal.rehearse(__name__, path, names, memory=capacity.memory())
    with suppress(ValueError):
        fixed, each, known = json.loads(said)
        return Demand(fixed, each), known
    return None, False


def _followed(model: ir.Model, whole: Mapping[str, int]) -> tuple[Demand, bool]:
    infer(model)
    return Demand.of(steps_of(model, whole), ()), _all_known(_made(model))


def _made(inferred: ir.Model) -> list[Sizes | None]:
    """The shape of everything that a node makes."""
    return [known_shape(value) for place in places(inferred) for value in place.node.outputs]


def _all_known(shapes: Iterable[Sizes | None]) -> bool:
    return all(shape is not None and None not in shape for shape in shapes)


def _let_go_of_weights(model: ir.Model) -> None:
    """Make inputs of all constants from which no sizes follow: their own shapes are enough."""
    for graph in model.graphs():
        for value in list(graph.initializers.values()):
            tensor = value.const_value
            if graph is model.graph and tensor is not None and tensor.size > MOST_FOLLOWED:
                graph.initializers.pop(value.name or "")
                value.const_value = None
                if value not in graph.inputs:
                    graph.inputs.append(value)


def main(path: str, whole: str) -> None:
    """Follow the sizes of a model in a process that onnx may abort, and say what it takes."""
    with suppress(Exception):
        model = ir.serde.deserialize_model(onnx.load_model(path))
        found, known = _followed(model, json.loads(whole))
        os.write(1, json.dumps([found.fixed, found.each, known]).encode())
    os._exit(0)
