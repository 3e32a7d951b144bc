"""`zoomrelay upgrade`: the version that is installed now takes over from the one that runs, as after USR2."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec
import typer

from zoomrelay.admin.client import ControlClient
from zoomrelay.cli.options import ConfigOption, load_state_dir
from zoomrelay.errors import ControlRefused, RelayNotRunning

NOT_DONE = 1
_LOOK_SECONDS = 0.1


class Running(msgspec.Struct):
    """What `/status` says of the process."""

    version: str
    pid: int
    starting: bool


def command(
    config: ConfigOption = None,
    timeout_seconds: Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait.")] = 300.0,
) -> None:
    """Let the version that is installed now take over from the one that runs, without a gap.

    For a relay that runs as a systemd service; install into the same place first. If anything is amiss,
    the old one goes on, and this command ends with 1.
    """
    client = ControlClient(load_state_dir(config), timeout_seconds=timeout_seconds)
    deadline = time.monotonic() + timeout_seconds
    try:
        old = client.get("/status", Running)
        _ask(client)
        new = _successor(client, old, deadline)
    except (ControlRefused, RelayNotRunning) as error:
        typer.echo(f"zoomrelay: {error}", err=True)
        raise typer.Exit(NOT_DONE) from error
    typer.echo(
        f"zoomrelay {new.version} (process {new.pid}) took over from {old.version} (process {old.pid})"
    )


def _ask(client: ControlClient) -> None:
    """Returns when the old one has let go. Raises `ControlRefused` where it goes on."""
    try:
        client.post("/upgrade", dict)
    except RelayNotRunning:
        pass


def _successor(client: ControlClient, old: Running, deadline: float) -> Running:
    """The relay that runs now. Raises `RelayNotRunning` if there is none in time, and `ControlRefused` if
    it is the old one again."""
    while True:
        try:
            new = client.get("/status", Running)
            if new.pid == old.pid:
                raise ControlRefused("the old one still runs, and the log says why", status=409)
            if not new.starting:
                return new
        except RelayNotRunning:
            if time.monotonic() > deadline:
                raise
        time.sleep(_LOOK_SECONDS)
