"""Two graphs of Keras side by side, walked from their outputs backwards, call by call.

What stands for what is found by wiring alone: a layer's calls are told apart by what they are fed,
and neither the order in which Keras lists layers and calls nor the names of them matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from convfc.formats.keras.internals import calls_to, mask_on, source
from convfc.formats.keras.likeness import Operation, spread, weights_of
from convfc.formats.keras.sites import graph_of

Tensor = Any
"""A `keras.KerasTensor`; keras has no types."""
Call = Any
"""A node of Keras: one call of an operation."""


@dataclass(frozen=True)
class Fault:
    """One thing that is different.

    Attributes:
        old: the operation of the original that it is about; ``None``: the graph as a whole.
        new: what stands in its place.
        words: what is different.
        certain: whether these two are known to be different in what they compute.
    """

    old: Operation | None
    new: Operation | None
    words: str
    certain: bool = True

    @property
    def said(self) -> str:
        """What is different, and about which operation of the second graph."""
        return self.words if self.new is None else f"'{self.new.name}' {self.words}"


@dataclass
class Pairing:
    """What a walk found.

    Attributes:
        pairs: the operations that stand for each other, in the order of the walk; a shared one
            stands for another once.
        faults: what is different.
    """

    pairs: list[tuple[Operation, Operation]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    @property
    def weights(self) -> dict[int, Any]:
        """The weights of the second graph by the `id` of those of the first; no faults, please."""
        each = ((weights_of(old), weights_of(new)) for old, new in self.pairs)
        return {id(a): b for old, new in each for a, b in zip(old, new, strict=True)}


def lockstep(
    left: Operation,
    right: Operation,
    unlike: Callable[[Operation, Operation], Sequence[Fault]],
    deaf: Callable[[Operation], bool] = lambda _: False,
    *,
    masks_told: bool = False,
) -> Pairing:
    """Walk through two graphs at once.

    Args:
        left: a stock Sequential or Functional model.
        right: another.
        unlike: what is different about two operations that stand for each other; asked once for
            each pair. Where anything is, what feeds them is not looked at.
        deaf: whether an operation of the left graph heeds no mask, while what stands for it is
            given the one on its input.
        masks_told: whether the mask on a tensor of a graph is the one that it has when the model
            runs; see `_spell_out_mask`.
    """
    left, right = graph_of(left), graph_of(right)
    found = Pairing()
    known: dict[tuple[int, int], bool] = {}
    seen: set[tuple[int, int]] = set()
    doors = [{_source(x): number for number, x in enumerate(g.inputs)} for g in (left, right)]
    todo: list[tuple[Operation, Operation, Tensor, Tensor]] = []
    for what, old, new in (
        ("outputs", left.output, right.output),
        ("inputs", left.input, right.input),
    ):
        ours, theirs = _unwrapped(old), _unwrapped(new)
        if [path for path, _ in ours] != [path for path, _ in theirs]:
            found.faults.append(
                Fault(None, None, f"has {what} that are nested or called otherwise")
            )
        todo += [(None, None, a, b) for (_, a), (_, b) in zip(ours, theirs, strict=False)]
    todo.reverse()

    def alike(old: Operation, new: Operation) -> bool:
        key = id(old), id(new)
        if key not in known:
            found.pairs.append((old, new))
            faults = unlike(old, new)
            found.faults.extend(faults)
            known[key] = not faults
        return known[key]

    while todo:
        reader, other, a, b = todo.pop()
        (old, old_call, old_output), (new, new_call, new_output) = map(history, (a, b))
        if doors[0].get(_source(a)) != doors[1].get(_source(b)):
            words = f"reads '{new.name}' where it read '{old.name}'"
            found.faults.append(Fault(reader, other, words, reader is not None))
            continue
        if old_output != new_output:
            words = f"reads output {new_output} of '{new.name}' where it read output {old_output}"
            found.faults.append(Fault(reader, other, words, reader is not None))
            continue
        if (id(old_call), id(new_call)) in seen:
            continue
        seen.add((id(old_call), id(new_call)))
        if not alike(old, new):
            continue
        given = [_given(call) for call in (old_call, new_call)]
        if deaf(old):
            _mask_alike(*given)
        elif masks_told:
            _spell_out_mask(*given)
        fed = [dict(spread(arguments)) for arguments in given]
        for where in sorted(fed[0].keys() | fed[1].keys()):
            x, y = (leaves.get(where) for leaves in fed)
            tensors = isinstance(x, keras.KerasTensor) + isinstance(y, keras.KerasTensor)
            if tensors == 2:
                todo.append((old, new, x, y))
            elif tensors == 1 or x != y:
                implied = where == ".mask" and (x is None or y is None) and not masks_told
                words = f"is given another {where.lstrip('.')}"
                found.faults.append(Fault(old, new, words, certain=not implied))
    return found


def history(tensor: Tensor) -> tuple[Operation, Call, int]:
    """The operation, the call of it and the output of that, which a tensor comes from."""
    operation, call, output = source(tensor)
    return operation, calls_to(operation)[call], output


def _source(tensor: Tensor) -> tuple[int, int, int]:
    operation, call, output = source(tensor)
    return id(operation), call, output


def _unwrapped(structure: Any) -> list[tuple[Any, Tensor]]:
    """Tensors by their paths; Keras takes a list of one for the one."""
    if isinstance(structure, list | tuple) and len(structure) == 1:
        return _unwrapped(structure[0])
    return [(path, x) for path, x in keras.tree.flatten_with_path(structure)]


def _given(call: Call) -> dict[str, Any]:
    """What a call is given; a ``None`` is what a layer takes for nothing given."""
    by_name = {
        name: value
        for name, value in call.arguments.kwargs.items()
        if any(item is not None for item in keras.tree.flatten(value))
    }
    return {**{f"#{i}": value for i, value in enumerate(call.arguments.args)}, **by_name}


def _mask_alike(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Leave a mask to compare only where one is given that is not on the tensor anyway.

    A layer that heeds no mask is not given the one on its input; Keras gives it to the model that
    stands for it, and that ends it. A mask from elsewhere might go on from there.
    """
    if old.get("training") is False:  # which a convolution is not told, nor what stands for it
        new.setdefault("training", False)
    old.pop("mask", None)
    mask = mask_on(old.get("#0"))
    if mask is not None and "mask" in new:
        old["mask"] = mask


def _spell_out_mask(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Where one call says its mask and the other none, that is given the one on its input.

    Whether a call says it is an accident: Keras notes the mask that it finds on the input, unless
    the call also says something else, such as `training`. Either way `Layer.__call__` hands on the
    one that the input has when the model runs, if the input is the only tensor that is given. In a
    graph whose own inputs have no mask this is what the tensors of the graph say: each mask is made
    by the same `compute_mask` of the same layer, of what the layer is given. Inside a model that is
    called with a mask it need not be: the graph was built without.
    """
    for told, silent in ((old, new), (new, old)):
        tensors = [
            leaf
            for value in silent.values()
            for _, leaf in spread(value)
            if isinstance(leaf, keras.KerasTensor)
        ]
        mask = mask_on(silent.get("#0")) if len(tensors) == 1 else None
        if "mask" in told and "mask" not in silent and mask is not None:
            silent["mask"] = mask
