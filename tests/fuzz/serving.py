"""A process that works on cases, each in a fork of it; another process watches it."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from tests.fuzz.cases import Case, Fault, Outcome, Run
from tests.fuzz.judging import GATED, Seen, deepest, faults
from tests.fuzz.keeping import contents, keep, listing
from tests.fuzz.making import make
from tests.fuzz.minimising import smaller
from tests.fuzz.outputs import problem
from tests.fuzz.running import LIMITS, Limits, command_line, run
from tests.fuzz.seeding import Seeds


def serve(
    connection: Connection,
    formats: Sequence[str],
    seed: int,
    models: Path | None,
    save: Path,
    folder: Path,
) -> None:
    """Work on the cases that come in; each answer is an `Outcome`.

    Args:
        connection: gets the name of a case, gives its outcome; ``None`` ends it.
        formats: of all cases that may come: what they need is imported.
        seed: see `making.make`.
        models: see `Seeds`.
        save: where failures are kept.
        folder: for files that are gone afterwards; somebody else clears it.
    """
    bench = Bench(Path(tempfile.mkdtemp(dir=folder)), formats, seed, models)
    while (name := connection.recv()) is not None:
        least = name.removeprefix("smaller ")
        connection.send(bench.work(name, save) if least == name else bench.least(least, save))


class Bench:
    """Where cases are made, run and judged.

    Args:
        folder: an empty one, for all their files.
        formats: see `serve`.
        seed: see `serve`.
        models: see `serve`.
        limits: what a run may take.
    """

    def __init__(
        self,
        folder: Path,
        formats: Sequence[str],
        seed: int,
        models: Path | None = None,
        limits: Limits = LIMITS,
    ) -> None:
        self._case, self._temporary, self._home = (
            folder / name for name in ("case", "temporary", "home")
        )
        (folder / "seeds").mkdir()
        self._home.mkdir()
        os.environ |= {"HOME": str(self._home), "XDG_CACHE_HOME": str(self._home)}
        _warm(formats)
        self._seed, self._limits = seed, limits
        self._seeds = Seeds(folder / "seeds", models)
        self._at_home = listing(self._home)
        self._last, self._said = Run(None), ""

    def work(self, name: str, save: Path | None) -> Outcome:
        """Make a case, run it, judge it; keep it if something is wrong with it."""
        start = time.monotonic()
        try:
            case = self.made(name)
        except Exception as error:  # of the mutators themselves, which have to be mended
            what = "".join(traceback.format_exception(error))
            fault = Fault("making", f"{type(error).__name__}: {error}", what.splitlines()[-2])
            return Outcome(name, "", (), what, (), "not made", faults=(fault,))
        found = self.tried(case)
        said, gate = self._said, ""
        if GATED in self._last.err.decode(errors="replace"):
            ended = self._last
            gate, self._last = self._place(case), ended
        if found:
            found = self._placed(case, found)
        folder = None
        if found and save is not None:
            self.made(name)
            folder = keep(case, self._last, found, self._case, save)
        return Outcome(
            *(name, case.command, case.mutators, case.what, case.arguments, self._last.end),
            *(said, gate, tuple(found), folder, time.monotonic() - start),
        )

    def least(self, name: str, save: Path) -> Outcome:
        """The same case, kept with files that are as small as can be."""
        case = self.made(name)
        signs = {fault.sign for fault in self._placed(case, self.tried(case))}
        signs = {sign for sign in signs if sign.split(":")[0] not in ("memory", "hang")} or signs
        case = self.made(name)
        held = {path.name: path.read_bytes() for path in self._case.iterdir() if path.is_file()}
        if len(held) < len(list(self._case.iterdir())):
            return Outcome(f"smaller {name}", "", (), "it has special files", (), "as it is")
        before = sum(map(len, held.values()))

        def shown(files: dict[str, bytes]) -> bool:
            def put() -> None:
                self._empty()
                for path, content in files.items():
                    (self._case / path).write_bytes(content)

            put()
            return bool(signs & {fault.sign for fault in self._placed(case, self.tried(case), put)})

        for path in sorted(held, key=lambda path: -len(held[path])):
            held[path] = smaller(held[path], partial(_shown_with, shown, held, path), TRIES)
        folder = save / name.replace(" ", "_") / "smaller"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for path, content in held.items():
            (folder / path).write_bytes(content)
        what = f"{before:,} bytes are {sum(map(len, held.values())):,} in {folder}"
        return Outcome(f"smaller {name}", case.command, (), what, case.arguments, "smaller")

    def made(self, name: str) -> Case:
        """A case, and its files in an empty folder."""
        self._empty()
        return make(name, self._seed, self._seeds, self._case)

    @property
    def folder(self) -> Path:
        """Where the files of the case lie."""
        return self._case

    def tried(self, case: Case, *more: str) -> list[Fault]:
        """Run a command about the files that lie there; what is wrong with it."""
        before = contents(self._case)
        self._last = run(
            partial(command_line, (*case.arguments, *more)),
            self._case,
            self._temporary,
            encoding=case.encoding,
            limits=self._limits,
        )
        elsewhere = [f"temporary: {name}" for name in listing(self._temporary)]
        elsewhere += [f"home: {name}" for name in listing(self._home) - self._at_home]
        self._at_home = listing(self._home)
        seen = Seen(case, self._last, self._case, before, contents(self._case), elsewhere, problem)
        self._said = seen.said
        return faults(seen)

    def _place(self, case: Case) -> str:
        """Where a refusal comes from that stands for another exception."""
        self.made(case.name)
        self.tried(case, "--debug")
        causes = self._last.err.decode(errors="replace").split("\nThe above exception was ")
        return f"{causes[0].strip().splitlines()[-1].split(':')[0]} {deepest(causes[0])}"

    def _placed(
        self, case: Case, found: list[Fault], put: Callable[[], object] | None = None
    ) -> list[Fault]:
        """The same with the place in the code where it happens, if that can be seen.

        Args:
            case: what was tried.
            found: what was wrong with it.
            put: puts its files there once more; made by its name if it is left out.
        """
        ended = self._last
        stack = ended.stack
        if any(fault.kind in ("unforeseen", "traceback") for fault in found):
            put() if put else self.made(case.name)
            self.tried(case, "--debug")
            stack = self._last.err.decode(errors="replace")
            self._last = replace(ended, stack=stack)
        return [
            replace(fault, where=f"{_title(fault, stack)} {deepest(stack)}")
            if fault.kind in _PLACED and stack
            else fault
            for fault in found
        ]

    def _empty(self) -> None:
        for folder in (self._case, self._temporary):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()


def _shown_with(
    shown: Callable[[dict[str, bytes]], bool], held: dict[str, bytes], path: str, content: bytes
) -> bool:
    return shown({**held, path: content})


TRIES = 150
"""How many smaller files are tried for one."""

_PLACED = ("unforeseen", "traceback", "hang", "memory", "crash")


def _title(fault: Fault, stack: str) -> str:
    if fault.kind in ("unforeseen", "traceback"):
        return (stack.strip().splitlines() or ["?"])[-1].split(":")[0]
    return fault.where.split(" after ")[0] if fault.kind != "memory" else ""


def _warm(formats: Sequence[str]) -> None:
    """Import what is needed, without starting any thread."""
    os.environ |= {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "ORT_DISABLE_TELEMETRY": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    import convfc.cli.documents
    import convfc.cli.main
    import convfc.cli.tables
    import convfc.cli.verification_tables
    import convfc.conversion
    import convfc.explanation.drawing
    import convfc.explanation.lines
    import convfc.verification.verify
    from tests.campaign.working import one_thread

    if "keras" in formats:
        import convfc.formats.keras
        from convfc.formats.registry import import_keras

        import_keras()
    if set(formats) - {"keras", "numbers"}:
        import convfc.formats.onnx  # noqa: F401 - so that each fork has it

        one_thread()
