"""Rewrites every convolution of a Keras or ONNX model as patches + Dense, and compares both.

    >>> import convfc
    >>> convfc.convert("model.onnx").complete
    >>> convfc.verify("model.onnx").equivalent

Nothing here prints. Importing it does not import tensorflow, keras, onnx or onnxruntime.
"""

# The functions below take the names of their modules in this package, on purpose: what a caller
# wants is `convfc.convert(..)`. Inside the package, modules are imported by their full names.
from convfc._version import __version__
from convfc.applying import NumpyOps, apply
from convfc.convert import Conversion, convert
from convfc.differences import OutputDifference, Witness
from convfc.errors import (
    ConvfcError,
    DataError,
    FileError,
    GeometryError,
    UnsupportedModelError,
    UsageError,
)
from convfc.geometry import (
    AnyConvolution,
    Convolution,
    Same,
    Window,
)
from convfc.lowering import Lowering, PatchMethod, Refusal, lower
from convfc.model import Port, Site
from convfc.named import convolution, named_padding, named_transposed_window
from convfc.planning import Fate, Layer
from convfc.provenance import LayerRecord, Provenance
from convfc.shapes import shapes
from convfc.transposed import (
    TransposedConvolution,
    TransposedWindow,
)
from convfc.verify import Verdict, Verification, verify, verify_folder

__all__ = [
    "AnyConvolution",
    "Conversion",
    "ConvfcError",
    "Convolution",
    "DataError",
    "Fate",
    "FileError",
    "GeometryError",
    "Layer",
    "LayerRecord",
    "Lowering",
    "NumpyOps",
    "OutputDifference",
    "PatchMethod",
    "Port",
    "Provenance",
    "Refusal",
    "Same",
    "Site",
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
    "lower",
    "named_padding",
    "named_transposed_window",
    "shapes",
    "verify",
    "verify_folder",
]
