"""True conversions: of random layers, of onnx's own suites, of files that somebody has."""

from __future__ import annotations

import shlex
import subprocess
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx

import convfc
from convfc.planning import Fate
from tests.campaign.cases import Outcome

METHODS = ("auto", "auto", "gather", "rows", "slice", "taps", "shift")
SUFFIXES = (".onnx", ".h5", ".hdf5", ".keras")


def file_cases(folder: Path, simplifiers: list[str]) -> list[str]:
    """The names of the cases of a folder of models: each by two methods, and simplified."""
    found = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)
    commands = ["", *simplifiers]
    return [
        f"file true {path}|{method}|{command if path.suffix == '.onnx' else ''}"
        for path in found
        for method in ("auto", "slice")
        for command in (commands if path.suffix == ".onnx" else [""])
    ]


def suite_cases() -> list[str]:
    """The names of the cases of onnx's own suites."""
    return [f"suite true {number}" for number in range(len(_suite()))]


def true_conversion(
    case: str, kind: str, rest: str, random: Random, folder: Path
) -> tuple[Outcome, list[Path]]:
    """Convert a model, and let convfc compare both files.

    Args:
        case: the name of the case.
        kind: "onnx", "keras", "suite" or "file".
        rest: which of them.
        random: where the choices come from.
        folder: for the files.
    """
    from tests.campaign.working import answer

    method, command = random.choice(METHODS), ""
    if kind == "file":
        name, method, command = rest.split("|")
        source, what = Path(name), rest
    elif kind == "keras":
        source, what = _keras_layer(random, folder)
    else:
        model, what = _suite()[int(rest)] if kind == "suite" else _onnx_layer(random)
        source = folder / "true.onnx"
        onnx.save(model, source)
    out = folder / f"true_fc{source.suffix}"
    files = [source, out]
    family = f"{kind} {command.split()[0].rsplit('/', 1)[-1]}" if command else kind
    try:
        done = _converted(source, out, method)
    except convfc.ConvfcError as error:
        return Outcome(case, family, what, "refused", str(error)), [source]
    except Exception as error:  # that is what is looked for
        return Outcome(case, family, what, type(error).__name__, repr(error)[:300]), [source]
    if not any(layer.fate is Fate.CONVERTED for layer in done.layers):
        return Outcome(case, family, what, "refused", "nothing to convert"), [source]
    if command:
        simple = folder / "simple_fc.onnx"
        problem = _simplified(command, out, simple)
        if problem is not None:
            return Outcome(case, family, what, "refused", problem), [source]
        files = [source, simple]
    verdict, reason = answer(*files)
    return Outcome(case, family, f"{what} {method}", verdict, reason), files


def _converted(source: Path, out: Path, method: str) -> convfc.Conversion:
    """Convert by a method, or where that does not fit by whichever does."""
    done = convfc.convert(source, out, patches=method, force=True)
    return done if done.written else convfc.convert(source, out, partial=True, force=True)


def _simplified(command: str, source: Path, out: Path) -> str | None:
    """Run a simplifier, which takes two file names; why that failed, if it did."""
    out.unlink(missing_ok=True)
    done = subprocess.run(
        [*shlex.split(command), str(source), str(out)], capture_output=True, text=True, check=False
    )
    return None if out.exists() else f"the simplifier fails: {(done.stderr or done.stdout)[-200:]}"


def _onnx_layer(random: Random) -> tuple[onnx.ModelProto, str]:
    from tests.onnx_layers import random_layer

    model = random_layer(random).model
    node = model.graph.node[0]
    words = [f"{a.name}={onnx.helper.get_attribute_value(a)}" for a in node.attribute]
    return model, f"{node.op_type} {' '.join(words)}"


def _keras_layer(random: Random, folder: Path) -> tuple[Path, str]:
    from tests.keras_layers import drawn
    from tests.keras_models import FORMATS, many, save

    rng = np.random.default_rng(random.getrandbits(32))
    chosen: dict[str, Any] = {"layer": drawn(rng), "other": drawn(rng)}
    path = folder / f"true{random.choice(FORMATS)}"
    save(many(chosen), path)
    words = [f"{type(layer).__name__}{shape}" for shape, layer in chosen.values()]
    return path, f"{path.suffix} {', '.join(words)}"


@cache
def _suite() -> list[tuple[onnx.ModelProto, str]]:
    """The models of onnx's suites, with names."""
    from tests.onnx_suites import CASES

    return [(case.model, case.name) for case in CASES]
