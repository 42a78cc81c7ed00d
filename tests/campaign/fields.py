"""Random changes of any field of a protobuf message, at any depth, found by its descriptors."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor

WORDS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID", "edge", "reflect", "constant", "wrap",
         "ai.onnx", "Relu", "Neg", "Identity", "Tanh", "MaxPool", "")  # fmt: skip
"""What a text may be replaced with, besides other texts of the file."""

_INTEGERS = {
    getattr(FieldDescriptor, f"TYPE_{name}") for name in ("INT32", "INT64", "UINT32", "UINT64")
}
_REALS = {FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE}

Place = tuple[str, Any, FieldDescriptor]
"""The path of a field by the names of the types on it, the message that has it, and the field."""


def places(message: Any, path: str = "") -> Iterator[Place]:
    """Every field of a message and of those in it, the empty ones included."""
    for field in message.DESCRIPTOR.fields:
        here = f"{path}.{field.name}" if path else field.name
        yield here, message, field
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            value = getattr(message, field.name)
            if field.is_repeated:
                for item in value:
                    yield from places(item, here)
            elif message.HasField(field.name):
                yield from places(value, here)


def mutate(model: onnx.ModelProto, random: Random) -> str:
    """Change one field of a model in place; says which, and how."""
    path, message, field = chosen(model, random)
    same = [item for item in places(model) if item[2].full_name == field.full_name]
    how = _change(message, field, random, same)
    return f"{path}: {how}"


def chosen(model: onnx.ModelProto, random: Random) -> Place:
    """One field of a model.

    Each kind of field is as likely as any other, however often it occurs; one that is empty
    everywhere is taken less often.
    """
    kinds: defaultdict[str, list[Place]] = defaultdict(list)
    for place in places(model):
        kinds[_kind(place)].append(place)
    full = {
        kind: found
        for kind, found in kinds.items()
        if any(_is_set(message, field) for _, message, field in found)
    }
    several = full if random.random() < 0.8 else kinds
    found = several[random.choice(sorted(several))]
    if random.random() < 0.8:
        found = [place for place in found if _is_set(place[1], place[2])] or found
    return random.choice(found)


def _kind(place: Place) -> str:
    """Fields of one name in one kind of place; tensors and attributes by what they hold."""
    path, message, _ = place
    held = ""
    if isinstance(message, onnx.TensorProto):
        held = str(message.data_type)
    if isinstance(message, onnx.AttributeProto):
        held = message.name
    return f"{path} {held}"


def _is_set(message: Any, field: FieldDescriptor) -> bool:
    if field.is_repeated:
        return len(getattr(message, field.name)) > 0
    return (
        bool(message.HasField(field.name))
        if field.has_presence
        else bool(getattr(message, field.name))
    )


def _change(message: Any, field: FieldDescriptor, random: Random, same: list[Place]) -> str:
    name = field.name
    others = [other for _, other, _ in same if _is_set(other, field)]
    if field.is_repeated:
        return _change_list(message, field, random, others)
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return _change_message(message, name, random, others)
    if _is_set(message, field) and random.random() < 0.15:
        message.ClearField(name)
        return "cleared"
    old = getattr(message, name)
    new = _other(old, field, random, [getattr(other, name) for other in others], message)
    setattr(message, name, new)
    return f"{_short(old)} -> {_short(new)}"


def _change_message(message: Any, name: str, random: Random, others: list[Any]) -> str:
    if message.HasField(name) and random.random() < 0.5:
        message.ClearField(name)
        return "cleared"
    given = [getattr(other, name) for other in others if other is not message]
    if not given:
        getattr(message, name).SetInParent()
        return "made, and empty"
    copy = type(given[0])()
    copy.CopyFrom(random.choice(given))
    getattr(message, name).CopyFrom(copy)
    return "taken from elsewhere"


def _change_list(message: Any, field: FieldDescriptor, random: Random, others: list[Any]) -> str:
    items = list(getattr(message, field.name))
    pool = [item for other in others for item in getattr(other, field.name)]
    choices: list[str] = ["insert"] if pool else []
    choices += ["delete", "double", "double and change", "change"] if items else []
    choices += ["swap", "reverse"] if len(items) > 1 else []
    if not choices:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            getattr(message, field.name).add()
            return "an empty one"
        items.append(_other(_zero(field), field, random, [], message))
        choices = ["keep"]
    how, at = random.choice(choices), random.randrange(max(len(items), 1))
    if how == "delete":
        del items[at]
    elif how in ("double", "double and change"):
        items.insert(random.choice((0, at, len(items))), _copy(items[at]))
    elif how == "insert":
        items.insert(at, _copy(random.choice(pool)))
    elif how == "swap":
        to = random.randrange(len(items))
        items[at], items[to] = items[to], items[at]
    elif how == "reverse":
        items.reverse()
    if how in ("change", "double and change"):
        at = random.randrange(len(items)) if how != "change" else at
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            inside = [place for place in places(items[at]) if _is_set(place[1], place[2])]
            if inside:
                _, inner, part = random.choice(inside)
                how += f" {part.name}: {_change(inner, part, random, [])}"
        else:
            items[at] = _other(items[at], field, random, pool, message)
    copies = [_copy(item) for item in items]
    message.ClearField(field.name)
    getattr(message, field.name).extend(copies)
    return f"{how} at {at}"


def _zero(field: FieldDescriptor) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return ""
    if field.type == FieldDescriptor.TYPE_BYTES:
        return b""
    return 0.0 if field.type in _REALS else 0


def _copy(item: Any) -> Any:
    if not hasattr(item, "CopyFrom"):
        return item
    copy = type(item)()
    copy.CopyFrom(item)
    return copy


def _other(old: Any, field: FieldDescriptor, random: Random, pool: list[Any], message: Any) -> Any:
    """A different value for a field that holds one."""
    if field.type == FieldDescriptor.TYPE_ENUM:
        return random.choice([value.number for value in field.enum_type.values])
    if field.type in _INTEGERS:
        return _other_integer(old, random, pool, field)
    if field.type in _REALS:
        return other_real(old, random)
    if field.type == FieldDescriptor.TYPE_STRING:
        return random.choice([*pool, *WORDS, f"{old}x", old.upper(), f" {old}"])
    return _other_bytes(old, random, message)


def _other_integer(old: int, random: Random, pool: list[int], field: FieldDescriptor) -> int:
    power = 1 << random.randrange(2, 31)
    new = random.choice([old + 1, old - 1, 0, 1, -old, 2 * old, power, -power, *pool[:20]])
    unsigned = field.type in (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64)
    narrow = field.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_UINT32)
    limit = 2**31 - 1 if narrow else 2**63 - 1
    return max(0 if unsigned else -limit, min(int(new), limit))


def other_real(old: float, random: Random) -> float:
    """A number that is a little or a lot different."""
    near = float(np.nextafter(np.float32(old), np.float32(math.inf)))
    return random.choice(
        [near, old + 1e-3, 2 * old, -old, 0.0, 1.0, math.nan, math.inf, old * 1.01, 1e30]
    )


def _other_bytes(old: bytes, random: Random, message: Any) -> bytes:
    if not isinstance(message, onnx.TensorProto):
        return random.choice(WORDS).encode()
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(message.data_type)
        array = np.frombuffer(old, dtype).copy()
    except (ValueError, TypeError, KeyError):
        return old[:-1]
    if not array.size or random.random() < 0.1:
        return random.choice([old[:-1], old + old[-1:], old[: len(old) // 2], b""])
    other_numbers(array, random)
    return array.tobytes()


def other_numbers(array: np.ndarray[Any, Any], random: Random) -> None:
    """Change some numbers of an array in place, whatever its type."""
    flat = array.reshape(-1)
    at, to = random.randrange(flat.size), random.randrange(flat.size)
    how = random.choice(["one", "one", "swap", "all", "reverse"])
    if how == "swap":
        flat[[at, to]] = flat[[to, at]]
    elif how == "reverse":
        flat[:] = flat[::-1].copy()
    elif array.dtype.kind in "iub":
        changed = flat[at] if how == "one" else flat
        new = _whole(changed, random, array.dtype)
        flat[at if how == "one" else slice(None)] = new
    else:
        with np.errstate(all="ignore"):
            if how == "one":
                flat[at] = other_real(float(flat[at]), random)
            else:
                flat[:] = flat * np.asarray(random.choice([-1, 2, 1.001, 0]), array.dtype)


def _whole(old: Any, random: Random, dtype: np.dtype[Any]) -> Any:
    """Other integers: neighbours, opposites, and ends that nobody will reach, or hardly."""
    if dtype.kind == "b":
        return ~old
    ends = [66, 100, 2**20, 2**31 - 1, 2**40, 2**62, -(2**40)]
    limits = np.iinfo(dtype)
    wide = old.astype(object)
    new = random.choice([wide + 1, wide - 1, -wide, wide * 2, wide * 0, *ends])
    clipped = np.clip(np.asarray(new, object), int(limits.min), int(limits.max))
    return np.asarray(clipped, object).astype(dtype)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 40 else f"{text[:37]}.."
