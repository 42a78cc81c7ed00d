"""All that knows ONNX: reading, sites, rewriting, running."""

from convfc.formats.onnx.archive import read_data_names, read_provenance
from convfc.formats.onnx.model import OnnxModel, open_onnx
from convfc.formats.onnx.reverting import open_reverting

__all__ = ["OnnxModel", "open_onnx", "open_reverting", "read_data_names", "read_provenance"]
