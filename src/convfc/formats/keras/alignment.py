"""Two Keras models side by side: which layers were converted, and what else differs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import layers

from convfc.formats.keras.internals import calls_of, calls_to, flat_layers
from convfc.formats.keras.likeness import (
    Described,
    described,
    first_unlike,
    lacking,
    plain,
    state_unlike,
)
from convfc.formats.keras.lockstep import Fault, Pairing, lockstep
from convfc.formats.keras.sites import graph_of, is_graph, is_normed, trains_always

Layer = Any
"""A `keras.Layer`, a `keras.Model` or an operation; keras has no types."""

_SHOWN = 3
"""How many things a remark lists."""


@dataclass
class Cuts:
    """All of a converted model, cut along its convolutions.

    Attributes:
        made: what took the place of a convolution, by the `id` of the original's layer.
        differences: what else is certainly not as it was, a sentence each.
        unknown: what else is built otherwise, so that it may matter.
        training: what is not as it was and matters to training only, a phrase each.
        renamed: layers that only have another name, a phrase each.
    """

    made: dict[int, Layer] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    training: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)

    @property
    def remarks(self) -> list[str]:
        """What does not change the function, a sentence each."""
        found = [("computes the same, trains differently", self.training)]
        found.append(("computes the same, is called otherwise", self.renamed))
        return [f"{what}: {_listed(phrases)}" for what, phrases in found if phrases]


def _listed(phrases: Sequence[str]) -> str:
    more = len(phrases) - _SHOWN
    return "; ".join(phrases[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def cut(
    original: Layer, converted: Layer, convolutions: Set[int], apart: Set[int] = frozenset()
) -> Cuts:
    """Cut a converted model along the layers that were converted.

    Args:
        original: a stock Sequential or Functional model.
        converted: the model made from it.
        convolutions: the original's convolutions, by the `id` of the layer.
        apart: layers of the original's that stand for some themselves, by `id`: their numbers are
            not looked at.
    """
    strict = trains_always(original) or trains_always(converted)
    cutter = _Cutter(original, convolutions, apart, strict)
    cutter.note(cutter.unlike(original, converted, ""), "", set(), set())
    cutter.found.training += _compiled_unlike(original, converted)
    return cutter.found


class _Cutter:
    """Compares two models, layer by layer, at any depth.

    Args:
        root: the original.
        convolutions, apart: see `cut`.
        strict: whether settings for training decide what is computed.
    """

    def __init__(self, root: Layer, convolutions: Set[int], apart: Set[int], strict: bool) -> None:
        self.found = Cuts()
        self._root = root
        self._convolutions, self._apart = convolutions, apart
        self._strict = strict
        self._stock = all(type(x).__module__.startswith("keras.") for x in flat_layers(root))
        self._stands_for: tuple[dict[int, Layer], dict[int, Layer]] = ({}, {})
        self._compared: set[tuple[int, int]] = set()

    def unlike(self, a: Layer, b: Layer, where: str) -> list[Fault]:
        """What is different about two operations of which the second stands for the first.

        What is in a model is compared, too, but is no fault of it as a whole.
        """
        name = f"{where}{a.name}"
        if self._normed(a) and is_graph(b) and not self._strict:
            self.found.training.append(f"layer '{name}' is without its norm")
            return self.unlike(a.layer, b, f"{name}/")
        faults = list(self._one_to_one(a, b))
        if id(a) in self._convolutions and is_graph(b):
            self.found.made[id(a)] = b
            return faults + self._settings(a, b, name, *map(_flag, (a, b)))
        if type(a) is not type(b):
            words = f"is a {type(b).__name__}, it was a {type(a).__name__}"
            return [Fault(a, b, words, certain=not (is_graph(a) and is_graph(b)))]
        if is_graph(a):
            self._graphs(a, b, name)
            return faults + self._settings(a, b, name, *map(_of_graph, (a, b)))
        if type(a) is layers.TimeDistributed:
            inside = self.unlike(a.layer, b.layer, f"{name}/")
            faults += [Fault(a, b, f"holds another: it {x.words}", x.certain) for x in inside]
            own = (described(layer, frozenset({"layer"})) for layer in (a, b))
            return faults + self._settings(a, b, name, *own)
        faults += self._settings(a, b, name, described(a), described(b))
        if id(a) in self._apart:
            self.found.made[id(a)] = b
            return faults
        difference = None if faults else state_unlike(a, b)
        return faults if difference is None else [Fault(a, b, difference)]

    def _normed(self, layer: Layer) -> bool:
        """Whether it is a convolution in a wrapper that does something in training only."""
        return is_normed(layer) and id(layer.layer) in self._convolutions

    def _settings(
        self, a: Layer, b: Layer, name: str, old: Described, new: Described
    ) -> list[Fault]:
        faults = []
        words = first_unlike(old.computes, new.computes)
        if words is not None:
            faults.append(Fault(a, b, f"has other settings: {words}"))
        words = first_unlike(old.trains, new.trains)
        if words is not None and self._strict:
            faults.append(Fault(a, b, f"is called as in training, with other settings: {words}"))
        elif words is not None:
            self.found.training.append(f"layer '{name}': {words}")
        words = first_unlike(old.built, new.built)
        if words is not None and not _may_be_same(old.built, new.built):
            faults.append(Fault(a, b, f"was built for other shapes: {words}", certain=False))
        return faults

    def _one_to_one(self, a: Layer, b: Layer) -> Iterator[Fault]:
        """A layer with numbers of its own stands for one; else it is shared in one file only."""
        if getattr(a, "variables", ()) or getattr(b, "variables", ()):
            there, back = self._stands_for
            if there.setdefault(id(a), b) is not b or back.setdefault(id(b), a) is not a:
                yield Fault(a, b, "is one layer in one of the files, two in the other", False)

    def _graphs(self, a: Layer, b: Layer, name: str) -> None:
        """Compare two models: how their layers are connected, and each of these."""
        if (id(a), id(b)) in self._compared:
            return
        self._compared.add((id(a), id(b)))
        where = "" if a is self._root else f"{name}/"
        pairing = lockstep(
            a,
            b,
            lambda old, new: self.unlike(old, new, where),
            lambda operation: id(operation) in self._convolutions or self._normed(operation),
            masks_told=a is self._root and self._stock,
        )
        left, right = _names(a), _names(b)
        self._note_names(pairing, a, where, left.keys() & right.keys())
        self.note(pairing.faults, where, left.keys(), right.keys(), name)
        if pairing.faults:
            self._by_name(pairing, where, left, right)

    def _note_names(self, pairing: Pairing, graph: Layer, where: str, both: Set[str]) -> None:
        """Note layers that are called otherwise; it is by their names that inputs are fed.

        Two that only have each other's names are no fault; if there is one, it is that one of them
        is read in the place of the other.
        """
        faulty = bool(pairing.faults)
        fed_by_name = graph is self._root or len(graph_of(graph).inputs) > 1
        for old, new in pairing.pairs:
            if old.name == new.name or not isinstance(old, keras.Layer):
                continue
            if isinstance(old, layers.InputLayer):
                if fed_by_name:
                    words = f"calls its input '{new.name}', not '{old.name}'"
                    pairing.faults.append(Fault(None, None, words))
            elif faulty and {old.name, new.name} <= both:
                pairing.faults.insert(0, Fault(old, new, "is read in its place"))
            else:
                self.found.renamed.append(f"layer '{where}{old.name}' is '{new.name}'")

    def note(
        self, faults: Sequence[Fault], where: str, left: Set[str], right: Set[str], name: str = ""
    ) -> None:
        """Sort faults: what stands for what is certain where the names say so, too.

        Args:
            faults: of the operations of one model.
            where: what their names begin with.
            left: names of all layers of the original's model.
            right: the same of the converted one.
            name: of the model.
        """
        for fault in faults:
            if fault.old is None or fault.new is None:
                self.found.differences.append(f"the model '{name}' {fault.words}")
                continue
            old, new = fault.old.name, fault.new.name
            exchanged = old != new and {old, new} <= left & right
            certain = exchanged or (fault.certain and old == new)
            kind = self.found.differences if certain else self.found.unknown
            other = "" if old == new else f" (now '{new}')"
            kind.append(f"layer '{where}{old}'{other} {fault.words}")

    def _by_name(
        self, pairing: Pairing, where: str, left: dict[str, Layer], right: dict[str, Layer]
    ) -> None:
        """Compare what the walk did not come to, layer by layer."""
        seen = {id(layer) for pair in pairing.pairs for layer in pair}
        for name in left | right:
            old, new = left.get(name), right.get(name)
            if old is None or new is None:
                self.found.unknown.append(f"layer '{where}{name}' is in one of the files only")
            elif id(old) not in seen and id(new) not in seen:
                self.note(self.unlike(old, new, where), where, {name}, {name})


def _names(graph: Layer) -> dict[str, Layer]:
    return {x.name: x for x in graph_of(graph).operations if isinstance(x, keras.Layer)}


def _may_be_same(old: Any, new: Any) -> bool:
    """Whether shapes are the same as far as both are known: a conversion may lose a size."""
    if isinstance(old, dict) and isinstance(new, dict):
        old, new = [old.get(key) for key in old | new], [new.get(key) for key in old | new]
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_may_be_same, old, new))
    return old is None or new is None or bool(old == new)


def _flag(layer: Layer) -> Described:
    return Described({}, {"trainable": layer.trainable}, {})


def _of_graph(graph: Layer) -> Described:
    """The settings of a model itself."""
    policy = keras.saving.serialize_keras_object(graph.dtype_policy)
    return Described({"dtype": policy}, {"trainable": graph.trainable}, {})


def calls_in(graph: Layer, operation: Layer) -> list[Any]:
    """The calls of an operation that are a graph's own: a layer may be called in several."""
    own = set(map(id, calls_of(graph)))
    return [call for call in calls_to(operation) if id(call) in own]


def _compiled_unlike(a: Layer, b: Layer) -> Iterator[str]:
    """How the training setup of two models differs; `convert` says it where it begins afresh."""
    if a.compiled != b.compiled:
        yield "one of the models is compiled"
    if not (a.compiled and b.compiled):
        return
    setups = [plain(model.get_compile_config()) for model in (a, b)]
    for setup in setups:  # Keras numbers the names of optimizers anew
        setup["optimizer"] = lacking(setup["optimizer"], "name")
    words = first_unlike(*setups)
    if words is not None:
        yield words
    elif a.optimizer.built and b.optimizer.built and int(b.optimizer.iterations):
        pairs = zip(a.optimizer.variables, b.optimizer.variables, strict=False)
        if any(np.asarray(x).tobytes() != np.asarray(y).tobytes() for x, y in pairs):
            yield "the optimizer's state"
