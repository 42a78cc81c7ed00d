"""The site: built strictly, from nothing but what is here; and each page says what it should."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import typer

import convfc
from convfc.cli.main import app

ROOT = Path(__file__).parents[1]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def build(config: Path, site: Path, *, api: bool = False) -> str:
    """Build a site, and give what it complains of."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-f", config, "-d", site],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "SITE_API": str(api).lower()},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = (done.stdout + done.stderr).splitlines()
    told = "\n".join(line for line in lines if line and not line.startswith("INFO "))
    assert bool(told) == bool(done.returncode), told
    return told


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages; that of the API without its docstrings, which take as long as all others."""
    folder = tmp_path_factory.mktemp("site")
    assert build(ROOT / "mkdocs.yml", folder) == ""
    return folder


def test_every_page_is_there(site: Path) -> None:
    made = {str(path.relative_to(site).with_suffix("")) for path in site.rglob("*.html")}
    written = (path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md"))
    commands = {f"reference/{name}" for name in COMMANDS}
    others = {"index", "api", "changelog", "contributing", "notebook", "sample_models", "mnist"}
    assert made == {*(str(path.with_suffix("")) for path in written), *commands, *others, "404"}


def unmade(page: str) -> list[str]:
    """Paragraphs that GitHub shows as lists, tables or bold, and the site does not."""
    body = re.sub(r"<(pre|code)\b.*?</\1>", "", page, flags=re.DOTALL)
    paragraphs = re.findall(r"<p>(.*?)</p>", body, re.DOTALL)
    return [text for text in paragraphs if re.search(r"^(- |\d+\. |\|)|```|\*\*", text, re.M)]


def test_lists_and_tables_are_such(site: Path) -> None:
    pages = {path.name: unmade(path.read_text()) for path in site.rglob("*.html")}
    assert {name: found for name, found in pages.items() if found} == {}
    assert unmade("<p>These:\n- one\n- two</p>") == ["These:\n- one\n- two"]


def loaded(page: str) -> list[str]:
    """What a browser fetches from elsewhere to show a page."""
    return re.findall(r"<(?:script|link|img|iframe)\b[^>]*?=\"?(?:https?:)?//[^ >]+", page)


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert {path.name: loaded(path.read_text()) for path in pages if loaded(path.read_text())} == {}
    assert not any(re.search(r"url\(\"?(https?:)?//", path.read_text()) for path in pages)
    assert loaded('<script src="https://x.org/y.js">')
    assert loaded("<link rel=a href=//x.org/y>")


def test_what_html_shows_is_there(site: Path) -> None:
    """Markdown's links are checked where it is built."""
    shown = [
        (path, name)
        for path in {*site.rglob("*.html")} - {site / "404.html"}
        for name in re.findall(r'\b(?:src|srcset)="([^":]+?)"', path.read_text())
    ]
    assert len([name for _, name in shown if name.startswith("screens/")]) > 2
    assert [name for path, name in shown if not (path.parent / name).resolve().exists()] == []


def test_the_pages_of_commands_name_every_option(site: Path) -> None:
    for name, command in COMMANDS.items():
        page = unescape((site / f"reference/{name}.html").read_text())
        shown = " ".join(re.findall(r"<td><code>(.*?)</code>", page))
        options = {option for param in command.params for option in param.opts if "-" in option}
        assert options <= {*re.split(r"[ ,]+", shown)}


def test_the_page_of_the_api_names_everything(site: Path) -> None:
    named = re.findall(r"::: convfc\.(\w+)", (site / "api.html").read_text())
    assert sorted(named) == sorted({*convfc.__all__} - {"__version__"})


@pytest.mark.slow
def test_docstrings_make_no_complaints(tmp_path: Path) -> None:
    assert build(ROOT / "mkdocs.yml", tmp_path, api=True) == ""
    page = (tmp_path / "api.html").read_text()
    assert {*re.findall(r'id="convfc\.(\w+)"', page)} == {*convfc.__all__} - {"__version__"}
    assert "<blockquote>" not in page  # as `>>>` would be


def test_what_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    """The settings are those of the site."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("[a](b.md), [c](#d), ![e](f.png), [g](/h.md), [i](i)\n")
    lines = [f"INHERIT: {ROOT / 'mkdocs.yml'}", "docs_dir: docs", "nav: []", "hooks: []"]
    lines += ["plugins: []", "theme: {name: null, custom_dir: docs}"]
    (tmp_path / "mkdocs.yml").write_text("\n".join(lines))
    (tmp_path / "docs/main.html").write_text("{{ page.content }}")
    told = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert re.findall(r"'(b\.md|#d|f\.png|/h\.md|i)'", told) == [
        "b.md",
        "f.png",
        "/h.md",
        "i",
        "#d",
    ]
    assert "strict mode" in told
