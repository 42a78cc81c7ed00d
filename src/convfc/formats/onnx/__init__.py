"""All that knows ONNX: reading, sites, rewriting, running."""

from convfc.formats.onnx.archive import read_data_names, read_provenance
from convfc.formats.onnx.model import OnnxModel, open_onnx
from convfc.formats.onnx.reverting import open_reverting
from convfc.formats.onnx.rewriting_weights import open_rewriting
from convfc.formats.onnx.weights import OnnxWeighted

__all__ = [
    "OnnxModel",
    "OnnxWeighted",
    "open_onnx",
    "open_reverting",
    "open_rewriting",
    "read_data_names",
    "read_provenance",
]
