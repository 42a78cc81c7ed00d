"""TAB: the scripts that shells take, and what these are answered, by the protocol they speak."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("convfc")


def program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def completed(shell: str, line: str) -> list[str]:
    """What a shell offers for a line, asked as its script asks."""
    words = line.split(" ")
    asked = {"_CONVFC_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        asked |= {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    else:
        asked |= {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = program(**asked)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_printed_and_writes_nothing(tmp_path: Path, shell: str) -> None:
    """The variable has typer take the shell's name from the command line, not from its parent."""
    told = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "HOME": str(tmp_path)}
    done = program("--show-completion", shell, **told)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_CONVFC_COMPLETE=complete_{shell}" in done.stdout
    assert not [*tmp_path.iterdir()]


def test_a_command_is_completed() -> None:
    assert completed("bash", "convfc conv") == ["convert"]
    (fish,) = completed("fish", "convfc conv")
    assert fish.startswith("convert\tRewrite the convolutions of MODEL")
    (zsh,) = completed("zsh", "convfc conv")
    assert zsh.startswith('_arguments \'*: :(("convert":"Rewrite the convolutions')


def test_options_and_their_values_are_completed() -> None:
    assert completed("bash", "convfc convert --dr") == ["--dry-run"]
    assert completed("bash", "convfc shapes --format m") == ["markdown"]
    assert completed("bash", "convfc convert m.onnx --patches ga") == ["gather"]
    assert completed("bash", "convfc convert m.onnx --for g") == ["gurobi"]
    (fish,) = completed("fish", "convfc convert m.onnx --for mar")
    assert fish.startswith("marabou\tMarabou, which finds")


def test_a_shell_that_nobody_knows_is_no_success() -> None:
    done = program(_CONVFC_COMPLETE="complete_nosuch")
    assert done.returncode == 2
    assert "nosuch" in done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
def test_bash_itself_completes_with_what_was_installed(tmp_path: Path) -> None:
    """Installing writes typer's script into the home folder and a line into `.bashrc`, no more."""
    home = {**os.environ, "HOME": str(tmp_path), "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}

    def bash(script: str) -> str:
        return subprocess.run(
            ["bash", "--norc", "-c", script],  # noqa: S607 - that of the machine
            env=home,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert "bash completion installed" in bash("convfc --install-completion; true")
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert made == {".bashrc", ".bash_completions/convfc.sh"}
    asked = "COMP_WORDS=(convfc conv); COMP_CWORD=1; _convfc_completion convfc conv convfc"
    assert bash(f'source ~/.bashrc; {asked}; echo "${{COMPREPLY[@]}}"') == "convert\n"


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
def test_tab_in_a_terminal_completes_commands_values_and_names_of_files(tmp_path: Path) -> None:
    """Keys are pressed in a shell that a person would have: readline asks, and the line grows."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "my net.onnx").touch()
    # Installed as the shell's script says, in a terminal of its own.
    script = program("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    (tmp_path / "start").write_text(f"{script.stdout}\nPS1='ready '\nbind 'set bell-style none'\n")
    paths = f"{PROGRAM.parent}:{os.environ['PATH']}"
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(tmp_path)
        shell = ["bash", "--noprofile", "--rcfile", "start", "-i"]
        os.execvpe("bash", shell, os.environ | {"PATH": paths, "TERM": "dumb"})  # noqa: S606, S607
    seen = ""

    def until(text: str) -> None:
        nonlocal seen
        while text not in seen:
            assert select.select([terminal], [], [], 20)[0], seen
            seen += os.read(terminal, 4096).decode()
        seen = seen.split(text, 1)[1]

    try:
        until("ready ")
        for typed, completion in (
            ("convfc conv\t", "ert "),
            ("my\t", "\\ net.onnx "),
            ("--dry\t", "-run "),
            ("--for mar\t", "abou "),
            ("-o ph\t", "otos/"),
        ):
            os.write(terminal, typed.encode())
            until(completion)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)
