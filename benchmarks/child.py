"""A program that does one thing to a model file and imports nothing that this does not need.

python -m benchmarks.child onnx MODEL [SIZE ..]  runs it a few times, on an input of these sizes
python -m benchmarks.child keras MODEL           the same for a .keras file
python -m benchmarks.child copy MODEL OUT        load + save by onnx_ir or Keras; prints its seconds
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
            opened.run(None, feed(opened, list(map(int, paths[1:]))))
    elif task == "keras":
        from benchmarks.keras_nets import feed as keras_feed
        from benchmarks.keras_nets import graph, load

        model = load(paths[0])
        run, x = graph(model), keras_feed(model)
        for _ in range(_RUNS):
            run(x)
    else:
        seconds = _copy_onnx(*paths) if paths[0].endswith(".onnx") else _copy_keras(*paths)
        sys.stdout.write(str(seconds))


def _copy_onnx(path: str, out: str) -> float:
    import onnx_ir

    start = time.perf_counter()
    onnx_ir.save(onnx_ir.load(path), out)
    return time.perf_counter() - start


def _copy_keras(path: str, out: str) -> float:
    import keras

    start = time.perf_counter()
    keras.saving.save_model(keras.saving.load_model(path), out)
    return time.perf_counter() - start


if __name__ == "__main__":
    main(*sys.argv[1:])
