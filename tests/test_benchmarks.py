"""The benchmarks on networks that take no time: that they measure what they say."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from benchmarks import large, nets, onnx_nets, real, real_nets, tool
from benchmarks.__main__ import main
from benchmarks.tables import Table
from benchmarks.timing import in_process, in_turns

from convfc import convert
from convfc.formats.keras.quiet import importing


@pytest.mark.slow
def test_from_the_command_to_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figures.json"
    arguments = ["--tables", "onnx", "--nets", "pointwise", "--seconds", "0", "--json", str(out)]
    main(arguments)
    printed = capsys.readouterr().out
    assert "| pointwise |" in printed
    assert "processor: " in printed
    document = json.loads(out.read_text())
    (table,) = document["tables"]
    (row,) = table["rows"]
    assert row["native ms"] > 0
    # 1x1 kernels: whatever was asked for, it is the same model and the same figure.
    assert row["auto"] == row["gather"] == row["slice"] > 0
    assert row["memory"] == pytest.approx(row["auto MB"] / row["native MB"])


def test_a_model_that_computes_something_else_is_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(nets.chain([(2, 3, 3, 1)], size=8), path)
    onnx_nets.measure(path, tmp_path, 0, {})

    def wrong(path: Path, out: Path, **options: Any) -> object:
        model = onnx.load(path)
        model.graph.initializer[0].raw_data = np.ones((3, 2, 3, 3), np.float32).tobytes()
        onnx.save(model, out)
        return convert(path, out.with_suffix(".fc.onnx"), **options)

    monkeypatch.setattr("benchmarks.onnx_nets.convert", wrong)
    with pytest.raises(RuntimeError, match="computes something else"):
        onnx_nets.measure(path, tmp_path, 0, {})


def test_what_takes_longer_has_the_longer_time() -> None:
    short, long = in_turns([partial(time.sleep, 0.001), partial(time.sleep, 0.006)], seconds=0)
    assert 1 <= short < long


def test_the_memory_of_a_process_is_not_its_parents() -> None:
    here = np.ones(2**25)
    assert in_process("this").peak < here.nbytes / 1e6
    assert "Beautiful" in in_process("this").output
    with pytest.raises(RuntimeError, match="No module"):
        in_process("nothing_such")


def test_a_mean_is_taken_where_every_row_has_a_figure() -> None:
    table = Table(
        "t", ["net", "a", "b"], [{"net": "x", "a": 1.0, "b": 2.0}, {"net": "y", "a": 4.0}]
    )
    table.add_mean(["a", "b"])
    assert table.rows[-1] == {"net": "geometric mean", "a": pytest.approx(2)}


def test_random_weights_replace_those_that_a_network_lacks(tmp_path: Path) -> None:
    """Folded, no BatchNormalization is left behind a convolution; all else computes the same."""
    path = nets.make("shufflenet", tmp_path)
    assert nets.folds(path)
    folded = nets.folded(path)
    assert not nets.folds(folded)
    plain, short = onnx_nets.session(path), onnx_nets.session(folded)
    (expected,), (got,) = (one.run(None, onnx_nets.feed(one)) for one in (plain, short))
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-6)


def _small(g: real_nets.Graph) -> str:
    return g.classes(g.depthwise(g.conv("x", 4, 3, 2)), 2)


@pytest.mark.parametrize(
    "net",
    [
        real_nets.Net(_small, (3, 9, 8), opened=True),
        real_nets.Net(_small, (3, 9, 8), quantized=True),
    ],
    ids=["opened", "quantized"],
)
def test_the_table_of_real_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, net: real_nets.Net
) -> None:
    monkeypatch.setitem(real_nets.NETS, "small", net)
    row = real.measure("small", tmp_path, tmp_path, 0)
    known = {"over known"} if net.quantized else set()
    assert set(row) == {*real.COLUMNS} - known
    assert min(float(row[name] or 0) for name in real.RATIOS) > 0


@pytest.mark.slow
def test_the_table_of_large_files(tmp_path: Path) -> None:
    """The weights of a file are in memory once, when onnxruntime has them, or not at all."""
    path = large.heavy(200, tmp_path)
    row = large.measure(path, tmp_path, turns=1)
    assert list(row) == large.COLUMNS
    megabytes = path.stat().st_size / 1e6
    assert 200 <= megabytes < 220
    assert megabytes < float(row["peak MB"] or 0) < 1.3 * megabytes + 300
    assert float(row["no look: peak MB"] or 0) < 0.3 * megabytes + 150
    few = large.measure(large.many(3, tmp_path), tmp_path, turns=1)
    assert (few["convolutions"], few["over file"]) == ("3", 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # keras 3.15 with numpy 2
@pytest.mark.parametrize("suffix", [".onnx", ".h5"])
def test_the_table_of_the_program_itself(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    if suffix == ".onnx":
        onnx.save(nets.chain([(2, 3, 3, 1)], size=8), path)
    else:
        from benchmarks import keras_nets

        path = keras_nets.make_tiny(tmp_path, suffix)
    row = tool.measure(path, path, tmp_path)
    assert all(figure is not None for figure in row.values())
    assert list(row) == tool.COLUMNS


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # keras 3.15 with numpy 2
def test_the_tables_of_keras(tmp_path: Path) -> None:
    with importing():
        import keras
    from benchmarks import keras_layers, keras_nets

    path = tmp_path / "net.keras"
    keras.Sequential([keras.Input((8, 8, 2)), keras.layers.Conv2D(3, 3)]).save(path)
    row = keras_nets.measure(path, tmp_path, 0)
    assert set(row) == {*keras_nets.COLUMNS} - {"reshape"}
    row = keras_layers.measure(keras_layers.Layer(9, 2, 3, 2, 4), tmp_path, 0)
    assert list(row) == keras_layers.COLUMNS
