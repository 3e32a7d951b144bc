"""`zoomrelay reload`: the running relay takes over its configuration anew, as after HUP, and answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from zoomrelay.admin.client import ControlClient
from zoomrelay.cli import exits
from zoomrelay.cli.options import ConfigOption, load_state_dir
from zoomrelay.errors import ControlRefused, RelayNotRunning

NOT_DONE = 1
_INVALID = 422
"""How the control socket answers to an invalid configuration."""


def command(
    config: ConfigOption = None,
    timeout_seconds: Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait.")] = 60.0,
) -> None:
    """Let the running relay take over its configuration.

    An invalid one changes nothing and is told, with exit code 78. Otherwise this prints what was added,
    removed and changed, for which new sockets old ones are kept still, and what needs a restart.
    """
    client = ControlClient(load_state_dir(config), timeout_seconds=timeout_seconds)
    try:
        answer = client.post("/reload", dict[str, list[str]])
    except ControlRefused as error:
        typer.echo(f"zoomrelay: {error}", err=True)
        raise typer.Exit(exits.CONFIG if error.status == _INVALID else NOT_DONE) from error
    except RelayNotRunning as error:
        typer.echo(f"zoomrelay: {error}", err=True)
        raise typer.Exit(NOT_DONE) from error
    for line in _lines(answer):
        typer.echo(line)


def _lines(answer: dict[str, list[str]]) -> Iterator[str]:
    for head in ("added", "removed", "changed"):
        if names := answer[head]:
            yield f"{head}: {', '.join(names)}"
    if names := answer["waiting"]:
        yield f"not accepted yet, so the sockets that they replace stay: {', '.join(names)}"
    if names := answer["needs_restart"]:
        yield f"needs a restart: {', '.join(names)}"
    if not any(answer.values()):
        yield "nothing has changed; files were reopened"
