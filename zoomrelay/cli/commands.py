"""The table of commands. A new command is a file beside this one and a line here."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """A command of the table: `module:attribute` of a function or a `typer.Typer`, and its help line."""

    target: str
    help: str


COMMANDS: dict[str, Entry] = {
    "run": Entry("zoomrelay.cli.run:command", "Run the relay."),
    "status": Entry("zoomrelay.cli.status:command", "Say how the running relay is doing."),
    "reload": Entry("zoomrelay.cli.reload:command", "Let the running relay take over its configuration."),
    "upgrade": Entry("zoomrelay.cli.upgrade:command", "Let the installed version take over, without a gap."),
    "gaps": Entry("zoomrelay.cli.gaps:command", "List what was missed, and why."),
    "dlq": Entry("zoomrelay.cli.dlq:app", "Dead letters: list, show, redrive, discard."),
    "replay": Entry("zoomrelay.cli.replay:command", "Send delivered events once more, or print them."),
    "tap": Entry("zoomrelay.cli.tap:command", "Show events as they come."),
    "login": Entry("zoomrelay.cli.login:command", "Let a person grant access to an app."),
    "token": Entry("zoomrelay.cli.token:command", "Print a valid token for another program."),
    "check": Entry("zoomrelay.cli.check:command", "Check the configuration, without any network."),
    "doctor": Entry("zoomrelay.cli.doctor:command", "Look at every step of the way, and say the cure."),
    "bundle": Entry("zoomrelay.cli.bundle:command", "Write a support archive, without secrets."),
    "demo": Entry("zoomrelay.cli.demo:command", "See it work, without a Zoom account."),
    "simulate": Entry("zoomrelay.cli.simulate:command", "Pretend to be Zoom, to test against."),
}
"""In the order in which --help lists them."""
