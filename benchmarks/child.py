"""A program that does one thing to a model file and imports nothing that this does not need.

python -m benchmarks.child onnx MODEL       runs it a few times
python -m benchmarks.child keras MODEL      the same for a .keras file
python -m benchmarks.child copy MODEL OUT   onnx_ir load + save; prints the seconds of that
"""

from __future__ import annotations

import sys
import time

_RUNS = 3


def main(task: str, *paths: str) -> None:
    """Do the task."""
    if task == "onnx":
        from benchmarks.onnx_nets import feed, session

        opened = session(paths[0])
        for _ in range(_RUNS):
            opened.run(None, feed(opened))
    elif task == "keras":
        from benchmarks.keras_nets import feed as keras_feed
        from benchmarks.keras_nets import graph, load

        model = load(paths[0])
        run, x = graph(model), keras_feed(model)
        for _ in range(_RUNS):
            run(x)
    else:
        import onnx_ir

        start = time.perf_counter()
        onnx_ir.save(onnx_ir.load(paths[0]), paths[1])
        sys.stdout.write(str(time.perf_counter() - start))


if __name__ == "__main__":
    main(*sys.argv[1:])
