"""Hostile values in any field of a protobuf message, found by its descriptors."""

from __future__ import annotations

from random import Random
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor

from tests.campaign import fields
from tests.fuzz import hostile

NOT_UTF8 = "not_utf8_here"
"""Stands in a text for bytes that protobuf's own setters refuse; see `serialized`."""

_WHOLE = {
    getattr(FieldDescriptor, f"TYPE_{name}") for name in ("INT32", "INT64", "UINT32", "UINT64")
}
_REALS = {FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE}


def serialized(model: onnx.ModelProto) -> bytes:
    """The bytes of a model, with those that are no UTF-8 in it."""
    bad = (b"\xff\xfe\x80\xc0\xed\xa0\x80" * 2)[: len(NOT_UTF8)]
    return bytes(model.SerializeToString()).replace(NOT_UTF8.encode(), bad)


def field(model: onnx.ModelProto, random: Random) -> str:
    """Any field, with a value that nobody expects there."""
    path, message, descriptor = fields.chosen(model, random)
    repeated = descriptor.is_repeated
    if descriptor.type == FieldDescriptor.TYPE_MESSAGE:
        if repeated:
            return f"{path}: {_many(getattr(message, descriptor.name), random)}"
        getattr(message, descriptor.name).SetInParent()
        return f"{path}: there"
    items = getattr(message, descriptor.name)
    at = random.randrange(len(items)) if repeated and len(items) else None
    old = items if not repeated else items[at] if at is not None else None
    new = _value(descriptor, old, random)
    if not repeated:
        setattr(message, descriptor.name, new)
    elif at is None or random.random() < 0.2:
        items.extend([new] * random.choice([1, 1, 3, 40]))
    else:
        items[at] = new
    return f"{path}: {str(new)[:40]!r}"


def _many(items: Any, random: Random) -> str:
    """Fewer, more or others of the messages in a list."""
    if not len(items) or random.random() < 0.15:
        items.add()
        return "an empty one more"
    how, at = random.choice(["gone", "all gone", "many", "twice", "turned"]), random.choice(items)
    copies = list(map(_copy, items))
    if how == "twice":
        copies.append(_copy(at))
    elif how == "many":
        copies += [_copy(at) for _ in range(60)]
    elif how == "gone":
        copies.remove(at)
    else:
        copies = [] if how == "all gone" else copies[::-1]
    del items[:]
    items.extend(copies)
    return how


def _copy(message: Any) -> Any:
    made = type(message)()
    made.CopyFrom(message)
    return made


def _value(descriptor: FieldDescriptor, old: Any, random: Random) -> Any:
    if descriptor.type == FieldDescriptor.TYPE_ENUM:  # it takes no others
        return random.choice([value.number for value in descriptor.enum_type.values])
    if descriptor.type in _WHOLE:
        wide = hostile.integer(random, old or 0)
        narrow = descriptor.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_UINT32)
        signed = descriptor.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64)
        most = (1 << ((32 if narrow else 64) - signed)) - 1
        return max(-most - 1 if signed else 0, min(wide, most))
    if descriptor.type in _REALS:
        return random.choice([value for value in hostile.REALS if abs(value) != 1e300])
    if descriptor.type == FieldDescriptor.TYPE_STRING:
        return NOT_UTF8 if random.random() < 0.05 else hostile.text(random, (old,) if old else ())
    held = old or b""
    if random.random() < 0.3:
        return hostile.text(random).encode(errors="replace")
    return random.choice([b"", held[:-1], held[:1], held + b"\0", held * 2, b"\xff" * len(held)])


def names(model: onnx.ModelProto, random: Random) -> str:
    """One name everywhere in the file, so that it still fits together."""
    places = [
        (message, descriptor)
        for _, message, descriptor in fields.places(model)
        if descriptor.type == FieldDescriptor.TYPE_STRING and descriptor.name != "op_type"
    ]
    texts = {
        text
        for message, descriptor in places
        for text in _texts(message, descriptor)
        if isinstance(text, str) and text
    }
    old = random.choice(sorted(texts))
    new = hostile.text(random, (old,))
    for message, descriptor in places:
        changed = [new if text == old else text for text in _texts(message, descriptor)]
        if descriptor.is_repeated:
            items = getattr(message, descriptor.name)
            items[:] = changed
        elif getattr(message, descriptor.name) == old:
            setattr(message, descriptor.name, new)
    return f"every {old!r} is {new[:40]!r}"


def _texts(message: Any, descriptor: FieldDescriptor) -> list[Any]:
    held = getattr(message, descriptor.name)
    return list(held) if descriptor.is_repeated else [held]
