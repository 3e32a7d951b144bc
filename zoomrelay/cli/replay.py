"""`zoomrelay replay`: what was delivered, once more."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import chain
from typing import Annotated

import msgspec
import typer

from zoomrelay.admin.client import ControlClient
from zoomrelay.admin.replay import LEAST_RATE, Order
from zoomrelay.cli import exits
from zoomrelay.cli.moments import milliseconds
from zoomrelay.cli.options import ConfigOption, load_state_dir, load_whole
from zoomrelay.cli.portions import bar
from zoomrelay.cli.selection import EventsOption, globs
from zoomrelay.config.models import Config
from zoomrelay.errors import ControlRefused, RelayNotRunning, ReplayRefused, SpoolError
from zoomrelay.intake.gaps import iso
from zoomrelay.spool.base import FOREVER_MS, Choice, Progress, everything

NOT_DONE = 1
_INTERRUPTED = 130
_STDOUT = "-"
_BAR_STEPS = 1000

SinceOption = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        help='Only what was received since this time: "2h", "7d", or an ISO time (UTC unless it says'
        " otherwise).",
        show_default=False,
    ),
]
UntilOption = Annotated[
    str, typer.Option(metavar="TIME", help="Only what was received before this time.", show_default=False)
]
ToOption = Annotated[
    str, typer.Option("--to", metavar="SINK", help='Where to: a sink, or "-" for standard output.')
]
RateOption = Annotated[
    float | None,
    typer.Option(min=LEAST_RATE, help="At most so many events per second, to a sink.", show_default=False),
]


def command(
    config: ConfigOption = None,
    since: SinceOption = "",
    until: UntilOption = "",
    events: EventsOption = None,
    to: ToOption = _STDOUT,
    rate: RateOption = None,
) -> None:
    """Send events that were delivered once more to a sink of the running relay, or print them, one per line.

    They are there for spool.retain_seconds. Live events go first; Ctrl-C ends it.
    """
    now = datetime.now(UTC)
    order = Order(
        sink="" if to == _STDOUT else to,
        since_ms=max(0, milliseconds(since, now, "--since")) if since else 0,
        until_ms=milliseconds(until, now, "--until") if until else FOREVER_MS,
        events=globs(events),
        events_per_second=rate,
    )
    if rate is not None and to == _STDOUT:
        raise typer.BadParameter("goes with a sink", param_hint="--rate")
    client = ControlClient(load_state_dir(config))
    try:
        if to == _STDOUT:
            _print(client, order, lambda: load_whole(config))
        else:
            _send(client, order)
    except (RelayNotRunning, ControlRefused, ReplayRefused, SpoolError) as error:
        typer.echo(f"zoomrelay: {error}", err=True)
        raise typer.Exit(exits.CRASH) from error


# --- to a sink --------------------------------------------------------------------------------------


def _send(client: ControlClient, order: Order) -> None:
    latest, shown = Progress(), 0
    lines = client.stream("/replay", body=order)
    try:
        with bar(f"replaying to {order.sink}", _BAR_STEPS) as advance:
            for line in lines:
                latest = msgspec.json.decode(line, type=Progress)
                advance(int(latest.part * _BAR_STEPS) - shown)
                shown = int(latest.part * _BAR_STEPS)
    except KeyboardInterrupt:
        lines.close()
        _tell(latest, "cancelled")
        raise typer.Exit(_INTERRUPTED) from None
    except RelayNotRunning:
        _tell(latest, "cut off: a replay ends with the relay")
        raise
    _tell(latest, latest.error)
    if latest.error or latest.failed or latest.damaged:
        raise typer.Exit(NOT_DONE)


def _tell(progress: Progress, error: str) -> None:
    """How it went, and where to go on."""
    words = f"{progress.sent} replayed"
    words += f", {progress.failed} refused or given up" if progress.failed else ""
    words += f", {progress.damaged} damaged" if progress.damaged else ""
    if error:
        words += f"; {error}"
        words += f"; go on with --since {iso(progress.reached_ms)}" if progress.reached_ms else ""
    typer.echo(words, err=bool(error))


# --- to standard output -----------------------------------------------------------------------------


def _print(client: ControlClient, order: Order, load: Callable[[], Config]) -> None:
    """Asks the relay, or where none runs its spool; there nothing more comes in while this lasts."""
    lines = client.stream("/replay/read", body=order)
    try:
        try:
            first = next(lines, None)
        except RelayNotRunning:
            asyncio.run(_print_stored(load(), order))
            return
        for line in chain([] if first is None else [first], lines):
            sys.stdout.buffer.write(line + b"\n")
    except KeyboardInterrupt:
        lines.close()
        raise typer.Exit(_INTERRUPTED) from None
    finally:
        sys.stdout.buffer.flush()


async def _print_stored(config: Config, order: Order) -> None:
    # Only here: a running relay is asked far faster without these.
    from zoomrelay.cli.dead_letters import opened
    from zoomrelay.delivery.router import Route
    from zoomrelay.sinks import encode
    from zoomrelay.spool.sqlite import FILE_NAME

    if config.spool.type == "sqlite" and not (config.state_dir / FILE_NAME).exists():
        return
    wants = Route(order.events, gap_events=True).wants if order.events else everything
    async with opened(config) as spool:
        async for events in spool.retained(Choice(order.since_ms, order.until_ms, wants)):
            sys.stdout.buffer.write(encode.lines(events, "raw"))
