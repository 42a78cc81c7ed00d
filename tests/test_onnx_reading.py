"""ONNX files that are refused, and those whose weights lie beside them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import convfc
from convfc import FileError, UnsupportedModelError, convolution
from tests.onnx_models import conv_file, integers, run, save

CONV = convolution([3, 2], channels=4, filters=64, padding="same")


def external_file(path: Path) -> Path:
    """A model with its weights in `<name>.data`."""
    conv_file(path, CONV, (None, 6))
    onnx.save(
        onnx.load(path),
        path,
        save_as_external_data=True,
        location=f"{path.name}.data",
        size_threshold=0,
    )
    return path


def edited(path: Path, edit: Callable[[onnx.ModelProto], object]) -> Path:
    model = onnx.load(path, load_external_data=False)
    edit(model)
    onnx.save(model, path)
    return path


def sparse(model: onnx.ModelProto) -> None:
    values = helper.make_tensor("s", onnx.TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", onnx.TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [9]))


def sparse_in_a_branch(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    inner = onnx.ModelProto(graph=body)
    sparse(inner)
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner.graph))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (sparse, "sparse"),
        (sparse_in_a_branch, "sparse"),
        (lambda model: model.training_info.add(), "training"),
    ],
)
def test_what_would_be_lost_is_refused(
    tmp_path: Path, edit: Callable[[onnx.ModelProto], object], message: str
) -> None:
    path = edited(conv_file(tmp_path / "m.onnx", CONV, (5, 6)), edit)
    with pytest.raises(UnsupportedModelError, match=message):
        convfc.convert(path)
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


def move_data(where: str) -> Callable[[onnx.ModelProto], object]:
    def edit(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            next(e for e in tensor.external_data if e.key == "location").value = where

    return edit


@pytest.mark.parametrize("where", ["../secret", "/etc/passwd", "inside/../../secret", "link"])
def test_external_data_may_not_leave_the_folder(tmp_path: Path, where: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = edited(external_file(folder / "m.onnx"), move_data(where))
    shutil.copy(folder / "m.onnx.data", tmp_path / "secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(FileError, match="outside"):
        convfc.convert(path)


def test_a_link_to_a_model_beside_its_data_is_followed(tmp_path: Path) -> None:
    cache, view = tmp_path / "cache", tmp_path / "view"
    cache.mkdir()
    view.mkdir()
    path = external_file(cache / "m.onnx")
    for name in ("m.onnx", "m.onnx.data"):
        (view / name).symlink_to(cache / name)
    done = convfc.convert(view / path.name, tmp_path / "out.onnx")
    assert convfc.verify(view / path.name, done.out).equivalent


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data.unlink(), "missing"),
        (lambda data: data.write_bytes(data.read_bytes()[:-1]), "cut short"),
    ],
)
def test_external_data_must_be_there_and_whole(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    path = external_file(tmp_path / "m.onnx")
    damage(tmp_path / "m.onnx.data")
    with pytest.raises(FileError, match=message):
        convfc.convert(path)


def test_external_data_stays_external_and_old_data_goes(tmp_path: Path) -> None:
    path = external_file(tmp_path / "m.onnx")
    done = convfc.convert(path)
    assert done.complete
    x = integers([2, 4, 5, 6])
    assert np.array_equal(run(path, x=x)[0], run(done.out, x=x)[0])
    data = {file.name for file in tmp_path.glob("m_fc.onnx.*")}
    assert len(data) == 1
    # Another conversion has data of another name; that of the replaced file goes.
    assert convfc.convert(path, patches="slice", skip=["*"]).complete
    again = {file.name for file in tmp_path.glob("m_fc.onnx.*")}
    assert len(again) == 1
    assert again != data
    assert np.array_equal(run(path, x=x)[0], run(done.out, x=x)[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Dear reader, this is no model at all.\n", "not an ONNX"),
        (b"\x00" * 64, "not an ONNX"),
        (b"", "empty"),
    ],
)
def test_what_is_no_onnx_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(FileError, match=message):
        convfc.convert(path)


def test_a_truncated_file_at_every_length(tmp_path: Path) -> None:
    whole = conv_file(tmp_path / "m.onnx", convolution([2], channels=1, filters=1), (5,))
    content = whole.read_bytes()
    for length in range(len(content)):
        path = tmp_path / "cut.onnx"
        path.write_bytes(content[:length])
        with pytest.raises(FileError):  # also between two fields: without a graph, or its opset
            convfc.shapes(path)


def test_moving_convolutions_are_left_with_a_reason(tmp_path: Path) -> None:
    conv = convolution([3], channels=2, filters=2)
    path = conv_file(tmp_path / "m.onnx", conv, (5,), opset=19)

    def add(model: onnx.ModelProto) -> None:
        node = helper.make_node("DeformConv", ["y", "W", "y"], ["z"], name="moving")
        model.graph.node.append(node)

    done = convfc.convert(edited(path, add))
    assert [(layer.site.name, layer.reason) for layer in done.layers] == [
        ("conv", None),
        ("moving", "its taps move with the data: done over two axes with a known kernel shape"),
    ]
    assert not done.written
    assert not done.out.exists()
    partly = convfc.convert(path, partial=True)
    assert partly.written
    assert not partly.complete
    everything = convfc.convert(path, only=["conv"])
    assert everything.complete


def unknown_input(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "nowhere"


def no_such_operator(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Konv", ["y"], ["z"]))


def no_such_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("stride", [1, 1]))


def twice_the_same_name(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Neg", ["x"], ["y"]))


def sorted_the_wrong_way(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("Neg", ["y"], ["z"]))


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize(
    "edit",
    [unknown_input, no_such_operator, no_such_attribute, twice_the_same_name],
)
def test_an_invalid_graph_is_refused(
    tmp_path: Path, edit: Callable[[onnx.ModelProto], object], external: bool
) -> None:
    path = tmp_path / "m.onnx"
    edited(external_file(path) if external else conv_file(path, CONV, (5, 6)), edit)
    with pytest.raises(FileError, match="invalid ONNX graph"):
        convfc.convert(path)


@pytest.mark.parametrize("filters", [2, 700])
def test_a_weight_that_lacks_a_byte_is_refused(tmp_path: Path, filters: int) -> None:
    """Large weights are kept from the checker, which would copy them; ours sees to those."""

    def cut_short(model: onnx.ModelProto) -> None:
        (weight,) = model.graph.initializer
        weight.raw_data = weight.raw_data[:-1]

    conv = convolution([3, 2], channels=4, filters=filters)
    path = edited(conv_file(tmp_path / "m.onnx", conv, (5, 6), bias=False), cut_short)
    with pytest.raises(FileError, match=r"invalid ONNX graph: .*'?W'?.* bytes"):
        convfc.convert(path)


def test_what_onnxruntime_runs_is_not_refused(tmp_path: Path) -> None:
    """The checker wants nodes in order; onnxruntime sorts them."""
    path = edited(conv_file(tmp_path / "m.onnx", CONV, (5, 6)), sorted_the_wrong_way)
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(str(path))
    x = integers([2, 4, 5, 6])
    done = convfc.convert(path)
    assert done.complete
    assert np.array_equal(run(path, x=x)[0], run(done.out, x=x)[0])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak like this")
def test_weights_that_lie_beside_the_model_do_not_pile_up_in_memory(tmp_path: Path) -> None:
    """Each is laid out while it is written, and the mapping of its file closed again."""
    path, count = tmp_path / "m.onnx", 24
    nodes = [
        helper.make_node("Conv", [f"x{i}", f"W{i}"], [f"x{i + 1}"], pads=[1, 1, 1, 1])
        for i in range(count)
    ]
    kernel = integers([256, 256, 3, 3])
    save(
        path,
        nodes,
        {"x0": ["n", 256, 8, 8]},
        [f"x{count}"],
        {f"W{i}": kernel for i in range(count)},
    )
    onnx.save(
        onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0
    )
    script = (
        "import convfc, sys\n"
        "from pathlib import Path\n"
        "def peak():\n"
        "    return int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
        "convfc.shapes(sys.argv[1])\n"
        "before = peak()\n"
        "assert convfc.convert(sys.argv[1], check=False).complete\n"
        "print(peak() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    megabytes = int(done.stdout) / 1024
    assert megabytes < 24, f"{megabytes} MB more to convert {count * kernel.nbytes / 2**20} MB"


def test_external_numbers_of_a_constant_node_come_along(tmp_path: Path) -> None:
    """Into another folder, where nothing lies beside the model."""
    path = external_file(tmp_path / "m.onnx")

    def to_nodes(model: onnx.ModelProto) -> None:
        nodes = [
            helper.make_node("Constant", [], [tensor.name], value=tensor)
            for tensor in model.graph.initializer
        ]
        del model.graph.initializer[:]
        nodes.append(helper.make_node("Constant", [], ["other"], value=nodes[-1].attribute[0].t))
        for place, node in enumerate(nodes):
            model.graph.node.insert(place, node)

    edited(path, to_nodes)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = convfc.convert(path, elsewhere)
    assert done.complete
    x = integers([2, 4, 5, 6])
    assert np.array_equal(run(path, x=x)[0], run(done.out, x=x)[0])
