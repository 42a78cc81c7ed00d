"""Changes of an HDF5 file: attributes, data, filters, links."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

from tests.fuzz import documents, hostile

TYPES = ("i1", "i8", "u8", "f2", "f4", "f8", "c8", "S5", "?", "V3")

JSON_ATTRIBUTES = ("model_config", "training_config", "convfc")


def _text(random: Random) -> str:
    """A text that HDF5 takes: it ends at NUL and is UTF-8."""
    return hostile.text(random).replace("\0", "") or "x"


def attribute(file: h5py.File, random: Random) -> str:
    """One attribute: gone, or of another type."""
    items = [item for item in (file, *_items(file)) if len(item.attrs)]
    item = random.choice(items or [file])
    key = random.choice([*item.attrs] or ["keras_version"])
    if item == file:
        key = random.choice([key, "keras_version", "backend", "layer_names", "model_config"])
    how = random.choice(["gone", "number", "text", "bytes", "numbers", "texts", "empty", "long",
                         "reference", "other key"])  # fmt: skip
    values: dict[str, Any] = {
        "number": hostile.integer(random) % 2**63,
        "text": _text(random),
        "bytes": np.bytes_(b"\xff\xfe" * 4),
        "numbers": np.arange(9.0).reshape(3, 3),
        "texts": [_text(random) for _ in range(4)],
        "empty": h5py.Empty("f4"),
        "long": np.zeros(7000, "u1"),
        "reference": file.ref,
    }
    old = item.attrs.pop(key, None)
    if how == "other key":
        item.attrs[_text(random)[:3000]] = "x" if old is None else old
    elif how != "gone":
        item.attrs[key] = values[how]
    return f"{item.name}@{key}: {how}"


def document(file: h5py.File, random: Random) -> str:
    """The JSON in one attribute."""
    held = [key for key in JSON_ATTRIBUTES if isinstance(file.attrs.get(key), str)]
    if not held:
        return attribute(file, random)
    key = random.choice(held)
    new, what = documents.changed(str(file.attrs[key]), random)
    _write_text(file, key, new, random)
    return f"@{key} {what}"


def record(file: h5py.File, random: Random) -> str:
    """The record of convfc."""
    old = file.attrs.get("convfc")
    old = old if isinstance(old, str) else "{}"
    new, what = documents.record(old, old, random)
    _write_text(file, "convfc", new, random)
    return f"@convfc {what}"


def _write_text(file: h5py.File, key: str, new: bytes, random: Random) -> None:
    if len(new) > 60_000:
        new = new[:60_000]  # more does not fit into an attribute
    as_text = random.random() < 0.8
    new = new.replace(b"\0", b"")
    file.attrs[key] = new.decode(errors="replace") if as_text else np.bytes_(new)


def data(file: h5py.File, random: Random) -> str:
    """One set of data: gone, or of another type, shape or storage."""
    found = [item for item in _items(file) if isinstance(item, h5py.Dataset)]
    found = [item for item in found if (item.size or 0) < 10**7]  # or it was made huge before
    if not found:
        return link(file, random)
    item = random.choice(found)
    holder, name, old = item.parent, item.name, item[()]
    how = random.choice(["gone", "type", "shape", "scalar", "none", "huge", "huge", "texts",
                         "group", "values", "filter", "vlen", "compound", "external",
                         "null"])  # fmt: skip
    del file[name]
    if how == "type":
        kind = random.choice(TYPES)
        file.create_dataset(name, np.shape(old), kind)
        how = f"type {kind}"
    elif how == "shape":
        shape = [random.choice([0, 1, 2, 3, 7, 100]) for _ in range(random.choice([1, 2, 4, 30]))]
        file.create_dataset(name, shape if np.prod(shape) < 1e6 else [1] * 30, "f4")
    elif how == "scalar":
        file[name] = 1.5
    elif how == "none":
        file.create_dataset(name, (0, *np.shape(old)[1:]), "f4")
    elif how == "huge":
        rank = max(np.ndim(old), 1)
        size = int(random.choice([2e9, 1e12, 2**62]) ** (1 / rank))
        file.create_dataset(name, [size] * rank, "f4", chunks=(1,) * rank, compression="gzip")
    elif how == "texts":
        file[name] = [_text(random) for _ in range(5)]
    elif how == "group":
        file.create_group(name)
    elif how == "values":
        value = random.choice(hostile.REALS)
        file[name] = np.full(np.shape(old), value if abs(value) < 1e39 else np.inf, "f4")
    elif how == "filter" and np.ndim(old):
        options: dict[str, Any] = random.choice(
            [{"compression": "gzip"}, {"compression": "lzf"}, {"scaleoffset": 2}, {"fletcher32": 1}]
        )
        file.create_dataset(name, data=old, chunks=True, **options)
    elif how == "vlen":
        file.create_dataset(name, np.shape(old), h5py.vlen_dtype("f4"))
    elif how == "compound":
        file.create_dataset(name, np.shape(old), np.dtype([("a", "f4"), ("b", "S3")]))
    elif how == "external":
        stores = [("/etc/passwd", 0, 10**6), ("nothing.bin", 0, 10**6), ("/dev/zero", 0, 2**40)]
        sizes = np.shape(old) if random.random() < 0.7 else (10**9,)
        file.create_dataset(name, sizes, "f4", external=[random.choice(stores)])
    elif how == "null":
        file[name] = h5py.Empty("f4")
    return f"{holder.name}: {name} {how}"


def link(file: h5py.File, random: Random) -> str:
    """A link that leads elsewhere, nowhere, or in a circle."""
    found = list(_items(file))
    name = random.choice([item.name for item in found] or ["new"])
    how = random.choice(["soft", "nowhere", "outside", "itself", "circle", "root", "virtual"])
    if name in file:
        del file[name]
    if how == "soft":
        file[name] = h5py.SoftLink(random.choice([item.name or "/" for item in found] or ["/"]))
    elif how == "nowhere":
        file[name] = h5py.SoftLink(f"/{_text(random)}")
    elif how == "outside":
        where = random.choice(["/etc/passwd", "nothing.h5", "m.h5", "/dev/zero", "fifo"])
        file[name] = h5py.ExternalLink(where, "/")
    elif how == "itself":
        file[name] = h5py.SoftLink(name)
    elif how in ("circle", "root"):
        file[name] = file
    else:
        layout = h5py.VirtualLayout((4, 10**6), "f4")
        layout[0] = h5py.VirtualSource("m.h5", "x", (10**6,))
        file.create_virtual_dataset(name, layout)
    return f"link {name}: {how}"


def crowd(file: h5py.File, random: Random) -> str:
    """Very many or very deep groups."""
    how, count = random.choice(["deep", "many", "names"]), random.choice([50, 1000])
    if how == "deep":
        file.create_group("/".join(["deep"] * count))
    else:
        for number in range(count):
            file.create_group(
                f"{_text(random).replace('/', '')}{number}" if how == "names" else f"{number}"
            )
    return f"{count} groups, {how}"


def _items(file: h5py.File) -> list[Any]:
    found: list[Any] = []
    file.visititems(lambda _, item: found.append(item))
    return found


MUTATORS: Mapping[str, Callable[[h5py.File, Random], str]] = {
    "hdf5 attribute": attribute,
    "hdf5 json": document,
    "hdf5 record": record,
    "hdf5 data": data,
    "hdf5 link": link,
    "hdf5 crowd": crowd,
}
"""By name; each changes an open file and says how."""


def mutate(content: bytes, name: str, random: Random) -> tuple[bytes, str]:
    """Another file; the same, where HDF5 itself refuses to write that.

    Args:
        content: what there is.
        name: of the mutator.
        random: where the choices come from.
    """
    stored = io.BytesIO(content)
    try:
        with h5py.File(stored, "r+") as file:
            what = MUTATORS[name](file, random)
    except (OSError, ValueError, TypeError, RuntimeError, KeyError) as error:
        return content, f"not made: {error}"[:80]
    return stored.getvalue(), what


def is_hdf5(path: Path) -> bool:
    """By its first bytes."""
    return path.read_bytes()[:4] == b"\x89HDF"


def with_record(content: bytes, change: Callable[[str], str]) -> bytes:
    """The same file with another record, if it has one."""
    stored = io.BytesIO(content)
    with h5py.File(stored, "r+") as file:
        old = file.attrs.get("convfc")
        if isinstance(old, str):
            file.attrs["convfc"] = change(old)
    return stored.getvalue()
