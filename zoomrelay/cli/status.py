"""`zoomrelay status`: how the running relay is doing, in words. Serves as a health check too."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import typer

from zoomrelay.admin.client import ControlClient
from zoomrelay.admin.health import Status
from zoomrelay.cli import exits
from zoomrelay.cli.options import ConfigOption, JsonOption, load_state_dir
from zoomrelay.cli.status_view import plain, tables
from zoomrelay.errors import ControlRefused, RelayNotRunning

NOT_READY = 1
_INTERVAL_SECONDS = 1.0
_NO_ANSWER = (RelayNotRunning, ControlRefused)

WatchOption = Annotated[bool, typer.Option("--watch", help="Again every second, until Ctrl-C.")]


def command(config: ConfigOption = None, watch: WatchOption = False, as_json: JsonOption = False) -> None:
    """Say how the running relay is doing.

    Exits with 0 if it is ready and 1 if it is not, or if none is running: usable as a health check.
    With --watch and --json: one line of JSON per second.
    """
    client = ControlClient(load_state_dir(config))
    if watch:
        _watch(client, as_json)
        return
    try:
        document = _ask(client)
    except _NO_ANSWER as error:
        typer.echo(f"zoomrelay: {error}", err=True)
        raise typer.Exit(NOT_READY) from error
    _print(document, as_json)
    raise typer.Exit(exits.OK if document["ready"] else NOT_READY)


def _ask(client: ControlClient) -> dict[str, Any]:
    return client.get("/status", dict[str, Any])


def _print(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
    elif sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False).print(tables(msgspec.convert(document, Status)))
    else:
        typer.echo(plain(msgspec.convert(document, Status)))


def _watch(client: ControlClient, as_json: bool) -> None:
    """A relay that goes away and comes back is told of; it is no end."""
    try:
        if as_json:
            _every_second(client, _print_line, lambda words: _print_line({"ready": False, "error": words}))
        elif sys.stdout.isatty():
            _live(client)
        else:
            _every_second(client, lambda document: _print(document, as_json), typer.echo)
    except KeyboardInterrupt:
        pass


def _every_second(
    client: ControlClient, show: Callable[[dict[str, Any]], None], complain: Callable[[str], None]
) -> None:
    while True:
        try:
            show(_ask(client))
        except _NO_ANSWER as error:
            complain(str(error))
        time.sleep(_INTERVAL_SECONDS)


def _print_line(document: dict[str, Any]) -> None:
    typer.echo(json.dumps(document, ensure_ascii=False))


def _live(client: ControlClient) -> None:
    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False) as live:
        _every_second(
            client,
            lambda document: live.update(tables(msgspec.convert(document, Status)), refresh=True),
            lambda words: live.update(Text(words, "red"), refresh=True),
        )
