"""A program that calls convfc is as it was afterwards, and its other threads notice nothing."""

from __future__ import annotations

import gc
import locale
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import matplotlib as mpl
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper
from PIL import Image

import convfc
from convfc.explanation.drawing import draw
from convfc.formats.keras import import_keras
from convfc.formats.keras.quiet import overheard as keras_overheard
from convfc.formats.keras.quiet import own_state
from convfc.formats.onnx.reader import read
from convfc.system import process, rehearsal
from convfc.system.surroundings import Library, Shared, undisturbed, until_the_end
from tests.onnx_models import CONV, conv_file
from tests.thinned import thinned

import_keras()
import keras  # noqa: E402 - as convfc imports it
import tensorflow as tf  # noqa: E402
from keras.src.backend.common import global_state  # noqa: E402
from tensorflow.python.framework import config as tf_config  # noqa: E402

SAMPLES = Path(__file__).parents[1] / "sample_models"
SUFFIXES = (".onnx", ".h5", ".keras")


def facts() -> dict[str, Any]:
    """What the threads of a process share, and what convfc's own thread has of it."""
    loggers = {"": logging.root} | {
        name: logger
        for name, logger in logging.root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger)
    }
    names = vars(global_state.GLOBAL_STATE_TRACKER).get("object_name_uids", {})
    return {
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "path": (*sys.path, *map(id, sys.meta_path), *map(id, sys.path_hooks)),
        "streams": (sys.stdin, sys.stdout, sys.stderr, sys.excepthook, os.fstat(2)[:3]),
        "warnings": (list(warnings.filters), warnings.showwarning, warnings.warn),
        "logging": (
            logging.root.manager.disable,
            {
                name: (x.level, x.propagate, x.disabled, [*x.handlers], [*x.filters])
                for name, x in loggers.items()
            },
        ),
        "random": (random.getstate(), str(np.random.get_state())),  # noqa: NPY002 - the global one
        "numpy": (np.geterr(), np.get_printoptions()),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "interpreter": (sys.getrecursionlimit(), gc.isenabled(), gc.get_threshold()),
        "locale": locale.setlocale(locale.LC_ALL),
        "umask": re.findall("Umask.*", Path("/proc/self/status").read_text())
        if Path("/proc/self/status").exists()
        else None,
        "keras": (
            keras.config.floatx(),
            keras.config.epsilon(),
            keras.config.image_data_format(),
            keras.config.dtype_policy().name,
            dict(names),
            dict(keras.saving.get_custom_objects()),
        ),
        "tensorflow": (
            tf_config.is_op_determinism_enabled(),
            tf.config.functions_run_eagerly(),
            tf.config.threading.get_intra_op_parallelism_threads(),
        ),
        "matplotlib": dict(mpl.rcParams),
        "pillow": Image.MAX_IMAGE_PIXELS,
    }


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [name for name in before if before[name] != after[name]]


def one_convolution(path: Path) -> Path:
    return conv_file(path, convfc.convolution([3, 3], channels=2, filters=3), (6, 6))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small network in each format; Keras makes up names and seeds for it."""
    folder = tmp_path_factory.mktemp("models")
    layers = keras.layers
    net = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(3, 3, activation="relu"),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    net.compile("adam", "mse")
    with keras_overheard():
        for suffix in (".keras", ".h5"):  # after HDF5, Keras has forgotten the optimizer
            net.save(folder / f"net{suffix}")
    one_convolution(folder / "net.onnx")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setattr(rehearsal, "rehearse", lambda *_, **__: (0, ""))
        for suffix in SUFFIXES:  # a first time, which imports all that there is to import
            use(folder / f"net{suffix}", folder)
    return folder


def use(model: Path, folder: Path) -> list[object]:
    """Every public function that opens a file or draws; what it says."""
    out = folder / f"made{model.suffix}"
    done = convfc.convert(model, out, force=True)
    found = convfc.verify(model, out, samples=2)
    layers = convfc.shapes(model)
    explained = convfc.explain_model(model, layers[0].site.name)
    draw(explained, folder / f"drawn-{threading.get_ident()}.png")
    return [done.complete, found.equivalent, [layer.site.name for layer in layers]]


@pytest.mark.parametrize("suffix", thinned(SUFFIXES))
def test_all_is_as_it_was_after_every_call(models: Path, tmp_path: Path, suffix: str) -> None:
    model = models / f"net{suffix}"
    before = facts()
    assert use(model, tmp_path)[:2] == [True, True]
    assert changed(before, facts()) == []
    with pytest.raises(convfc.ConvfcError):
        convfc.convert(model, tmp_path / "nowhere" / "x.onnx")
    assert changed(before, facts()) == []


CULPRITS: Mapping[str, Callable[[], object]] = {
    "environment": lambda: os.environ.update(CONVFC_TEST="1"),
    "path": lambda: sys.path.insert(0, "nowhere"),
    "warnings": lambda: warnings.simplefilter("ignore"),
    "logging": lambda: logging.getLogger("absl").addFilter(lambda _: True),
    "random": random.random,
    "numpy": lambda: np.seterr(all="ignore"),
    "keras": keras.layers.Flatten,  # which gets a name
    "matplotlib": lambda: mpl.rcParams.update({"font.size": 3}),
}


@pytest.mark.parametrize("what", CULPRITS)
def test_what_a_call_leaves_behind_would_be_seen(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVFC_TEST", "0")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(logging.getLogger("absl"), "filters", [])
    with warnings.catch_warnings(), np.errstate(), mpl.rc_context():
        before = facts()
        CULPRITS[what]()
        assert changed(before, facts()) == [what]


@pytest.mark.parametrize("suffix", thinned([".h5", ".keras"]))
def test_settings_of_the_program_do_not_alter_what_is_made(
    models: Path, tmp_path: Path, suffix: str
) -> None:
    """Among them filters that make errors of warnings: numpy warns of Keras from within C."""

    path = tmp_path / f"made{suffix}"

    def made() -> str:
        if suffix == ".h5":
            with h5py.File(path) as file:
                return str(file.attrs["model_config"])
        config = zipfile.ZipFile(path).read("config.json").decode()
        # Keras identifies objects by where they are in memory, and an optimizer computes in floatx.
        return re.sub('"shared_object_id": [0-9]+|"learning_rate": [^,]*', "", config)

    convfc.convert(models / f"net{suffix}", path)
    plain = made()
    policy, errors = keras.config.dtype_policy(), np.seterr(all="raise")
    try:
        keras.config.set_dtype_policy("mixed_float16")
        keras.config.set_floatx("float64")
        keras.config.set_image_data_format("channels_first")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            use(models / f"net{suffix}", tmp_path)
        assert made() == plain
        assert keras.config.dtype_policy().name == "mixed_float16"
    finally:
        keras.config.set_image_data_format("channels_last")
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy(policy)
        np.seterr(**errors)


class Host:
    """Another thread of the program: it logs and warns all the time, and counts what arrives."""

    NAMES = ("host", "absl", "tensorflow", "onnx_ir", "onnx_ir.serde")

    def __init__(self) -> None:
        self.said: list[str] = []
        self.heard: list[str] = []
        self._ended = threading.Event()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        handler = logging.Handler()
        handler.emit = lambda record: self._hear(record.getMessage())  # type: ignore[method-assign]
        loggers = [logging.getLogger(name) for name in self.NAMES if "." not in name]
        kept = [(logger.level, logger.propagate) for logger in loggers]
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, *_: self._hear(str(message))
            for logger in loggers:
                logger.addHandler(handler)
                logger.setLevel(logging.INFO)
                logger.propagate = False
            thread = threading.Thread(target=self._talk)
            thread.start()
            try:
                yield
            finally:
                self._ended.set()
                thread.join()
                for logger, (level, propagate) in zip(loggers, kept, strict=True):
                    logger.removeHandler(handler)
                    logger.level, logger.propagate = level, propagate
                    logger.manager._clear_cache()  # type: ignore[attr-defined] # as setLevel does

    def _hear(self, message: str) -> None:
        if message.startswith("host's own"):
            self.heard.append(message)

    def _talk(self) -> None:
        while not self._ended.is_set():
            message = f"host's own {len(self.said)}"
            way = len(self.said) % (len(self.NAMES) + 1)
            self.said.append(message)
            if way < len(self.NAMES):
                logging.getLogger(self.NAMES[way]).warning(message)
            else:
                warnings.warn(message, stacklevel=1)
            time.sleep(0.0005)


@pytest.mark.parametrize("suffix", thinned([".onnx", ".keras", ".h5"]))
def test_no_line_of_another_thread_is_lost(models: Path, tmp_path: Path, suffix: str) -> None:
    host = Host()
    with host.at_work():
        use(models / f"net{suffix}", tmp_path)
    assert len(host.said) > 20
    assert host.heard == host.said


def test_what_onnx_ir_says_of_a_file_stays_off_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever call reads it: here is an attribute that is no text."""
    source = conv_file(tmp_path / "m.onnx", CONV, (5, 6))
    model = onnx.load(source)
    (output,) = model.graph.output
    bytes_of = helper.make_node("Own", [output.name], ["own"], domain="own", bytes=b"\xff")
    model.graph.node.append(bytes_of)
    model.opset_import.append(helper.make_opsetid("own", 1))
    onnx.save(model, source)
    read(source)
    assert "invalid UTF-8" in caplog.text  # without a call around it, it would be seen
    caplog.clear()
    out = convfc.convert(source, check=False).out
    numbers = {name: (one.F, one.b) for name, one in convfc.matrices(source).items()}
    convfc.with_matrices(out, numbers, out=tmp_path / "other.onnx")
    convfc.revert(out)
    assert not caplog.records


def test_a_library_that_hushes_all_threads_would_be_noticed() -> None:
    host = Host()
    with host.at_work():
        for _ in range(20):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                time.sleep(0.01)
    assert host.heard != host.said


@pytest.mark.slow
def test_several_threads_at_once_get_what_one_gets(models: Path, tmp_path: Path) -> None:
    paths = [models / f"net{suffix}" for suffix in (".h5", ".onnx", ".keras", ".onnx")]
    folders = [tmp_path / str(number) for number in range(len(paths))]
    for folder in folders:
        folder.mkdir()
    alone = [use(path, tmp_path) for path in paths]
    before = facts()
    with ThreadPoolExecutor(len(paths)) as pool:
        assert list(pool.map(use, paths, folders)) == alone
    assert changed(before, facts()) == []


LIBRARY = Library("absl", warns=True)


def test_a_thread_hears_itself_only_and_the_inner_block_first() -> None:
    def speak(name: str) -> list[str]:
        with LIBRARY.overheard() as said:
            barrier.wait()
            logging.getLogger("absl").warning(name)
            with LIBRARY.overheard() as inner:
                warnings.warn(f"{name} within", stacklevel=1)
            assert inner == [f"{name} within"]
            np.array(Uncopied())  # warns from within C
            barrier.wait()
        return said

    class Uncopied:
        def __array__(self, dtype: object = None) -> np.ndarray[Any, Any]:
            return np.zeros(1)

    barrier = threading.Barrier(2)
    before = facts()
    with ThreadPoolExecutor(2) as pool:
        for name, said in zip("ab", pool.map(speak, "ab"), strict=True):
            assert said[0] == name
            assert all("__array__" in words for words in said[1:])
    assert changed(before, facts()) == []


def test_a_warning_of_another_thread_names_its_own_line() -> None:
    with warnings.catch_warnings(record=True) as caught, ThreadPoolExecutor(1) as pool:
        warnings.simplefilter("always")
        with LIBRARY.overheard():
            pool.submit(lambda: warnings.warn("here", stacklevel=1)).result()
    assert [Path(warning.filename) for warning in caught] == [Path(__file__)]


@contextmanager
def noted(log: list[str]) -> Iterator[None]:
    log.append("in")
    yield
    log.append("out")


def test_what_threads_share_is_put_back_by_the_last() -> None:
    log: list[str] = []
    shared = Shared(partial(noted, log))
    with shared.entered():
        with ThreadPoolExecutor(1) as pool, shared.entered():
            pool.submit(lambda: shared.entered().__enter__()).result()
        assert log == ["in"]


def test_a_public_function_begins_things_once_and_ends_them() -> None:
    log: list[str] = []
    enter = partial(noted, log)

    @undisturbed()
    def inner() -> None:
        until_the_end(enter)

    @undisturbed()
    def outer() -> None:
        inner()
        inner()
        assert log == ["in"]

    outer()
    assert log == ["in", "out"]
    until_the_end(enter)  # no function is there to end it
    assert log == ["in", "out"]


def test_seeds_of_keras_are_not_drawn_from_pythons_generator() -> None:
    """Its twin is in it."""
    state = random.getstate()
    with own_state():
        keras.initializers.HeUniform()
        assert keras.layers.Dense(1).name == "dense"
    assert random.getstate() == state
    keras.initializers.HeUniform()
    assert random.getstate() != state


def test_modules_are_found_in_the_current_folder_for_this_thread_only(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "convfc_of_mine.py").write_text("import convfc_beside\n")
    (tmp_path / "convfc_beside.py").write_text("")
    monkeypatch.chdir(tmp_path)
    before = facts()
    convfc.shapes(models / "net.h5", imports=["convfc_of_mine"])
    assert changed(before, facts()) == []
    with pytest.raises(convfc.UsageError, match="convfc_nothing"):
        convfc.shapes(models / "net.h5", imports=["convfc_nothing"])
    assert changed(before, facts()) == []


def test_a_variable_is_there_for_a_moment_and_what_was_set_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CONVFC_TEST", raising=False)
    with process.variable("CONVFC_TEST", "1"):
        assert os.environ["CONVFC_TEST"] == "1"
    assert "CONVFC_TEST" not in os.environ
    monkeypatch.setenv("CONVFC_TEST", "0")
    with process.variable("CONVFC_TEST", "1"):
        assert os.environ["CONVFC_TEST"] == "0"
    assert os.environ["CONVFC_TEST"] == "0"


def run(
    *command: str, folder: Path, before: tuple[str, ...] = (), more: Mapping[str, str | None] = {}
) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, with a home of its own that is empty."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    hidden = ("ORT_DISABLE_TELEMETRY", "TF_", "KERAS_", "XDG_", "MPL", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    wanted = {
        **kept,
        "HOME": str(home),
        "PYTHONPATH": str(Path(convfc.__file__).parents[1]),
        **more,
    }
    environment = {name: value for name, value in wanted.items() if value is not None}
    return subprocess.run(
        [*before, sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def written(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in (folder / "home").rglob("*"))


def test_nothing_is_written_into_the_home_folder_for_an_onnx_file(tmp_path: Path) -> None:
    one_convolution(tmp_path / "m.onnx")
    done = run("-m", "convfc", "convert", "m.onnx", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert written(tmp_path) == []
    script = "import convfc, os; was = dict(os.environ)\nconvfc.convert('m.onnx', 'n.onnx')\n"
    done = run("-c", f"{script}assert os.environ == was", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert written(tmp_path) == []


def test_an_onnxruntime_with_telemetry_would_be_noticed(tmp_path: Path) -> None:
    run("-c", "import onnxruntime", folder=tmp_path)
    if not written(tmp_path):
        pytest.skip("this onnxruntime has none")
    assert "onnxruntime" in " ".join(written(tmp_path))


WRITES = re.compile(r"O_CREAT|O_WRONLY|O_RDWR|(mkdir|rename|unlink|link|creat)\w*\(")
TALKS = re.compile(r"connect\(|sendto\(|sendmsg\(|sendmmsg\(")


def traced(folder: Path, *command: str) -> list[str]:
    """Calls that write outside of a folder, or to anybody, in a network where nobody is."""
    for tool in (["unshare", "-n", "true"], ["strace", "-V"]):
        if shutil.which(tool[0]) is None or subprocess.run(tool, capture_output=True).returncode:
            pytest.skip(f"{tool[0]} is not here or may not be used")
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    trace = folder / "trace"
    calls = "trace=connect,sendto,sendmsg,sendmmsg,open,openat,creat,mkdir,mkdirat,rename,renameat"
    before = ("unshare", "-n", "strace", "-f", "-y", "-o", str(trace), "-e", calls)
    done = run(*command, folder=folder, before=before, more={"TMPDIR": str(temporary)})
    assert done.returncode == 0, done.stderr
    home = str(folder / "home")
    own = (f"{folder}/", "/dev/", "/proc/self/")
    found = []
    for line in trace.read_text().splitlines():
        places = re.findall(r'"(/[^"]*)"', line)
        outside = [place for place in places if not place.startswith(own) or home in place]
        if TALKS.search(line) or (WRITES.search(line) and outside and "ENOENT" not in line):
            found.append(line)
    return found


def test_no_name_is_looked_up_and_nothing_written_elsewhere_for_an_onnx_file(
    tmp_path: Path,
) -> None:
    one_convolution(tmp_path / "m.onnx")
    assert traced(tmp_path, "-B", "-m", "convfc", "convert", "m.onnx", "--verify") == []


def test_a_program_that_talks_or_writes_at_home_would_be_noticed(tmp_path: Path) -> None:
    talk = "import socket; socket.socket(2, 2).connect(('127.0.0.1', 9))"
    assert traced(tmp_path, "-c", f"import contextlib\nwith contextlib.suppress(OSError): {talk}")
    write = "import os, pathlib; pathlib.Path(os.environ['HOME'], 'x').write_text('')"
    assert traced(tmp_path, "-c", write)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_the_same_for_a_keras_file(tmp_path: Path, suffix: str) -> None:
    shutil.copy(SAMPLES / f"mnist_cnn{suffix}", tmp_path / f"m{suffix}")
    command = ("-B", "-m", "convfc", "convert", f"m{suffix}", "--verify")
    assert run(*command, folder=tmp_path).returncode == 0
    assert written(tmp_path) == []
    assert traced(tmp_path, *command, "--force") == []


@pytest.mark.slow
def test_the_first_call_leaves_what_the_import_of_keras_leaves(tmp_path: Path) -> None:
    """The environment, and where Keras keeps its downloads; descriptor 2 was never another."""
    shutil.copy(SAMPLES / "mnist_cnn.h5", tmp_path / "m.h5")
    seen = (
        "import keras, os, sys, warnings\n"
        "from keras.src.backend import config\n"
        "print(sorted(os.environ.items()), config.keras_home(), [f[:3] for f in warnings.filters],"
        " os.fstat(2)[:2] == os.fstat(sys.stderr.fileno())[:2])\n"
    )
    plain = run("-c", f"import keras, tensorflow, onnx, PIL\n{seen}", folder=tmp_path)
    call = "import convfc\nconvfc.convert('m.h5', 'n.h5')\nimport onnx\n"
    ours = run("-c", call + seen, folder=tmp_path)
    assert ours.stdout == plain.stdout, ours.stderr


PROGRAM = ("-m", "convfc", "convert", "m.onnx")


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        (("-W", "error", "-X", "dev"), {}),
        (("-O",), {"HOME": None}),
        ((), {"HOME": "/nonexistent", "LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"}),
    ],
)
def test_the_program_works_in_any_interpreter_and_home(
    tmp_path: Path, options: tuple[str, ...], variables: dict[str, str | None]
) -> None:
    one_convolution(tmp_path / "m.onnx")
    done = run(*options, *PROGRAM, folder=tmp_path, more=variables)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", ["0<&-", "2>&-", "0<&- 2>&-"])
def test_a_closed_stream_takes_nothing_into_the_model(tmp_path: Path, closed: str) -> None:
    one_convolution(tmp_path / "m.onnx")
    shell = ("sh", "-c", f'exec "$@" {closed}', "sh")
    assert run(*PROGRAM, folder=tmp_path, before=shell).returncode == 0
    assert convfc.verify(tmp_path / "m.onnx", tmp_path / "m_fc.onnx").equivalent
    assert ir.load(tmp_path / "m_fc.onnx").graph is not None
