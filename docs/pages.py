"""Pages of the site that are no file in docs: from the program, the package and the repository."""

from __future__ import annotations

import inspect
import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

import convfc
from convfc.cli.main import app

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "LICENSE": "license.txt",
    "sample_models/README.md": "sample_models.md",
    "src/convfc/samples/data/README.md": "mnist.md",
    "docs/notebook.ipynb": "notebook.md",
}
"""Files of the repository that are pages, too: where they are there, and on the site."""
ALONE = ("license.txt", "sample_models.md", "mnist.md")
"""Pages that are reached from others, and are not in the menu."""
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def on_config(config: MkDocsConfig) -> None:
    """Put the pages of folders into the menu."""
    config.nav = [*_listed(config.nav or [])]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages that are no file in docs."""
    from mkdocs.structure.files import File, InclusionLevel

    texts = {there: (ROOT / here).read_text() for here, there in PAGES.items()}
    texts["notebook.md"] = notebook(texts["notebook.md"])
    texts["api.md"] = api()
    texts |= {f"reference/{name}.md": command(name) for name in COMMANDS}
    for there, text in texts.items():
        level = InclusionLevel.NOT_IN_NAV if there in ALONE else InclusionLevel.UNDEFINED
        files.append(File.generated(config, there, content=text, inclusion=level))


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Lead links to files of the repository to their pages."""
    there = page.file.src_uri
    here = next((file for file, name in PAGES.items() if name == there), f"docs/{there}")

    def led(match: re.Match[str]) -> str:
        file = posixpath.normpath(posixpath.join(posixpath.dirname(here), match[1]))
        to = PAGES.get(file, posixpath.relpath(file, "docs"))
        return f"]({posixpath.relpath(to, posixpath.dirname(there))}"

    return re.sub(r"\]\(([^)#:\s]+)(?=[)#])", led, markdown)


def command(name: str) -> str:
    """What `--help` says of a command."""
    one = COMMANDS[name]
    context = one.make_context(name, [], resilient_parsing=True)
    usage = " ".join(["convfc", name, *one.collect_usage_pieces(context)])
    rows = ["| option | what it does |", "|---|---|"]
    for param in one.params:
        words, told = param.get_help_record(context)
        rows.append(f"| `{words}` | {told.replace('|', '&#124;')} |")
    parts = [f"# convfc {name}", f"    {usage}", inspect.cleandoc(one.help), "\n".join(rows)]
    return "\n\n".join(parts)


def api() -> str:
    """Every public name."""
    names = [name for name in convfc.__all__ if not name.startswith("_")]
    errors = [name for name in names if name.endswith("Error")]
    functions = [name for name in names if name.islower()]
    parts = {
        "Functions": functions,
        "Classes": [name for name in names if name not in (*errors, *functions)],
        "Errors": errors,
    }
    lines = ["# API", "All of `dir(convfc)`. [From Python](python.md) has the way in."]
    for title, members in parts.items():
        lines += [f"## {title}", *(f"::: convfc.{name}" for name in members)]
    return "\n\n".join(lines)


def notebook(text: str) -> str:
    """A notebook's cells; what they print is in whose notebook they run."""
    return "\n\n".join(
        source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```"
        for cell in json.loads(text)["cells"]
        for source in ["".join(cell["source"])]
    )


def _listed(entries: list[Any]) -> Iterator[Any]:
    """A menu in which the pages of a folder are in its place."""
    for entry in entries:
        if isinstance(entry, dict):
            ((title, inner),) = entry.items()
            yield {title: [*_listed([inner] if isinstance(inner, str) else inner)]}
        elif entry == "reference/":
            yield from (f"reference/{name}.md" for name in COMMANDS)
        elif entry.endswith("/"):
            found = (ROOT / "docs" / entry).glob("*.md")
            yield from sorted(f"{entry}{path.name}" for path in found)
        else:
            yield entry
