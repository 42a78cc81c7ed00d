"""The order of the house: imports go down only, and nothing heavy is imported unasked."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import convfc

SOURCE = Path(convfc.__file__).parent

FLOORS = {
    "_version": 0,
    "errors": 0,
    "refusals": 0,
    "text": 0,
    "arguments": 1,
    "core": 1,
    "system": 1,
    "gates": 2,
    "formats": 3,
    "formats.onnx": 4,
    "formats.keras": 4,
    "formats.registry": 5,
    "samples": 6,
    "clients": 6,
    "planning": 6,
    "verification": 7,
    "targets": 6,
    "conversion": 8,
    "reversion": 8,
    "analysis": 8,
    "plotting": 3,
    "explanation": 8,
    "reproduction": 8,
    "cli": 9,
    "__init__": 9,
    "__main__": 10,
}
"""A room may use those on lower floors and its neighbours, if that makes no circle."""

FORMATS = {"formats.onnx", "formats.keras"}
DOOR = "formats.registry"
"""The door to the two formats: the one room that names them."""

LIBRARIES = {
    "rich": {"cli", "explanation", "text"},
    "typer": {"cli"},
    "matplotlib": {"explanation", "plotting", "reproduction"},
    "onnx": {"formats.onnx"},
    "onnx_ir": {"formats.onnx"},
    "onnxruntime": {"formats.onnx"},
    "keras": {"formats.keras", "reproduction"},
    "tensorflow": {"formats.keras", "reproduction"},
    "h5py": {"formats.keras"},
    "PIL": {"samples"},
}


def module(path: Path) -> str:
    """A file's name under `convfc`, with dots."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def room(name: str) -> str:
    """The room of a module, or of something in one: the longest name that has a floor."""
    parts = name.split(".")
    heads = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((head for head in heads if head in FLOORS), "__init__")


@cache
def files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


@cache
def imports(path: Path) -> frozenset[str]:
    """Full names of what a file imports, wherever in it."""
    return frozenset(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def used_modules(path: Path) -> set[str]:
    """Modules of convfc that a file imports, or from which it imports something."""
    known = {module(file) for file in files()}
    found = set()
    for name in imports(path):
        if name.split(".")[0] == "convfc":
            inner = name.removeprefix("convfc").removeprefix(".")
            while inner and inner not in known:
                inner = inner.rpartition(".")[0]
            found.add(inner or "__init__")
    return found


def used_rooms(path: Path) -> set[str]:
    return {room(name) for name in used_modules(path)}


def test_every_room_has_a_floor() -> None:
    assert {room(module(path)) for path in files()} == set(FLOORS)


def test_imports_go_down_only() -> None:
    for path in files():
        here = room(module(path))
        for other in used_rooms(path) - {here}:
            assert FLOORS[other] <= FLOORS[here], f"{path}: {here} must not import {other}"


def without_circles(uses: dict[str, set[str]]) -> None:
    done: set[str] = set()
    while len(done) < len(uses):
        free = {name for name, used in uses.items() if used <= done} - done
        assert free, f"a circle among {sorted(set(uses) - done)}"
        done |= free


def test_no_circles_between_rooms() -> None:
    below: dict[str, set[str]] = {name: set() for name in FLOORS}
    for path in files():
        below[room(module(path))] |= used_rooms(path) - {room(module(path))}
    without_circles(below)


def test_no_circles_between_files() -> None:
    without_circles({module(path): used_modules(path) - {module(path)} for path in files()})


def test_a_circle_is_found() -> None:
    with pytest.raises(AssertionError, match=r"\['a', 'b'\]"):
        without_circles({"a": {"b"}, "b": {"a"}, "c": set()})


def test_the_formats_do_not_know_each_other_and_have_one_door() -> None:
    for path in files():
        here = room(module(path))
        assert not used_rooms(path) & FORMATS - {here} or here == DOOR, path


def test_each_library_has_its_rooms() -> None:
    for path in files():
        for name in imports(path):
            allowed = LIBRARIES.get(name.split(".")[0])
            assert allowed is None or room(module(path)) in allowed, f"{path} imports {name}"


def test_every_public_name_has_a_home() -> None:
    for name in convfc.__all__:
        assert getattr(convfc, name) is not None
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = convfc.nothing_such


def test_files_fit_in_the_head() -> None:
    for path in files():
        assert len(path.read_text().splitlines()) <= 360, path


HEAVY = [
    "numpy",
    "pydantic",
    "tensorflow",
    "keras",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "h5py",
    "PIL",
    "matplotlib",
]


def loaded(*arguments: str) -> set[str]:
    """The heavy packages that a run of the program imports."""
    script = (
        "import sys\n"
        "from convfc.cli.main import main\n"
        "sys.argv[0] = 'convfc'\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('loaded', *[name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stderr.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["convert", "--help"],
        ["convert", "--for", "list"],
        ["experiment", "--help"],
        ["explain", "--help"],
        ["shapes", "--input", "28x28x1", "--kernel", "4", "--stride", "2"],
    ],
)
def test_help_and_the_calculator_import_nothing_heavy(arguments: list[str]) -> None:
    assert loaded(*arguments) == set()


def test_an_onnx_file_needs_no_keras_and_a_conversion_without_a_look_no_runtime(
    tmp_path: Path,
) -> None:
    """Its twin is in it: the same probe does see the packages that are needed."""
    sample = Path(__file__).parents[1] / "sample_models" / "mnist_cnn.onnx"
    convert = ["convert", str(sample), "-o", str(tmp_path / "m.onnx"), "--import", "tensorflow"]
    assert loaded(*convert, "--no-check") == {"numpy", "onnx", "onnx_ir"}
    assert loaded(*convert) == {"numpy", "onnx", "onnx_ir", "onnxruntime"}
    seen = loaded("verify", str(sample), str(tmp_path / "m.onnx"), "--samples", "1")
    assert seen == {"numpy", "onnx", "onnx_ir", "onnxruntime"}
