"""Command lines about some files, with options that are mostly right and sometimes odd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from tests.fuzz import hostile
from tests.fuzz.seeding import METHODS


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
    odd = random.random() < ODD
    if odd and random.random() < 0.3:
        out = [model, "no/such/folder/m.onnx", ".", "x" * 300, "out.txt", "sub", "", "/dev/full"]
        name = random.choice(out)
        # A folder gets the usual file.
        made = Line([*made.arguments, "-o", name], {name, *made.outputs} - {model})
    elif random.random() < 0.25:
        out = [f"{name}{dot}{suffix}" for name in ("out", "x_fc", "with space", "é[red]")]
        name = random.choice(out)
        made = Line([*made.arguments, "-o", name], {name})
    rows = (0.4, lambda: ["--flat-io"]), (0.4, lambda: ["--max-pool", "relu"])
    made.arguments += _some(
        random,
        (0.4, lambda: ["--partial"]),
        (0.3, lambda: ["--no-check"]),
        (0.25, lambda: ["--verify"]),
        (0.1, lambda: ["--force"]),
        (0.35, lambda: ["--json"]),
        (0.4, lambda: ["--patches", random.choice(METHODS)]),
        (0.2, lambda: ["--patch-memory", random.choice(["1", "600", "8MiB"])]),
        (0.2, lambda: ["--form", "dense", *_some(random, *rows)]),
        (0.1, lambda: ["--dense-limit", random.choice(["1", "9KiB", "2GiB"])]),
        (0.02, lambda: ["--flat-io"]),
        (0.1, lambda: [random.choice(["--only", "--skip"]), "*conv*"]),
        (0.1, lambda: ["--dry-run"]),
    )
    if odd:
        made.arguments += random.choice(
            [
                [random.choice(["--only", "--skip"]), random.choice(_ODD)],
                ["--patch-memory", random.choice(_MEMORIES)],
                ["--import", random.choice(["json", "no_such", "a b", "", "os.path"])],
                ["--patches", "x"],
                [random.choice(_ODD)],
            ]
        )
    return made


def revert(random: Random, model: str) -> Line:
    """The way back, into the usual file or another."""
    stem, dot, suffix = model.rpartition(".")
    made = Line(["revert", model], {f"{stem.removesuffix('_fc')}_conv{dot}{suffix}"})
    if random.random() < 0.25:
        name = f"{random.choice(['out', 'with space', 'é[red]'])}_conv{dot}{suffix}"
        made = Line([*made.arguments, "-o", name], {name})
    made.arguments += _some(
        random,
        (0.6, lambda: ["--partial"]),
        (0.25, lambda: ["--verify"]),
        (0.1, lambda: ["--force"]),
        (0.35, lambda: ["--json"]),
        (0.25, lambda: ["--like", f"like{dot}{suffix}"]),
        (0.1, lambda: [random.choice(["--only", "--skip"]), random.choice(["*conv*", "*"])]),
    )
    if random.random() < ODD:
        made.arguments += random.choice(
            [
                ["-o", random.choice([model, "no/such/m_conv.onnx", "x" * 300, "/dev/full"])],
                ["--like", random.choice([model, *_ODD])],
                [random.choice(["--only", "--skip"]), random.choice(_ODD)],
            ]
        )
    return made


def matrix(random: Random, model: str) -> Line:
    """The matrices of a model's convolutions, in a table or a file."""
    made = Line(["matrix", model])
    if random.random() < 0.5:
        made = Line([*made.arguments, "-o", "f.npz"], {"f.npz"})
        made.arguments += ["--kind", random.choice(["filter", "filter", "patches", "x"])]
    made.arguments += _some(
        random,
        (0.4, lambda: ["--json"]),
        (0.2, lambda: ["--layer", "*conv*"]),
        (0.1, lambda: ["--sample", random.choice(["1", "999", "1000", "-1"])]),
        (0.1, lambda: ["--entries", random.choice(["1", "0", str(2**70)])]),
        (0.05, lambda: ["--layer", random.choice(_ODD)]),
        (0.05, lambda: ["--data", random.choice(["nothing.npz", *_ODD])]),
    )
    return made


def verify(random: Random, files: Sequence[str]) -> Line:
    """A verification of two files, of one, or of all in the folder."""
    named = files if random.random() < 0.8 else random.choice([files[-1:], files[:1], []])
    made = Line(["verify", *named])
    odd = random.random() < ODD
    if random.random() < 0.1:
        report = random.choice(["no/such/r.xml", ".", *files]) if odd else "r.xml"
        made = Line([*made.arguments, "--junit", report], {report} - {*files})
    made.arguments += ["--samples", "2"] if random.random() < 0.95 else []
    made.arguments += _some(
        random,
        (0.35, lambda: ["--json"]),
        (0.15, lambda: ["--quick"]),
        (0.15, lambda: ["--layers"]),
        (0.06, lambda: ["--mean", random.choice(["0.5", "0.5,0.4,0.3"]), "--std", "0.25"]),
        (0.06, lambda: ["--rtol", random.choice(["0", "1e-4", "1"])]),
        (0.06, lambda: ["--atol", random.choice(["0", "1e-4", "1e30"])]),
        (0.05, lambda: ["--seed", random.choice(["1", "4294967296", str(10**30)])]),
    )
    if odd:
        name = random.choice(["x", "a", "image", ""])
        made.arguments += random.choice(
            [
                ["--rtol", random.choice(["nan", "inf", "1e400", "x", "-1"])],
                ["--atol", random.choice(["nan", "inf", "1e-400", ""])],
                ["--seed", random.choice(["-1", "x"])],
                ["--shape", f"{name}={random.choice(_SHAPES)}"],
                ["--input", f"{name}={random.choice(_ODD)}"],
                ["--data", random.choice(["nothing.npz", *_ODD])],
                ["--samples", random.choice(["0", "-1", str(2**64)])],
                ["--mean", random.choice(["nan", "1,", "a", "1e400"])],
                ["--std", random.choice(["0", "inf", "0,1"])],
                ["--scale", random.choice(["x", "nan", "0"])],
            ]
        )
    return made


def shapes(random: Random, model: str) -> Line:
    """The table of a model's convolutions."""
    made = Line(["shapes", model])
    made.arguments += ["--json"] if random.random() < 0.4 else []
    if random.random() < 0.2:
        made.arguments += ["--patch-memory", random.choice([*_MEMORIES, "1", "600", "8MiB"])]
    made.arguments += _some(
        random,
        (0.3, lambda: ["--format", random.choice(["csv", "markdown", "table", "x"])]),
        (0.2, lambda: ["--sort", random.choice(["layer", "patches", "matrix", "x"])]),
    )
    return made


def explain(random: Random, model: str) -> Line:
    """One layer, in the terminal or on a page."""
    made = Line(["explain", model])
    odd = random.random() < ODD
    if random.random() < 0.4:
        odd_out = random.choice(["é [red].html", "page.txt", "no/p.html", ""])
        out = odd_out if odd else random.choice(["page.html", "e.npz"])
        made = Line([*made.arguments, "-o", out], {out})
    made.arguments += _some(
        random,
        (0.15, lambda: ["--sample", random.choice(["1", "999"])]),
        (0.05, lambda: ["--digit", "7"]),
        (0.2, lambda: ["--values"]),
        (0.1, lambda: ["--batch", random.choice(["2", "3", "0", "1001"])]),
        (0.2, lambda: ["--json"]),
    )
    if odd:
        made.arguments += random.choice(
            [
                ["--layer", random.choice(["conv", *_ODD])],
                ["--sample", random.choice(["1000", str(2**63), "-1"])],
                ["--digit", "10"],
                ["--data", random.choice(["nothing.npz", *_ODD])],
            ]
        )
    return made


def calculator(random: Random) -> Line:
    """Sizes of one convolution that is given by its numbers."""
    made = Line([random.choice(["shapes", "shapes", "shapes", "explain"])])
    number = [*("0", "1", "2", "3", "7", "28", "1000000000", str(2**62), str(2**63), "-1", "", "x")]
    size = random.choice(
        ["28x28x1", "1x1x1", "5x5", "x".join(random.choices(number, k=3)), "1 2;3 4"]
    )
    made.arguments += [
        "--input",
        size,
        "--kernel",
        random.choice(["3", "4x2", "1 -1;0 2", *number]),
    ]
    made.arguments += _some(
        random,
        (0.4, lambda: ["--stride", random.choice(["1", "2x3", *number])]),
        (0.4, lambda: ["--dilation", random.choice(["1", "2x3", *number])]),
        (0.4, lambda: ["--padding", random.choice(["same", "half", "full", "1,2,3,4", *number])]),
        (0.4, lambda: ["--filters", random.choice(number)]),
        (0.3, lambda: ["--json"] if made.arguments[0] == "shapes" else []),
        (
            0.2,
            lambda: (
                ["--patch-memory", random.choice(_MEMORIES)]
                if made.arguments[0] == "shapes"
                else []
            ),
        ),
    )
    return made


ODD = 0.12
"""How many command lines have something wrong in them."""

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


_MEMORIES = ("0", "1e3", "9" * 30 + "GiB", "1TiB", "-1", "x", "", "nan", "1.5KiB")


def _some(random: Random, *choices: tuple[float, Callable[[], list[str]]]) -> list[str]:
    """Options, each with its probability."""
    return [word for chance, make in choices if random.random() < chance for word in make()]
