"""`python -m convfc`, and the program `convfc`: what takes time is imported under its guard."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the program.

    Raises:
        SystemExit: always, with the exit code.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Before and behind what `program.run` looks after, Ctrl-C just ends it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from convfc.cli import program

    program.run(_command)


def _command() -> int:
    from convfc.cli import main

    return main.command()


if __name__ == "__main__":
    main()
