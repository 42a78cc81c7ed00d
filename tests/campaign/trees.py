"""Random changes of a tree of dicts, lists and values, as JSON has them."""

from __future__ import annotations

import copy
import math
from random import Random
from typing import Any

WORDS = ("relu", "tanh", "linear", "same", "valid", "float16", "float64", "channels_first",
         "channels_last", "mixed_float16", "sigmoid", "Add", "Subtract", "Dropout", "ReLU",
         "Activation", "")  # fmt: skip


def change_somewhere(tree: Any, random: Random) -> tuple[Any, str]:
    """A copy with one value, key or order changed, and where.

    Values of all depths are as likely: a few keys that occur in every layer do not take all.
    """
    made = copy.deepcopy(tree)
    paths: dict[str, list[tuple[Any, ...]]] = {}
    for path in _paths(made, ()):
        keys = [str(key) for key in path if isinstance(key, str)]
        paths.setdefault("/".join(keys[-2:]), []).append(path)
    if not paths:
        return _other(made, random, []), "root"
    path = random.choice(paths[random.choice(sorted(paths))])
    holder = made
    for key in path[:-1]:
        holder = holder[key]
    key = path[-1]
    how = random.random()
    if how < 0.12:
        del holder[key]
        return made, f"{_text(path)} gone"
    if how < 0.2 and isinstance(holder, list) and len(holder) > 1:
        to = random.randrange(len(holder))
        holder[key], holder[to] = holder[to], holder[key]
        return made, f"{_text(path)} exchanged with {to}"
    if how < 0.26 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
        return made, f"{_text(path)} doubled"
    old = holder[key]
    pool = [_at(made, other) for other in _paths(made, ()) if other[-1] == key]
    holder[key] = _other(old, random, [value for value in pool if value != old])
    return made, f"{_text(path)}: {str(old)[:40]!r} -> {str(holder[key])[:40]!r}"


def _paths(tree: Any, path: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = []
    for key, value in items:
        found.append((*path, key))
        if isinstance(value, dict | list):
            found += _paths(value, (*path, key))
    return found


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _text(path: tuple[Any, ...]) -> str:
    return "/".join(map(str, path))


def _other(old: Any, random: Random, pool: list[Any]) -> Any:
    """Another value, mostly of the same type."""
    if pool and random.random() < 0.35:
        return copy.deepcopy(random.choice(pool))
    if isinstance(old, bool):
        return not old
    if isinstance(old, int):
        return random.choice([old + 1, old - 1, 0, 1, 2 * old, -old, 66, 10**7])
    if isinstance(old, float):
        return random.choice([old + 1e-3, 2 * old, -old, 0.0, 1.0, math.nextafter(old, 9e9), 1e30])
    if isinstance(old, str):
        return random.choice([*WORDS, f"{old}x", old.upper()])
    if old is None:
        return random.choice([0, 1, 2, True, "relu", 1e-3, [1, 1]])
    if isinstance(old, list) and old and random.random() < 0.5:
        return old[::-1]
    return random.choice([None, [], {}, 0])
