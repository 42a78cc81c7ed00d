"""The inputs of a model as they are going to be fed: sizes, batch axes, what has equal sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from convfc.errors import DataError
from convfc.samples.slots import Slot, is_float

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from convfc.formats.protocols import Port


_NO_NAMES = ("any", "dynamic", "none", "unknown")


def make_slots(ports: Sequence[Port], shapes: Mapping[str, Sequence[int]]) -> list[Slot]:
    """The inputs with their sizes and batch axes.

    The batch is axis 0 of the main input, and every axis of the same name or size at the front of
    another input, or behind the layers of a recurrent state.

    Args:
        ports: the inputs of the model.
        shapes: by input name, every size of an input, where the caller says so.

    Raises:
        DataError: a shape that the input does not take; none for an input of unknown rank.
    """
    sizes = {port.name: _sizes(port, shapes.get(port.name)) for port in ports}
    batched = [port for port in ports if sizes[port.name]]
    main = max(batched, key=lambda port: _claim(port, len(sizes[port.name])), default=None)
    batch = sizes[main.name][0] if main else None
    name = _symbol(main, 0) if main else None
    # A name that stands where no batch does is that of a length, wherever else it stands.
    lengths = {
        _symbol(port, axis)
        for port in ports
        for axis in range(len(sizes[port.name]))
        if axis not in _candidates(sizes[port.name], batch)
    } - {name, None}

    def slot(port: Port) -> Slot:
        own = sizes[port.name]
        named = [x for x in range(len(own)) if name is not None and _symbol(port, x) == name]
        found = named or [
            axis
            for axis in _candidates(own, batch)
            if own[axis] in (None, batch)
            and not (own[axis] is None and _symbol(port, axis) in lengths)
        ]
        return Slot(port, own, found[0] if found else None, frozenset(named[1:]))

    return [slot(port) for port in ports]


def tied(slots: Sequence[Slot], given: Mapping[str, Sequence[int]]) -> list[Slot]:
    """The slots, with one size for all open axes of one name.

    Args:
        slots: what `make_slots` returned.
        given: by input name, the shapes of arrays that it is fed; these are taken as they are.
    """
    known: dict[str, int] = {}
    wanted: dict[str, int] = {}
    for slot in slots:
        for axis, name in _lengths(slot):
            size = given[slot.port.name][axis] if slot.port.name in given else slot.sizes[axis]
            if size is not None:
                known.setdefault(name, size)
            else:
                wanted[name] = max(wanted.get(name, 0), slot.open_size(axis))
    sizes = wanted | known

    def fixed(slot: Slot) -> Slot:
        names = dict(_lengths(slot))
        return replace(
            slot,
            sizes=tuple(
                sizes[names[axis]] if size is None and axis in names else size
                for axis, size in enumerate(slot.sizes)
            ),
        )

    return [slot if slot.port.name in given else fixed(slot) for slot in slots]


def _lengths(slot: Slot) -> Iterator[tuple[int, str]]:
    """The axes that have a name and do not go with the batch."""
    for axis in range(len(slot.sizes)):
        name = _symbol(slot.port, axis)
        if name is not None and axis != slot.axis and axis not in slot.follows:
            yield axis, name


def _symbol(port: Port, axis: int) -> str | None:
    """The name of a size; what exporters write where they know none is no name."""
    name = port.symbols[axis] if axis < len(port.symbols) else None
    return name if name and name.isidentifier() and name.lower() not in _NO_NAMES else None


def _candidates(shape: Sequence[int | None], batch: int | None) -> list[int]:
    """The axis that may be the batch, going by sizes alone."""
    if shape and shape[0] in (None, batch):
        return [0]
    # The state of a recurrent network: (layers, batch, features).
    return [1] if len(shape) == 3 and shape[1] in (None, batch) else []


def _claim(port: Port, rank: int) -> tuple[bool, bool, bool, int]:
    """How much an input looks like the one whose axis 0 is the model's batch."""
    leaves_batch_open = port.shape is None or port.shape[0] is None
    return rank >= 4, is_float(port), leaves_batch_open, rank


def _sizes(port: Port, wanted: Sequence[int] | None) -> tuple[int | None, ...]:
    """The sizes of an input, those that the caller set included."""
    if wanted is None:
        if port.shape is None and "(" in port.dtype:  # a sequence, a map: a type that holds others
            raise DataError(f"input {port.name!r} takes a {port.dtype}, which is not made up here")
        if port.shape is None:
            raise DataError(
                f"input {port.name!r} has no known shape: give it one with --shape {port.name}=DIMS"
            )
        return port.shape
    known = port.shape if port.shape is not None else (None,) * len(wanted)
    fits = len(known) == len(wanted) and all(
        size > 0 and own in (None, size) for own, size in zip(known, wanted, strict=True)
    )
    if not fits:
        own = ", ".join("any" if size is None else str(size) for size in known)
        raise DataError(f"input {port.name!r} takes the shape ({own}), not {tuple(wanted)}")
    return tuple(wanted)
