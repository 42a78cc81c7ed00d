"""All that knows ONNX: reading, sites, rewriting, running."""

from convfc.formats.onnx.archive import read_data_names, read_provenance
from convfc.formats.onnx.model import OnnxModel, open_onnx

__all__ = ["OnnxModel", "open_onnx", "read_data_names", "read_provenance"]
