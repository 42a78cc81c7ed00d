"""Command lines about some files, with options that are mostly right and sometimes odd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from tests.fuzz import hostile


@dataclass
class Line:
    """A command line, and the names of the files that it may write.

    Attributes:
        arguments: without the name of the program.
        outputs: names of files in the folder where it is run.
    """

    arguments: list[str]
    outputs: set[str] = field(default_factory=set)


def convert(random: Random, model: str) -> Line:
    """A conversion, checked or not, into the usual file or another."""
    stem, dot, suffix = model.rpartition(".")
    made = Line(["convert", model], {f"{stem}_fc{dot}{suffix}"})
    if random.random() < 0.3:
        out = random.choice(["out", "x_fc", "with space", "é[red]", "."]) + dot + suffix
        if random.random() < 0.15:
            out = random.choice([model, "no/such/folder/m.onnx", ".", "x" * 300, "out.txt", "sub"])
        made = Line([*made.arguments, "-o", out], {out} - {model})
    made.arguments += _some(
        random,
        (0.3, lambda: ["--partial"]),
        (0.3, lambda: ["--no-check"]),
        (0.25, lambda: ["--verify"]),
        (0.3, lambda: ["--force"]),
        (0.35, lambda: ["--json"]),
        (0.4, lambda: ["--patches", random.choice(["auto", "gather", "rows", "slice", "reshape"])]),
        (0.2, lambda: ["--patch-memory", _memory(random)]),
        (0.15, lambda: [random.choice(["--only", "--skip"]), random.choice(["conv*", *_ODD])]),
        (0.02, lambda: ["--import", random.choice(["json", "no_such", "a b", "", "os.path"])]),
    )
    return made


def verify(random: Random, files: Sequence[str]) -> Line:
    """A verification of two files, of one, or of all in the folder."""
    named = files if random.random() < 0.75 else random.choice([files[-1:], files[:1], []])
    made = Line(["verify", *named])
    if random.random() < 0.12:
        report = random.choice(["r.xml", "r.xml", "report", "no/such/r.xml", "."])
        made = Line([*made.arguments, "--junit", report], {report})
    made.arguments += ["--samples", "2"] if random.random() < 0.95 else []
    made.arguments += _some(
        random,
        (0.35, lambda: ["--json"]),
        (0.15, lambda: ["--quick"]),
        (0.1, lambda: ["--rtol", random.choice(["0", "1e-4", "nan", "inf", "1e400", "x", "-1"])]),
        (0.1, lambda: ["--atol", random.choice(["0", "1e-4", "nan", "inf", "1e-400", ""])]),
        (0.05, lambda: ["--seed", random.choice(["1", "4294967296", str(10**30), "-1"])]),
        (0.08, lambda: ["--shape", f"x={random.choice(_SHAPES)}"]),
        (0.08, lambda: ["--input", f"{random.choice(['x', 'image', ''])}={random.choice(_ODD)}"]),
        (0.03, lambda: ["--data", random.choice(["mnist", "nothing.npz", *_ODD])]),
    )
    return made


def shapes(random: Random, model: str) -> Line:
    """The table of a model's convolutions."""
    return Line(
        [
            *("shapes", model),
            *_some(
                random,
                (0.4, lambda: ["--json"]),
                (0.2, lambda: ["--patch-memory", _memory(random)]),
            ),
        ]
    )


def explain(random: Random, model: str) -> Line:
    """One layer, in the terminal or on a page."""
    made = Line(["explain", model])
    if random.random() < 0.4:
        out = random.choice(["page.html", "page.html", "é [red].html", "page.txt", "no/p.html"])
        made = Line([*made.arguments, "-o", out], {out})
    made.arguments += _some(
        random,
        (0.15, lambda: ["--layer", random.choice(["conv", *_ODD])]),
        (0.15, lambda: ["--sample", random.choice(["1", "999", "1000", str(2**63)])]),
        (0.05, lambda: ["--digit", random.choice(["7", "10"])]),
        (0.03, lambda: ["--data", random.choice(["nothing.npz", *_ODD])]),
    )
    return made


def calculator(random: Random) -> Line:
    """Sizes of one convolution that is given by its numbers."""
    made = Line([random.choice(["shapes", "shapes", "shapes", "explain"])])
    number = [*("0", "1", "2", "3", "7", "28", "1000000000", str(2**62), str(2**63), "-1", "", "x")]
    size = random.choice(["28x28x1", "1x1x1", "5x5", "x".join(random.choices(number, k=3))])
    made.arguments += ["--input", size, "--kernel", random.choice(["3", "4x2", *number])]
    made.arguments += _some(
        random,
        (0.4, lambda: ["--stride", random.choice(["1", "2x3", *number])]),
        (0.4, lambda: ["--dilation", random.choice(["1", "2x3", *number])]),
        (0.4, lambda: ["--padding", random.choice(["same", "half", "full", "1,2,3,4", *number])]),
        (0.4, lambda: ["--filters", random.choice(number)]),
        (0.3, lambda: ["--json"] if made.arguments[0] == "shapes" else []),
        (0.2, lambda: ["--patch-memory", _memory(random)] if made.arguments[0] == "shapes" else []),
    )
    return made


_ODD = tuple(text for text in hostile.TEXTS if "\0" not in text and text != "--debug")
"""Texts that a shell can pass on; a traceback is right where one asks for it."""

_SHAPES = (
    "1x3x8x8",
    "2x2x9x9",
    "0",
    "1x1x1000000000x1000000000",
    "x",
    "-1x3",
    str(2**63),
    "1" + "x1" * 40,
)


def _memory(random: Random) -> str:
    whole = (
        "0",
        "1",
        "600",
        "8MiB",
        "1e3",
        "9" * 30 + "GiB",
        "1TiB",
        "-1",
        "x",
        "",
        "nan",
        "1.5KiB",
    )
    return random.choice(whole)


def _some(random: Random, *choices: tuple[float, Callable[[], list[str]]]) -> list[str]:
    """Options, each with its probability."""
    return [word for chance, make in choices if random.random() < chance for word in make()]
