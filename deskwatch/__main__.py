"""`python -m deskwatch`: the command, for processes that are started by an interpreter and not by a name on PATH."""

from deskwatch.cli import main

main(prog_name="deskwatch")
