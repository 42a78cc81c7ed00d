"""`python -m convfc`."""

from convfc.cli import main

main()
