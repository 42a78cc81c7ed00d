"""The published schemas of what `--json` prints, as tests look through them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

FOLDER = Path(__file__).parents[1] / "docs" / "schema"


def names() -> list[str]:
    """Of all schemas: a document says its own."""
    return sorted(path.stem for path in FOLDER.iterdir())


@cache
def schema(name: str) -> Any:
    """A schema as it is published."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def faults(document: Any) -> list[str]:
    """What is not as the document's schema says, a line each; a member that it lacks is one, too.

    The published schemas allow members that they do not know, so that new ones may come.
    """
    name = document.get("schema")
    if name not in names():
        return [f"no schema {name!r}"]
    validator = Draft202012Validator(schema(name), registry=_registry())
    errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]
    return errors or list(_unknown(document, schema(name), name, "$"))


@cache
def _registry() -> Registry[Any]:
    resources = ((f"{name}.json", Resource.from_contents(schema(name))) for name in names())
    return Registry().with_resources(resources)


def _unknown(value: Any, node: Any, name: str, place: str) -> list[str]:
    """Members that no schema mentions, in a document that is valid."""
    known = list(_alternatives(node, name))
    if isinstance(value, list):
        inner = [(one["items"], where) for one, where in known if "items" in one]
        return [
            fault
            for number, item in enumerate(value)
            for one, where in inner
            for fault in _unknown(item, one, where, f"{place}[{number}]")
        ]
    if not isinstance(value, dict):
        return []
    faults = []
    for key, item in value.items():
        told = [(one["properties"][key], where) for one, where in known if _has(one, key)]
        free = any("additionalProperties" in one for one, _ in known)
        if not told and not free:
            faults.append(f"{place}.{key}: unknown")
        for one, where in told:
            faults += _unknown(item, one, where, f"{place}.{key}")
    return faults


def _has(node: Any, key: str) -> bool:
    return key in node.get("properties", {})


def _alternatives(node: Any, name: str) -> list[tuple[Any, str]]:
    """A schema and those that it leads to, each with the file where it is."""
    found = [(node, name)]
    for inner in (*node.get("anyOf", ()), *node.get("allOf", ())):
        found += _alternatives(inner, name)
    if "$ref" in node:
        file, _, path = node["$ref"].partition("#")
        where = file.removesuffix(".json") or name
        target = schema(where)
        for part in filter(None, path.split("/")):
            target = target[part]
        found += _alternatives(target, where)
    return found
