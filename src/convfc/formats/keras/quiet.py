"""Keras and tensorflow as a part of convfc: nobody hears them, nobody sees their traces."""

from __future__ import annotations

import importlib
import os
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convfc.formats.keras.internals import (
    GLOBAL_SEED,
    NAME_COUNTS,
    RANDOM,
    find_function,
    move_home,
    thread_state,
)
from convfc.system import process
from convfc.system.surroundings import Library, Shared

_KERAS = Library("absl", "tensorflow", warns=True)

_NOWHERE = os.path.join(os.devnull, "keras")  # noqa: PTH118 - a text for the environment


@contextmanager
def overheard() -> Iterator[list[str]]:
    """Collects the warnings of keras and tensorflow in this thread instead of showing them.

    Yields:
        A list that fills while the block runs.
    """
    with _KERAS.overheard() as said:
        yield said


@contextmanager
def importing() -> Iterator[None]:
    """Import keras in this block: it writes no file, and the command line shows no greeting."""
    with process.importing(), _no_settings_file():
        yield


@contextmanager
def _no_settings_file() -> Iterator[None]:
    """Keras writes `.keras/keras.json` when it is imported for the first time; not here."""
    home = Path("~").expanduser() / ".keras"
    if "keras" in sys.modules or "KERAS_HOME" in os.environ or (home / "keras.json").exists():
        yield
        return
    with process.variable("KERAS_HOME", _NOWHERE):
        yield
    writable = os.access(home.parent, os.W_OK)
    move_home(_NOWHERE, str(home if writable else "/tmp/.keras"))  # noqa: S108 - as Keras has it


_OWN = (NAME_COUNTS, GLOBAL_SEED)
"""What of Keras' state in a thread is to be as if Keras had just been imported."""

_POLICY = "float32"
"""Of a model as such, which is written into files; layers have their own there."""


@contextmanager
def own_state() -> Iterator[None]:
    """Keras begins anew in this thread, and is afterwards as it was.

    Names that it makes up count from zero, so that what convfc writes does not depend on what a
    program did before, nor the names of that program's layers on convfc; the policy is that of a
    new Keras; and the seeds that it draws for layers without one are not taken from Python's own
    generator.
    """
    state = thread_state()
    kept = dict(state)
    for name in _OWN:
        state.pop(name, None)
    importlib.import_module("keras").config.set_dtype_policy(_POLICY)
    _seeds.own = random.Random()  # noqa: S311 - nothing is secret here
    try:
        with _own_seeds.entered():
            yield
    finally:
        _seeds.own = None
        state.clear()
        state.update(kept)


class _Seeds(threading.local):
    """Stands for the module `random`, of which it is another generator in threads that want one."""

    own: random.Random | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own or random, name)


_seeds = _Seeds()


@contextmanager
def _replaced() -> Iterator[None]:
    found = find_function(RANDOM)
    there = None if found is None else getattr(*found)
    if found is not None:
        setattr(*found, _seeds)
    try:
        yield
    finally:
        if found is not None:
            setattr(*found, there)


_own_seeds = Shared(_replaced)
