"""The order of the house: imports go down only, and nothing heavy is imported unasked."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import convfc

SOURCE = Path(convfc.__file__).parent

FLOORS = {
    "_version": 0,
    "visible": 0,
    "words": 1,
    "errors": 0,
    "arrays": 0,
    "jsontext": 0,
    "streams": 0,
    "signals": 0,
    "process": 0,
    "surroundings": 1,
    "geometry": 0,
    "transposed": 0,
    "named": 0,
    "capacity": 1,
    "limits": 1,
    "lowering": 1,
    "applying": 1,
    "rehearsal": 1,
    "workfolders": 1,
    "writing": 1,
    "gates": 1,
    "replacing": 2,
    "differences": 1,
    "quantization": 1,
    "provenance": 2,
    "model": 2,
    "alignment": 2,
    "demand": 2,
    "onnx_model": 3,
    "keras_model": 3,
    "formats": 4,
    "datafiles": 4,
    "feeds": 4,
    "judged": 4,
    "filling": 4,
    "samples": 4,
    "slots": 4,
    "pairing": 4,
    "planning": 4,
    "proof": 4,
    "inspection": 4,
    "verification": 4,
    "endtoend": 4,
    "conversion": 4,
    "plotting": 2,
    "reproduction": 5,
    "explanation": 5,
    "tables": 5,
    "verdicts": 5,
    "documents": 5,
    "junit": 5,
    "arguments": 5,
    "terminal": 5,
    "program": 5,
    "options": 6,
    "lessons": 6,
    "cli": 6,
    "__main__": 6,
    "__init__": 6,
}
"""From DESIGN: a room may use those on lower floors and its neighbours, if that makes no circle."""

FORMATS_ROOM = "formats"
"""The door to the two formats: the one room that names them."""

LIBRARIES = {
    "rich": {"explanation", "tables", "terminal", "verdicts", "words"},
    "typer": {"cli", "lessons", "options"},
    "matplotlib": {"explanation", "plotting", "reproduction"},
    "onnx": {"onnx_model"},
    "onnx_ir": {"onnx_model"},
    "onnxruntime": {"onnx_model"},
    "keras": {"keras_model", "reproduction"},
    "tensorflow": {"keras_model", "reproduction"},
    "h5py": {"keras_model"},
    "PIL": {"datafiles", "filling"},
}


def rooms() -> Iterator[tuple[str, Path]]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield path.relative_to(SOURCE).parts[0].removesuffix(".py"), path


def imports(path: Path) -> Iterator[str]:
    """Full names of what a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                yield f"{node.module}.{alias.name}" if node.module == "convfc" else str(node.module)


def used_rooms(path: Path) -> set[str]:
    names = [name.split(".") for name in imports(path)]
    found = {name[1] if len(name) > 1 else "__init__" for name in names if name[0] == "convfc"}
    return {name if name in FLOORS else "__init__" for name in found}


def test_every_room_has_a_floor() -> None:
    assert {room for room, _ in rooms()} == set(FLOORS)


def test_imports_go_down_only() -> None:
    for room, path in rooms():
        for other in used_rooms(path) - {room}:
            assert FLOORS[other] <= FLOORS[room], f"{path}: {room} must not import {other}"


def test_no_circles_between_rooms() -> None:
    below: dict[str, set[str]] = {room: set() for room in FLOORS}
    for room, path in rooms():
        below[room] |= used_rooms(path) - {room}
    done: set[str] = set()
    while len(done) < len(below):
        free = {room for room, uses in below.items() if uses <= done} - done
        assert free, f"a circle among {set(below) - done}"
        done |= free


def test_the_formats_do_not_know_each_other_and_have_one_door() -> None:
    for room, path in rooms():
        formats = used_rooms(path) & {"onnx_model", "keras_model"} - {room}
        assert not formats or room == FORMATS_ROOM, path


def test_each_library_has_its_rooms() -> None:
    for room, path in rooms():
        for name in imports(path):
            allowed = LIBRARIES.get(name.split(".")[0])
            assert allowed is None or room in allowed, f"{path} imports {name}"


def test_every_public_name_has_a_home() -> None:
    for name in convfc.__all__:
        assert getattr(convfc, name) is not None
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = convfc.nothing_such


def test_files_fit_in_the_head() -> None:
    for _, path in rooms():
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
        "from convfc.cli import main\n"
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
