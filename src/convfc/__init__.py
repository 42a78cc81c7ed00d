"""Rewrites every convolution of a Keras or ONNX model as patches + Dense, and compares both.

    >>> import convfc
    >>> convfc.convert("model.onnx").complete
    >>> convfc.verify("model.onnx").equivalent

Nothing here prints. A name is imported when it is first used, so that `import convfc` costs
nothing and only those who open a Keras file wait for keras.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from convfc._version import __version__

if TYPE_CHECKING:
    from convfc.conversion import Conversion, convert
    from convfc.core.builders import convolution, named_padding, named_transposed_window
    from convfc.core.geometry import AnyConvolution, Convolution, Same, Window
    from convfc.core.im2col import NumpyOps, apply
    from convfc.core.lowering import Lowering, PatchMethod, Refusal, lower
    from convfc.core.transposed import TransposedConvolution, TransposedWindow
    from convfc.errors import (
        ConversionError,
        ConvfcError,
        DataError,
        FileError,
        GeometryError,
        UnsupportedModelError,
        UsageError,
    )
    from convfc.explanation.drawing import draw
    from convfc.explanation.numbers import Explanation
    from convfc.explanation.sources import explain_convolution, explain_model
    from convfc.formats.protocols import Port, Site
    from convfc.formats.provenance import LayerRecord, Provenance
    from convfc.planning import Fate, Layer, shapes
    from convfc.reproduction.results import Comparison, Experiment, Trained
    from convfc.reproduction.running import experiment
    from convfc.reproduction.settings import Settings
    from convfc.verification.differences import OutputDifference, Witness
    from convfc.verification.inspection import Look
    from convfc.verification.verdict import Verdict
    from convfc.verification.verify import Verification, verify, verify_folder

__all__ = [
    "AnyConvolution",
    "Comparison",
    "Conversion",
    "ConversionError",
    "ConvfcError",
    "Convolution",
    "DataError",
    "Experiment",
    "Explanation",
    "Fate",
    "FileError",
    "GeometryError",
    "Layer",
    "LayerRecord",
    "Look",
    "Lowering",
    "NumpyOps",
    "OutputDifference",
    "PatchMethod",
    "Port",
    "Provenance",
    "Refusal",
    "Same",
    "Settings",
    "Site",
    "Trained",
    "TransposedConvolution",
    "TransposedWindow",
    "UnsupportedModelError",
    "UsageError",
    "Verdict",
    "Verification",
    "Window",
    "Witness",
    "__version__",
    "apply",
    "convert",
    "convolution",
    "draw",
    "experiment",
    "explain_convolution",
    "explain_model",
    "lower",
    "named_padding",
    "named_transposed_window",
    "shapes",
    "verify",
    "verify_folder",
]

_HOMES = {
    "conversion": ["Conversion", "convert"],
    "core.builders": ["convolution", "named_padding", "named_transposed_window"],
    "core.geometry": ["AnyConvolution", "Convolution", "Same", "Window"],
    "core.im2col": ["NumpyOps", "apply"],
    "core.lowering": ["Lowering", "PatchMethod", "Refusal", "lower"],
    "core.transposed": ["TransposedConvolution", "TransposedWindow"],
    "errors": [name for name in __all__ if name.endswith("Error")],
    "explanation.drawing": ["draw"],
    "explanation.numbers": ["Explanation"],
    "explanation.sources": ["explain_convolution", "explain_model"],
    "formats.protocols": ["Port", "Site"],
    "formats.provenance": ["LayerRecord", "Provenance"],
    "planning": ["Fate", "Layer", "shapes"],
    "reproduction.results": ["Comparison", "Experiment", "Trained"],
    "reproduction.running": ["experiment"],
    "reproduction.settings": ["Settings"],
    "verification.differences": ["OutputDifference", "Witness"],
    "verification.inspection": ["Look"],
    "verification.verdict": ["Verdict"],
    "verification.verify": ["Verification", "verify", "verify_folder"],
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"convfc.{home}"), name)
    raise AttributeError(f"module 'convfc' has no attribute {name!r}")
