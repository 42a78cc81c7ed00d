"""Rewrites every convolution of a Keras or ONNX model as patches + Dense, and compares both.

    >>> import convfc
    >>> convfc.convert("model.onnx").complete
    >>> convfc.verify("model.onnx").equivalent
    >>> convfc.revert("model_fc.onnx").complete
    >>> convfc.matrices("model.onnx")["conv1"].F

What is not listed here is found where it lives: `convfc.core` has what a converted layer computes,
`convfc.explanation.drawing` draws, `convfc.reproduction` has the parts of the experiment.

Nothing here prints. A name is imported when it is first used, so that `import convfc` costs
nothing and only those who open a Keras file wait for keras.
"""

from __future__ import annotations

from importlib import import_module

from convfc._version import __version__

# That of `typing` takes 10 ms to import, in which Ctrl-C would show a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from convfc.analysis.feeding import Patches, patch_matrices
    from convfc.analysis.files import save_matrices
    from convfc.analysis.matrix import Matrix
    from convfc.analysis.reading import Measurement, matrices, measure
    from convfc.analysis.writing import with_matrices
    from convfc.clients import CLIENTS, Client
    from convfc.conversion import Conversion, convert
    from convfc.core.builders import convolution
    from convfc.core.geometry import Convolution, Same, Window
    from convfc.core.lowering import Lowering, PatchMethod, lower
    from convfc.errors import (
        ConversionError,
        ConvfcError,
        DataError,
        FileError,
        GeometryError,
        UnsupportedModelError,
        UsageError,
    )
    from convfc.explanation.numbers import Explanation
    from convfc.explanation.patch_matrix import im2col, index_map
    from convfc.explanation.sources import explain_model
    from convfc.explanation.without_model import explain_convolution
    from convfc.formats.protocols import Site
    from convfc.formats.reverted import Change, WayBack
    from convfc.planning import Fate, Layer, shapes
    from convfc.refusals import Code, Refusal
    from convfc.reproduction.results import Experiment
    from convfc.reproduction.running import experiment
    from convfc.reversion import Reversion, RevertedLayer, revert
    from convfc.verification.differences import OutputDifference
    from convfc.verification.folder import verify_folder
    from convfc.verification.inspection import Look
    from convfc.verification.proof import LayerProof
    from convfc.verification.verdict import Verdict
    from convfc.verification.verify import Verification, verify

__all__ = [
    "CLIENTS",
    "Change",
    "Client",
    "Code",
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
    "LayerProof",
    "Look",
    "Lowering",
    "Matrix",
    "Measurement",
    "OutputDifference",
    "PatchMethod",
    "Patches",
    "Refusal",
    "Reversion",
    "RevertedLayer",
    "Same",
    "Site",
    "UnsupportedModelError",
    "UsageError",
    "Verdict",
    "Verification",
    "WayBack",
    "Window",
    "__version__",
    "convert",
    "convolution",
    "experiment",
    "explain_convolution",
    "explain_model",
    "im2col",
    "index_map",
    "lower",
    "matrices",
    "measure",
    "patch_matrices",
    "revert",
    "save_matrices",
    "shapes",
    "verify",
    "verify_folder",
    "with_matrices",
]

_HOMES = {
    "analysis.feeding": ["Patches", "patch_matrices"],
    "analysis.files": ["save_matrices"],
    "analysis.matrix": ["Matrix"],
    "analysis.reading": ["Measurement", "matrices", "measure"],
    "analysis.writing": ["with_matrices"],
    "clients": ["CLIENTS", "Client"],
    "conversion": ["Conversion", "convert"],
    "core.builders": ["convolution"],
    "core.geometry": ["Convolution", "Same", "Window"],
    "core.lowering": ["Lowering", "PatchMethod", "lower"],
    "errors": [name for name in __all__ if name.endswith("Error")],
    "explanation.numbers": ["Explanation"],
    "explanation.patch_matrix": ["im2col", "index_map"],
    "explanation.sources": ["explain_model"],
    "explanation.without_model": ["explain_convolution"],
    "formats.protocols": ["Site"],
    "formats.reverted": ["Change", "WayBack"],
    "planning": ["Fate", "Layer", "shapes"],
    "refusals": ["Code", "Refusal"],
    "reproduction.results": ["Experiment"],
    "reproduction.running": ["experiment"],
    "reversion": ["RevertedLayer", "Reversion", "revert"],
    "verification.differences": ["OutputDifference"],
    "verification.inspection": ["Look"],
    "verification.proof": ["LayerProof"],
    "verification.verdict": ["Verdict"],
    "verification.folder": ["verify_folder"],
    "verification.verify": ["Verification", "verify"],
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"convfc.{home}"), name)
    raise AttributeError(f"module 'convfc' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What `dir`, `help` and TAB show: the public names, imported or not."""
    return list(__all__)
