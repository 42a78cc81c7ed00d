"""The guide: each file and name in it is there, and all of the house is on its map.

A name stands beside the file where it is: in the same paragraph, item of a list or row of a table.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_house import FLOORS, SOURCE

ROOT = Path(__file__).parents[1]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
GLOSSARY = ROOT / "docs" / "glossary.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"

BLOCK = re.compile(r"\n\s*\n|\n(?=\s*(?:[-|]|\d+\.) )")
"""Paragraphs, items of lists and rows of tables."""
PATH = re.compile(r"[\w.\-]*\w/[\w./\-]*|\.?\w[\w.\-]*\.(?:py|md|toml|ya?ml|txt|html)|[\w.\-]+/")
NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


def found(path: str) -> Path | None:
    """What a path leads to, from the package or from the repository."""
    return next((place / path for place in (SOURCE, ROOT) if (place / path).exists()), None)


def content(place: Path) -> str:
    """The text of a file; of a folder, that of the package that it is."""
    file = place / "__init__.py" if place.is_dir() else place
    return file.read_text() if file.is_file() else ""


DEFINED = r"^\s*(?:(?:async )?def|class) {0}\b|^\s*(?:\w+, )*{0}(?:, \w+)*(?:: [^=\n]+)?(?: = |$)"
USED = r"\b{0}\b"


def wrong(text: str, there: str) -> Iterator[str]:
    """Paths that lead nowhere, and names that are not in the files of their block.

    Args:
        text: a document.
        there: how a name is in a file, an expression: `DEFINED` or `USED`.
    """
    for block in BLOCK.split(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        words = re.findall(r"`([^`]+)`", block)
        paths = [word for word in words if PATH.fullmatch(word)]
        places = [place for place in map(found, paths) if place is not None]
        yield from (path for path in paths if found(path) is None)
        files = "\n".join(map(content, places))
        for name in set(words) - set(paths):
            parts = name.removeprefix("convfc.").split(".")
            known = (re.search(there.format(part), files, re.MULTILINE) for part in parts)
            if NAME.fullmatch(name) and name != "None" and not all(known):
                yield f"{name} in {', '.join(paths) or 'no file'}"


@pytest.mark.parametrize(
    ("document", "there"),
    [(ARCHITECTURE, DEFINED), (GLOSSARY, DEFINED), (CONTRIBUTING, USED)],
    ids=["architecture", "glossary", "contributing"],
)
def test_what_the_guide_names_is_there(document: Path, there: str) -> None:
    """The map and the glossary say where something is, the guide for a change also who uses it."""
    text = document.read_text()
    assert len(re.findall(r"`[^`]+\.py`", text)) > 20
    assert [*wrong(text, there)] == []
    links = re.findall(r"\]\(([^):]+)\)", text)
    assert [link for link in links if not (document.parent / link).is_file()] == []


@pytest.mark.parametrize("there", [DEFINED, USED])
def test_a_wrong_name_is_found(there: str) -> None:
    right = "- `lower` in `core/lowering.py`, for `.h5`, by `make test`"
    assert [*wrong(right, there)] == []
    assert [*wrong(right.replace("lowering", "lowerings"), there)] == [
        "core/lowerings.py",
        "lower in core/lowerings.py",
    ]
    assert [*wrong(right.replace("`lower`", "`lowers`"), there)] == ["lowers in core/lowering.py"]
    assert [*wrong("`lower`, somewhere", there)] == ["lower in no file"]
    # A name that is in the file of another item only.
    other = f"{right}\n- `PatchMethod.AUTO` in `core/limits.py`"
    assert [*wrong(other, there)] == ["PatchMethod.AUTO in core/limits.py"]
    table = "| `Window` | `core/geometry.py` |\n| `Window` | `errors.py` |"
    assert [*wrong(table, there)] == ["Window in errors.py"]


def test_that_a_file_uses_a_name_does_not_make_it_the_name_s_place() -> None:
    text = "- `plan` in `conversion.py`"
    assert [*wrong(text, USED)] == []
    assert [*wrong(text, DEFINED)] == ["plan in conversion.py"]


def rooms(text: str) -> dict[str, int]:
    """The map's rooms and their floors."""
    rows = re.findall(r"^\| (\d+) \| `([^`]+)` \|", text, re.MULTILINE)
    paths = ((path.removesuffix("/").removesuffix(".py"), floor) for floor, path in rows)
    return {path.replace("/", "."): int(floor) for path, floor in paths}


def mapped(text: str) -> list[str]:
    """The files of the map: those that are rooms, and those in the list of every file."""
    alone = re.findall(r"^\| \d+ \| `([^`]+[^/])` \|", text, re.MULTILINE)
    listed = text.split("## Every file")[1]
    return [*alone, *re.findall(r"^- `([^`]+[^/])`: ", listed, re.MULTILINE)]


def test_every_room_is_on_the_map() -> None:
    assert rooms(ARCHITECTURE.read_text()) == FLOORS


def test_every_file_is_on_the_map_once() -> None:
    """That of a package itself is its room's; data and the mark of types are no part of it."""
    files = (path.relative_to(SOURCE) for path in SOURCE.rglob("*") if path.suffix != ".pyc")
    known = {str(path) for path in files if path.suffix in (".py", ".html")}
    packages = {path for path in known if path.endswith("/__init__.py")}
    told = mapped(ARCHITECTURE.read_text())
    assert sorted(told) == sorted(known - packages)
    folders = {str(Path(path).parent) for path in packages}
    assert [folder for folder in folders if f"`{folder}/`" not in ARCHITECTURE.read_text()] == []


def test_a_file_that_lacks_is_found() -> None:
    text = ARCHITECTURE.read_text()
    less = re.sub(r"- `core/limits.py`: .*\n", "", text)
    assert set(mapped(text)) - set(mapped(less)) == {"core/limits.py"}
    less = re.sub(r"\| 2 \| `gates.py` .*\n", "", text)
    assert rooms(text).keys() - rooms(less).keys() == {"gates"}
    assert set(mapped(text)) - set(mapped(less)) == {"gates.py"}


def test_a_word_has_one_meaning() -> None:
    """One row, which says where it lives."""
    rows = [line.split(" | ") for line in GLOSSARY.read_text().splitlines() if line[:2] == "| "]
    rows = [row for row in rows if row[0] != "| word"]
    assert all(len(row) == 3 for row in rows)
    words = [word for row in rows for word in row[0].removeprefix("| ").split(", ")]
    assert len(words) == len(set(words)) > 40
    paths = [row[2].removesuffix(" |").strip("`") for row in rows]
    assert [path for path in paths if found(path) is None] == []


def test_what_is_run_is_there() -> None:
    """Targets of make, and the versions of Python that are promised and tested."""
    words = re.findall(r"(?:`|^ {4})make\s+([a-z-]+)", CONTRIBUTING.read_text(), re.MULTILINE)
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text()
    words += re.findall(r"make (.+)$", workflow, re.MULTILINE)[0].split()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert len(words) > 8
    assert [word for word in words if word not in targets] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = re.findall(r":: (3\.\d+)", "\n".join(project["classifiers"]))
    listed = re.findall(r"python: \[(.+)\]", workflow)[0]
    assert re.findall(r"[\d.]+", listed) == promised
    assert project["requires-python"] == f">={promised[0]}"
    assert f"Python {promised[0]} to {promised[-1]}" in (ROOT / "README.md").read_text()
