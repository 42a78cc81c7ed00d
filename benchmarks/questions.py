"""Put questions to programs that know Dense and ReLU only, and write their answers as pages.

    python -m benchmarks.questions [--python PAGE=PYTHON ..] [--only PAGE ..] [--write]
    python -m benchmarks.questions --net FILE [--python PAGE=PYTHON ..] [--only PAGE ..]

Each is given `sample_models/mnist_small`, `.onnx` or `.keras`, as it is, then what `convfc convert`
makes of it; or another net of digits, an `.onnx` that has the `.keras` beside it. The images that
it finds and the numbers that it gives them are held against the original, in onnxruntime. PYTHON is
an interpreter that has the program; by default the one that runs this.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnxruntime

from benchmarks.clients import converted, versions
from benchmarks.machine import facts
from benchmarks.question_programs import QUESTIONS

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "sample_models" / "mnist_small.onnx"
PAGES = ROOT / "docs" / "clients"
SECONDS = 500
"""That a client may take for all its answers."""


@dataclass(frozen=True)
class Page:
    """One client, and how the file is made for it.

    Attributes:
        packages: whose versions are of interest.
        way: convfc's options.
        suffix: of the file that it is given.
    """

    packages: tuple[str, ...]
    way: str
    suffix: str = ".onnx"


WAYS: Mapping[str, Page] = {
    "marabou": Page(("maraboupy",), "--for marabou"),
    "gurobi": Page(("gurobipy", "gurobi-machinelearning"), "--for gurobi"),
    "gurobi-keras": Page(("gurobipy", "gurobi-machinelearning", "keras"), "--for gurobi", ".keras"),
    "emlearn": Page(("emlearn", "keras"), "--for emlearn", ".keras"),
    "omlt": Page(("omlt", "pyomo", "highspy"), "--for omlt"),
    "auto-lirpa": Page(("auto-LiRPA", "onnx2torch", "torch"), "--form dense --flat-io"),
    "concrete-ml": Page(("concrete-ml", "concrete-python"), "--for concrete-ml"),
    "hls4ml": Page(("hls4ml", "qonnx"), "--for hls4ml"),
}


def asked(python: str, page: str, path: Path, folder: Path) -> tuple[bool, list[str], float]:
    """Whether a client answered, what it said last, and how long it took."""
    programs = os.pathsep.join([str(Path(python).absolute().parent), os.environ["PATH"]])
    (folder / "found.npz").unlink(missing_ok=True)
    begun = time.perf_counter()
    try:
        done = subprocess.run(
            [python, "-c", QUESTIONS[page], str(path), "digits.npz", "found.npz"],
            cwd=folder,
            env=os.environ | {"PATH": programs, "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, [f"not done in {SECONDS} s"], SECONDS
    took = time.perf_counter() - begun
    if done.returncode == 0:
        said = [line[2:] for line in done.stdout.splitlines() if line.startswith("> ")]
        return True, said, took
    lines = [line.strip() for line in (done.stderr.strip() or "no message").splitlines()]
    *before, last = (line for line in lines if line.strip("^~"))
    if last == "AssertionError":  # which says nothing without what it asserts
        last = f"{last}: {before[-1]}"
    return False, [last], took


def held_against(original: Path, folder: Path, digit: np.ndarray) -> list[str]:
    """What the original makes of the images that a client found."""
    if not (folder / "found.npz").exists():
        return []
    found = np.load(folder / "found.npz")
    images = found["images"].astype(np.float32)
    session = onnxruntime.InferenceSession(original, providers=["CPUExecutionProvider"])
    logits = session.run(None, {"image": images.reshape(-1, 1, 28, 28)})[0]
    if "classes" in found:
        alike = (logits.argmax(1) == found["classes"]).sum()
        return [f"the original sees the same in {alike} of {len(images)} images"]
    far = np.abs(logits - found["logits"]).max()
    said = [f"the logits of the original are at most {far:.0e} from those on {len(images)} images"]
    for image, seen in zip(images if len(images) < 5 else (), logits, strict=False):
        first, second = np.argsort(-seen)[:2]
        said.append(
            f"at most {np.abs(image - digit).max():.4f} from the digit: the original sees a "
            f"{first} ({seen[first]:.3f}; a {second} {seen[second]:.3f})"
        )
    return said


def answers(python: str, page: str, net: Path = SAMPLE) -> list[str]:
    """What came of a client that was asked about a net, as Markdown."""
    has = versions(python, WAYS[page].packages)
    named = ", ".join(f"{name} {has.get(name, '(not installed)')}" for name in WAYS[page].packages)
    with (
        tempfile.TemporaryDirectory(prefix="convfc-") as name,
        np.load(str(files("convfc.samples") / "data" / "mnist.npz")) as mnist,
    ):
        folder = Path(name)
        images = mnist["x_test"].reshape(1000, -1).astype(np.float32) / 255
        np.savez(folder / "digits.npz", images=images, labels=mnist["y_test"])
        sample = net.with_suffix(WAYS[page].suffix)
        fine, said, _ = asked(python, page, sample, folder)
        lines = ["The original:", "", *_quoted(said), ""]
        if fine:
            lines[0] = "The original, which it takes as well:"
        path = converted(sample, WAYS[page].way, folder)
        fine, said, took = asked(python, page, path, folder)
        lines += [f"Converted, with `{WAYS[page].way}`:", "", *_quoted(said), ""]
        if held := held_against(net, folder, images[0]):
            lines += ["The original, in onnxruntime, on what it found:", "", *_quoted(held), ""]
    machine = facts()
    where = f"{machine['date']}, {machine['processor']}, {machine['cores']} cores"
    return [*lines, f"{took:.0f} s in all. {where}, which others used, too; {named}."]


def _quoted(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask all, and print or write the answers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.questions")
    parser.add_argument("--python", nargs="+", default=[], metavar="PAGE=PYTHON")
    parser.add_argument("--only", nargs="+", default=list(WAYS), choices=WAYS, metavar="PAGE")
    parser.add_argument("--net", type=Path, default=SAMPLE, metavar="FILE", help="another .onnx")
    parser.add_argument("--write", action="store_true", help="put the answers in docs/clients")
    options = parser.parse_args(arguments)
    pythons = dict(given.split("=", 1) for given in options.python)
    for page in options.only:
        lines = answers(pythons.get(page, sys.executable), page, options.net)
        sys.stdout.write("\n".join([f"# {page}", *lines, ""]))
        sys.stdout.flush()
        if options.write and options.net == SAMPLE:
            document = PAGES / f"{page}.md"
            start, end = "<!-- answers -->\n", "<!-- /answers -->"
            before, _, rest = document.read_text().partition(start)
            after = rest.partition(end)[2]
            document.write_text("\n".join([f"{before}{start}", *lines, "", f"{end}{after}"]))


if __name__ == "__main__":
    main()
