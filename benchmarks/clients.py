"""Try converted files in the programs that take them, and write what came of it as a table.

    python -m benchmarks.clients --python PYTHON --write docs/clients.md

PYTHON is an interpreter that has the programs (`pip install 'convfc[clients]'`, and what the table
says is to be installed by itself); by default the one that runs this.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.client_programs import PROGRAMS
from benchmarks.machine import facts

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "sample_models" / "mnist_cnn.onnx"
SECONDS = 300
"""That a client may take for one file."""
CLOSE = 1e-4
"""How far from onnxruntime's numbers the same function may be, where outputs are around 1."""


@dataclass(frozen=True)
class Trial:
    """One client, and how files are made for it.

    Attributes:
        client: its name.
        package: what has its version.
        ways: convfc's options for it, one file each.
        net: which network: "sample", or "small", which has no pads, no pooling and no softmax.
        remark: what stands in the way, or helps.
    """

    client: str
    package: str
    ways: tuple[str, ...] = ("",)
    net: str = "sample"
    remark: str = ""


TRIALS = (
    Trial(
        "OpenVINO",
        "openvino",
        remark="in float32; else bfloat16 where the processor has it",
    ),
    Trial(
        "tract",
        "tract",
        remark="one open size, the batch, which is to stay open: inner sizes have its name; "
        "where more are open, fix them",
    ),
    Trial("IREE", "iree-base-compiler", remark="compiled for the processor at hand"),
    Trial("onnx2torch", "onnx2torch"),
    Trial(
        "onnx2tf (LiteRT)",
        "onnx2tf",
        remark="runs onnxsim first, if that is there; without, it adds constants up wrongly, and "
        "stops; makes 1 of every open size but the batch: fix them",
    ),
    Trial("onnxslim", "onnxslim", remark="the simplified file, in onnxruntime"),
    Trial("onnxsim", "onnxsim", remark="the simplified file, in onnxruntime"),
    Trial("onnxoptimizer", "onnxoptimizer", remark="the optimized file, in onnxruntime"),
    Trial("qonnx", "qonnx", ("", "--for qonnx"), remark="takes known sizes only"),
    Trial(
        "ezkl",
        "ezkl",
        ("", "--for ezkl"),
        "small",
        "an open batch is an undetermined symbol to it; numbers are those of its fixed point",
    ),
    Trial(
        "hls4ml",
        "hls4ml",
        ("--for qonnx", "--for hls4ml"),
        "small",
        "knows no Slice and no Gather; numbers are those of its fixed point",
    ),
    Trial(
        "Marabou",
        "maraboupy",
        ("", "--for marabou"),
        "small",
        "knows no Pad, Gather or Slice: in the form of patches no kernels but 1x1 and those as "
        "large as their stride",
    ),
    Trial(
        "Gurobi Machine Learning",
        "gurobi-machinelearning",
        ("", "--for gurobi"),
        "small",
        "knows Gemm, MatMul, Add and Relu, and only rows",
    ),
    Trial("OMLT", "omlt", ("", "--for omlt"), "small", "takes a product with a bias only"),
    Trial(
        "auto_LiRPA, CROWN",
        "auto-lirpa",
        ("", "--for crown", "--form dense --flat-io"),
        "small",
        "pads on the last two axes only; 0.3 loses repeated entries of a Gather, **without a word: "
        "its bounds are too tight**; mended for this table; batch of 1",
    ),
)
NOT_TRIED = (
    "TensorRT, Core ML, SNPE, hardware of any kind: not to be had here",
    "concrete-ml: its own [page](clients/concrete-ml.md), as it takes another Python environment",
    "emlearn: its own [page](clients/emlearn.md), as it takes Keras models",
    "Neural Compressor, TVM: not tried here",
)


def small(path: Path) -> Path:
    """Two layers with unequal windows and no pads, flattened, and a Dense layer."""
    draw = np.random.default_rng(0).normal
    weights = {
        "W1": draw(size=(6, 1, 3, 2)),
        "B1": draw(size=6),
        "W2": draw(size=(4, 6, 2, 3)),
        "W3": draw(size=(4 * 7 * 10, 4)),
    }
    nodes = [
        helper.make_node("Conv", ["image", "W1", "B1"], ["a"], name="first", strides=[2, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "W2"], ["c"], name="second"),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "W3"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 17, 13])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array((w / 4).astype(np.float32), name) for name, w in weights.items()],
    )
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


def converted(source: Path, way: str, folder: Path) -> Path:
    """What `convfc convert` makes of a file, with the options of a way."""
    out = folder / f"model{source.suffix}"
    command = [sys.executable, "-m", "convfc", "convert", str(source), "-o", str(out), "--force"]
    subprocess.run([*command, *way.split()], check=True, capture_output=True)
    return out


def tried(python: str, client: str, path: Path, folder: Path) -> str:
    """What a client makes of a file, in words."""
    graph = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    shape = [size.dim_value or 1 for size in graph]
    x = np.random.default_rng(1).random(shape).astype(np.float32)
    np.save(folder / "x.npy", x)
    (folder / "y.npy").unlink(missing_ok=True)
    arguments = [str(path), "x.npy", "y.npy"]
    programs = os.pathsep.join([str(Path(python).absolute().parent), os.environ["PATH"]])
    try:
        done = subprocess.run(
            [python, "-c", PROGRAMS[client], *arguments],
            cwd=folder,
            env=os.environ | {"PATH": programs},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not done in {SECONDS} s"
    if not (folder / "y.npy").exists():
        lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        said = " ".join(lines[-1].replace("|", "/").split())[:110]
        return "fails: " + re.sub(r"[\[\]]", r"\\\g<0>", said)  # or it might be a link
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = session.run(None, {"image": x})[0]
    got = np.load(folder / "y.npy")
    if len(got) == 2 and got.shape != expected.shape:  # bounds
        low, high = got
        inside = bool(((low <= expected) & (expected <= high)).all())
        return f"bounds of width {(high - low).max():.3g}" if inside else "bounds that are WRONG"
    far = float(np.abs(got.reshape(expected.shape) - expected).max())
    return f"the same numbers ({far:.0e})" if far <= CLOSE else f"numbers {far:.1g} off"


def versions(python: str, names: Sequence[str]) -> dict[str, str]:
    """Of the packages, where they are installed."""
    program = (
        "import sys\nfrom importlib import metadata\nfor name in sys.argv[1:]:\n"
        "    try:\n        print(name, metadata.version(name))\n"
        "    except metadata.PackageNotFoundError:\n        pass\n"
    )
    done = subprocess.run(
        [python, "-c", program, *names], capture_output=True, text=True, check=True
    )
    return dict(line.split() for line in done.stdout.splitlines())


def table(python: str, wanted: Sequence[str]) -> list[str]:
    """A row per client and way, as Markdown."""
    found = versions(python, [trial.package for trial in TRIALS])
    rows = ["| client | version | options of `convert` | what it makes of the file | remark |"]
    rows.append("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="convfc-") as name:
        folder = Path(name)
        sources = {"sample": SAMPLE, "small": small(folder / "small.onnx")}
        for trial in (one for one in TRIALS if not wanted or one.package in wanted):
            for number, way in enumerate(trial.ways):
                said = "not installed: not tried here"
                if trial.package in found:
                    path = converted(sources[trial.net], way, folder)
                    said = tried(python, trial.client, path, folder)
                version, remark = found.get(trial.package, ""), trial.remark
                head = (trial.client, version) if number == 0 else ("", "")
                option = f"`{way}`" if way else ""
                remark = remark if number == 0 else ""
                rows.append(f"| {' | '.join((*head, option, said, remark))} |")
                sys.stderr.write(f"{rows[-1]}\n")
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Try all, and print or write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clients")
    parser.add_argument("--python", default=sys.executable, help="which has the clients")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table in that document")
    parser.add_argument("--only", nargs="+", default=[], metavar="PACKAGE", help="try these alone")
    options = parser.parse_args(arguments)
    machine = facts()
    rows = table(options.python, options.only)
    made = f"Tried on {machine['date']}, {machine['system']}, {machine['versions']}."
    text = "\n".join([*rows, "", *(f"- {one}." for one in NOT_TRIED), "", made])
    if options.write is None:
        sys.stdout.write(f"{text}\n")
        return
    document = options.write.read_text()
    start, end = "<!-- table -->\n", "<!-- /table -->"
    before, _, rest = document.partition(start)
    after = rest.partition(end)[2]
    options.write.write_text(f"{before}{start}{text}\n{end}{after}")


if __name__ == "__main__":
    main()
