"""What is in a folder, and copies of it for people."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.cases import Case, Fault, Run
from tests.fuzz.judging import Files


def contents(folder: Path) -> Files:
    """What each file in a folder holds, links and special files included."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = os.fsencode(path.relative_to(folder)).decode(errors="surrogateescape")
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "folder" if path.is_dir() else "special"
    return found


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def keep(case: Case, ended: Run, found: Sequence[Fault], files: Path, save: Path) -> Path:
    """Copy the files of a case, with what came of it and a script that does it again."""
    folder = save / case.name.replace(" ", "_")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(files, folder / "files", symlinks=True, copy_function=_copy)
    command = shlex.join(["convfc", *case.arguments])
    lines = [f"{case.name}: {case.what}", f"mutators: {', '.join(case.mutators)}", command]
    lines += [f"{ended.end}, {ended.cpu:.1f} s of work, {ended.growth >> 20:,} MiB more"]
    lines += [f"{fault.sign}\n    {fault.detail}" for fault in found]
    lines += ["", "stderr:", ascii(ended.err[:3000]), "stdout:", ascii(ended.out[:3000])]
    lines += ["", "stack:", ended.stack[-6000:]]
    (folder / "outcome.txt").write_text("\n".join(lines), errors="backslashreplace")
    script = f'#!/bin/sh\ncp -r "$(dirname "$0")/files" again && cd again || exit\n{command}\n'
    (folder / "again.sh").write_bytes(os.fsencode(script))
    return folder


def _copy(source: str, target: str) -> str:
    """A file; of what is none, only a mark of its kind."""
    if not Path(source).is_file():
        Path(target).write_text("special file\n")
        return target
    return str(shutil.copyfile(source, target))
