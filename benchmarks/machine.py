"""The machine that a table was made on."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import convfc

_PACKAGES = ("onnx", "onnx-ir", "onnxruntime", "tensorflow", "keras", "numpy")


def facts() -> dict[str, str]:
    """Date, processor, cores that this process may use, memory and versions."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        cores = os.cpu_count() or 1
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "processor": _field(Path("/proc/cpuinfo"), "model name") or platform.processor(),
        "cores": str(cores),
        "memory": _field(Path("/proc/meminfo"), "MemTotal") or "unknown",
        "system": f"{platform.system()} {platform.machine()}",
        "versions": ", ".join(
            [
                f"convfc {convfc.__version__}",
                f"Python {platform.python_version()}",
                *map(_with_version, _PACKAGES),
            ]
        ),
    }


def _field(path: Path, name: str) -> str | None:
    if not path.exists():
        return None
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), None)


def _with_version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} (not installed)"
