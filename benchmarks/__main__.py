"""Measure converted models beside native ones, by time and memory, and convfc itself."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import large, nets, peers, real, real_nets, tool
from benchmarks import onnx_nets as onnx
from benchmarks.machine import facts
from benchmarks.tables import Table
from benchmarks.timing import apart

TOOL_NETS = ("resnet50", "zfnet512", "vgg19")
TOOL_KERAS_NETS = ("VGG16", "MobileNetV2")
KERAS_NETS = ("ResNet50", "VGG16", "MobileNetV2")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    tables = f"{', '.join(TABLES)}; all by default"
    known = [*nets.LIGHT, *nets.SIMPLE, *real_nets.NETS, *KERAS_NETS]
    add = parser.add_argument
    add("--tables", nargs="+", choices=TABLES, default=list(TABLES), metavar="TABLE", help=tables)
    add("--nets", nargs="+", choices=known, default=known, metavar="NET", help=", ".join(known))
    add("--seconds", type=float, default=3, help="to measure each variant of a net for, at least")
    add("--megabytes", type=int, default=400, help="of weights in the large file")
    add("--convolutions", type=int, default=5000, help="in the file of many")
    add("--folder", type=Path, help="keep the networks there, for the next time")
    add("--peers", default=sys.executable, metavar="PYTHON", help="which has qonnx and the like")
    add("--json", type=Path, metavar="FILE", help="write all figures there, too")
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 200)
    machine = facts()
    for name, fact in machine.items():
        console.print(f"- {name}: {fact}", highlight=False, soft_wrap=True)
    console.print()
    found = []
    with tempfile.TemporaryDirectory(prefix="convfc-") as temporary:
        options.scratch = Path(temporary).resolve()
        options.folder = (options.folder or options.scratch).resolve()
        options.folder.mkdir(exist_ok=True)
        for name in options.tables:
            for table in TABLES[name](options):
                table.print(console)
                found.append(table)
    if options.json is not None:
        document = {"machine": machine, "tables": [table.to_json() for table in found]}
        options.json.write_text(json.dumps(document, indent=1))


def _onnx(options: argparse.Namespace) -> Iterator[Table]:
    """The nets as deployed, as they are, and two simple ones."""
    has = peers.installed(options.peers)
    others = {name: options.peers for name, there in has.items() if there}
    skipped = [f"{name}: skipped, not installed" for name, there in has.items() if not there]
    title = "onnxruntime: time (and peak memory) of the converted model over the native one"
    deployed = Table(f"{title}, BatchNormalization folded before", onnx.COLUMNS, notes=skipped)
    plain = Table(f"{title}, as exported", onnx.OWN_COLUMNS)
    simple = Table(f"{title}, single kinds of layer", onnx.COLUMNS)
    for net in (net for net in nets.LIGHT if net in options.nets):
        path = nets.make(net, options.folder)
        folded = nets.folded(path)
        row, notes = apart(onnx.measure, folded, options.scratch, options.seconds, others)
        deployed.rows.append(row)
        deployed.notes += notes
        if nets.folds(path):
            row, _ = apart(onnx.measure, path, options.scratch, options.seconds, {})
        else:
            plain.notes.append(f"{net}: nothing to fold, so the figures are those of above")
        plain.rows.append({name: row.get(name) for name in onnx.OWN_COLUMNS})
    for net in (net for net in nets.SIMPLE if net in options.nets):
        path = nets.make(net, options.folder)
        row, notes = apart(onnx.measure, path, options.scratch, options.seconds, others)
        simple.rows.append(row)
        simple.notes += notes
    for table in (deployed, plain):
        table.add_mean(onnx.RATIOS)
    yield from (table for table in (deployed, plain, simple) if table.rows)


def _real(options: argparse.Namespace) -> Iterator[Table]:
    """Networks of the kinds that people have."""
    title = "onnxruntime, real kinds of networks: converted over native, on one thread and on two"
    table = Table(title, real.COLUMNS)
    for net in (net for net in real_nets.NETS if net in options.nets):
        known = (net, options.folder, options.scratch, options.seconds)
        table.rows.append(apart(real.measure, *known))
    table.add_mean(real.RATIOS)
    if table.rows:
        yield table


def _tool(options: argparse.Namespace) -> Iterator[Table]:
    """The program itself."""
    table = Table("convfc convert beside load + save of onnx_ir or Keras", tool.COLUMNS)
    for net in (net for net in TOOL_NETS if net in options.nets):
        path = nets.make(net, options.folder)
        tiny = nets.make("pointwise", options.folder)
        table.rows.append(tool.measure(path, tiny, options.scratch))
    chosen = [net for net in TOOL_KERAS_NETS if net in options.nets]
    if chosen:
        from benchmarks import keras_nets

        for suffix in (".h5", ".keras"):
            tiny = apart(keras_nets.make_tiny, options.scratch, suffix)
            for net in chosen:
                path = apart(keras_nets.make, net, options.folder, suffix)
                table.rows.append(tool.measure(path, tiny, options.scratch))
    if table.rows:
        yield table


def _keras(options: argparse.Namespace) -> Iterator[Table]:
    """Networks of keras.applications."""
    from benchmarks import keras_nets

    title = "Keras on TensorFlow: time (and peak memory) of the converted model over the native one"
    table = Table(title, keras_nets.COLUMNS)
    for net in (net for net in KERAS_NETS if net in options.nets):
        path = keras_nets.make(net, options.folder)
        table.rows.append(apart(keras_nets.measure, path, options.scratch, options.seconds))
    table.add_mean(keras_nets.RATIOS)
    if table.rows:
        yield table


def _layers(options: argparse.Namespace) -> Iterator[Table]:
    """What one would write by hand."""
    from benchmarks import keras_layers

    table = Table("TensorFlow: time of patches + Dense over Conv2D", keras_layers.COLUMNS)
    for layer in keras_layers.LAYERS:
        table.rows.append(apart(keras_layers.measure, layer, options.scratch, options.seconds))
    table.add_mean(keras_layers.RATIOS)
    yield table


def _large(options: argparse.Namespace) -> Iterator[Table]:
    """Large weights in one file, and many layers."""
    table = Table("convfc convert of large files: seconds and peak memory", large.COLUMNS)
    for make, size in ((large.heavy, options.megabytes), (large.many, options.convolutions)):
        path = apart(make, size, options.scratch)
        table.rows.append(large.measure(path, options.scratch))
        path.unlink()
    yield table


TABLES: dict[str, Callable[[argparse.Namespace], Iterator[Table]]] = {
    "onnx": _onnx,
    "real": _real,
    "tool": _tool,
    "large": _large,
    "keras": _keras,
    "layers": _layers,
}

if __name__ == "__main__":
    main()
