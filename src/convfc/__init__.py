"""Rewrites every convolution of a Keras or ONNX model as patches + Dense, and compares both.

    >>> import convfc
    >>> convfc.convert("model.onnx").complete
    >>> convfc.verify("model.onnx").equivalent

Nothing here prints. Importing it does not import tensorflow, keras, onnx or onnxruntime.
"""

# The functions below take the names of their modules in this package, on purpose: what a caller
# wants is `convfc.convert(..)`. Inside the package, modules are imported by their full names.
from convfc._version import __version__
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
from convfc.geometry import Convolution, Same, Window, convolution, named_padding
from convfc.lowering import Lowering, NumpyOps, PatchMethod, Refusal, apply, lower
from convfc.model import Port, Site
from convfc.planning import Fate, Layer
from convfc.provenance import LayerRecord, Provenance
from convfc.shapes import shapes
from convfc.verify import Verdict, Verification, verify, verify_folder

__all__ = [
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
    "shapes",
    "verify",
    "verify_folder",
]
