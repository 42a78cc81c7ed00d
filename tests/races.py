"""Runs that write the same file at the same time: `python -m tests.races FOLDER [ROUNDS]`.

In each round four forks convert a model, whose weights are in a file of their own, in different
ways. All must end well, and what is there then must be what one of them writes alone. Another fork
reads the file all the time: it must always find a whole model, and its weights unless they are
replaced just then.
"""

from __future__ import annotations

import hashlib
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnx

import convfc
from convfc.formats.onnx import OnnxModel
from convfc.formats.registry import data_names
from tests.onnx_models import conv_file

WAYS = ("gather", "slice", "rows", "gather")


def main(folder: Path, rounds: int) -> None:
    """Do the rounds, and print what went wrong."""
    assert OnnxModel is not None  # imported before there are forks
    model, out = folder / "m.onnx", folder / "o.onnx"
    conv_file(model, convfc.convolution([3, 3], channels=32, filters=32), (8, 8))
    onnx.save(
        onnx.load(model), model, save_as_external_data=True, location="m.data", size_threshold=0
    )
    alone = set()
    for way in WAYS:
        assert _wait(_fork(partial(_convert, model, out, way))) == 0
        alone.add(_digest(out))
    there = {file.name for file in folder.iterdir()} - data_names(out)
    for number in range(rounds):
        running = [_fork(partial(_convert, model, out, way)) for way in WAYS]
        reader = _fork(lambda: _read(out, alone))
        codes = [_wait(child) for child in (*running, reader)]
        if any(codes):
            _say(f"round {number}: the runs ended with {codes}")
        if _digest(out) not in alone:
            _say(f"round {number}: the file is none that a run writes alone")
        if {file.name for file in folder.iterdir()} != there | data_names(out):
            _say(f"round {number}: there are {sorted(file.name for file in folder.iterdir())}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _fork(function: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    code = 9
    try:
        function()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _convert(model: Path, out: Path, way: str) -> None:
    assert convfc.convert(model, out, patches=way).complete


def _read(out: Path, alone: set[str]) -> None:
    """What is read in one go is one of the files that a run writes alone, weights and all."""
    for _ in range(300):
        try:
            assert _digest(out) in alone
        except FileNotFoundError:  # the weights are gone with the file, as it has been replaced
            onnx.load(out, load_external_data=False)


def _digest(out: Path) -> str:
    """Of a model and its weights."""
    content = out.read_bytes()
    model = onnx.load_model_from_string(content)
    (data,) = {entry.value for x in model.graph.initializer for entry in x.external_data[:1]}
    return hashlib.sha256(content + out.with_name(data).read_bytes()).hexdigest()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
