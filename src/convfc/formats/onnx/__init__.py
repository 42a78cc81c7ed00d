"""All that knows ONNX: reading, sites, rewriting, running."""

from convfc.formats.onnx.model import OnnxModel, open_onnx, read_data_names, read_provenance

__all__ = ["OnnxModel", "open_onnx", "read_data_names", "read_provenance"]
