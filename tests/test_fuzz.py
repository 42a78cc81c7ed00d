"""The fuzzing itself: its rules find what they are for, and a few cases find nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import h5py
import onnx
import pytest

from tests.campaign.onnx_seeds import seed
from tests.fuzz import __main__ as program
from tests.fuzz import (
    damage,
    documents,
    graphs,
    hdf5,
    minimising,
    protobuf,
    serving,
    structures,
    zips,
)
from tests.fuzz.cases import Case, Run
from tests.fuzz.judging import RULES, Files, Seen, deepest, faults
from tests.fuzz.keeping import contents
from tests.fuzz.making import make
from tests.fuzz.outputs import problem
from tests.fuzz.report import Report, describe
from tests.fuzz.running import Limits, run
from tests.fuzz.seeding import Seeds

CASE = Case("onnx 1", (), "", ("convert", "m.onnx", "--json"), frozenset({"m_fc.onnx"}))
DONE = Run(0, out=b"{}\n")
BEFORE: Files = {"m.onnx": "1"}
AFTER: Files = {"m.onnx": "1", "m_fc.onnx": "2"}
REFUSED = Run(2, out=b'{"error": "m.onnx: damaged"}', err=b"convfc: m.onnx: damaged\n")


def seen(ended: Run, case: Case = CASE, after: Files = AFTER, **more: object) -> Seen:
    return Seen(case, ended, Path("no such folder"), BEFORE, after, **more)  # type: ignore[arg-type]


def broken(found: Seen) -> set[str]:
    return {fault.kind for fault in faults(found)}


def test_what_is_right_breaks_no_rule() -> None:
    assert broken(seen(DONE)) == set()
    assert broken(seen(REFUSED, after=BEFORE)) == set()
    plain = Case("onnx 1", (), "", ("verify", "m.onnx"))
    assert broken(seen(Run(2, out=b"COULD NOT CHECK: m.onnx"), plain, BEFORE)) == set()


def _said(text: bytes, code: int = 2, out: bytes = b"{}") -> Run:
    return Run(code, out=out, err=text)


WRONG: list[tuple[str, Seen]] = [
    ("traceback", seen(_said(b"Traceback (most recent call last):\nKeyError: 1"), after=BEFORE)),
    ("unforeseen", seen(_said(b"convfc: unforeseen KeyError: m.onnx"), after=BEFORE)),
    ("unforeseen", seen(Run(2, out=b'{"error": "unforeseen KeyError"}', err=b"x"), after=BEFORE)),
    ("hang", seen(Run(None, 9, "hang"))),
    ("hang", seen(Run(None, 9, "flood"))),
    ("memory", seen(Run(0, out=b"{}", growth=3 << 30))),
    ("memory", seen(Run(None, 9, "memory"))),
    ("crash", seen(Run(None, signal.SIGSEGV))),
    ("stray", seen(DONE, after={**AFTER, ".convfc-1": "folder"})),
    ("stray", seen(DONE, elsewhere=["temporary: x"])),
    ("inputs", seen(DONE, after={**AFTER, "m.onnx": "3"})),
    ("inputs", seen(DONE, after={"m_fc.onnx": "2"})),
    ("partial", seen(DONE, problem=lambda _: "cut")),
    ("controls", seen(Run(0, out=b'{"a": "\x1b[31m"}'))),
    ("controls", seen(Run(0, out='{"a": "\u202e"}'.encode()))),
    ("controls", seen(Run(0, out=b'{"a": "\xff"}'))),
    ("controls", seen(_said(b"convfc: m.onnx: \x07"), after=BEFORE)),
    ("document", seen(Run(0, out=b"done\n"))),
    ("document", seen(Run(0, out=b'{"a": NaN}'))),
    ("document", seen(Run(2, err=b"convfc: m.onnx: damaged"), after=BEFORE)),
    ("code", seen(Run(3, out=b"{}"))),
    ("code", seen(Run(0, out=b""))),
    ("code", seen(Run(2, out=b"{}"), after=BEFORE)),
    ("code", seen(REFUSED)),  # and yet it was written
    ("code", seen(Run(1, out=b"{}"))),  # without --partial
    ("code", seen(DONE, after=BEFORE)),
    ("code", seen(Run(1, out=b"{}"), Case("", (), "", ("shapes", "m.onnx")), BEFORE)),
    ("message", seen(_said(b"warning", 0))),
    ("message", seen(_said(b"convfc: m.onnx: a\nb\nc\nd"), after=BEFORE)),
    ("message", seen(_said(b"convfc: something is wrong"), after=BEFORE)),
]


@pytest.mark.parametrize(("rule", "found"), WRONG, ids=lambda value: str(value)[:20])
def test_each_rule_finds_what_it_is_for(rule: str, found: Seen) -> None:
    assert rule in broken(found)


def test_every_rule_is_tried() -> None:
    assert {rule for rule, _ in WRONG} == set(RULES)


def test_a_file_is_whole_or_it_is_not(tmp_path: Path) -> None:
    model = seed("bare")
    model.metadata_props.add(key="convfc", value='{"layers": []}')
    good = tmp_path / "m.onnx"
    good.write_bytes(model.SerializeToString())
    assert problem(good) is None
    good.write_bytes(model.SerializeToString()[:-9])
    assert problem(good) is not None
    good.write_bytes(seed("bare").SerializeToString())  # no record
    assert problem(good) is not None
    for name, content in {
        "m.keras": zips.packed({"convfc.json": b'{"layers": []}'}),
        "r.xml": b"<testsuites></testsuites>",
        "p.html": b"<html></html>\n",
    }.items():
        (tmp_path / name).write_bytes(content)
        assert problem(tmp_path / name) is None
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        assert problem(tmp_path / name) is not None


def busy() -> None:
    while True:
        pass


def hungry() -> None:
    held = [b"x" * (1 << 20) for _ in range(800)]  # of a large process, a child has less
    time.sleep(60 * len(held))


def loud() -> None:
    while True:
        os.write(1, b"x" * 4096)


LIMITS = Limits(cpu=1, idle=1.0, memory=100 << 20, output=1 << 20)


@pytest.mark.parametrize(
    ("call", "stopped", "place"),
    [
        (busy, "hang", "in busy"),
        (lambda: time.sleep(600), "hang", "in <lambda>"),
        (hungry, "memory", "in hungry"),
        (loud, "flood", "in loud"),
    ],
)
def test_a_run_is_stopped(
    tmp_path: Path, call: Callable[[], None], stopped: str, place: str
) -> None:
    ended = run(call, tmp_path, tmp_path, limits=LIMITS)
    assert (ended.stopped, ended.code) == (stopped, None)
    assert place in ended.stack


def ends(how: object) -> Callable[[], None]:
    def call() -> None:
        print("out", os.environ["TMPDIR"], Path.cwd().name)  # noqa: T201
        raise how if isinstance(how, BaseException) else SystemExit(how)

    return call


def test_how_a_run_ends(tmp_path: Path) -> None:
    temporary = tmp_path / "t"
    for how, code, said in ((None, 0, b""), (2, 2, b""), ("why", 1, b"why\n")):
        ended = run(ends(how), tmp_path, temporary)
        assert (ended.code, ended.err) == (code, said)
        assert ended.out.decode() == f"out {temporary} {tmp_path.name}\n"
    raised = run(ends(ValueError("here")), tmp_path, temporary)
    assert raised.code == 1
    assert b"Traceback" in raised.err
    killed = run(lambda: os.kill(os.getpid(), signal.SIGSEGV), tmp_path, temporary)
    assert (killed.code, killed.signal) == (None, signal.SIGSEGV)
    assert "Segmentation fault" in killed.stack


def test_the_deepest_place() -> None:
    stack = (
        'File "/a/src/convfc/b/c.py", line 7, in f\n  File "/x/site-packages/d/e.py", line 9, in g'
    )
    assert deepest(f"Traceback\n  {stack}") == "b/c.py:7 f < d/e.py:9"
    turned = "\n".join([*stack.split("\n")[::-1], '  File "r.py", line 1 in command_line'])
    other = 'Thread 0x1 (most recent call first):\n  File "/a/src/convfc/t.py", line 3 in watch'
    threads = f"{other}\n\nCurrent thread 0x2 (most recent call first):\n{turned}"
    assert deepest(threads) == "b/c.py:7 f < d/e.py:9"


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Seeds:
    return Seeds(tmp_path_factory.mktemp("seeds"), None)


def test_a_case_is_the_same_each_time(tmp_path: Path, seeds: Seeds) -> None:
    made = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        case = make("samples 5", 0, seeds, folder)
        made.append((case, contents(folder)))
    assert made[0] == made[1]


def _first(mutate: Callable[[Random], tuple[bytes, str]], random: Random) -> bytes:
    return mutate(random)[0]


def changed(mutate: Callable[[Random], bytes], old: bytes) -> bool:
    return any(mutate(Random(number)) != old for number in range(8))  # noqa: S311


def test_every_mutator_changes_something(tmp_path: Path) -> None:
    model = seed("loop")
    content = model.SerializeToString()

    def of_model(mutator: Callable[[onnx.ModelProto, Random], str], random: Random) -> bytes:
        made = onnx.ModelProto()
        made.CopyFrom(model)
        assert mutator(made, random)
        return protobuf.serialized(made)

    for name, mutator in (*graphs.MUTATORS.items(), *structures.STRUCTURES.items()):
        assert changed(partial(of_model, mutator), content), name
    assert changed(lambda random: content + structures.deep(random)[0], content)
    assert changed(lambda random: damage.damage(content, random)[0], content)
    text = '{"source": "m.onnx", "layers": [{"name": "conv", "geometry": {"sizes": [3]}}]}'
    assert changed(lambda random: documents.changed(text, random)[0], text.encode())
    archive = zips.packed({"config.json": b"{}", "model.weights.h5": b"x"})
    for name, change in zips.MUTATORS.items():
        assert changed(partial(_first, partial(change, archive)), archive), name
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = '{"class_name": "Sequential"}'
        file.attrs["convfc"] = text
        file["layer/kernel"] = [1.0, 2.0]
    weights = path.read_bytes()
    for name in hdf5.MUTATORS:
        assert changed(partial(_first, partial(hdf5.mutate, weights, name)), weights), name


def test_a_finding_is_made_smaller() -> None:
    model = seed("chain")
    content = model.SerializeToString()

    def shown(data: bytes) -> bool:
        made = onnx.ModelProto()
        try:
            made.ParseFromString(data)
        except Exception:
            return False
        return any(node.op_type == "Conv" for node in made.graph.node)

    made = minimising.smaller(content, shown, 400)
    assert shown(made)
    assert len(made) < 30 < len(content)
    document = b'{"a": [1, {"b": 7, "c": 3}], "d": {"e": 0}}'
    assert minimising.smaller(document, lambda data: b'"b": 7' in data, 400) == b'"b": 7'
    archive = zips.packed({"x.json": document, "y": b"0" * 900, "z": b"1"})

    def whole(data: bytes) -> bool:
        return data.startswith(b"PK") and b'"b": 7' in zips.unpacked(data).get("x.json", b"")

    least = minimising.smaller(archive, lambda data: _safely(whole, data), 100)
    assert list(zips.unpacked(least)) == ["x.json"]
    assert zips.unpacked(least)["x.json"] == b'{"a": [{"b": 7}]}'


def _safely(whole: Callable[[bytes], bool], data: bytes) -> bool:
    try:
        return whole(data)
    except Exception:
        return False


def test_a_program_that_fails_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(arguments: tuple[str, ...]) -> None:
        if "--debug" in arguments:
            raise KeyError("why")
        if "m.onnx" in arguments:
            raise SystemExit("convfc: unforeseen KeyError: why")

    monkeypatch.setattr(serving, "command_line", fails)
    monkeypatch.setattr(serving, "_warm", lambda _: None)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))  # the bench sets them, and this takes them back
    bench = serving.Bench(tmp_path, ["onnx"], 0)
    found = bench.work("samples 0", tmp_path / "found")
    assert {"unforeseen", "code"} <= {fault.kind for fault in found.faults}
    assert found.folder is not None
    assert {path.name for path in found.folder.iterdir()} == {"files", "again.sh", "outcome.txt"}
    least = bench.least("samples 0", tmp_path / "found")
    assert least.end == "smaller"
    assert sum(file.stat().st_size for file in (found.folder / "smaller").iterdir()) == 0


def test_a_few_cases_find_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a process of its own, as that of the tests has threads."""
    cases = [f"onnx {number}" for number in range(8)] + ["samples 1", "samples 2", "numbers 1"]
    code = program.main([*cases, "--jobs", "1", "--save", str(tmp_path), "--smaller", "0"])
    said = capsys.readouterr().out
    assert "11 cases" in said
    assert code == 0, said


def test_a_worker_that_dies_is_a_finding() -> None:
    outcome = program.lost("onnx 1", "crashes", "exit code 3")
    report = Report()
    assert [fault.kind for fault in report.add(outcome)] == ["worker"]
    assert report.add(outcome) == []  # it is the same
    assert report.total == 2
    assert "WORKER  onnx 1" in describe(outcome, outcome.faults[0])
