"""Runs a program and adds a line to its output: seconds, seconds of processors, MB at its peak.

It is small, because Linux counts the memory of the process that starts a program as the program's.

    python -m benchmarks.launch PROGRAM ARGUMENT ..
"""

from __future__ import annotations

import os
import subprocess
import sys
import time


def main(command: list[str]) -> int:
    """Run it; its exit code."""
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    sys.stdout.write(f"\n{seconds} {usage.ru_utime + usage.ru_stime} {peak}\n")
    return process.returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
