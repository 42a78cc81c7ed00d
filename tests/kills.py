"""Runs that are killed at any moment, and what is there afterwards.

    python -m tests.kills [--rounds N] [--seed S] [--kind KIND].. [--round NUMBER]

In each round a folder holds a model and what it was converted to before, in another way. A run
that is to replace this gets a SIGKILL, SIGTERM or SIGINT: after a random time, or just before a
random one of its operations on files. Then the old file must be there or the new one, whole, with
its weights; and after one more run nothing else, neither there nor among the temporary files.

Most runs are forks of a process that has imported everything; every `REAL`-th is a process of its
own, which may be killed while it starts. The exit code is 1 if a round has failed; `--round` does
that one again.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.table import Table

from convfc import __main__ as program
from convfc.formats.registry import import_keras

REAL = 8
"""One in so many runs is a process of its own."""

STARTED = 0.1
"""Seconds in which Python itself is starting, and shows a traceback on Ctrl-C."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)

KINDS = {"onnx": 3, "external": 3, "h5": 1, "keras": 1}
"""Models, and how often each is taken: Keras takes longer."""

WORK, TEMPORARY, SAID = "work", "tmp", "said"
"""What is in the folder of a round: two folders and a file."""

SEEN = ("old", "new", "finished")
"""What may be there after a signal; or the run has finished before."""

DONE = "operations: "

_HANGS = 300.0
"""Seconds after which a run is taken to hang."""

_OPERATIONS = ("open", "os.", "fcntl.", "shutil.", "tempfile.")
"""What Python's audit events for operations on files begin with."""


@dataclass(frozen=True)
class Ran:
    """What became of a run.

    Attributes:
        code: its exit code; negative: the signal that ended it.
        seconds: how long it took.
        operations: how many operations on files it did, if it was a fork.
        said: what it printed.
    """

    code: int
    seconds: float
    operations: int
    said: str


@dataclass(frozen=True)
class Kill:
    """How a run is killed.

    Attributes:
        number: of the signal.
        after: seconds;
        at: or before which of its operations on files.
    """

    number: signal.Signals
    after: float | None = None
    at: int | None = None


@dataclass(frozen=True)
class Case:
    """Something to convert.

    Attributes:
        name: its kind, and "--verify" if that is asked for.
        arguments: of the command that is killed.
        before: a folder with the model and what it was converted to.
        old: the `state` of that.
        new: the `state` after the command.
        whole: how it runs in a fork if nothing happens.
    """

    name: str
    arguments: list[str]
    before: Path
    old: dict[str, str]
    new: dict[str, str]
    whole: Ran

    @cached_property
    def seconds(self) -> float:
        """What it takes in a process of its own."""
        folder = self.before.with_name("timed")
        shutil.copytree(self.before, folder)
        ran = convert(folder, self.arguments, real=True)
        assert ran.code == 0, ran
        shutil.rmtree(folder)
        return ran.seconds


@dataclass(frozen=True)
class Outcome:
    """What became of a round.

    Attributes:
        case: the name of what was converted.
        signal: the name of the signal.
        seen: "old" or "new", what was there after the signal; or "finished" before it.
        strays: how many other files were there then.
        failure: what is wrong, or ``None``.
    """

    case: str
    signal: str
    seen: str
    strays: int
    failure: str | None


def main() -> int:
    """Do the rounds; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills")
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--round", type=int)
    options = parser.parse_args()
    numbers = range(options.rounds) if options.round is None else [options.round]
    _import(options.kind or list(KINDS))
    console = Console(width=None if sys.stdout.isatty() else 110)
    counts: Counter[tuple[str, str, str]] = Counter()
    failures, strays, start = 0, 0, time.monotonic()
    # A job in the background of a shell ignores Ctrl-C, and so would the runs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        cases = list(_cases(Path(folder), options.kind or list(KINDS)))
        for done, number in enumerate(numbers, 1):
            outcome = play(cases, options.seed, number, Path(folder) / "round")
            counts[outcome.case, outcome.signal, outcome.seen] += 1
            strays += outcome.strays > 0
            if outcome.failure is not None:
                failures += 1
                told = f"round {number} ({outcome.case}, {outcome.signal}): {outcome.failure}"
                console.print(told, markup=False, highlight=False, soft_wrap=True)
            if done % 50 == 0:
                console.print(f"{done} rounds, {failures} failures", highlight=False)
    _show(counts, console)
    console.print(
        f"{len(numbers)} rounds in {time.monotonic() - start:.0f} s; {strays} runs left something, "
        f"which the next one removed; {failures} failures"
    )
    return 1 if failures else 0


def _show(counts: Counter[tuple[str, str, str]], console: Console) -> None:
    table = Table("converted", "signal", *SEEN)
    for case, name in sorted({(case, name) for case, name, _ in counts}):
        table.add_row(case, name, *(str(counts[case, name, seen]) for seen in SEEN))
    console.print(table)


def _import(kinds: Sequence[str]) -> None:
    """Import all that runs need; no threads may run when they are forked."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    names = ["conversion", "verification.verify", "cli.main", "cli.documents", "cli.tables"]
    names.append("formats.onnx.model")
    if {"h5", "keras"} & set(kinds):
        import_keras()
        names.append("formats.keras.model")
    for name in names:
        importlib.import_module(f"convfc.{name}")


def _cases(folder: Path, kinds: Sequence[str]) -> Iterator[Case]:
    for kind in kinds:
        before = folder / kind
        (before / WORK).mkdir(parents=True)
        (before / TEMPORARY).mkdir()
        made = run_forked(before, partial(_make, kind))
        assert made.code == 0, made
        (model,) = (file.name for file in (before / WORK).glob("net.*") if file.suffix != ".data")
        first = convert(before, ["convert", model, "--skip", "conv"])
        assert first.code == 0, first
        for more in ([], ["--verify"]):
            arguments = ["convert", model, *more]
            after = folder / f"{kind}_after"
            shutil.copytree(before, after)
            whole = convert(after, arguments)
            assert whole.code == 0, whole
            name = " ".join([kind, *more])
            yield Case(name, arguments, before, state(before), state(after), whole)
            shutil.rmtree(after)


def _make(kind: str) -> None:
    """Write a small model."""
    if kind in ("onnx", "external"):
        import onnx

        from convfc.core.builders import convolution
        from tests.onnx_models import conv_file

        path = Path("net.onnx")
        conv_file(path, convolution([3, 3], channels=16, filters=32), (9, 8))
        if kind == "external":
            model = onnx.load(path)
            where: dict[str, Any] = {"location": "net.data", "size_threshold": 0}
            onnx.save(model, path, save_as_external_data=True, **where)
        return
    import keras

    x = keras.Input([9, 8, 16])
    y = keras.layers.Conv2D(32, 3, strides=2, name="conv")(x)
    keras.Model(x, y).save(f"net.{kind}")


def state(folder: Path) -> dict[str, str]:
    """All files of a round, hidden ones and temporary ones too, each with a digest."""
    files = (file for file in sorted(folder.rglob("*")) if not file.is_dir())
    return {
        str(file.relative_to(folder)): _digest(file)
        for file in files
        if file.name != SAID and not _is_try_out(file)
    }


def _is_try_out(file: Path) -> bool:
    """Whether Python itself left a file: by which it finds out if it can write somewhere."""
    return file.parent.name == TEMPORARY and file.stat().st_size <= 4 and not file.suffix


def _digest(file: Path) -> str:
    if file.is_symlink():
        return "link"
    if not zipfile.is_zipfile(file):
        return hashlib.sha256(file.read_bytes()).hexdigest()
    with zipfile.ZipFile(file) as archive:
        # Keras writes down when that was, and where objects were in memory.
        names = sorted(set(archive.namelist()) - {"metadata.json"})
        members = b"".join(name.encode() + archive.read(name) for name in names)
    return hashlib.sha256(re.sub(rb'"shared_object_id": \d+', b"", members)).hexdigest()


def play(cases: Sequence[Case], seed: int, number: int, folder: Path) -> Outcome:
    """Do one round."""
    random = Random(f"{seed} {number}")  # noqa: S311 - nothing is secret here
    shares = [KINDS[case.name.split()[0]] for case in cases]
    case, number_of = random.choices(cases, shares)[0], random.choice(SIGNALS)
    shutil.copytree(case.before, folder)
    try:
        return _play(case, number_of, random, folder)
    finally:
        shutil.rmtree(folder)


def _play(case: Case, number: signal.Signals, random: Random, folder: Path) -> Outcome:
    seen, strays, failure = "", 0, None
    for _ in range(random.choice([1, 1, 1, 2])):
        kill, real = Kill(number, at=random.randint(1, case.whole.operations)), False
        if random.random() < 0.5:
            real = random.randrange(REAL // 2) == 0
            seconds = case.seconds if real else case.whole.seconds
            kill = Kill(number, after=random.uniform(STARTED if real else 0, seconds))
        ran = convert(folder, case.arguments, kill, real=real)
        there = state(folder)
        strays = max(strays, len(there.keys() - case.old.keys() - case.new.keys()))
        whole = [
            name for name, which in (("old", case.old), ("new", case.new)) if _holds(there, which)
        ]
        failure = failure or _wrong(ran, whole, number)
        seen = "finished" if ran.code == 0 else " ".join(whole)
    ran = convert(folder, case.arguments)
    if ran.code != 0:
        failure = failure or f"the next run ended with {ran.code}: {ran.said}"
    elif state(folder) != case.new:
        left = sorted(state(folder).items() ^ case.new.items())
        failure = failure or f"after the next run: {left}"
    return Outcome(case.name, number.name, seen, strays, failure)


def _holds(there: dict[str, str], which: dict[str, str]) -> bool:
    """Whether all files of a state are there."""
    return which.items() <= there.items()


def _wrong(ran: Ran, whole: list[str], number: signal.Signals) -> str | None:
    """What is wrong with a run that was killed, and with what it left."""
    if not whole:
        return f"neither the old file nor the new one is there, and whole: {ran.said}"
    if ran.code not in (0, -number, 128 + number, 2):
        return f"it ended with {ran.code}: {ran.said}"
    if "Traceback" in ran.said and number is not signal.SIGKILL:
        return ran.said
    return None


def convert(
    folder: Path, arguments: Sequence[str], kill: Kill | None = None, *, real: bool = False
) -> Ran:
    """Run convfc in a folder."""
    environment = {**os.environ, "TMPDIR": str(folder / TEMPORARY)}
    if not real:
        return run_forked(folder, lambda: _convfc(arguments), kill)
    with (folder / SAID).open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-B", "-m", "convfc", *arguments],
            cwd=folder / WORK,
            env=environment,
            stdout=said,
            stderr=said,
        )
    return _watched(folder, process.pid, kill)


def _convfc(arguments: Sequence[str]) -> None:
    sys.argv = ["convfc", *arguments]
    program.main()


def run_forked(folder: Path, function: Callable[[], None], kill: Kill | None = None) -> Ran:
    """Call a function in a fork of this process, in a folder for a round."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return _watched(folder, child, kill)
    code = 70
    try:
        code = _child(folder, function, kill)
    finally:
        os._exit(code)


def _child(folder: Path, function: Callable[[], None], kill: Kill | None) -> int:
    said = os.open(folder / SAID, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.chdir(folder / WORK)
    os.environ["TMPDIR"] = str(folder / TEMPORARY)
    tempfile.tempdir = None
    done = 0

    def count(event: str, _: object) -> None:
        nonlocal done
        if event.startswith(_OPERATIONS):
            done += 1
            if kill is not None and done == kill.at:
                os.kill(os.getpid(), kill.number)

    sys.addaudithook(count)
    code = 0
    try:
        function()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    os.write(1, f"{DONE}{done}".encode())
    return code


def _watched(folder: Path, process: int, kill: Kill | None) -> Ran:
    """Wait for a process, and kill it in time."""
    start = time.monotonic()
    pause, pending = 0.002, kill is not None and kill.after is not None
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        seconds = time.monotonic() - start
        if found:
            break
        if pending and kill is not None and kill.after is not None and seconds >= kill.after:
            pending = False
            os.kill(process, kill.number)
        if seconds > _HANGS:
            os.kill(process, signal.SIGKILL)
        time.sleep(pause)
    said, _, done = (folder / SAID).read_text(errors="replace").partition(DONE)
    return Ran(os.waitstatus_to_exitcode(status), seconds, int(done or 0), said.strip())


if __name__ == "__main__":
    sys.exit(main())
