"""What single clients need: forms of products, fixed sizes, and that the prover knows of both."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

import convfc
from convfc import CLIENTS, UsageError, Verdict, Verification
from convfc.cli import documents, junit
from convfc.cli.verification_tables import verification_summary
from convfc.clients import Client
from convfc.system import rehearsal
from tests.onnx_models import Array, integers, operators, run, save
from tests.program import Here, cli
from tests.thinned import thinned

SIZES = {"x": (2, 4, 11, 9)}


def signs(shape: Sequence[int], seed: int) -> Array:
    """Numbers from -1 to 1: sums of what they are multiplied with stay exact in float32."""
    return integers(shape, seed).clip(-1, 1)


def net(path: Path, *, open_sizes: bool = True, opset: int = 17) -> Path:
    """Every kind of product, with unequal strides, pads and sizes."""
    make = helper.make_node
    weights = {
        "W1": signs([6, 4, 3, 2], 1),
        "B1": signs([6], 2),
        "W2": signs([12, 1, 2, 3], 3),
        "B2": signs([12], 4),
        "W3": signs([8, 6, 2, 1], 5),
        "W4": signs([4, 8, 1, 1], 6),
        "B4": signs([4], 7),
        "W5": signs([4, 5, 2, 3], 8),
    }
    nodes = [
        make("Conv", ["x", "W1", "B1"], ["a"], name="plain", strides=[2, 1], pads=[1, 0, 2, 1]),
        make("Relu", ["a"], ["b"]),
        make("Conv", ["b", "W2", "B2"], ["c"], name="depthwise", group=6, strides=[1, 2]),
        make("Conv", ["c", "W3"], ["d"], name="grouped", group=2, pads=[0, 1, 1, 0]),
        make("Conv", ["d", "W4", "B4"], ["e"], name="pointwise"),
        make("ConvTranspose", ["e", "W5"], ["y"], name="up", strides=[2, 3]),
    ]
    shape: list[int | str] = ["N", 4, *(["H", "W"] if open_sizes else SIZES["x"][2:])]
    return save(path, nodes, {"x": shape}, ["y"], weights, opset=opset)


def pointwise(path: Path) -> Path:
    """Layers that stay channels first among themselves."""
    weights = {"V": signs([32, 32, 1, 1], 1), "W": signs([32, 32, 1, 1], 2)}
    nodes = [
        helper.make_node("Conv", ["x", "V"], ["a"], name="one"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "W"], ["y"], name="two"),
    ]
    return save(path, nodes, {"x": ["N", 32, 3, 5]}, ["y"], weights)


def same_numbers(
    a: Path, b: Path, shape: tuple[int, ...] = SIZES["x"], *, flat: bool = False
) -> None:
    x = integers(shape, 9)
    (expected,), (got,) = run(a, x=x), run(b, x=x.reshape(len(x), -1) if flat else x)
    assert expected.any()
    assert np.array_equal(got, expected.reshape(len(x), -1) if flat else expected)


def as_emitted(found: Verification) -> None:
    assert found.verdict is Verdict.EQUIVALENT, found.reason
    assert [layer.structure for layer in found.layers] == [None] * len(found.layers)


def factors(path: Path) -> list[tuple[int, int, bool]]:
    """Of each MatMul: the axes of both operands, and whether the right one is a constant."""
    inferred = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True).graph
    axes = {tensor.name: len(tensor.dims) for tensor in inferred.initializer}
    constants = set(axes)
    for info in (*inferred.input, *inferred.value_info, *inferred.output):
        axes.setdefault(info.name, len(info.type.tensor_type.shape.dim))
    products = [node.input for node in inferred.node if node.op_type == "MatMul"]
    return [(axes[a], axes[b], b in constants) for a, b in products]


def edited(path: Path, **fields: object) -> Path:
    """A copy whose record has other fields; those that are ``None`` lack."""
    model = onnx.load(path)
    (entry,) = (entry for entry in model.metadata_props if entry.key == "convfc")
    record = json.loads(entry.value) | fields
    entry.value = json.dumps({k: v for k, v in record.items() if v is not None})
    out = path.with_name("edited.onnx")
    onnx.save(model, out)
    return out


@pytest.mark.parametrize("client", thinned(CLIENTS))
def test_whatever_is_set_the_file_is_the_same_function(tmp_path: Path, client: str) -> None:
    path = net(tmp_path / "m.onnx", open_sizes=False)
    done = convfc.convert(path, client=client, check=False)
    assert done.complete
    assert "Conv" not in " ".join(operators(done.out))
    onnx.checker.check_model(str(done.out), full_check=True)
    wanted = CLIENTS[client]
    shape = (1, *SIZES["x"][1:]) if wanted.fixed else SIZES["x"]
    same_numbers(path, done.out, shape, flat=wanted.flat_io)
    as_emitted(convfc.verify(path, done.out, samples=4))
    assert f"For '{client}': {'; '.join(wanted.sets)}." in done.notes


def test_crown_keeps_the_batch_and_has_filters_on_the_right(tmp_path: Path) -> None:
    for path in (net(tmp_path / "m.onnx", open_sizes=False), pointwise(tmp_path / "p.onnx")):
        done = convfc.convert(path, client="crown", check=False)
        found = factors(done.out)
        assert all(left >= 3 and constant for left, _, constant in found), found
        # Its twin: without, the batch goes with the positions, or the filters are on the left.
        found = factors(convfc.convert(path, check=False).out)
        assert any(left == 2 for left, _, _ in found), found


@pytest.mark.parametrize("opset", thinned([7, 13]))
def test_a_quantizer_sees_all_products(tmp_path: Path, opset: int) -> None:
    path = net(tmp_path / "m.onnx", opset=opset)
    done = convfc.convert(path, client="matmul-quantizer", check=False)
    assert not operators(done.out) & {"Mul", "ReduceSum"}
    assert len(factors(done.out)) == 5
    same_numbers(path, done.out)
    as_emitted(convfc.verify(path, done.out, samples=1, shapes=SIZES))
    assert {"Mul"} <= operators(convfc.convert(path, check=False).out)


@pytest.mark.parametrize(("client", "found"), [("matmul-quantizer", 2), (None, 0)])
def test_four_bits_for_pointwise_layers(tmp_path: Path, client: str | None, found: int) -> None:
    done = convfc.convert(pointwise(tmp_path / "m.onnx"), client=client, check=False)
    quantizer = MatMulNBitsQuantizer(onnx.load(done.out), bits=4, block_size=32)
    quantizer.process()
    kinds = [node.op_type for node in quantizer.model.graph().node]
    assert kinds.count("MatMulNBits") == found
    assert kinds.count("MatMul") == 2 - found


FORMS: list[list[str] | None] = [None, ["keep_batch"], ["depthwise_products", "filters_right"]]


@pytest.mark.parametrize("client", thinned(["crown", "matmul-quantizer"]))
def test_one_bit_of_a_filter_is_seen_whatever_the_record_says(tmp_path: Path, client: str) -> None:
    path = net(tmp_path / "m.onnx", open_sizes=False)
    out = convfc.convert(path, client=client, only="depthwise", check=False).out
    model = onnx.load(out)
    weight = next(w for w in model.graph.initializer if w.name == "depthwise/filter_matrix")
    numbers = numpy_helper.to_array(weight).copy()
    numbers.flat[3] = np.nextafter(numbers.flat[3], np.float32(99))
    weight.CopyFrom(numpy_helper.from_array(numbers, weight.name))
    onnx.save(model, out)
    for forms in (list(CLIENTS[client].forms.names), *FORMS):
        found = convfc.verify(path, edited(out, forms=forms), samples=1)
        assert found.verdict is not Verdict.EQUIVALENT
    assert convfc.verify(path, out, samples=1).verdict is Verdict.NOT_EQUIVALENT


def test_without_its_forms_a_file_is_built_otherwise(tmp_path: Path) -> None:
    """And yet proved, by draws: every operator is linear, and all sizes are known."""
    path = net(tmp_path / "m.onnx", open_sizes=False)
    out = convfc.convert(path, client="crown", check=False).out
    found = convfc.verify(path, edited(out, forms=None), samples=1)
    assert found.verdict is Verdict.EQUIVALENT
    structures = {layer.name: layer.structure for layer in found.layers}
    assert "constant" in str(structures["plain"])
    assert structures["depthwise"] is None


def test_the_record_says_for_whom(tmp_path: Path) -> None:
    out = convfc.convert(net(tmp_path / "m.onnx"), client="crown", check=False).out
    (entry,) = onnx.load(out).metadata_props
    record = json.loads(entry.value)
    assert (record["client"], record["forms"]) == ("crown", ["keep_batch", "filters_right"])
    assert "shapes" not in record
    (entry,) = onnx.load(convfc.convert(tmp_path / "m.onnx", check=False).out).metadata_props
    assert json.loads(entry.value).keys() == {"source", "sha256", "version", "layers", "outline"}


def stated(path: Path) -> dict[str, list[int]]:
    """The shapes that a file states, none of them open."""
    graph = onnx.load(path).graph
    infos = (*graph.input, *graph.output, *graph.value_info)
    found = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in infos}
    assert all(0 not in sizes for sizes in found.values())
    return found


def test_open_sizes_are_fixed(tmp_path: Path) -> None:
    path = net(tmp_path / "m.onnx")
    model = onnx.load(path)
    stale = helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, ["N", 6, 77, "W"])
    model.graph.value_info.append(stale)
    onnx.save(model, path)
    done = convfc.convert(path, shapes=SIZES)
    assert done.complete
    assert dict(done.shapes) == SIZES
    assert done.notes == ("Sizes were fixed: it takes x=2x4x11x9 and nothing else.",)
    assert {layer.lowering.method for layer in done.layers if layer.lowering} == {"gather", "none"}
    sizes = stated(done.out)
    assert (sizes["x"], sizes["y"]) == ([2, 4, 11, 9], [2, 5, 10, 15])
    assert sizes["b/channels_last"] == [2, 6, 9, 6]
    same_numbers(path, done.out)
    with pytest.raises(Exception, match="invalid dimensions"):
        run(done.out, x=integers([1, 4, 11, 9]))
    found = convfc.verify(path, done.out, samples=4)
    as_emitted(found)
    assert dict(found.shapes) == SIZES
    assert found.outputs[0].shape == (2, 5, 10, 15)
    assert "m.onnx for x=2x4x11x9 are the same function" in verification_summary(found)
    junit.write(report := tmp_path / "report.xml", [found])
    assert 'name="verdict of a proof for x=2x4x11x9"' in report.read_text()
    seen = convfc.verify(path, done.out, samples=4, rtol=1e-3)
    assert seen.equivalent
    assert not seen.proved
    assert convfc.convert(path, shapes=SIZES, verify=True, client="crown").complete


LIES: dict[str, tuple[object, Verdict, str]] = {
    "no sizes": (None, Verdict.NOT_EQUIVALENT, "the shape of 'x' changed"),
    "other sizes": ({"x": [2, 4, 11, 10]}, Verdict.NOT_EQUIVALENT, "the shape of 'x' changed"),
    "another input": ({"z": [1]}, Verdict.COULD_NOT_CHECK, "there is no input 'z'; there are: x"),
    "other channels": ({"x": [2, 5, 11, 9]}, Verdict.COULD_NOT_CHECK, "takes the shape"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_record_of_other_sizes_is_not_believed(tmp_path: Path, lie: str) -> None:
    path = net(tmp_path / "m.onnx")
    fixed = convfc.convert(path, shapes=SIZES, check=False).out
    told, verdict, words = LIES[lie]
    found = convfc.verify(path, edited(fixed, shapes=told), samples=1)
    assert (found.verdict, words in str(found.reason)) == (verdict, True), found.reason


def test_a_file_of_open_sizes_is_not_the_original_at_known_ones(tmp_path: Path) -> None:
    path = net(tmp_path / "m.onnx")
    out = convfc.convert(path, check=False).out
    found = convfc.verify(path, edited(out, shapes=SIZES), samples=1)
    assert found.verdict is Verdict.NOT_EQUIVALENT


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"z": (1,)}, "there is no input 'z'; there are: x"),
        ({"W1": (6, 4, 3, 2)}, "there is no input 'W1'"),
        ({"x": (1, 5, 9, 9)}, r"'x' takes the shape \(any, 4, any, any\), not \(1, 5, 9, 9\)"),
        ({"x": (1, 4, 9)}, r"takes the shape \(any, 4, any, any\), not \(1, 4, 9\)"),
        ({"x": (1, 4, 0, 9)}, r"a size of shapes\['x'\] is 0: it takes a whole number of at least"),
        ({"x": (1, 4, 9, 2**63)}, "it takes at most 32 sizes, each below"),
        ({"x": (1,) * 33}, "it takes at most 32 sizes"),
        ({"x": "1x4x9x9"}, r"shapes\['x'\] is '1x4x9x9': it takes a list of whole numbers"),
        ([1], r"shapes is \[1\]: it takes a dictionary"),
    ],
)
def test_a_shape_that_cannot_be(tmp_path: Path, shapes: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        convfc.convert(net(tmp_path / "m.onnx"), shapes=shapes)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "m_fc.onnx").exists()


def test_clients_that_need_known_sizes(tmp_path: Path) -> None:
    path = net(tmp_path / "m.onnx")
    words = "'ezkl' needs known sizes, .* of input 'x' are open; .* --shape x=1x4xHxW"
    with pytest.raises(UsageError, match=words):
        convfc.convert(path, client="ezkl")
    done = convfc.convert(path, client="ezkl", shapes={"x": (3, 4, 11, 9)})
    assert dict(done.shapes) == {"x": (3, 4, 11, 9)}
    done = convfc.convert(pointwise(tmp_path / "p.onnx"), client="ezkl")
    assert dict(done.shapes) == {"x": (1, 32, 3, 5)}
    assert stated(done.out)["y"] == [1, 32, 3, 5]


def pooled(path: Path) -> Path:
    """Conv, Relu, MaxPool, Conv, of known sizes."""
    weights = {"W": signs([3, 2, 2, 2], 1), "b": signs([3], 2), "V": signs([2, 3, 2, 2], 3)}
    nodes = [
        helper.make_node("Conv", ["x", "W", "b"], ["a"], name="one", pads=[0, 1, 1, 0]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 1]),
        helper.make_node("Conv", ["p", "V"], ["y"], name="two"),
    ]
    return save(path, nodes, {"x": ["N", 2, 6, 5]}, ["y"], weights)


def test_omlt_gets_a_bias_behind_each_product_and_a_name_for_each_node(tmp_path: Path) -> None:
    weights = {"V": signs([3, 2, 2, 3], 1), "W": signs([12, 4], 2), "U": signs([4, 5], 3)}
    nodes = [
        helper.make_node("Conv", ["x", "V"], ["a"], name="one", strides=[2, 1]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Gemm", ["f", "W"], ["g"]),
        helper.make_node("MatMul", ["g", "U"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"x": ["N", 2, 4, 4]}, ["y"], weights)
    model = onnx.load(path)
    model.graph.output[0].type.tensor_type.ClearField("shape")  # it has the input's rank there
    onnx.save(model, path)
    done = convfc.convert(path, client="omlt")
    made = onnx.load(done.out).graph.node
    assert [node.op_type for node in made] == ["MatMul", "Add", "Relu", *["MatMul", "Add"] * 2]
    assert len({node.name for node in made} - {""}) == len(made)
    same_numbers(path, done.out, (1, 2, 4, 4), flat=True)
    assert convfc.verify(path, done.out, samples=2).verdict is Verdict.EQUIVALENT
    lied = onnx.load(done.out)
    (entry,) = lied.metadata_props
    entry.value = json.dumps({**json.loads(entry.value), "forms": []})
    onnx.save(lied, done.out)
    assert convfc.verify(path, done.out, samples=2).verdict is Verdict.COULD_NOT_CHECK


DENSE = [name for name, client in CLIENTS.items() if client.form is not None]


@pytest.mark.parametrize("client", thinned(DENSE))
def test_clients_of_the_dense_form_get_a_chain(tmp_path: Path, client: str) -> None:
    path = pooled(tmp_path / "m.onnx")
    done = convfc.convert(path, client=client)
    assert (done.complete, done.form.value) == (True, "dense")
    assert any(note.startswith(f"For '{client}': one matrix per layer") for note in done.notes)
    assert any(note.startswith("'y' is flat now") for note in done.notes)
    rest = {"MaxPool", "Reshape"} if client == "concrete-ml" else set()
    assert operators(done.out) == {"MatMul", "Add", "Relu", *rest}
    same_numbers(path, done.out, (1, 2, 6, 5), flat=True)
    found = convfc.verify(path, done.out, samples=2)
    assert found.verdict is Verdict.EQUIVALENT, found.reason
    (entry,) = onnx.load(done.out).metadata_props
    assert json.loads(entry.value)["client"] == client
    same = convfc.convert(path, tmp_path / "s.onnx", client=client, form="dense", flat_io=True)
    assert operators(same.out) == operators(done.out)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"form": "patches"}, "--for marabou does not go with --form patches"),
        ({"max_pool": "keep"}, "--for marabou does not go with --max-pool keep"),
        ({"patches": "gather"}, "--form dense does not go with --patches"),
    ],
)
def test_what_contradicts_a_client(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    path = pooled(tmp_path / "m.onnx")
    with pytest.raises(UsageError, match=words):
        convfc.convert(path, client="marabou", **options)
    assert convfc.convert(path, client="crown", form="dense", max_pool="relu").complete


def test_no_such_client(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no client is called 'crwn'; there are: crown, matmul-q"):
        convfc.convert(net(tmp_path / "m.onnx"), client="crwn")


def test_every_client_sets_something_and_says_why() -> None:
    for name, client in CLIENTS.items():
        assert name == client.name
        assert client.sets
        assert client.why
        assert client.who
    assert not Client("x", "y").sets


def test_what_may_crash_is_rehearsed_at_these_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window that is larger than its input may be, once sizes are known."""
    nodes = [
        helper.make_node("Conv", ["x", "W"], ["c"], name="conv"),
        helper.make_node("Slice", ["c", "one", "two", "two"], ["y"]),
    ]
    path = save(
        tmp_path / "m.onnx", nodes, {"x": ["N", 1, "H", 5]}, ["y"], {"W": integers([1, 1, 3, 3])}
    )
    model = onnx.load(path)
    for name, number in (("one", 1), ("two", 2)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([number]), name))
    onnx.save(model, path)
    asked: list[tuple[object, ...]] = []

    def rehearse(_: str, __: Path, *fixed: str, **___: object) -> tuple[int, str]:
        asked.append(fixed)
        return (-6, "") if fixed and json.loads(fixed[0])["x"][2] < 3 else (0, "")

    monkeypatch.setattr(rehearsal, "rehearse", rehearse)
    words = "cannot be had for x=1x1x2x5: .* does not come back .*; give other sizes"
    with pytest.raises(convfc.FileError, match=words):
        convfc.convert(path, shapes={"x": (1, 1, 2, 5)})
    assert asked == [(), ('{"x": [1, 1, 2, 5]}',)]
    assert convfc.convert(path, shapes={"x": (1, 1, 6, 5)}).complete


def test_the_list_at_the_terminal(tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    done = cli("convert", "--for", "list", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    golden("clients", done.stdout)
    document = json.loads(cli("convert", "--for", "list", "--json", cwd=tmp_path).stdout)
    assert [one["name"] for one in document["clients"]] == list(CLIENTS)
    assert document["clients"][0]["forms"] == ["keep_batch", "filters_right"]


def test_from_the_command_to_the_document(tmp_path: Path, here: Here) -> None:
    net(tmp_path / "m.onnx")
    given = ["m.onnx", "--for", "crown", "--shape", "x=2x4x11x9", "--json"]
    made = json.loads(here("convert", *given, cwd=tmp_path).stdout)
    assert (made["client"], made["shapes"]) == ("crown", {"x": [2, 4, 11, 9]})
    assert made["notes"][0].startswith("For 'crown': products of (batch, positions, K)")
    seen = documents.verification_json(convfc.verify(tmp_path / "m.onnx", samples=2))
    assert (seen["verdict"], seen["shapes"]) == ("equivalent", {"x": [2, 4, 11, 9]})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["m.onnx", "--shape", "x=1x4x0x9"], "write sizes as positive numbers"),
        (["m.onnx", "--shape", "x"], "--shape x: write it as NAME=DIMS"),
        (["m.onnx", "--shape", "x=1x4x9x9", "--shape", "x=1x4x9x8"], "x: is given twice"),
        (["m.onnx", "--for", "crown", "--for", "ezkl"], "--for crown, --for ezkl: give one"),
        (["--for", "list", "--for", "crown"], "--for list, --for crown: give one"),
        (["m.onnx", "--for", "me"], "no client is called 'me'"),
    ],
)
def test_a_command_that_cannot_be(
    tmp_path: Path, arguments: list[str], words: str, here: Here
) -> None:
    net(tmp_path / "m.onnx")
    done = here("convert", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
