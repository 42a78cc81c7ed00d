"""Changes of JSON: of what it says, and of how it is written."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from tests.campaign.records import forged
from tests.campaign.trees import change_somewhere
from tests.fuzz import hostile


def changed(text: str, random: Random) -> tuple[bytes, str]:
    """A JSON text with something else in it.

    Args:
        text: what there is.
        random: where the choices come from.
    """
    try:
        tree, what = _several(_parsed(text), random)
    except RecursionError:  # an earlier change made it that deep
        tree, what = {}, "all gone"
    if random.random() < 0.85:
        return dumped(tree), what
    how, made = _written(dumped(tree), random)
    return made, how


def _several(tree: Any, random: Random) -> tuple[Any, str]:
    done = []
    for _ in range(random.choice([1, 1, 1, 2, 5])):
        if isinstance(tree, dict | list) and tree and random.random() < 0.4:
            tree, what = change_somewhere(tree, random)
        else:
            tree, what = _hostile(tree, random)
        done.append(what)
    return tree, "; ".join(done)[:200]


def record(text: str, other: str, random: Random) -> tuple[bytes, str]:
    """Another record of convfc: a forged one, or one that is none.

    Args:
        text: the right one.
        other: that of another file.
        random: where the choices come from.
    """
    try:
        if random.random() < 0.3:
            made, what = forged(text, other, random)
            return made.encode(), what
    except (LookupError, TypeError, ValueError, RecursionError):
        pass  # it was no record any more
    return changed(text, random)


def dumped(tree: Any) -> bytes:
    """JSON, also of what is none: NaN, infinities, surrogates."""
    try:
        return json.dumps(tree).encode()
    except (TypeError, ValueError, RecursionError):
        return b"{}"


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {}


def _hostile(tree: Any, random: Random) -> tuple[Any, str]:
    """A value somewhere that nobody expects there."""
    path: list[str] = []
    holder: Any = None
    key: Any = None
    here = tree
    while isinstance(here, dict | list) and here and (holder is None or random.random() < 0.85):
        holder = here
        key = random.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        here = holder[key]
        path.append(str(key))
    value = hostile.value(random)
    if holder is None:
        return value, f"all of it: {value!r:.30}"
    if isinstance(holder, dict) and random.random() < 0.15:
        holder[hostile.text(random)] = holder.pop(key)
        return tree, f"{'/'.join(path)} has another key"
    holder[key] = value
    return tree, f"{'/'.join(path)[:120]}: {value!r:.30}"


def _written(text: bytes, random: Random) -> tuple[str, bytes]:
    """The same in a way that is hard to read."""
    nested = random.choice([50, 900, 5000, 100_000])
    ways = {
        "empty": b"",
        "cut": text[: random.randrange(len(text) + 1)],
        "twice": text + text,
        "BOM": b"\xef\xbb\xbf" + text,
        "UTF-16": text.decode().encode("utf-16"),
        "not UTF-8": text.replace(b"e", b"\xff", 3),
        "NUL": text + b"\0",
        "deep": b"[" * nested + b"]" * nested,
        "deep objects": b'{"a":' * nested + b"1" + b"}" * nested,
        "long number": b'{"version": ' + b"9" * 5000 + b"}",
        "1e999": b'{"version": 1e999, "layers": [NaN]}',
        "keys twice": text[:-1] + b', "layers": 1, "config": 2, "class_name": 3}',
        "lone surrogate": text.replace(b'"', b'"\\ud800', 3),
    }
    how = random.choice(sorted(ways))
    return how, ways[how]
