"""The command line: one file per command, and the only place where errors become exit codes."""

from zoomrelay.cli.commands import COMMANDS
from zoomrelay.cli.entry import main

__all__ = ["COMMANDS", "main"]
