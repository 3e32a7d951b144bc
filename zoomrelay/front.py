"""What a relay shows of itself and where it takes orders: admin port, control socket, service manager."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import structlog
from prometheus_client import generate_latest

from zoomrelay.admin.collector import StatusCollector
from zoomrelay.admin.control import ControlServer
from zoomrelay.admin.health import Status
from zoomrelay.admin.notify import Notifier
from zoomrelay.admin.ping import Pinger
from zoomrelay.admin.replay import Order
from zoomrelay.admin.server import AdminServer
from zoomrelay.admin.tapping import Feed
from zoomrelay.app import Relay
from zoomrelay.app.changes import Changes
from zoomrelay.config.models import Config
from zoomrelay.delivery.router import Route
from zoomrelay.errors import ControlRefused
from zoomrelay.event import RELAY_SOURCE, Event
from zoomrelay.intake import ledger
from zoomrelay.spool.base import Choice, DeadLetter, Replay, everything
from zoomrelay.telemetry.logs import protect_config, recent_lines, set_level
from zoomrelay.telemetry.stacks import stacks
from zoomrelay.telemetry.stalls import StallWatch

log = structlog.get_logger()


class Front:
    """The front of one relay, for `Relay.run`; a `ControlTarget`. `load` reads the configuration anew."""

    def __init__(
        self,
        relay: Relay,
        load: Callable[[], Config],
        environ: Mapping[str, str] = os.environ,
        upgrade: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`upgrade` lets the version that is installed now take over; it returns where that failed."""
        self._relay = relay
        self._load = load
        self._upgrade = upgrade
        self.handover = relay.handover
        self.admin = AdminServer(
            relay.config.admin.listen,
            self.status,
            relay.metrics.registry,
            token=lambda: relay.config.admin.bearer_token,
        )
        self._pinger = Pinger(lambda: relay.config.admin.ping_url, self.status, relay.metrics)
        self._control = ControlServer(relay.config.state_dir, self)
        self._notifier = Notifier(environ)
        self._stalls = StallWatch(relay.config.state_dir, relay.metrics)
        relay.metrics.registry.register(StatusCollector(self.status))

    # --- life, as the relay wants it ----------------------------------------------------------------

    async def open(self) -> None:
        """Raises `ConfigError` where the admin address, and `StateDirectoryError` where the control
        socket cannot be had."""
        await self.admin.open()
        await self._control.open()

    async def run(self) -> None:
        """Keep the service manager and the dead-man's switch informed and the control socket there, and watch
        the loop."""
        await self._relay.started.wait()
        self._notifier.ready()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._control.keep(), name="control.keep")
            tasks.create_task(self._pinger.run(), name="ping")
            tasks.create_task(self._stalls.run(), name="stalls")
            await self._notifier.run(self.status)

    def stopping(self) -> None:
        self._notifier.stopping()

    async def beat(self) -> None:
        """Tell the service manager that this process lives, for ever, where nothing else of it runs."""
        await self._notifier.beat()

    def hand_on(self, pid: int) -> None:
        """Tell the service manager that this process is the service now."""
        self._notifier.successor(pid)

    async def close(self) -> None:
        self._relay.taps.end()
        await self._control.close()
        await self.admin.close()

    # --- what can be asked and told -----------------------------------------------------------------

    def status(self) -> Status:
        return self._relay.status()

    def metrics(self) -> bytes:
        return generate_latest(self._relay.metrics.registry)

    def stacks(self) -> str:
        return stacks(asyncio.get_running_loop())

    def recent_log(self) -> str:
        return recent_lines.text()

    async def gaps(self) -> Sequence[dict[str, Any]]:
        gaps = await asyncio.to_thread(ledger.read, self._relay.config.state_dir)
        return [gap.as_json() for gap in gaps]

    async def reload(self) -> Changes:
        """Take over what can change while running; an invalid configuration changes nothing. Raises
        `ConfigError`, or `ControlRefused` at the wrong moment."""
        if self._relay.stopping or not self._relay.started.is_set():
            raise ControlRefused("the relay is starting or stopping", status=503)
        if self.handover.under_way:
            raise ControlRefused("another relay takes over just now", status=409)
        with self._notifier.reloading():
            config = self._load()
            protect_config(config)
            changes = await self._relay.reload(config)
            set_level(config.log.level)
        say = log.warning if changes.needs_restart or changes.waiting else log.info
        say("config.reloaded", **msgspec.to_builtins(changes))
        return changes

    async def upgrade(self) -> None:
        """Let the version that is installed now take over. Raises `ControlRefused` where it does not."""
        if self._upgrade is None:
            raise ControlRefused("this relay is not a process of its own", status=409)
        await self._upgrade()
        raise ControlRefused("the new version has ended, and the log says why; this one goes on", status=409)

    def privacy_fields(self) -> Mapping[str, str | None]:
        return self._relay.config.privacy.kinds()

    @contextmanager
    def tap(self, events: Sequence[str], sources: Sequence[str]) -> Iterator[Feed]:
        """Raises `ControlRefused` where a source does not exist, or too many look already."""
        known = [*self._relay.config.sources, RELAY_SOURCE]
        if unknown := [source for source in sources if source not in known]:
            raise ControlRefused(f"there is no source {unknown[0]}", status=400)
        tap = self._relay.taps.open(Route(events, sources, gap_events=not events))
        if tap is None:
            raise ControlRefused("too many are tapping already", status=503)
        try:
            yield tap
        finally:
            self._relay.taps.close(tap)

    async def dead_letters(self, *, sink: str | None, limit: int, before: int | None) -> Sequence[DeadLetter]:
        return await self._relay.spool.dead_letters(sink=sink, limit=limit, before=before)

    async def dead_letter(self, number: int) -> DeadLetter | None:
        return await self._relay.spool.dead_letter(number)

    async def redrive(self, numbers: Sequence[int]) -> int:
        return await self._relay.spool.redrive(numbers)

    async def begin_replay(self, order: Order) -> Replay:
        if self._relay.stopping or not self._relay.started.is_set():
            raise ControlRefused("the relay is starting or stopping", status=503)
        return await self._relay.begin_replay(order.sink, _choice(order), order.events_per_second)

    def end_replay(self, replay: Replay) -> None:
        self._relay.end_replay(replay)

    def retained(self, order: Order) -> AsyncIterator[Sequence[Event]]:
        return self._relay.spool.retained(_choice(order))

    async def discard(self, numbers: Sequence[int]) -> int:
        return await self._relay.spool.discard(numbers)


def _choice(order: Order) -> Choice:
    wants = Route(order.events, gap_events=True).wants if order.events else everything
    return Choice(order.since_ms, order.until_ms, wants)
