"""Makes the files of a finding smaller, as long as the same is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from tests.fuzz import documents, zips

Still = Callable[[bytes], bool]
"""Whether a file still shows it."""


def smaller(content: bytes, still: Still, tries: int) -> bytes:
    """A smaller file that still shows it.

    Args:
        content: what shows it.
        still: see there; it may be slow.
        tries: how often it may be asked.
    """
    counted = _Counted(still, tries)
    try:
        if content.startswith(b"PK"):
            content = _zip(content, counted)
        elif not content.startswith(b"\x89HDF"):
            content = _protobuf(content, counted)
        if content.startswith(b"{"):
            content = _document(content, counted)
        return _bytes(content, counted)
    except _Enough:
        return counted.best or content


class _Enough(Exception):  # noqa: N818 - no error
    pass


class _Counted:
    def __init__(self, still: Still, tries: int) -> None:
        self._still, self._left = still, tries
        self.best: bytes | None = None
        self.wrap: Callable[[bytes], bytes] = lambda content: content

    def __call__(self, content: bytes) -> bool:
        if self._left == 0:
            raise _Enough
        self._left -= 1
        whole = self.wrap(content)
        if not self._still(whole):
            return False
        self.best = whole
        return True


def _protobuf(content: bytes, still: _Counted) -> bytes:
    """An ONNX model with fewer and shorter fields."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        return content
    if not still(model.SerializeToString()):
        return content  # it is in what protobuf reads over
    _reduce(model, lambda: still(model.SerializeToString()))
    return bytes(model.SerializeToString())


def _reduce(message: Any, still: Callable[[], bool]) -> None:
    """Drop what can be dropped of a message, large things first, and then of what is left."""
    for descriptor, _ in message.ListFields():
        name = descriptor.name
        kept = type(message)()
        kept.CopyFrom(message)
        message.ClearField(name)
        if still():
            continue
        message.CopyFrom(kept)
        if descriptor.is_repeated:
            _fewer(message, name, still)
    for descriptor, value in message.ListFields():
        if descriptor.type == descriptor.TYPE_MESSAGE:
            for item in value if descriptor.is_repeated else [value]:
                _reduce(item, still)


def _fewer(message: Any, name: str, still: Callable[[], bool]) -> None:
    def put(items: Sequence[Any]) -> bool:
        message.ClearField(name)
        getattr(message, name).extend(items)
        return still()

    items = list(getattr(message, name))
    copies = (
        [type(item).FromString(item.SerializeToString()) for item in items]
        if (items and hasattr(items[0], "SerializeToString"))
        else items
    )
    put(_shortest(copies, put))


def _shortest(items: Sequence[Any], still: Callable[[Sequence[Any]], bool]) -> Sequence[Any]:
    """Fewer of some items: halves, quarters and so on are left out while it works."""
    size = max(len(items) // 2, 1)
    while items:
        at = 0
        while at < len(items):
            rest = [*items[:at], *items[at + size :]]
            if still(rest):
                items = rest
            else:
                at += size
        if size == 1:
            break
        size //= 2
    return items


def _zip(content: bytes, still: _Counted) -> bytes:
    """Fewer members, and less in those that are JSON."""
    try:
        members = zips.unpacked(content)
    except Exception:  # it is in the directory
        return content
    if not still(zips.packed(members)):
        return content
    names = _shortest(
        list(members), lambda names: still(zips.packed({n: members[n] for n in names}))
    )
    members = {name: members[name] for name in names}
    for name in [name for name in members if name.endswith(".json")]:
        still.wrap = lambda part, name=name: zips.packed({**members, name: part})  # type: ignore[misc]
        members[name] = _document(members[name], still)
    still.wrap = lambda whole: whole
    return zips.packed(members)


def _document(content: bytes, still: _Counted) -> bytes:
    """JSON with fewer keys and items."""
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return content
    queue = [()] if isinstance(tree, dict | list) else []
    while queue:
        path: tuple[Any, ...] = queue.pop(0)
        holder = _at(tree, path)
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))[::-1]
        for key in keys:
            old = json.dumps(tree)
            del holder[key]
            if not still(documents.dumped(tree)):
                tree = json.loads(old)
                holder = _at(tree, path)
        queue += [(*path, key) for key, value in _items(holder) if isinstance(value, dict | list)]
    return documents.dumped(tree)


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _items(holder: Any) -> Iterator[tuple[Any, Any]]:
    yield from holder.items() if isinstance(holder, dict) else enumerate(holder)


def _bytes(content: bytes, still: Still) -> bytes:
    """Fewer bytes, by halves down to pieces of an eighth of a percent."""
    parts = (
        [content[at : at + 1] for at in range(len(content))]
        if len(content) < 64
        else [
            content[at : at + len(content) // 64]
            for at in range(0, len(content), len(content) // 64)
        ]
    )
    return b"".join(_shortest(parts, lambda parts: still(b"".join(parts))))
