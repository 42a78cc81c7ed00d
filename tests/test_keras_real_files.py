"""Kinds of Keras files that people have: each made here of one that a Keras wrote, and judged.

A file counts as read where it computes what the Keras that wrote it computed, and where what is
made of it is proved; its twin is the same file with something else in it.
"""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import convfc
from convfc import Verdict
from convfc.errors import FileError, UnsupportedModelError
from convfc.formats.keras import open_keras
from convfc.formats.keras.internals import mask_on
from convfc.formats.keras.quiet import importing, overheard
from convfc.formats.keras.upgrades.unknown import drop_from_layers
from tests.keras_edits import (
    Change,
    Config,
    edited,
    layers_of,
    members,
    relayered,
    weights_edited,
    write,
)
from tests.keras_models import FORMATS, save, stock
from tests.thinned import thinned

with importing():
    import keras
    from keras import layers

OLD = Path(__file__).with_name("data") / "old_keras.zip"


def old(name: str, folder: Path) -> Path:
    """A file that an old Keras wrote, with what it computed beside it."""
    with zipfile.ZipFile(OLD) as archive:
        for member in (name, f"{Path(name).stem}.npz"):
            archive.extract(member, folder)
    return folder / name


def error(path: Path, outputs: Path) -> float:
    """How far a file is from what its Keras computed, as a part of the largest number."""
    model, arrays = open_keras(path), np.load(outputs)
    feed = {port.name: arrays[f"i{place}"] for place, port in enumerate(model.inputs)}
    found = [y - arrays[f"o{place}"] for place, y in enumerate(model.run(feed).values())]
    largest = max(float(np.abs(arrays[f"o{place}"]).max()) for place in range(len(found)))
    return max(float(np.abs(y).max()) for y in found) / largest


def proved(path: Path, folder: Path) -> bool:
    """Whether what is made of a file is called equivalent."""
    out = folder / f"out{path.suffix}"
    convfc.convert(path, out, force=True)
    return convfc.verify(path, out, samples=2).verdict is Verdict.EQUIVALENT


def as_on_windows(file: h5py.File) -> None:
    """`tf.io.gfile.join(inner_path, child)` there: saving_lib.py of Keras 2.12 to 2.15."""
    paths: list[str] = []
    file.visit(paths.append)
    for path in sorted(p for p in paths if p.endswith("/vars")):
        layer, _, _ = path.rpartition("/")
        if "/" in layer:
            file.move(path, f"{layer.replace('/', chr(92))}/vars")
    for name in [name for name in file if "\\" not in name and "vars" not in file[name]]:
        del file[name]


@pytest.mark.parametrize("name", thinned(["mobile_2.13.1.keras", "nested_2.13.1.keras"]))
def test_a_file_written_on_windows(tmp_path: Path, name: str) -> None:
    original = old(name, tmp_path)
    path = weights_edited(original, tmp_path / "windows.keras", as_on_windows)
    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as weights:
        assert "_layer_checkpoint_dependencies\\conv2d" in h5py.File(weights)
    assert error(path, original.with_suffix(".npz")) < 1e-6
    assert any("where Windows does" in note for note in open_keras(path).notes)
    assert proved(path, tmp_path)


def test_its_layers_are_told_apart(tmp_path: Path) -> None:
    first, second = (f"_layer_checkpoint_dependencies\\conv2d_transpose{x}" for x in ("", "_2"))

    def exchange(file: h5py.File) -> None:
        for source, target in ((first, "x"), (second, first), ("x", second)):
            file.move(source, target)

    def lose(file: h5py.File) -> None:
        del file[second]

    original = old("transposed_2.13.1.keras", tmp_path)
    path = weights_edited(original, tmp_path / "windows.keras", as_on_windows)
    assert error(path, original.with_suffix(".npz")) < 1e-6
    for number, change in enumerate((exchange, lose)):
        with pytest.raises(UnsupportedModelError, match="cannot load it"):
            open_keras(weights_edited(path, tmp_path / f"{number}.keras", change))


def test_paths_that_are_there_twice_are_damage(tmp_path: Path) -> None:
    def clash(file: h5py.File) -> None:
        file["_layer_checkpoint_dependencies\\conv2d\\vars"] = np.zeros(1)

    path = weights_edited(old("mobile_2.13.1.keras", tmp_path), tmp_path / "twice.keras", clash)
    with pytest.raises(FileError, match="get a fresh copy"):
        open_keras(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_configuration_that_an_editor_of_windows_saved(tmp_path: Path, encoding: str) -> None:
    """Keras reads it, as Python's json does."""
    original = old("mobile_2.13.1.keras", tmp_path)
    content = members(original)
    lines = content["config.json"].decode().replace(", ", ",\r\n")
    path = write(tmp_path / "edited.keras", {**content, "config.json": lines.encode(encoding)})
    assert error(path, original.with_suffix(".npz")) < 1e-6


def net(folder: Path, suffix: str, *stack: Any) -> Path:
    """A model of today's Keras, compiled, with what it computes in an `.npz` beside it."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((6, 5, 2)), *(stack or STACK())])
    model.compile("adam", "mse", metrics=["mae"])
    images = np.random.default_rng(1).normal(size=(4, 6, 5, 2)).astype(np.float32)
    path = save(model, folder / f"net{suffix}")
    np.savez(path.with_suffix(".npz"), i0=images, o0=np.asarray(model(images)))
    return path


def STACK() -> list[Any]:  # noqa: N802 - a constant of layers that can be used once
    return [layers.Conv2D(3, 2, name="conv"), layers.Flatten(), layers.Dense(2, name="dense")]


def configured(path: Path, change: Callable[[Config], None]) -> Path:
    """A copy with another configuration, its training setup under "compile_config" too."""
    target = path.with_name(f"other{path.suffix}")
    if path.suffix == ".keras":
        return edited(path, change).rename(target)
    target.write_bytes(path.read_bytes())
    with h5py.File(target, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["compile_config"] = json.loads(file.attrs["training_config"])
        change(config)
        file.attrs["training_config"] = json.dumps(config.pop("compile_config"))
        file.attrs["model_config"] = json.dumps(config)
    return target


OWN = {"module": None, "class_name": "TSG", "config": {"l": 0.1}, "registered_name": "my>TSG"}
"""Somebody's own class, as Keras 2.13 and later write it; earlier ones wrote just two of these."""
FUNCTION = {"module": "builtins", "class_name": "function", "config": "tsg"}


@pytest.mark.parametrize("suffix", thinned(FORMATS))
def test_what_only_training_needs_is_left_out(tmp_path: Path, suffix: str) -> None:
    original = net(tmp_path, suffix)
    given = {
        "kernel_initializer": OWN,
        "bias_initializer": FUNCTION,
        "kernel_regularizer": "TSG",
        "activity_regularizer": FUNCTION,
        "kernel_constraint": {"class_name": "TSG", "config": {}},
        "bias_regularizer": {"class_name": "L2", "config": {"l2": 0.5}},
    }
    path = configured(original, lambda config: layers_of(config)["conv"]["config"].update(given))
    assert error(path, original.with_suffix(".npz")) < 1e-6
    (note,) = [note for note in open_keras(path).notes if "does not know" in note]
    assert "initializer 'TSG' of 'conv'" in note
    assert note.endswith("and 2 more.")
    assert proved(path, tmp_path)
    converted = stock(tmp_path / f"out{suffix}")
    assert converted.compiled
    (kept,) = [x.bias_regularizer for x in converted.layers[0].layers if x.weights]
    assert kept.l2 == 0.5


def test_nothing_that_keras_knows_is_left_out() -> None:
    kinds = {
        "initializer": (keras.initializers, "he_normal"),
        "regularizer": (keras.regularizers, "l1_l2"),
        "constraint": (keras.constraints, "max_norm"),
    }
    for kind, (home, short) in kinds.items():
        names = [name for name, value in vars(home).items() if isinstance(value, type)]
        assert len(names) > 4
        for name in (*names, short):
            given: Any = {"name": "a", f"kernel_{kind}": {"class_name": name, "config": {}}}
            given[f"bias_{kind}"] = name
            before = copy.deepcopy(given)
            assert drop_from_layers({"class_name": "Conv2D", "config": given}) == []
            assert given == before


def test_what_is_called_an_initializer_is_not_made(tmp_path: Path) -> None:
    """A model in its place would take 4 TB, before anybody has looked at the sizes of layers."""
    dense = {"class_name": "Dense", "config": {"units": 10**6}}
    begin = {"class_name": "InputLayer", "config": {"batch_shape": [None, 10**6]}}
    huge = {"class_name": "Sequential", "config": {"name": "s", "layers": [begin, dense]}}
    seed = {"class_name": "GlorotUniform", "config": {"seed": huge}}

    def change(given: Any) -> Callable[[Config], None]:
        return lambda config: layers_of(config)["conv"]["config"].update(kernel_initializer=given)

    original = net(tmp_path, ".h5")
    notes = open_keras(configured(original, change(huge))).notes
    assert any("initializer 'Sequential'" in note for note in notes)
    with pytest.raises((FileError, UnsupportedModelError)):
        open_keras(configured(original, change(seed)))


@pytest.mark.parametrize("suffix", thinned(FORMATS))
@pytest.mark.parametrize("where", ["activation", "layer", "number"])
def test_what_the_function_depends_on_stays_refused(
    tmp_path: Path, suffix: str, where: str
) -> None:
    """An activation that is a layer may have no weights in the file, and begin as is written."""
    original = net(tmp_path, suffix)

    def change(config: Config) -> None:
        conv = layers_of(config)["conv"]
        if where == "activation":
            conv["config"]["activation"] = {
                "module": "keras.layers",
                "class_name": "PReLU",
                "config": {"alpha_initializer": OWN},
                "registered_name": None,
            }
        elif where == "layer":
            conv.update(class_name="Fancy", module=None, registered_name="my>Fancy")
            conv["config"]["kernel_regularizer"] = OWN
        else:
            conv["config"]["kernel_regularizer"] = 5

    with pytest.raises(UnsupportedModelError):
        open_keras(configured(original, change))


@pytest.mark.parametrize("suffix", thinned(FORMATS))
def test_metrics_of_their_own_are_left_out(tmp_path: Path, suffix: str) -> None:
    original = net(tmp_path, suffix)

    def change(config: Config) -> None:
        config["compile_config"]["metrics"] = ["mae", FUNCTION, OWN, "accuracy"]

    path = configured(original, change)
    (note,) = [note for note in open_keras(path).notes if "does not know" in note]
    assert "metric 'tsg', metric 'TSG'." in note
    assert proved(path, tmp_path)
    assert stock(tmp_path / f"out{suffix}").compiled


@pytest.mark.parametrize("suffix", thinned(FORMATS))
@pytest.mark.parametrize("key", ["loss", "optimizer", "learning_rate"])
def test_without_its_loss_or_optimizer_it_is_not_compiled(
    tmp_path: Path, suffix: str, key: str
) -> None:
    original = net(tmp_path, suffix)

    def change(config: Config) -> None:
        setup = config["compile_config"]
        name = "optimizer_config" if suffix == ".h5" else "optimizer"
        if key == "loss":
            setup["loss"] = "TSG" if suffix == ".h5" else OWN
        elif key == "optimizer":
            setup[name] = OWN
        else:
            setup[name]["config"]["learning_rate"] = OWN

    path = configured(original, change)
    assert error(path, original.with_suffix(".npz")) < 1e-6
    (note,) = [note for note in open_keras(path).notes if "training setup" in note]
    assert "does not know 'TSG'" in note


@pytest.mark.parametrize(
    "name", thinned(["masked_2.4.0.h5", "masked_2.15.0.h5", "masked_2.15.0.keras"])
)
def test_a_mask_that_is_said_or_left_to_keras(tmp_path: Path, name: str) -> None:
    """What Keras 2 wrote says no mask; Keras 3 says one, unless a call says whether it trains."""
    assert proved(old(name, tmp_path), tmp_path)


def masked(folder: Path, *, state: bool = False) -> Path:
    """A recurrent layer that is given a mask, with another at hand, beside a convolution."""
    keras.utils.clear_session()  # the names of what makes a mask are not to depend on other tests
    with overheard():  # a convolution ends a mask
        steps = keras.Input((6, 2), name="steps")
        x = layers.Masking(name="masking")(steps)
        other = layers.Masking(1.0, name="other")(steps)
        start = layers.Dense(3)(layers.Flatten()(steps)) if state else None
        own = layers.SimpleRNN(3, name="own")(x, **({"initial_state": start} if state else {}))
        if state:
            own = layers.SimpleRNN(3, name="stated")(x, initial_state=start, mask=mask_on(x))
        ends = [own, layers.SimpleRNN(2, name="second")(other), layers.Conv1D(3, 2)(x)]
    return save(keras.Model(steps, ends), folder / "masked.keras")


def given(name: str, **kwargs: Any) -> Change:
    """What a call is given beside the first tensor; a mask by the name of whose it is."""

    def change(found: dict[str, Config]) -> None:
        call = found[name]["inbound_nodes"][0]
        said = {**call["kwargs"], **kwargs}
        said.pop("mask", None)
        if "mask" in kwargs:
            said["mask"] = found[kwargs["mask"]]["inbound_nodes"][0]["kwargs"]["mask"]
        call["kwargs"] = said

    return change


def test_another_mask_is_another(tmp_path: Path) -> None:
    path, out = masked(tmp_path), tmp_path / "masked_fc.keras"
    convfc.convert(path, out)
    silent = given("own", training=False)
    for change, verdict in (
        (silent, Verdict.EQUIVALENT),
        (given("own", mask="second"), Verdict.NOT_EQUIVALENT),
        (given("second", mask="own", training=False), Verdict.NOT_EQUIVALENT),
    ):
        assert convfc.verify(path, relayered(out, change), samples=2).verdict is verdict
    assert convfc.verify(relayered(path, silent), out, samples=2).verdict is Verdict.EQUIVALENT


def test_beside_another_tensor_no_mask_means_none(tmp_path: Path) -> None:
    """Keras hands on the mask of the input where that is the only tensor that is given."""
    path = masked(tmp_path, state=True)
    out = tmp_path / "masked_fc.keras"
    convfc.convert(path, out)
    assert convfc.verify(path, out, samples=2).verdict is Verdict.EQUIVALENT
    made = relayered(out, given("stated"))
    assert convfc.verify(path, made, samples=2).verdict is Verdict.NOT_EQUIVALENT


def test_in_a_nested_model_a_mask_may_come_from_outside(tmp_path: Path) -> None:
    inside = keras.Input((6, 2))
    inner = keras.Model(
        inside, layers.SimpleRNN(3, name="own")(layers.Masking()(inside)), name="inner"
    )
    steps = keras.Input((6, 2))
    model = keras.Model(steps, [inner(steps), layers.Conv1D(3, 2)(steps)])
    path, out = save(model, tmp_path / "nested.keras"), tmp_path / "nested_fc.keras"
    convfc.convert(path, out)
    assert convfc.verify(path, out, samples=2).verdict is Verdict.EQUIVALENT
    made = relayered(out, given("own", training=False))
    assert convfc.verify(path, made, samples=2).verdict is Verdict.COULD_NOT_CHECK


def without_input(path: Path) -> Path:
    """As `Sequential.get_config` of Keras 2.2 writes one that was given an InputLayer: without it.

    Its `layers` leave out the input, and no other layer says a shape.
    """
    target = path.with_name("keras2.h5")
    target.write_bytes(path.read_bytes())
    with h5py.File(target, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        _, *rest = config["config"]["layers"]
        stack = [{key: layer[key] for key in ("class_name", "config")} for layer in rest]
        config = {"class_name": "Sequential", "config": {"name": "net", "layers": stack}}
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.2.4"
    return target


@pytest.mark.parametrize(
    ("shape", "stack"),
    thinned(
        pytest.param(*given)
        for given in [
            (
                (6, 5, 2),
                lambda: [layers.Conv2D(3, 2), layers.GlobalMaxPooling2D(), layers.Flatten()],
            ),
            ((6, 4), lambda: [layers.ZeroPadding1D(1), layers.Conv1D(2, 3, groups=2)]),
            ((6, 5, 2), lambda: [layers.ReLU(), layers.Conv2DTranspose(3, 2, strides=2)]),
            ((6, 5, 3), lambda: [layers.DepthwiseConv2D(2), layers.Conv2D(2, 1)]),
            ((6, 5, 3), lambda: [layers.SeparableConv2D(4, 2, depth_multiplier=2)]),
        ]
    ),
)
def test_a_sequential_without_an_input(tmp_path: Path, shape: Any, stack: Any) -> None:
    model = keras.Sequential([keras.Input(shape), *stack()])
    images = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
    np.savez(tmp_path / "net.npz", i0=images, o0=np.asarray(model(images)))
    path = without_input(save(model, tmp_path / "net.h5"))
    (port,) = open_keras(path).inputs
    assert port.shape == (None, *[None] * (len(shape) - 1), shape[-1])
    assert error(path, tmp_path / "net.npz") < 1e-6
    assert proved(path, tmp_path)


@pytest.mark.parametrize(
    "stack",
    [
        lambda: [layers.Conv2D(3, 2), layers.Flatten(), layers.Dense(2)],
        lambda: [layers.Dense(3), layers.Conv2D(3, 2)],
        lambda: [layers.Reshape((5, 6, 2)), layers.Conv2D(3, 2)],
    ],
)
def test_a_sequential_that_needs_sizes_which_it_does_not_say(tmp_path: Path, stack: Any) -> None:
    """Two models with other sizes would be the same file."""
    path = save(keras.Sequential([keras.Input((6, 5, 2)), *stack()]), tmp_path / "net.h5")
    with pytest.raises(UnsupportedModelError, match="does not say what its input looks like"):
        open_keras(without_input(path))


@pytest.mark.parametrize("suffix", thinned(FORMATS))
@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda x: keras.ops.normalize(x), "'normalize': put the layer UnitNormalization"),
        (lambda x: keras.ops.square(x), "'square': call keras.ops.square"),
        (lambda x: x * 2.0, "replace it by a stock layer"),
    ],
)
def test_a_lambda_says_what_may_stand_for_it(
    tmp_path: Path, suffix: str, function: Any, text: str
) -> None:
    own = layers.Lambda(function, output_shape=(6, 5, 2), name="own")
    path = save(keras.Sequential([keras.Input((6, 5, 2)), own]), tmp_path / f"code{suffix}")
    with pytest.raises(UnsupportedModelError, match="Lambda layer 'own' holds") as caught:
        open_keras(path)
    assert text in str(caught.value)


@pytest.mark.parametrize("code", ["=", "!", 5, [], [None], {"config": {}}])
def test_a_lambda_with_no_code_is_refused_all_the_same(tmp_path: Path, code: Any) -> None:
    original = net(tmp_path, ".h5")

    def change(config: Config) -> None:
        layers_of(config)["conv"].update(class_name="Lambda", config={"function": [code]})

    with pytest.raises(UnsupportedModelError, match=r"Lambda layer 'lambda'.*; replace it"):
        open_keras(configured(original, change))


@pytest.mark.parametrize("name", thinned(["normed_2.21.0.h5", "normed_2.21.0.keras"]))
def test_a_convolution_in_a_wrapper_for_training(tmp_path: Path, name: str) -> None:
    """A SpectralNormalization divides the kernel while it trains; the file has the quotient."""
    path, out = old(name, tmp_path), tmp_path / f"out{Path(name).suffix}"
    made = convfc.convert(path, out)
    assert [layer.site.name.partition("/")[0] for layer in made.layers] == [
        "spectral_normalization",
        "spectral_normalization_1",
    ]
    assert all(layer.lowering is not None for layer in made.layers)
    assert "spectral_normalization: it trains on without the norm of its kernel." in made.notes
    assert error(out, path.with_suffix(".npz")) < 1e-6
    result = convfc.verify(path, out, samples=2)
    assert result.verdict is Verdict.EQUIVALENT
    assert any("is without its norm" in note for note in result.notes)
    assert stock(out).get_layer("spectral_normalization_1") is not None

    model = stock(out)
    kernel = next(w for w in model.get_layer("spectral_normalization").weights if w.shape[-1] == 4)
    kernel.assign(kernel + 1)
    assert not convfc.verify(path, save(model, tmp_path / f"other{out.suffix}")).equivalent


def test_one_that_is_called_as_in_training_is_another_function(tmp_path: Path) -> None:
    image = keras.Input((6, 5, 2))
    conv = layers.Conv2D(3, 2, name="conv")
    y = layers.SpectralNormalization(conv, name="normed")(image, training=True)
    path, out = save(keras.Model(image, y), tmp_path / "always.keras"), tmp_path / "out.keras"
    (layer,) = open_keras(path).sites
    assert layer.reason is not None
    assert "called as in training" in layer.reason
    assert not convfc.convert(path, out).written


@pytest.mark.parametrize(
    "layer", thinned(["tf.concat", "tf.stack", "tf.where_1", "tf.math.minimum"], 4)
)
def test_constants_in_lists_are_compared(tmp_path: Path, layer: str) -> None:
    """Keras 2 wrote a constant where a layer's output stands; with another it is another model."""
    path, out = old("constants_2.21.0.keras", tmp_path), tmp_path / "out.keras"
    convfc.convert(path, out)
    assert convfc.verify(path, out, samples=2).verdict is Verdict.EQUIVALENT

    def change(layers: dict[str, Config]) -> None:
        text = json.dumps(layers[layer]["inbound_nodes"])
        start = text.index('"value": ') + len('"value": ')
        place = start + len(text[start:]) - len(text[start:].lstrip("["))
        end = text.index(",", place)
        layers[layer]["inbound_nodes"] = json.loads(f"{text[:place]}9.5{text[end:]}")

    found = convfc.verify(path, relayered(out, change), samples=2)
    assert found.verdict is Verdict.NOT_EQUIVALENT
    assert layer in str(found.reason)
