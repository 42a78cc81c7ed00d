"""Other programs that turn ONNX convolutions into matrix products, where they are installed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import onnx

_QONNX = """
import sys
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.transformation.lower_convs_to_matmul import LowerConvsToMatMul
model = ModelWrapper(sys.argv[1]).transform(InferShapes()).transform(LowerConvsToMatMul())
model.save(sys.argv[2])
"""
_CONV2MATMUL = """
import sys
from onnx_conv2matmul import rewrite_file
rewrite_file(sys.argv[1], sys.argv[2])
"""
PEERS = {"qonnx": ("qonnx", _QONNX), "onnx-conv2matmul": ("onnx_conv2matmul", _CONV2MATMUL)}
"""By the name of the package: the module, and a program that converts one file to another."""


def installed(python: str) -> dict[str, bool]:
    """Which peers an interpreter has."""
    return {
        name: _run(python, f"import {module}").returncode == 0
        for name, (module, _) in PEERS.items()
    }


def lower(peer: str, python: str, path: Path, out: Path) -> str:
    """Let a peer convert a file.

    Returns:
        How many convolutions it converted and into what; `out` is there if they are any. Or why it
        failed.
    """
    done = _run(python, PEERS[peer][1], str(path), str(out))
    if done.returncode:
        return f"fails: {(done.stderr.strip() or 'no message').splitlines()[-1][:120]}"
    before, after = onnx.load(path).graph.node, onnx.load(out).graph.node
    count, left = (sum(node.op_type == "Conv" for node in nodes) for nodes in (before, after))
    if left == count:
        out.unlink()
    said = f"{count - left} of {count} convolutions converted"
    domains = {node.domain for node in before}
    own = sorted({node.op_type for node in after if node.domain not in domains})
    return f"{said}, with its own operators {', '.join(own)}" if own else said


def _run(python: str, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [python, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
