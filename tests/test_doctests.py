"""The worked examples of the arithmetic and the texts say what comes out."""

from __future__ import annotations

import doctest
import inspect
import pkgutil
from importlib import import_module

import pytest

from convfc import core, text
from convfc.core.geometry import Convolution, Window
from convfc.core.im2col import Ops, apply, patch_tensor
from convfc.core.lowering import Lowering, lower
from convfc.core.numpy_ops import filter_matrices
from convfc.core.transposed import TransposedConvolution, TransposedWindow

MODULES = [
    "convfc.cli.github",
    "convfc.errors",
    "convfc.explanation.patch_matrix",
    "convfc.formats.onnx.runtimes",
    "convfc.verification.counterpart",
    "convfc.verification.parting",
    *(
        module.name
        for package in (core, text)
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    ),
]
HARDEST = [
    *(Window.tap, Window.pads_by_remainder, Convolution.index_map, Lowering.block_edges, lower),
    *(Ops.pad, Ops.interleave, apply, patch_tensor, filter_matrices),
    *(TransposedWindow.inner, TransposedWindow.cut, TransposedConvolution.inner_kernel),
    *(TransposedWindow.frame, TransposedWindow.tap_of_phase),
]


@pytest.mark.parametrize("name", MODULES)
def test_an_example_is_true(name: str) -> None:
    assert doctest.testmod(import_module(name)).failed == 0  # what came instead is printed


def test_what_is_hardest_has_one() -> None:
    without = [it for it in HARDEST if ">>> " not in (inspect.getdoc(it) or "")]
    assert without == []
