"""A JUnit report: what was proved and what only compared, what it took, and errors."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

import convfc
from convfc.cli import junit
from tests.program import SAMPLES, cli

CNN = SAMPLES / "mnist_small.onnx"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convfc.convert(CNN, tmp_path_factory.mktemp("made") / "fc.onnx", check=False).out


def suite(path: Path) -> ElementTree.Element:
    (found,) = ElementTree.parse(path).getroot()  # noqa: S314 - our own
    return found


@pytest.mark.parametrize(
    ("options", "how"),
    [
        ({}, "verdict of a proof"),
        ({"quick": True}, "verdict of a quick look"),
        ({"rtol": 1e-4}, "verdict of a comparison"),
    ],
)
def test_how_a_verdict_was_found_is_told(
    made: Path, tmp_path: Path, options: dict[str, float], how: str
) -> None:
    found = convfc.verify(CNN, made, samples=2, **options)  # type: ignore[arg-type]
    junit.write(tmp_path / "r.xml", [found])
    *layers, last, said = suite(tmp_path / "r.xml")
    assert [one.get("name") for one in layers] == [layer.name for layer in found.layers]
    assert last.get("name") == how
    assert (said.tag, (said.text or "")[:10]) == ("system-out", "EQUIVALENT")


def test_each_layer_has_its_time_and_all_have_that_of_the_whole(made: Path, tmp_path: Path) -> None:
    found = convfc.verify(CNN, made, samples=2)
    assert found.seconds > sum(layer.seconds for layer in found.layers) > 0
    junit.write(tmp_path / "r.xml", [found])
    whole = suite(tmp_path / "r.xml")
    times = [float(case.get("time", "")) for case in whole.iter("testcase")]
    assert float(whole.get("time", "")) == pytest.approx(found.seconds, abs=2e-3)
    assert sum(times) == pytest.approx(found.seconds, abs=1e-2)
    assert convfc.verify(CNN, made, samples=2) == found  # that it took another time is no matter


def test_what_could_not_be_done_is_an_error(tmp_path: Path) -> None:
    done = cli("verify", "nothing.onnx", "--junit", "r.xml", cwd=tmp_path)
    assert done.returncode == 2
    found = suite(tmp_path / "r.xml")
    assert (found.get("errors"), found.get("failures")) == ("1", "0")
    assert "nothing.onnx" in (found[0][0].get("message") or "")
