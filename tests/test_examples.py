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
Main = Callable[[list[str]], None]


def main_of(name: str) -> Main:
    found: dict[str, Any] = runpy.run_path(str(FOLDER / f"{name}.py"))
    main: Main = found["main"]
    return main


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
