"""Makes a case from its name: takes a model, spoils it, and thinks of a command about it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from random import Random

import onnx
from google.protobuf.message import DecodeError

from tests.fuzz import (
    commands,
    documents,
    graphs,
    hdf5,
    hostile,
    protobuf,
    sampling,
    structures,
    zips,
)
from tests.fuzz.cases import Case
from tests.fuzz.commands import Line
from tests.fuzz.damage import damage
from tests.fuzz.seeding import Seeds

FORMATS = ("onnx", "keras", "samples", "numbers")
"""What the first word of a case's name may be; the last is a command without a file."""

ONNX_MUTATORS = {
    **{"any field": 12, "family": 14, "hostile field": 14, "hostile name": 8, "settings": 10},
    **{"sizes": 10, "shapes": 4, "tensor": 4, "bomb": 4, "functions": 1, "copies": 1, "deep": 1},
    **{"external data": 8, "onnx record": 7, "bytes": 6},
}
"""How often each of them comes."""

ZIP_MUTATORS = (*zips.MUTATORS, "zip json", "zip record", "zip weights", "bytes")
ZIP_WEIGHTS = (5, 2, 5, 2, 20, 5, 10, 6)
HDF5_MUTATORS = (*hdf5.MUTATORS, "bytes")
HDF5_WEIGHTS = (8, 20, 5, 14, 4, 1, 8)
COMMANDS = ("convert", "verify", "revert", "shapes", "explain", "matrix")
COMMAND_WEIGHTS = (32, 30, 16, 9, 7, 6)

Made = tuple[Line, list[str], str]
"""A command line, the names of mutators, and what they did."""


def make(name: str, seed: int, seeds: Seeds, folder: Path) -> Case:
    """Write the files of a case, and say what it is.

    Args:
        name: "onnx 17": a format and any number.
        seed: of the whole run.
        seeds: models to begin with.
        folder: an empty one, for the files.
    """
    random = Random(f"{seed} {name}")  # noqa: S311 - nothing is secret here
    kind = name.split()[0]
    if kind == "numbers":
        line, mutators, what = commands.calculator(random), ["numbers"], ""
    elif kind == "samples":
        line, mutators, what = _samples(random, seeds, folder)
    else:
        line, mutators, what = _model(random, seeds, folder, kind)
    _old_outputs(line, folder, random)
    encoding = random.choice(["utf-8"] * 12 + ["ascii"])
    return Case(
        name, tuple(mutators), what, tuple(line.arguments), frozenset(line.outputs), encoding
    )


def _model(random: Random, seeds: Seeds, folder: Path, kind: str) -> Made:
    original = seeds.onnx(random) if kind == "onnx" else seeds.keras(random)
    converted = seeds.converted(original, random)
    command = random.choices(COMMANDS, COMMAND_WEIGHTS)[0]
    if converted is None and command in ("verify", "revert"):
        command = "convert"
    suffix = original.suffix
    first, second = _name(random, suffix), f"m_fc{suffix}"
    content = original.read_bytes()
    if command == "verify" and converted is not None:
        after = converted.read_bytes()
        spoil = random.choice(["second", "second", "first", "both"])
        mutators: list[str] = []
        what = ""
        if spoil != "second":
            content, mutators, what = _spoiled(content, suffix, folder, random)
        if spoil != "first":
            after, more, also = _spoiled(after, suffix, folder, random)
            mutators, what = mutators + more, f"{what} / {also}"
        elif random.random() < 0.8:
            after = _resigned(after, content, first)
        (folder / first).write_bytes(content)
        (folder / second).write_bytes(after)
        return commands.verify(random, [first, second]), mutators, f"{original.name}: {what}"
    if command == "revert" and converted is not None:
        if random.random() < 0.3:  # the original, for --like
            (folder / f"like{suffix}").write_bytes(content)
        content = converted.read_bytes()
    elif converted is not None and random.random() < 0.2:
        content = converted.read_bytes()
    content, mutators, what = _spoiled(content, suffix, folder, random)
    (folder / first).write_bytes(content)
    line = {
        "convert": commands.convert,
        "revert": commands.revert,
        "matrix": commands.matrix,
        "shapes": commands.shapes,
        "explain": commands.explain,
    }
    return line[command](random, first), mutators, f"{original.name}: {what}"


def _name(random: Random, suffix: str) -> str:
    """Of a model's file: mostly a plain one."""
    if random.random() < 0.93:
        return f"m{suffix}"
    odd = ["m \x1b[31m", "[red]m", "[b]", "mö", "m\udcff", "m\nn", "\u202em", "x" * 200, "m%s"]
    return random.choice(odd) + random.choice([suffix, suffix, ".ONNX", ".h5", ".keras"])


def _spoiled(
    content: bytes, suffix: str, folder: Path, random: Random
) -> tuple[bytes, list[str], str]:
    mutators, what = [], []
    for _ in range(random.choice([1, 1, 1, 1, 1, 2, 3])):
        before = content
        if suffix == ".onnx":
            name = random.choices(list(ONNX_MUTATORS), list(ONNX_MUTATORS.values()))[0]
            content, how = _spoil_onnx(content, name, folder, random)
        elif suffix == ".keras":
            name = random.choices(ZIP_MUTATORS, ZIP_WEIGHTS)[0]
            content, how = _spoil_zip(content, name, random)
        else:
            name = random.choices(HDF5_MUTATORS, HDF5_WEIGHTS)[0]
            content, how = (
                damage(content, random) if name == "bytes" else hdf5.mutate(content, name, random)
            )
        mutators.append(name)
        what.append(f"{name} ({how})")
        if name == "bytes" or content == before:
            break  # what is no file any more has no structure
    return content, mutators, ", ".join(what)


def _spoil_onnx(content: bytes, name: str, folder: Path, random: Random) -> tuple[bytes, str]:
    if name == "bytes":
        return damage(content, random)
    if name == "deep":
        more, what = structures.deep(random)
        return content + more, what
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:  # an earlier mutator has seen to that
        return content, f"not made: {error}"[:80]
    try:
        if name == "external data":
            what = structures.external(model, random, folder)
        elif name == "onnx record":
            entries = [entry for entry in model.metadata_props if entry.key == "convfc"]
            entry = entries[0] if entries else model.metadata_props.add(key="convfc", value="{}")
            new, what = documents.record(entry.value, entry.value, random)
            entry.value = new.replace(b"\xff", protobuf.NOT_UTF8.encode()).decode(errors="replace")
        else:
            what = {**graphs.MUTATORS, **structures.STRUCTURES}[name](model, random)
    except (UnicodeDecodeError, TypeError, IndexError) as error:  # no texts, or nothing is left
        return content, f"not made: {error}"[:80]
    return protobuf.serialized(model), what


def _spoil_zip(content: bytes, name: str, random: Random) -> tuple[bytes, str]:
    if name == "bytes":
        return damage(content, random)
    try:
        members = zips.unpacked(content)
    except Exception as error:  # an earlier mutator has seen to that
        return content, f"not made: {error}"[:80]
    if name in zips.MUTATORS:
        return zips.MUTATORS[name](content, random)
    if name == "zip weights":
        inner = random.choice(["hdf5 attribute", "hdf5 data", "hdf5 data", "hdf5 link", "bytes"])
        old = members.get("model.weights.h5", b"")
        new, what = damage(old, random) if inner == "bytes" else hdf5.mutate(old, inner, random)
        return zips.packed({**members, "model.weights.h5": new}), f"{inner}: {what}"
    member = random.choice(["config.json", "config.json", "config.json", "metadata.json"])
    member = "convfc.json" if name == "zip record" else member
    text = members.get(member, b"{}").decode(errors="replace")
    change = documents.record(text, text, random) if name == "zip record" else None
    made, what = change or documents.changed(text, random)
    return zips.packed({**members, member: made}), f"{member} {what}"


def _resigned(converted: bytes, original: bytes, name: str) -> bytes:
    """A converted file whose record says that it comes from an original, if it has one."""
    digest = hashlib.sha256(original).hexdigest()

    def signed(text: str) -> str:
        return json.dumps({**json.loads(text), "source": name, "sha256": digest})

    if converted[:2] == b"PK":
        members = zips.unpacked(converted)
        members["convfc.json"] = signed(members["convfc.json"].decode()).encode()
        return zips.packed(members)
    if converted[:4] == b"\x89HDF":
        return hdf5.with_record(converted, signed)
    model = onnx.ModelProto()
    model.ParseFromString(converted)
    for entry in model.metadata_props:
        if entry.key == "convfc":
            entry.value = signed(entry.value)
    return bytes(model.SerializeToString())


def _samples(random: Random, seeds: Seeds, folder: Path) -> Made:
    original = seeds.onnx_named(random.choice(["chain", "bare", "fork"]))
    converted = seeds.converted(original, Random(0))  # noqa: S311 - always the same
    (folder / "m.onnx").write_bytes(original.read_bytes())
    (folder / "m_fc.onnx").write_bytes(converted.read_bytes() if converted else b"")
    name, what = sampling.sample_file(folder, random)
    options = ["--data", name] if random.random() < 0.6 else ["--input", f"x={name}"]
    if random.random() < 0.2:
        options += random.choice(
            [["--scale", "nan"], ["--shape", "x=1x3x9x8"], ["--json"], ["--quick"]]
        )
    if random.random() < 0.2:
        line = Line(["explain", "m.onnx", "--data", name])
    else:
        samples = random.choice(["1", "2", "3", "1000000"])
        line = Line(["verify", "m.onnx", "m_fc.onnx", "--samples", samples, *options])
    return line, ["samples"], what


def _old_outputs(line: Line, folder: Path, random: Random) -> None:
    """Something may be where the output is to be."""
    for name in sorted(line.outputs):
        if "/" in name or len(name) > 200 or name == "." or random.random() < 0.85:
            continue
        path = folder / name
        if not path.exists():
            path.write_bytes(random.choice([b"", b"not of convfc", hostile.text(random).encode()]))
            if line.arguments[0] in ("convert", "revert"):
                line.arguments += random.choice([[], ["--force"]])
