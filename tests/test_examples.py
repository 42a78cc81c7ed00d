"""The worked examples, at a small size; their pages show what they print."""

from __future__ import annotations

import logging
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.program import SAMPLES

FOLDER = Path(__file__).parents[1] / "docs" / "examples"


def main_of(name: str, function: str = "main") -> Callable[..., None]:
    found: dict[str, Any] = runpy.run_path(str(FOLDER / f"{name}.py"))
    main: Callable[..., None] = found[function]
    return main


@pytest.fixture(autouse=True)
def _beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a script finds that Python is called with."""
    monkeypatch.syspath_prepend(FOLDER)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("wider", ["no.onnx"], "no.onnx: no such file"),
        ("few_bits", ["--bits", "3"], "argument --bits: invalid choice: 3"),
        ("low_rank", ["--share", "2"], "argument --share: 2 is not between 0 and 1"),
        ("lipschitz", ["--samples", "0"], "argument --samples: 0 is below 1"),
    ],
)
def test_what_is_wrong_is_said(
    capsys: pytest.CaptureFixture[str], name: str, given: list[str], said: str
) -> None:
    main, run = main_of(name), main_of("command_line", "run")
    with pytest.raises(SystemExit) as ended:
        run(lambda: main(given))
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("model", ["mnist_small", "mnist_cnn"])
def test_lipschitz(capsys: pytest.CaptureFixture[str], model: str) -> None:
    main_of("lipschitz")([str(SAMPLES / f"{model}.onnx"), "--samples", "40"])
    printed = capsys.readouterr().out.splitlines()
    at = next(number for number, line in enumerate(printed) if line.startswith("the network"))
    constants, network, seen = printed[:at], printed[at], printed[at + 1]
    page = (FOLDER / "lipschitz.md").read_text().splitlines()
    assert [line for line in (*constants, network) if line not in page] == []
    bound = float(network.split()[-1])
    assert 0 < float(seen.split()[-1]) < bound
    assert seen.startswith("largest seen on 40 images")


def test_low_rank(capsys: pytest.CaptureFixture[str]) -> None:
    main_of("low_rank")(["--samples", "100", "--share", "0.5"])
    _, full, half = capsys.readouterr().out.splitlines()
    page = (FOLDER / "low_rank.md").read_text()
    assert full.rsplit("  ", 1)[0] in page
    assert half.rsplit("  ", 1)[0] in page
    assert float(half.split()[-1].rstrip("%")) > 95


def test_few_bits(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        main_of("few_bits")(["--samples", "100", "--bits", "4", "--block", "32"])
    finally:
        logging.disable(logging.NOTSET)
    _, *rows = capsys.readouterr().out.splitlines()
    sizes = {}
    for row in rows:
        words = row.split()
        at = next(n for n, word in enumerate(words) if word.isalpha())
        sizes[words[at]] = int(words[at + 1].replace(",", ""))
        assert float(words[at + 2].rstrip("%")) > 95
    assert sizes["reverted"] < sizes["quantized"] < sizes["original"] < sizes["converted"]
    assert float(rows[-1].split()[-1]) < 1e-5


@pytest.fixture
def eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps are done sooner than a graph of them is made."""
    import keras

    def eager(own: Callable[..., Any]) -> Callable[..., Any]:
        def run(model: Any, *given: Any, **options: Any) -> Any:
            model.run_eagerly = True
            return own(model, *given, **options)

        return run

    monkeypatch.setattr(keras.Model, "fit", eager(keras.Model.fit))
    monkeypatch.setattr(keras.Model, "predict", eager(keras.Model.predict))


SAVED = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""Keras 3.15 saves with numpy 2."""


@SAVED
@pytest.mark.usefixtures("eagerly")
def test_prune(capsys: pytest.CaptureFixture[str]) -> None:
    given = str(SAMPLES / "mnist_small.keras")
    main_of("prune")([given, "--samples", "300", "--epochs", "1", "--share", "0.75"])
    head, row = capsys.readouterr().out.splitlines()
    assert head in (FOLDER / "prune.md").read_text()
    _, original, less, trained, reverted, zeros = (float(word.rstrip("%")) for word in row.split())
    assert less < trained == reverted < original
    assert zeros == 75


@SAVED
@pytest.mark.usefixtures("eagerly")
def test_wider(capsys: pytest.CaptureFixture[str]) -> None:
    main_of("wider")(["--samples", "200", "--epochs", "1", "--times", "1.5"])
    head, *rows, first, second = capsys.readouterr().out.splitlines()
    assert f"{head}\n{rows[0][:29]}" in (FOLDER / "wider.md").read_text()
    found = {row[:19].strip(): row[19:].split() for row in rows}
    count, right, apart = found["widened"]
    assert [count, right] == ["3,226", found["original"][1]]
    assert float(apart) < 1e-4
    assert found["reverted"][:2] == found["widened, trained"]
    assert float(found["reverted"][2]) < 1e-4
    assert first == "conv_unequal: 4 filters, now 6"
    assert second == "conv_strided: 8 filters, now 12"


def test_uncertainty(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    given, picture = str(SAMPLES / "mnist_small.keras"), tmp_path / "uncertainty.svg"
    main_of("uncertainty")([given, "--passes", "3", "--samples", "40", "--picture", str(picture)])
    out = capsys.readouterr().out.splitlines()
    assert "\n".join(out[:2]) in (FOLDER / "uncertainty.md").read_text()
    printed = [line.replace("%", "").split() for line in out]
    found = {name: [*map(float, rest)] for name, *rest in printed[2:-1]}
    assert printed[-1][0] == "noise"
    clear, turned = found["0°"], found["90°"]
    assert clear[2] == turned[2] == 0  # one pass does not disagree
    for at in (0, 3, 6):
        assert clear[at] > 90 > turned[at]
        assert clear[at + 1] < turned[at + 1]
    assert clear[5] < turned[5]
    assert clear[8] < turned[8]
    assert "middle 80" in picture.read_text()
