"""The models that are spoiled: small ones built here, files of a folder, and their conversions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

from tests.fuzz.running import command_line, run

METHODS = ("auto", "gather", "rows", "slice", "taps", "shift", "reshape")
FORMS: tuple[list[str], ...] = (
    *([], [], [], [], ["--patch-memory", "600"], ["--patch-memory", "600"]),
    *(["--form", "dense"], ["--form", "dense", "--flat-io", "--max-pool", "relu"]),
)
LARGEST = 400_000
"""Bytes of a file of the folder of `--models`: what is larger takes too long."""


class Seeds:
    """Files to start from, made when they are first asked for and kept.

    Args:
        folder: where they are kept.
        models: a folder of more of them.
    """

    def __init__(self, folder: Path, models: Path | None) -> None:
        self._folder = folder
        found = sorted(models.rglob("*")) if models else []
        self._more = [file for file in found if file.is_file() and file.stat().st_size <= LARGEST]

    def onnx(self, random: Random) -> Path:
        """Any ONNX model."""
        from tests.campaign.onnx_seeds import SEEDS

        names: list[str | Path] = [*sorted(SEEDS), *self._files(".onnx")]
        chosen = random.choice(names)
        return chosen if isinstance(chosen, Path) else self.onnx_named(chosen)

    def onnx_named(self, name: str) -> Path:
        """One that is built here."""
        return self._made(self._folder / f"{name}.onnx", partial(_build_onnx, name))

    def keras(self, random: Random) -> Path:
        """Any Keras model, in either format."""
        from tests.campaign.keras_seeds import ONLY_ZIP, SEEDS

        names: list[str | Path] = [*sorted(SEEDS), *self._files(".keras", ".h5", ".hdf5")]
        chosen = random.choice(names)
        if isinstance(chosen, Path):
            return chosen
        suffix = ".keras" if chosen in ONLY_ZIP else random.choice([".keras", ".h5"])
        return self._made(self._folder / f"{chosen}{suffix}", partial(_build_keras, chosen))

    def converted(self, original: Path, random: Random) -> Path | None:
        """A conversion of a file; ``None`` if there is none."""
        method = random.choice(METHODS)
        more: list[str] = random.choice(FORMS)
        name = "_".join([original.stem, method, *more]).replace("-", "") + original.suffix
        out = self._folder / name
        options = [
            "--patches",
            method,
            *more,
            "--partial",
            "--no-check",
            "--force",
            "-o",
            str(out),
        ]
        made = self._made(out, partial(_convert, original, tuple(options)))
        return made if made.stat().st_size else None

    def _files(self, *suffixes: str) -> list[Path]:
        return [file for file in self._more if file.suffix in suffixes]

    def _made(self, path: Path, build: Callable[[Path], None]) -> Path:
        """Build a file in a fork; it is empty if that fails."""
        if not path.exists():
            ended = run(partial(build, path), self._folder, self._folder)
            if not path.exists():
                path.touch()
                if ended.code != 2:
                    raise RuntimeError(f"{path.name}: {ended.err.decode()}")
        return path


def _build_onnx(name: str, path: Path) -> None:
    import onnx

    from tests.campaign.onnx_seeds import seed

    onnx.save(seed(name), path)


def _build_keras(name: str, path: Path) -> None:
    from convfc.formats.keras.quiet import overheard
    from tests.campaign.keras_seeds import seed

    with overheard():
        seed(name).save(path)


def _convert(original: Path, options: tuple[str, ...], _: Path) -> None:
    command_line(("convert", str(original), *options))
