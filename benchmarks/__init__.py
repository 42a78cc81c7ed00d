"""How fast converted models are, in how much memory, and how fast convfc is: `make benchmark`."""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before onnxruntime is imported, here and in children
