"""`zoomrelay demo`: the real relay, as a process of its own, against the built-in simulator."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from zoomrelay.cli.demo_view import event_line, going_on, happening, summary
from zoomrelay.config.models import LogConfig
from zoomrelay.intake.ledger import read as read_gaps
from zoomrelay.simulator.server import Simulator
from zoomrelay.telemetry.logs import configure_logging

_STATUS_SECONDS = 5.0
_LONGEST_LINE = 32 * 1024 * 1024


def command(
    seconds: Annotated[float, typer.Option(min=0, help="End after so many seconds; 0: at Ctrl-C.")] = 0,
    rate: Annotated[float, typer.Option(min=0.1, help="Events per second.")] = 5.0,
    fault_seconds: Annotated[float, typer.Option(min=1, help="Seconds from one fault to the next.")] = 8.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same events.")] = 0,
) -> None:
    """Watch the relay at work: events on the screen, and a fault now and then. Needs no Zoom account."""
    configure_logging(LogConfig(level="warning"))
    with tempfile.TemporaryDirectory(prefix="zoomrelay-demo-") as directory:
        delivered = asyncio.run(Demo(Path(directory), seed).run(seconds, rate, fault_seconds))
    if not delivered:
        raise typer.Exit(1)


class Demo:
    """One run of it."""

    def __init__(self, directory: Path, seed: int) -> None:
        self._directory = directory
        self._simulator = Simulator(seed=seed)
        self._console = Console(highlight=False, soft_wrap=True)
        self._delivered = 0
        self._families: Counter[str] = Counter()
        self._stop = asyncio.Event()

    async def run(self, seconds: float, rate: float, fault_seconds: float) -> int:
        """Events that came out of the relay."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        if seconds:
            loop.call_later(seconds, self._stop.set)
        async with self._simulator:
            relay = await self._start_relay()
            try:
                await self._watch(relay, rate, fault_seconds)
            finally:
                await _end(relay)
        self._sum_up()
        return self._delivered

    async def _start_relay(self) -> Process:
        """`zoomrelay run` with what a user would set, and nothing from our own environment."""
        config = self._directory / "zoomrelay.toml"
        config.write_text(
            f'state_dir = "{self._directory}/state"\n[admin]\nlisten = ""\n[log]\nformat = "json"\n'
            + _source_table(self._simulator)
        )
        mine = {key: value for key, value in os.environ.items() if not key.startswith("ZOOM")}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "zoomrelay", "run", "--config", str(config)),
            env=mine | {"PYTHONUNBUFFERED": "1"},
            stdout=PIPE,
            stderr=PIPE,
            limit=_LONGEST_LINE,
            start_new_session=True,  # Ctrl-C is for the demo, which then stops the relay in order
        )

    async def _watch(self, relay: Process, rate: float, fault_seconds: float) -> None:
        self._say("[bold]zoomrelay demo[/]: a real relay, a pretend Zoom on this machine. Ctrl-C ends it.\n")
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self._show_events(relay)),
                tasks.create_task(self._show_log(relay)),
                tasks.create_task(self._misbehave(rate, fault_seconds)),
                tasks.create_task(self._tell()),
                tasks.create_task(self._note_end(relay)),
            ]
            await self._stop.wait()
            self._simulator.set_rate(0)
            await _end(relay)
            for task in running[2:]:
                task.cancel()

    async def _show_events(self, relay: Process) -> None:
        assert relay.stdout is not None
        async for line in relay.stdout:
            self._delivered += 1
            self._families[json.loads(line)["event"].partition(".")[0]] += 1
            self._say(event_line(line))

    async def _show_log(self, relay: Process) -> None:
        assert relay.stderr is not None
        async for line in relay.stderr:
            try:
                told = happening(json.loads(line))
            except ValueError:
                told = f"[red]{line.decode(errors='replace').rstrip()}[/]"
            if told:
                self._say(told)

    async def _note_end(self, relay: Process) -> None:
        await relay.wait()
        self._stop.set()

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(_STATUS_SECONDS)
            journal = self._simulator.journal
            self._say(going_on(journal.count, self._delivered, len(journal.connections), self._families))

    async def _misbehave(self, rate: float, fault_seconds: float) -> None:
        await self._simulator.until(lambda: self._simulator.accepted > 0)
        self._simulator.set_rate(rate)
        for words, fault in cycle(self._faults()):
            await asyncio.sleep(fault_seconds)
            self._say(f"[bold]Zoom: {words}[/]")
            fault()

    def _faults(self) -> list[tuple[str, Callable[[], object]]]:
        end = self._simulator.end
        return [
            ('closes the socket with 1000 "Bye", as if all were well', lambda: end("close", 1000, "Bye")),
            ("resets the connection in the middle of things", lambda: end("reset")),
            ("forgets our token, then closes", self._forget_token),
            ("goes away for maintenance (1001)", lambda: end("close", 1001, "Going away")),
        ]

    def _forget_token(self) -> None:
        self._simulator.revoke_tokens()
        self._simulator.end("close", 1000, "Bye")

    def _sum_up(self) -> None:
        journal = self._simulator.journal
        gaps = [
            (gap.seconds, gap.cause)
            for gap in read_gaps(self._directory / "state")
            if gap.to_ms and gap.subscription
        ]
        self._say("")
        for line in summary(journal.count, journal.unheard, self._delivered, gaps):
            self._say(line)

    def _say(self, text: str) -> None:
        self._console.print(text)


async def _end(relay: Process) -> None:
    if relay.returncode is None:
        relay.terminate()
        await relay.wait()


def _source_table(simulator: Simulator) -> str:
    names = {
        "account_id": "ZOOM_ACCOUNT_ID",
        "client_id": "ZOOM_CLIENT_ID",
        "client_secret": "ZOOM_CLIENT_SECRET",
        "token_url": "ZOOMRELAY_SOURCES__ZOOM__TOKEN_URL",
        "ws_url": "ZOOMRELAY_SOURCES__ZOOM__WS_URL",
    }
    environment = simulator.environment
    lines = [f'{name} = "{environment[variable]}"' for name, variable in names.items()]
    lines.append(f'subscriptions = ["{environment["ZOOM_SUBSCRIPTION_ID"]}"]')
    return "[sources.zoom]\n" + "\n".join(lines) + "\n"
