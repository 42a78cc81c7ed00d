"""No test tells anybody anything: set before onnxruntime is imported, by whatever test."""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
